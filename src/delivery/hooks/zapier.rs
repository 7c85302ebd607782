//! Zapier: Webhooks by Zapier, "Catch Hook".
//! <https://help.zapier.com/hc/en-us/articles/8496288690317>

use serde_json::json;

use crate::delivery::http::{Request, Turn};
use crate::delivery::provider::{Job, Move, Provider};
use crate::delivery::retry::judge_last;
use crate::domain::member::forms::{Field, Form, Kind};

/// The type `zapier`.
pub const PROVIDER: Provider = Provider {
    form: Form {
        name: "zapier",
        fields: &[
            Field::required("webhook_url", Kind::Url)
                .secret()
                .template(),
            Field::optional("body", Kind::Any).template(),
        ],
        check: Form::ANY,
    },
    gives_ids: false,
    clears: false,
    next_move,
};

/// Zapier reports success even if the Zap is switched off.
fn next_move(job: &Job, turns: &[Turn]) -> Move {
    if !turns.is_empty() {
        return Move::End(judge_last(turns));
    }
    let default = json!({
        "intent": job.notice.variable("intent"),
        "ref": job.notice.variable("ref"),
        "priority": job.notice.variable("priority"),
        "status": job.notice.variable("status"),
        "event": job.notice.event(),
    });
    let request = Request::new("POST", job.render_url("webhook_url"));
    Move::Send(job.with_headers_and_body(request, None, &default))
}
