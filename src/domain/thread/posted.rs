//! What a client posts: a new request, and an update of a thread.

use serde_json::{Map, Value, json};

use super::document::Deed;
use super::event::{Fact, MessageAdded, ThreadCreated};
use super::status::{Priority, Status};
use super::steps::{Change, parse_lease, parse_steps};
use super::terms::Terms;
use super::transition::Update;
use crate::domain::duration::Duration;
use crate::domain::ids::ExecutorId;
use crate::domain::limits::INTENT_CHARS;
use crate::domain::text::{Fields, Invalid, check_line};
use crate::domain::time::Timestamp;

/// Fields that only the exchange sets. Values that a client gives for them are ignored.
const OWN_FIELDS: [&str; 9] = [
    "ref",
    "status",
    "requestor_id",
    "executor_id",
    "exchange_id",
    "created_at",
    "updated_at",
    "version",
    "messages",
];

/// A request to be posted.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRequest {
    intent: String,
    context: Value,
    priority: Priority,
    response_hint: Value,
    terms: Terms,
    /// All other fields, kept as they came.
    extra: Map<String, Value>,
}

impl NewRequest {
    /// Its priority.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Reads the body of `POST /requests` at the moment `now`. `nudge_after` gives the waits after
    /// which a request of a given priority is announced again.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is missing or wrong.
    pub fn parse(
        mut fields: Fields,
        now: Timestamp,
        nudge_after: impl Fn(Priority) -> Vec<Duration>,
    ) -> Result<Self, Invalid> {
        let intent = fields.require_string("intent")?;
        check_line(&intent, "intent", INTENT_CHARS)?;
        let context = match fields.take("context") {
            None => json!([]),
            Some(text @ Value::String(_)) => Value::Array(vec![text]),
            Some(list @ Value::Array(_)) => list,
            Some(_) => return Err(Invalid::new("context", "must be a list")),
        };
        let priority = match fields.take_string("priority")? {
            None => Priority::Normal,
            Some(text) => Priority::parse(&text, "priority")?,
        };
        let response_hint = match (fields.take("response_hint"), fields.take("response_hints")) {
            (Some(_), Some(_)) => {
                return Err(Invalid::new(
                    "response_hints",
                    "is another spelling of response_hint: give one of them",
                ));
            }
            (Some(hint), None) | (None, Some(hint)) => hint,
            (None, None) => json!([]),
        };
        let mut extra = fields.rest();
        extra.retain(|name, _| !OWN_FIELDS.contains(&name.as_str()));
        let mut terms = Terms::parse(&extra, now)?;
        terms.nudge_after = nudge_after(priority);
        if terms.nudge_after.is_empty() && !terms.escalate_to.is_empty() {
            let problem = "goes with a request that is announced again: of priority elevated or urgent, unless that is switched off here";
            return Err(Invalid::new("escalate_to", problem));
        }
        Ok(Self {
            intent,
            context,
            priority,
            response_hint,
            terms,
            extra,
        })
    }

    /// The facts of its creation: the thread, and the request as its first message.
    pub fn into_deeds(self, requestor: &ExecutorId) -> Vec<Deed> {
        let mut request = Map::new();
        request.insert("intent".to_owned(), json!(self.intent));
        request.insert("context".to_owned(), self.context.clone());
        request.insert("response_hint".to_owned(), self.response_hint.clone());
        request.extend(self.extra);
        let facts = [
            Fact::ThreadCreated(Box::new(ThreadCreated {
                intent: self.intent,
                context: self.context,
                priority: self.priority,
                requestor_id: requestor.clone(),
                response_hint: self.response_hint,
                terms: self.terms,
                extra: Map::new(),
            })),
            Fact::MessageAdded(MessageAdded {
                mess: vec![json!({ "request": request })],
                extra: Map::new(),
            }),
        ];
        facts.map(|fact| (requestor.clone(), fact)).into()
    }
}

impl Update {
    /// Reads the body of `PATCH /requests/{ref}`.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is missing or wrong.
    pub fn parse(mut fields: Fields) -> Result<Self, Invalid> {
        let mess = fields.take_list("mess")?;
        if mess.as_ref().is_some_and(Vec::is_empty) {
            return Err(Invalid::new("mess", "must hold at least one block"));
        }
        let status = if let Some(text) = fields.take_string("status")? {
            let status = Status::parse(&text, "status")?;
            Some(Change::parse(status, &mut fields)?)
        } else {
            refuse_without_status(&mut fields, mess.is_some())?;
            None
        };
        Ok(Self {
            steps: parse_steps(mess.as_deref().unwrap_or_default(), status)?,
            mess,
        })
    }

    /// Reads the body of `POST /requests/{ref}/lease`.
    ///
    /// # Errors
    ///
    /// Fails if the lease is wrong.
    pub fn parse_renewal(mut fields: Fields) -> Result<Self, Invalid> {
        Ok(Self::renew(parse_lease(&mut fields)?))
    }
}

