//! Events. The log holds them as one JSON object per line.

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::status::{Priority, Status};
use super::terms::{Terms, or_default};
use crate::domain::duration::Duration;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::time::Timestamp;

/// One thing that happened, with the batch (the mutation) that committed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// An id that is unique in the whole log.
    pub event_id: Uuid,
    /// The mutation that committed the event. All events of one mutation share it.
    pub batch_id: Uuid,
    /// When it happened. All events of a batch share the moment, and each batch of a thread is
    /// later than the one before it.
    pub ts: Timestamp,
    /// Who did it.
    pub actor_id: ExecutorId,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// What happened: the event's type and payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event_type", content = "payload", rename_all = "snake_case")]
pub enum Fact {
    /// An executor joined the exchange.
    ExecutorRegistered(ExecutorRegistered),
    /// A request was posted.
    ThreadCreated(Box<ThreadCreated>),
    /// The thread's status changed.
    StatusChanged(StatusChanged),
    /// Someone wrote to the thread.
    MessageAdded(MessageAdded),
}

impl Fact {
    /// The type's name in the log.
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::ExecutorRegistered(_) => "executor_registered",
            Self::ThreadCreated(_) => "thread_created",
            Self::StatusChanged(_) => "status_changed",
            Self::MessageAdded(_) => "message_added",
        }
    }

    /// The event's rank among facts of the same moment that nothing else orders: by type, and then
    /// by the number of a status change.
    pub fn rank(&self) -> (u8, u32) {
        match self {
            Self::ExecutorRegistered(_) => (0, 0),
            Self::ThreadCreated(_) => (1, 0),
            Self::StatusChanged(change) => (2, change.step.unwrap_or(0)),
            Self::MessageAdded(_) => (3, 0),
        }
    }
}

/// Payload of `executor_registered`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutorRegistered {
    /// The name shown to people.
    pub display_name: String,
    /// The capabilities that it has.
    #[serde(default)]
    pub capabilities: Vec<Value>,
    /// All other fields that came with it.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Payload of `thread_created`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadCreated {
    /// What is asked for.
    pub intent: String,
    /// What helps to fulfil it.
    #[serde(default = "empty_list")]
    pub context: Value,
    /// How urgent it is.
    #[serde(default = "normal", deserialize_with = "or_normal")]
    pub priority: Priority,
    /// Who posted the request.
    pub requestor_id: ExecutorId,
    /// What form of answer would help.
    #[serde(default = "empty_list")]
    pub response_hint: Value,
    /// By when it is needed, which capabilities it requires, and its other terms.
    #[serde(flatten)]
    pub terms: Terms,
    /// All other fields that came with it.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn normal() -> Priority {
    Priority::Normal
}

/// Reads null as the normal priority, because other servers may have written null.
fn or_normal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(Priority::Normal))
}

fn pending() -> Status {
    Status::Pending
}

fn empty_list() -> Value {
    Value::Array(Vec::new())
}

/// Payload of `status_changed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusChanged {
    /// The status before.
    #[serde(default = "pending")]
    pub old_status: Status,
    /// The status after. It equals the one before if only a remark was made.
    pub new_status: Status,
    /// Who holds the thread after the change.
    pub executor_id: Option<ExecutorId>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether the thread was taken over from another executor.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takeover: bool,
    /// How long the claim lasts from now on unless the holder does something.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub lease: Option<Duration>,
    /// The requestor's answer to the question whether to go on.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub confirmed: Option<bool>,
    /// How often the thread has been announced again since it became open.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub nudge: Option<u32>,
    /// The number of this change among several in one call, counted from 1.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub step: Option<u32>,
    /// What the executor said about the status, and all other fields that came with it.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl StatusChanged {
    /// A change from `old_status` to `new_status`, after which `executor_id` holds the thread.
    pub fn new(old_status: Status, new_status: Status, executor_id: Option<ExecutorId>) -> Self {
        Self {
            old_status,
            new_status,
            executor_id,
            message: None,
            takeover: false,
            lease: None,
            confirmed: None,
            nudge: None,
            step: None,
            extra: Map::new(),
        }
    }

    /// Whether the change only renews a claim or announces the thread again.
    pub fn says_nothing(&self) -> bool {
        let renews = self.lease.is_some() && self.message.is_none() && self.extra.is_empty();
        !self.moves() && (renews || self.nudge.is_some())
    }

    /// Whether the change gives the thread another status or another holder by takeover.
    pub fn moves(&self) -> bool {
        self.old_status != self.new_status || self.takeover
    }
}

