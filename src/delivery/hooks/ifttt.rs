//! IFTTT: the Webhooks service. <https://ifttt.com/maker_webhooks>

use serde_json::json;

use crate::delivery::http::{Request, Turn};
use crate::delivery::provider::{Job, Move, Provider, encode};
use crate::delivery::retry::judge_last;
use crate::domain::limits::{CREDENTIAL_CHARS, NAME_CHARS};
use crate::domain::member::forms::{Field, Form, Kind};

/// The type `ifttt`.
pub const PROVIDER: Provider = Provider {
    form: Form {
        name: "ifttt",
        fields: &[
            Field::required("key", Kind::Line(CREDENTIAL_CHARS)).secret(),
            Field::optional("event", Kind::Line(NAME_CHARS)).template(),
            Field::optional("value1", Kind::Text).template(),
            Field::optional("value2", Kind::Text).template(),
            Field::optional("value3", Kind::Text).template(),
        ],
        check: Form::ANY,
    },
    gives_ids: false,
    clears: false,
    next_move,
};

/// IFTTT answers with a sentence, even if no applet listens to the event.
fn next_move(job: &Job, turns: &[Turn]) -> Move {
    if !turns.is_empty() {
        return Move::End(judge_last(turns));
    }
    let event = encode(&job.render("event", "mess_request"));
    let key = encode(job.text("key").unwrap_or_default());
    let body = json!({
        "value1": job.render("value1", "{{intent}}"),
        "value2": job.render("value2", "{{ref}}"),
        "value3": job.render("value3", "{{priority}}"),
    });
    let url = format!("https://maker.ifttt.com/trigger/{event}/with/key/{key}");
    Move::Send(Request::json("POST", url, &body))
}
