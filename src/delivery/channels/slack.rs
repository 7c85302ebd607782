//! Slack: incoming webhooks.
//! <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>

use serde_json::{Value, json};

use crate::delivery::http::{Request, Turn};
use crate::delivery::provider::{Job, Move, Provider, escape_tags, shorten};
use crate::delivery::retry::{error_word, judge_last, last_response};
use crate::domain::member::forms::{Field, Form, Kind};

/// Slack allows 150 characters in a header block and 3,000 in a section. Escapes make a text up to
/// five times longer.
const HEADER_CHARS: usize = 150;
const SECTION_CHARS: usize = 3_000;

/// The type `slack`.
pub const PROVIDER: Provider = Provider {
    form: Form {
        name: "slack",
        fields: &[Field::required("webhook_url", Kind::Url).secret()],
        check: Form::ANY,
    },
    gives_ids: false,
    clears: false,
    next_move,
};

fn next_move(job: &Job, turns: &[Turn]) -> Move {
    if turns.is_empty() {
        return Move::Send(message(job));
    }
    let body = last_response(turns).map_or(Value::Null, |r| json!(r.body.trim()));
    Move::End(judge_last(turns).because(error_word(&body)))
}

fn message(job: &Job) -> Request {
    let notice = job.notice;
    let text = escape_tags(&notice.text());
    let mut blocks = vec![
        json!({"type": "header", "text":
            {"type": "plain_text", "text": shorten(&notice.title(), HEADER_CHARS)}}),
        json!({"type": "section", "text":
            {"type": "mrkdwn", "text": cut(&text), "verbatim": true}}),
    ];
    let footer = match (notice.footer(), &notice.link) {
        (footer, _) if footer.is_empty() => None,
        (footer, Some(link)) => Some(format!("<{}|{footer}>", escape_tags(link))),
        (footer, None) => Some(footer),
    };
    if let Some(footer) = footer {
        blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": footer}]}));
    }
    // Notifications on a phone show this text, because blocks do not fit there.
    let fallback = cut(&format!("{}: {text}", escape_tags(&notice.title())));
    let body = json!({"text": fallback, "blocks": blocks});
    Request::json("POST", job.text("webhook_url").unwrap_or_default(), &body)
}

/// Cuts an escaped text to the length of a section, but never inside an escape. Slack may count as
/// JavaScript does, for which some characters count twice.
fn cut(escaped: &str) -> String {
    let mut room = SECTION_CHARS.saturating_sub(1);
    let mut text: String = escaped
        .chars()
        .take_while(|c| {
            let fits = room.checked_sub(c.len_utf16());
            room = fits.unwrap_or(0);
            fits.is_some()
        })
        .collect();
    if text.len() == escaped.len() {
        return text;
    }
    if let Some((whole, escape)) = text.rsplit_once('&')
        && !escape.contains(';')
    {
        text.truncate(whole.len());
    }
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_escapes() {
        assert_eq!(cut("short &amp; whole"), "short &amp; whole");
        for n in 2_980..3_010 {
            let text = cut(&escape_tags(&format!(
                "{}&{}",
                "x".repeat(n),
                "y".repeat(50)
            )));
            assert!(text.encode_utf16().count() <= SECTION_CHARS);
            assert!(
                text.ends_with('…') && !text.ends_with("&…") && !text.contains("&a…"),
                "{n}"
            );
        }
        assert!(cut(&"🚪".repeat(3_000)).encode_utf16().count() <= SECTION_CHARS);
    }
}
