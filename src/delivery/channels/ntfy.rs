//! ntfy: push notifications to phones. <https://docs.ntfy.sh/publish/>

use serde_json::{Value, json};

use crate::delivery::http::{Request, Turn};
use crate::delivery::provider::{Job, Move, Provider, shorten};
use crate::delivery::retry::{error_word, judge_last, last_response};
use crate::domain::limits::{CREDENTIAL_CHARS, TOPIC_CHARS};
use crate::domain::member::forms::{Field, Form, Kind, text};
use crate::domain::thread::status::Priority;

/// The server of channels that name none.
const SERVER: &str = "https://ntfy.sh";
/// ntfy turns a message of 4,096 bytes or more into an attachment.
const MESSAGE_BYTES: usize = 3_900;
/// A title may have 1,024 bytes, since version 2.28.
const TITLE_CHARS: usize = 250;

/// The type `ntfy`.
pub const PROVIDER: Provider = Provider {
    form: Form {
        name: "ntfy",
        fields: &[
            Field::required("topic", Kind::Line(TOPIC_CHARS)),
            Field::optional("server", Kind::Url),
            Field::optional("token", Kind::Line(CREDENTIAL_CHARS)).secret(),
        ],
        check: |entry| {
            let is_named = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if text(entry, "server").is_some_and(|url| url.contains(['?', '#'])) {
                return Err(("server", "must not have a query or fragment"));
            }
            match text(entry, "topic") {
                Some(topic) if !topic.bytes().all(is_named) => {
                    Err(("topic", "must be of letters, digits, - and _"))
                }
                _ => Ok(()),
            }
        },
    },
    gives_ids: false,
    clears: true,
    next_move,
};

/// Publishes a notification, which later ones for the same request replace. An executor that takes
/// no part in the request any more is not disturbed: its notification is cleared. A server before
/// version 2.16 does not know the path to clear one; there the notification is replaced instead.
fn next_move(job: &Job, turns: &[Turn]) -> Move {
    let clears = job.is_bystander && job.notice.thread.is_some();
    match (turns, last_response(turns)) {
        ([], _) if clears => Move::Send(clear(job)),
        ([], _) => Move::Send(publish(job)),
        ([_], Some(response)) if clears && matches!(response.status, 404 | 405) => {
            Move::Send(publish(job))
        }
        (_, Some(response)) => {
            let word = response.json();
            let word = error_word(word.get("error").unwrap_or(&Value::Null));
            Move::End(judge_last(turns).because(word))
        }
        (_, None) => Move::End(judge_last(turns)),
    }
}

fn server<'a>(job: &'a Job) -> &'a str {
    job.text("server").unwrap_or(SERVER).trim_end_matches('/')
}

fn topic<'a>(job: &'a Job) -> &'a str {
    job.text("topic").unwrap_or_default()
}

fn clear(job: &Job) -> Request {
    let reference = job.notice.variable("ref");
    let url = format!("{}/{}/{reference}/clear", server(job), topic(job));
    Request::new("PUT", url).bearer(job.text("token"))
}

fn publish(job: &Job) -> Request {
    let notice = job.notice;
    let (priority, tag) = match notice.priority() {
        _ if job.is_bystander => (1, "inbox_tray"),
        Priority::Background => (2, "inbox_tray"),
        Priority::Normal => (3, "inbox_tray"),
        Priority::Elevated => (4, "warning"),
        Priority::Urgent => (5, "rotating_light"),
    };
    let mut message = json!({
        "topic": topic(job),
        "title": shorten(&notice.title(), TITLE_CHARS),
        "message": notice.body(MESSAGE_BYTES),
        "priority": priority,
        "tags": [tag],
    });
    if let Value::Object(message) = &mut message {
        if let Some(thread) = &notice.thread {
            message.insert("sequence_id".to_owned(), json!(thread.reference));
        }
        if let Some(link) = &notice.link {
            message.insert("click".to_owned(), json!(link));
        }
    }
    Request::json("POST", format!("{}/", server(job)), &message).bearer(job.text("token"))
}
