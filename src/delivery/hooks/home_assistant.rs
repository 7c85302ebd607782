//! Home Assistant: a webhook trigger.
//! <https://www.home-assistant.io/docs/automation/trigger/#webhook-trigger>

use serde_json::{Map, Value, json};

use crate::delivery::http::{Request, Turn};
use crate::delivery::provider::{Job, Move, Provider, encode};
use crate::delivery::retry::judge_last;
use crate::domain::limits::{CREDENTIAL_CHARS, NAME_CHARS};
use crate::domain::member::forms::{Complaint, Field, Form, Kind, given, text};

/// The type `home_assistant`.
pub const PROVIDER: Provider = Provider {
    form: Form {
        name: "home_assistant",
        fields: &[
            Field::optional("url", Kind::Url).secret().template(),
            Field::optional("base_url", Kind::Url).template(),
            Field::optional("webhook_id", Kind::Line(NAME_CHARS))
                .secret()
                .template(),
            Field::optional("token", Kind::Line(CREDENTIAL_CHARS)).secret(),
            Field::optional("body", Kind::Any).template(),
        ],
        check: check_target,
    },
    gives_ids: false,
    clears: false,
    next_move,
};

fn check_target(entry: &Map<String, Value>) -> Result<(), Complaint> {
    let has = |name| given(entry, name).is_some();
    if text(entry, "base_url").is_some_and(|base| base.contains(['?', '#'])) {
        return Err(("base_url", "must not have a query or fragment"));
    }
    if has("url") || (has("base_url") && has("webhook_id")) {
        Ok(())
    } else {
        Err(("url", "is required, or base_url and webhook_id"))
    }
}

/// Home Assistant answers 200 to every webhook id, whether it knows the id or not.
fn next_move(job: &Job, turns: &[Turn]) -> Move {
    if !turns.is_empty() {
        return Move::End(judge_last(turns));
    }
    let url = if job.text("url").is_some() {
        job.render_url("url")
    } else {
        let base = job.render_url("base_url");
        let id = encode(&job.render("webhook_id", ""));
        format!("{}/api/webhook/{id}", base.trim_end_matches('/'))
    };
    let default = json!({
        "action": format!("mess_{}", job.notice.event()),
        "intent": job.notice.variable("intent"),
        "ref": job.notice.variable("ref"),
        "priority": job.notice.variable("priority"),
    });
    let request = Request::new("POST", url).bearer(job.text("token"));
    Move::Send(job.with_headers_and_body(request, None, &default))
}
