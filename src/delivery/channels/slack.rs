//! Slack: incoming webhooks. <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>

use serde_json::{Value, json};

use crate::delivery::provider::{Job, Provider, Request, Step, Turn, shorten};
use crate::delivery::retry::{error_word, judge_last, last_response};
use crate::domain::forms::{Field, Form, Kind};

/// A header block has 150 characters, a section 3,000; escapes make text up to five times longer.
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
    step,
};

fn step(job: &Job, turns: &[Turn]) -> Step {
    if turns.is_empty() {
        return Step::Send(message(job));
    }
    let body = last_response(turns).map_or(Value::Null, |r| json!(r.body.trim()));
    Step::End(judge_last(turns).because(error_word(&body)))
}

fn message(job: &Job) -> Request {
    let notice = job.notice;
    let text = escape(&notice.text());
    let mut blocks = vec![
        json!({"type": "header", "text":
            {"type": "plain_text", "text": shorten(&notice.title(), HEADER_CHARS)}}),
        json!({"type": "section", "text": {"type": "mrkdwn", "text": cut(&text)}}),
    ];
    let footer = match (notice.footer(), &notice.link) {
        (footer, _) if footer.is_empty() => None,
        (footer, Some(link)) => Some(format!("<{}|{footer}>", escape(link))),
        (footer, None) => Some(footer),
    };
    if let Some(footer) = footer {
        blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": footer}]}));
    }
    // What a notification on the phone shows, where blocks do not fit.
    let fallback = cut(&format!("{}: {text}", escape(&notice.title())));
    let body = json!({"text": fallback, "blocks": blocks});
    Request::json("POST", job.text("webhook_url").unwrap_or_default(), &body)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The beginning of an escaped text, no escape cut in two.
fn cut(escaped: &str) -> String {
    let mut text = shorten(escaped, SECTION_CHARS);
    if let Some(at) = text.rfind('&')
        && text.ends_with('…')
        && !text.get(at..).is_some_and(|tail| tail.contains(';'))
    {
        text.truncate(at);
        text.push('…');
    }
    text
}
