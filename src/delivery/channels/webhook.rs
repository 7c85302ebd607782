//! Webhook: a notification as JSON to any URL, signed according to Standard Webhooks if there is a
//! secret.

use serde_json::json;

use crate::delivery::http::{Request, Turn};
use crate::delivery::provider::{Job, Move, Provider};
use crate::delivery::retry::{Verdict, judge_last};
use crate::delivery::sign::{check_secret, sign};
use crate::domain::limits::CREDENTIAL_CHARS;
use crate::domain::member::forms::{Field, Form, Kind};

/// The type `webhook` of channels.
pub const PROVIDER: Provider = Provider {
    form: Form {
        name: "webhook",
        fields: &[
            Field::required("url", Kind::Url).secret(),
            Field::optional("secret", Kind::Line(CREDENTIAL_CHARS)).secret(),
            Field::optional("headers", Kind::Headers)
                .secret()
                .template(),
        ],
        check: check_secret,
    },
    gives_ids: false,
    clears: false,
    next_move,
};

fn next_move(job: &Job, turns: &[Turn]) -> Move {
    if !turns.is_empty() {
        return Move::End(judge_last(turns));
    }
    let notice = job.notice;
    let body = json!({
        "title": notice.title(),
        "body": notice.body(usize::MAX),
        "thread": notice.thread_json(),
        "event_type": notice.event_type(),
    });
    let (url, headers) = (
        job.text("url").unwrap_or_default(),
        job.config.get("headers"),
    );
    let request = job.with_headers(
        Request::new("POST", url),
        headers,
        "application/json",
        |_| body.to_string(),
    );
    match sign(request, job.text("secret"), job.id, job.now) {
        Ok(request) => Move::Send(request),
        Err(problem) => Move::End(Verdict::failed(problem)),
    }
}
