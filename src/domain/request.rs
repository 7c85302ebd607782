//! What a client posts: a new request, and an update of a thread.

use serde_json::{Map, Value, json};

use super::event::{Fact, MessageAdded, ThreadCreated};
use super::ids::ExecutorId;
use super::limits::INTENT_CHARS;
use super::status::{Priority, Status};
use super::text::{Fields, Invalid, check_line, check_text};
use super::transition::Update;

/// Fields that the exchange sets itself; a client's values for them are ignored.
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

/// A request that someone posts.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRequest {
    intent: String,
    context: Value,
    priority: Priority,
    response_hint: Value,
    /// Fields that this server does not know, kept as they came.
    extra: Map<String, Value>,
}

impl NewRequest {
    /// Reads the body of `POST /requests`.
    ///
    /// # Errors
    ///
    /// The first field that is missing or wrong.
    pub fn parse(mut fields: Fields) -> Result<Self, Invalid> {
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
        Ok(Self {
            intent,
            context,
            priority,
            response_hint,
            extra,
        })
    }

    /// The facts of its creation: the thread, and the request as its first message.
    pub fn into_facts(self, requestor: &ExecutorId) -> Vec<Fact> {
        let mut request = Map::new();
        request.insert("intent".to_owned(), json!(self.intent));
        request.insert("context".to_owned(), self.context.clone());
        request.insert("response_hint".to_owned(), self.response_hint.clone());
        request.extend(self.extra);
        vec![
            Fact::ThreadCreated(ThreadCreated {
                intent: self.intent,
                context: self.context,
                priority: self.priority,
                requestor_id: requestor.clone(),
                response_hint: self.response_hint,
                extra: Map::new(),
            }),
            Fact::MessageAdded(MessageAdded {
                mess: vec![json!({ "request": request })],
                extra: Map::new(),
            }),
        ]
    }
}

impl Update {
    /// Reads the body of `PATCH /requests/{ref}`.
    ///
    /// # Errors
    ///
    /// The first field that is missing or wrong.
    pub fn parse(mut fields: Fields) -> Result<Self, Invalid> {
        let status = match fields.take_string("status")? {
            None => None,
            Some(text) => Some(Status::parse(&text, "status")?),
        };
        let message = fields.take_string("message")?;
        if let Some(text) = &message {
            check_text(text, "message", INTENT_CHARS)?;
        }
        let mess = fields.take_list("mess")?;
        if let Some(blocks) = &mess {
            if blocks.is_empty() {
                return Err(Invalid::new("mess", "must hold at least one block"));
            }
            if let Some(at) = blocks.iter().position(|block| !block.is_object()) {
                return Err(Invalid::new(format!("mess[{at}]"), "must be an object"));
            }
        }
        let takeover = fields.take_bool("takeover")?.unwrap_or(false);
        if status.is_none() && mess.is_none() {
            return Err(Invalid::new(
                "status",
                "or mess is required: say what to change",
            ));
        }
        if status.is_none() && message.is_some() {
            return Err(Invalid::new(
                "message",
                "is a remark on a status: give status too, or write to the thread with mess",
            ));
        }
        if takeover && status != Some(Status::Claimed) {
            return Err(Invalid::new("takeover", "goes with status claimed"));
        }
        Ok(Self {
            status,
            message,
            takeover,
            mess,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(value: Value) -> Result<NewRequest, Invalid> {
        NewRequest::parse(Fields::of("", value).unwrap())
    }

    fn update(value: Value) -> Result<Update, Invalid> {
        Update::parse(Fields::of("", value).unwrap())
    }

    #[test]
    fn a_request_keeps_what_it_does_not_know_and_drops_what_it_sets() {
        let facts = request(json!({
            "intent": "Check front door", "context": "it is dark", "ref": "mine", "status": "completed",
            "requestor_id": "someone", "needed": {"by": "noon"}, "response_hints": ["photo"],
        }))
        .unwrap()
        .into_facts(&ExecutorId::parse("agent", "").unwrap());
        let Fact::MessageAdded(message) = &facts[1] else {
            panic!("no message")
        };
        assert_eq!(
            Value::Array(message.mess.clone()),
            json!([{"request": {"intent": "Check front door", "context": ["it is dark"],
                "response_hint": ["photo"], "needed": {"by": "noon"}}}])
        );
        let Fact::ThreadCreated(created) = &facts[0] else {
            panic!("no creation")
        };
        assert_eq!(created.requestor_id.as_str(), "agent");
        assert_eq!(created.priority, Priority::Normal);
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
            (json!({"message": "x"}), "status"),
            (json!({"message": "x", "mess": [{}]}), "message"),
            (json!({"status": "claimed", "message": "\u{0}"}), "message"),
            (json!({"status": "claimed", "takeover": "yes"}), "takeover"),
            (json!({"status": "completed", "takeover": true}), "takeover"),
        ] {
            assert_eq!(update(bad.clone()).unwrap_err().path, path, "{bad}");
        }
    }
}
