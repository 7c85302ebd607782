//! Webhook: any HTTP request, signed according to Standard Webhooks if there is a secret.

use serde_json::{Value, json};

use crate::delivery::http::{Request, Turn};
use crate::delivery::provider::{Job, Move, Provider};
use crate::delivery::retry::{Verdict, judge_last, last_response};
use crate::delivery::sign::{check_secret, sign};
use crate::domain::limits::CREDENTIAL_CHARS;
use crate::domain::member::forms::{Field, Form, Kind};

/// The type `webhook` of hooks.
pub const PROVIDER: Provider = Provider {
    form: Form {
        name: "webhook",
        fields: &[
            Field::required("url", Kind::Url).secret().template(),
            Field::optional(
                "method",
                Kind::Word(&["GET", "POST", "PUT", "PATCH", "DELETE"]),
            ),
            Field::optional("headers", Kind::Headers)
                .secret()
                .template(),
            Field::optional("body", Kind::Any).template(),
            Field::optional("secret", Kind::Line(CREDENTIAL_CHARS)).secret(),
        ],
        check: check_secret,
    },
    gives_ids: true,
    clears: false,
    next_move,
};

/// The longest id that is kept, in bytes.
const ID_BYTES: usize = 512;

/// The fields in which a response may name what it created.
const ID_FIELDS: [&str; 3] = ["id", "task_id", "item_id"];

fn next_move(job: &Job, turns: &[Turn]) -> Move {
    if turns.is_empty() {
        return request(job);
    }
    let verdict = match (judge_last(turns), last_response(turns)) {
        (Verdict::Delivered { .. }, Some(response)) => Verdict::Delivered {
            external_id: external_id(&response.json()),
        },
        (verdict, _) => verdict,
    };
    Move::End(verdict)
}

fn request(job: &Job) -> Move {
    let method = job.text("method").unwrap_or("POST");
    let default = json!({
        "event": job.notice.event(),
        "exchange_id": job.notice.exchange,
        "thread": job.notice.thread_json(),
    });
    let request = Request::new(method, job.render_url("url"));
    let request = job.with_headers_and_body(request, job.config.get("headers"), &default);
    match sign(request, job.text("secret"), job.id, job.now) {
        Ok(request) => Move::Send(request),
        Err(problem) => Move::End(Verdict::failed(problem)),
    }
}

fn external_id(body: &Value) -> Option<String> {
    ID_FIELDS.iter().find_map(|name| match body.get(name)? {
        Value::String(id) if (1..=ID_BYTES).contains(&id.len()) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    })
}