/// The name under which a remark stands among the details.
const MESSAGE: &str = "message";

/// What was said about the current status: its remark and the details of the change that led to it, and of later
/// changes that only add details.
pub fn details<'a>(
    changes: impl DoubleEndedIterator<Item = &'a StatusChanged>,
) -> Map<String, Value> {
    let mut details = Map::new();
    for change in changes
        .rev()
        .filter(|change| change.nudge.is_none() || change.moves())
    {
        let message = change
            .message
            .as_ref()
            .map(|text| (MESSAGE, Value::from(text.as_str())));
        let extra = change
            .extra
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        for (name, value) in extra.chain(message) {
            if change.nudge.is_none() && !details.contains_key(name) {
                details.insert(name.to_owned(), value);
            }
        }
        if change.moves() {
            break;
        }
    }
    details
}

/// Payload of `message_added`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageAdded {
    /// The blocks of the message, kept as they came.
    pub mess: Vec<Value>,
    /// All other fields that came with it.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One line of the log, without its newline.
pub fn log_line(
    exchange: &ExchangeId,
    thread: Option<&Ref>,
    event: &Event,
) -> serde_json::Result<String> {
    serde_json::to_string(&LogLine {
        exchange,
        thread,
        event,
    })
}

/// An event as the log shows it: with its exchange and thread, but without its batch.
struct LogLine<'a> {
    exchange: &'a ExchangeId,
    thread: Option<&'a Ref>,
    event: &'a Event,
}

impl Serialize for LogLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_struct("Event", 7)?;
        line.serialize_field("event_id", &self.event.event_id)?;
        line.serialize_field("ts", &self.event.ts)?;
        line.serialize_field("exchange_id", self.exchange)?;
        line.serialize_field("thread_ref", &self.thread)?;
        line.serialize_field("event_type", self.event.fact.event_type())?;
        line.serialize_field("actor_id", &self.event.actor_id)?;
        match &self.event.fact {
            Fact::ExecutorRegistered(payload) => line.serialize_field("payload", payload)?,
            Fact::ThreadCreated(payload) => line.serialize_field("payload", payload)?,
            Fact::StatusChanged(payload) => line.serialize_field("payload", payload)?,
            Fact::MessageAdded(payload) => line.serialize_field("payload", payload)?,
        }
        line.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        serde_json::from_value(serde_json::json!({
            "event_id": Uuid::from_u128(1), "batch_id": Uuid::from_u128(2),
            "ts": "2025-02-01T12:00:00Z", "actor_id": "agent",
            "event_type": "status_changed",
            "payload": {"old_status": "pending", "new_status": "claimed", "executor_id": "agent", "z": [1, 2.5]},
        }))
        .unwrap()
    }

    #[test]
    fn the_line_is_the_published_schema() {
        let exchange = ExchangeId::parse("home", "").unwrap();
        let thread = Ref::parse("2025-02-01-ABC1").unwrap();
        assert_eq!(
            log_line(&exchange, Some(&thread), &event()).unwrap(),
            concat!(
                r#"{"event_id":"00000000-0000-0000-0000-000000000001","ts":"2025-02-01T12:00:00.000Z","#,
                r#""exchange_id":"home","thread_ref":"2025-02-01-ABC1","event_type":"status_changed","#,
                r#""actor_id":"agent","payload":{"old_status":"pending","new_status":"claimed","#,
                r#""executor_id":"agent","z":[1,2.5]}}"#
            )
        );
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let text = serde_json::to_string(&event()).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event());
    }
}
