//! The MESS blocks that act, and the steps that the blocks of a call ask for.
//!
//! `status`, `cancel`, `reply` and `response` act. All other blocks, and all fields not named here,
//! are kept as they came and mean nothing to the exchange.

use serde_json::{Map, Value};

use super::question;
use super::question::{Reply, parse_questions};
use super::status::Status;
use crate::domain::duration::Duration;
use crate::domain::limits::{INTENT_CHARS, LEASE, STEPS};
use crate::domain::text::{Fields, Invalid, check_text};

/// The blocks that act.
const ACTING: [&str; 4] = ["status", "cancel", "reply", "response"];

/// What an executor may say about a status besides a remark. The event keeps these details.
const DETAILS: [&str; 9] = [
    "estimate",
    "eta",
    "progress_pct",
    "waiting_for",
    "reason",
    question::FIELD,
    "action",
    "consequences",
    "reversible",
];

/// One act that a call asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Set a status.
    Set(Change),
    /// Answer the executor's question.
    Reply(Reply),
    /// Deliver what was asked for.
    Deliver {
        /// Whether the delivery completes the request. It does unless a later step of the call sets
        /// the status.
        completes: bool,
    },
    /// Renew the claim, with a new lease if one is given.
    Renew(Option<Duration>),
}

/// A status to set, and what is said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The status.
    pub status: Status,
    /// A remark.
    pub message: Option<String>,
    /// Whether to take the request over from another executor.
    pub takeover: bool,
    /// How long the claim lasts.
    pub lease: Option<Duration>,
    /// The details that the event keeps.
    pub details: Map<String, Value>,
}

impl Change {
    /// A change to `status` without any further details.
    pub fn to(status: Status) -> Self {
        Self {
            status,
            message: None,
            takeover: false,
            lease: None,
            details: Map::new(),
        }
    }

    /// Reads what `fields` say about `status`.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is wrong.
    pub fn parse(status: Status, fields: &mut Fields) -> Result<Self, Invalid> {
        let message = fields.take_string("message")?;
        if let Some(text) = &message {
            check_text(text, &fields.path("message"), INTENT_CHARS)?;
        }
        let takeover = fields.take_bool("takeover")?.unwrap_or(false);
        if takeover && status != Status::Claimed {
            let problem = "goes with status claimed";
            return Err(Invalid::new(fields.path("takeover"), problem));
        }
        let lease = parse_lease(fields)?;
        if lease.is_some() && (status == Status::Pending || status.is_terminal()) {
            let problem = "goes with a status in which somebody holds the request";
            return Err(Invalid::new(fields.path("lease"), problem));
        }
        let mut details = Map::new();
        for name in DETAILS {
            if let Some(value) = fields.take(name) {
                check_detail(name, &value, &fields.path(name))?;
                details.insert(name.to_owned(), value);
            }
        }
        Ok(Self {
            status,
            message,
            takeover,
            lease,
            details,
        })
    }

    /// Fills the gaps of this change with what `other` says about the same status.
    #[must_use]
    fn or(mut self, other: Self) -> Self {
        self.message = self.message.or(other.message);
        self.takeover |= other.takeover;
        self.lease = self.lease.or(other.lease);
        for (name, value) in other.details {
            self.details.entry(name).or_insert(value);
        }
        self
    }
}

/// Takes the duration of a lease.
///
/// # Errors
///
/// Fails if it is not a duration or is outside the limits.
pub fn parse_lease(fields: &mut Fields) -> Result<Option<Duration>, Invalid> {
    let Some(text) = fields.take_string("lease")? else {
        return Ok(None);
    };
    let lease = Duration::parse(&text).filter(|lease| LEASE.contains(lease));
    lease.map(Some).ok_or_else(|| {
        let problem = "must be an ISO 8601 duration from PT1M to P7D, like PT30M";
        Invalid::new(fields.path("lease"), problem)
    })
}