/// Refuses fields that make sense only together with a status, and a call that changes nothing.
fn refuse_without_status(fields: &mut Fields, has_mess: bool) -> Result<(), Invalid> {
    for name in ["message", "takeover", "lease", "questions", "action"] {
        if fields.take(name).is_some_and(|value| value != json!(false)) {
            let problem = "is said of a status: give status too, or write to the thread with mess";
            return Err(Invalid::new(name, problem));
        }
    }
    if has_mess {
        return Ok(());
    }
    let problem = "or mess is required: say what to change";
    Err(Invalid::new("status", problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(value: Value) -> Result<NewRequest, Invalid> {
        let nudge_after = |priority| match priority {
            Priority::Background => Vec::new(),
            _ => vec![Duration::minutes(15)],
        };
        NewRequest::parse(
            Fields::of("", value).unwrap(),
            Timestamp::default(),
            nudge_after,
        )
    }

    fn update(value: Value) -> Result<Update, Invalid> {
        Update::parse(Fields::of("", value).unwrap())
    }

    #[test]
    fn a_request_keeps_what_it_does_not_know_and_drops_what_it_sets() {
        let deeds = request(json!({
            "intent": "Check front door", "context": "it is dark", "ref": "mine", "status": "completed",
            "requestor_id": "someone", "needed": {"by": "noon"}, "response_hints": ["photo"],
            "needed_by": "2025-02-01T12:00:00+01:00",
        }))
        .unwrap()
        .into_deeds(&ExecutorId::parse("agent", "").unwrap());
        let Fact::MessageAdded(message) = &deeds[1].1 else {
            panic!("no message")
        };
        assert_eq!(
            Value::Array(message.mess.clone()),
            json!([{"request": {"intent": "Check front door", "context": ["it is dark"],
                "response_hint": ["photo"], "needed": {"by": "noon"},
                "needed_by": "2025-02-01T12:00:00+01:00"}}])
        );
        let Fact::ThreadCreated(created) = &deeds[0].1 else {
            panic!("no creation")
        };
        assert_eq!(created.requestor_id.as_str(), "agent");
        assert_eq!(created.priority, Priority::Normal);
        let terms = serde_json::to_value(&created.terms).unwrap();
        let expected = json!({"needed_by": "2025-02-01T11:00:00.000Z", "nudge_after": ["PT15M"]});
        assert_eq!(terms, expected);
    }

    #[test]
    fn requests_that_are_refused() {
        let long = "x".repeat(INTENT_CHARS + 1);
        for (bad, path) in [
            (json!({}), "intent"),
            (json!({"intent": ""}), "intent"),
            (json!({"intent": " "}), "intent"),
            (json!({"intent": 5}), "intent"),
            (json!({"intent": "a\nb"}), "intent"),
            (json!({"intent": long}), "intent"),
            (json!({"intent": "x", "priority": "high"}), "priority"),
            (json!({"intent": "x", "priority": 1}), "priority"),
            (json!({"intent": "x", "context": {}}), "context"),
            (
                json!({"intent": "x", "priority": "background", "escalate_to": ["boss"]}),
                "escalate_to",
            ),
            (
                json!({"intent": "x", "response_hint": 1, "response_hints": 2}),
                "response_hints",
            ),
        ] {
            assert_eq!(request(bad.clone()).unwrap_err().path, path, "{bad}");
        }
        assert!(request(json!({"intent": "é".repeat(INTENT_CHARS)})).is_ok());
    }

    #[test]
    fn updates_that_are_refused() {
        for (bad, path) in [
            (json!({}), "status"),
            (json!({"status": "done"}), "status"),
            (json!({"status": ["claimed"]}), "status"),
            (json!({"mess": []}), "mess"),
            (json!({"mess": {}}), "mess"),
            (json!({"mess": [{}, "x"]}), "mess[1]"),
            (json!({"message": "x"}), "message"),
            (json!({"message": "x", "mess": [{}]}), "message"),
            (json!({"status": "claimed", "message": "\u{0}"}), "message"),
            (json!({"status": "claimed", "takeover": "yes"}), "takeover"),
            (json!({"status": "completed", "takeover": true}), "takeover"),
            (json!({"mess": [{}], "takeover": true}), "takeover"),
            (json!({"mess": [{}], "lease": "PT5M"}), "lease"),
            (json!({"mess": [{}], "questions": []}), "questions"),
            (json!({"status": "claimed", "lease": 5}), "lease"),
            (json!({"status": "claimed", "lease": "5m"}), "lease"),
            (json!({"status": "claimed", "lease": "PT59S"}), "lease"),
            (json!({"status": "claimed", "lease": "P8D"}), "lease"),
            (json!({"status": "completed", "lease": "PT5M"}), "lease"),
            (json!({"status": "pending", "lease": "PT5M"}), "lease"),
            (json!({"status": "claimed", "estimate": "soon"}), "estimate"),
        ] {
            assert_eq!(update(bad.clone()).unwrap_err().path, path, "{bad}");
        }
    }
}
