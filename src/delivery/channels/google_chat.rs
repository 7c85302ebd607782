//! Google Chat: incoming webhooks.
//! <https://developers.google.com/workspace/chat/quickstart/webhooks>

use serde_json::{Value, json};
use url::Url;

use crate::delivery::http::{Request, Turn};
use crate::delivery::provider::{Job, Move, Provider, escape_tags, shorten};
use crate::delivery::retry::{error_word, judge_last, last_response};
use crate::domain::member::forms::{Field, Form, Kind};

/// A message may have 32,000 bytes in all, and it contains this text twice.
const TEXT_CHARS: usize = 2_500;

/// The type `google_chat`.
pub const PROVIDER: Provider = Provider {
    form: Form {
        name: "google_chat",
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
    let body = last_response(turns).map_or(Value::Null, crate::delivery::http::Response::json);
    let word = body.pointer("/error/status").unwrap_or(&Value::Null);
    Move::End(judge_last(turns).because(error_word(word)))
}

/// Puts the messages of each request into one thread of the space. Google ignores the thread key
/// unless `messageReplyOption` is set.
fn message(job: &Job) -> Request {
    let notice = job.notice;
    let (title, text) = (notice.title(), shorten(&notice.text(), TEXT_CHARS));
    let mut widgets = vec![json!({"textParagraph": {"text": escape_tags(&text)}})];
    if let Some(link) = &notice.link {
        widgets.push(json!({"buttonList": {"buttons":
            [{"text": "Open", "onClick": {"openLink": {"url": link}}}]}}));
    }
    let mut body = json!({
        "text": disarm(&format!("{title}: {text}")),
        "cardsV2": [{"cardId": "request", "card": {
            "header": {"title": title, "subtitle": notice.footer()},
            "sections": [{"widgets": widgets}],
        }}],
    });
    let mut url = job.text("webhook_url").unwrap_or_default().to_owned();
    if let Some(thread) = &notice.thread
        && let Value::Object(body) = &mut body
        && let Ok(mut threaded) = Url::parse(&url)
    {
        body.insert("thread".to_owned(), json!({"threadKey": thread.reference}));
        threaded
            .query_pairs_mut()
            .append_pair("messageReplyOption", "REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD");
        url = threaded.into();
    }
    Request::json("POST", url, &body)
}

/// Defuses mentions. The text format has no escapes, but without its bracket `<users/all>` notifies
/// nobody.
fn disarm(text: &str) -> String {
    text.replace('<', "‹")
}