fn check_detail(name: &str, value: &Value, path: &str) -> Result<(), Invalid> {
    let problem = match (name, value) {
        ("estimate", Value::String(text)) if Duration::parse(text).is_some() => return Ok(()),
        ("estimate", _) => "must be an ISO 8601 duration like PT45M",
        ("progress_pct", Value::Number(number))
            if number
                .as_f64()
                .is_some_and(|pct| (0.0..=100.0).contains(&pct)) =>
        {
            return Ok(());
        }
        ("progress_pct", _) => "must be a number from 0 to 100",
        ("reversible", Value::Bool(_)) | ("action", Value::String(_)) => return Ok(()),
        ("reversible", _) => "must be true or false",
        ("action", _) => "must be a string",
        (question::FIELD, list) => return parse_questions(list, path).map(drop),
        _ => return Ok(()),
    };
    Err(Invalid::new(path, problem))
}

/// The steps that `blocks` ask for, in order, followed by `status`, the call's own.
///
/// # Errors
///
/// Fails if a block that acts is malformed, if there are too many of them, or if `status` is not
/// the last step.
pub fn parse_steps(blocks: &[Value], status: Option<Change>) -> Result<Vec<Step>, Invalid> {
    let mut steps = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        let path = format!("mess[{at}]");
        let Value::Object(block) = block else {
            return Err(Invalid::new(path, "must be an object"));
        };
        let mut acting = ACTING.iter().filter_map(|name| block.get_key_value(*name));
        match (acting.next(), acting.next()) {
            (None, _) => {}
            (Some((name, content)), None) => {
                steps.extend(parse_block(name, content, &format!("{path}.{name}"))?);
            }
            (Some((one, _)), Some((other, _))) => {
                let problem = format!("must not hold both {one} and {other}: their order is open");
                return Err(Invalid::new(path, problem));
            }
        }
    }
    if steps.len() > STEPS {
        let problem = format!("may hold at most {STEPS} blocks that act");
        return Err(Invalid::new("mess", problem));
    }
    let mut is_told = status.is_some();
    for step in steps.iter_mut().rev() {
        match step {
            Step::Deliver { completes } => *completes = !is_told,
            Step::Set(_) | Step::Reply(_) => is_told = true,
            Step::Renew(_) => {}
        }
    }
    if let Some(status) = status {
        join(&mut steps, status)?;
    }
    Ok(steps)
}

/// The step that a block asks for. A response without content is only a message, so it asks for
/// none.
fn parse_block(name: &str, content: &Value, path: &str) -> Result<Option<Step>, Invalid> {
    // A response may be large, so its content is inspected but not copied.
    if name == "response" {
        let delivered = content.get("content").filter(|content| !content.is_null());
        return Ok(delivered.map(|_| Step::Deliver { completes: true }));
    }
    if name == "reply" {
        let reply = Reply::parse(content.clone(), path)?;
        return Ok(Some(Step::Reply(reply)));
    }
    let mut fields = Fields::of(path, content.clone())?;
    let status = if name == "cancel" {
        Status::Cancelled
    } else {
        let code = fields.require_string("code")?;
        Status::parse(&code, &fields.path("code"))?
    };
    let change = Change::parse(status, &mut fields)?;
    Ok(Some(Step::Set(change)))
}

/// Joins the call's own status to the steps of its blocks. It must match the last status that they
/// set, unless a response follows that one: then it says how the request stands afterwards.
fn join(steps: &mut Vec<Step>, status: Change) -> Result<(), Invalid> {
    let delivers_last = matches!(steps.last(), Some(Step::Deliver { .. }));
    let last = steps
        .iter_mut()
        .rev()
        .find(|step| !matches!(step, Step::Deliver { .. }));
    let reached = match last {
        Some(Step::Set(change)) if change.status == status.status => {
            *change = change.clone().or(status);
            return Ok(());
        }
        Some(Step::Set(change)) => change.status,
        Some(Step::Reply(reply)) if reply.leads_to() == status.status => return Ok(()),
        Some(Step::Reply(reply)) => reply.leads_to(),
        Some(Step::Deliver { .. } | Step::Renew(_)) | None => {
            steps.push(Step::Set(status));
            return Ok(());
        }
    };
    if delivers_last {
        steps.push(Step::Set(status));
        return Ok(());
    }
    let problem = format!("must be the last step of mess, which is {reached}");
    Err(Invalid::new("status", problem))
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
