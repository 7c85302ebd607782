//! A thread as it is shown. What was written to it is not parsed but kept as the text that it is in
//! the document, so that reading a thread costs little, whatever is in it.

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::value::RawValue;
use serde_json::{Error, Map, Value};
use uuid::Uuid;

use super::event::{MessageAdded, StatusChanged, details};
use super::outcome::{Outcome, response_in};
use super::state::ThreadState;
use crate::domain::ids::ExecutorId;
use crate::domain::time::Timestamp;

/// The type of an event by which something was written.
pub const WRITTEN: &str = "message_added";
/// The type of an event by which the status changed.
pub const CHANGED: &str = "status_changed";

/// A thread document at a glance.
#[derive(Debug, Deserialize)]
pub struct Glance<'a> {
    /// The state of the thread.
    #[serde(flatten)]
    pub state: ThreadState,
    #[serde(borrow)]
    events: Vec<Seen<'a>>,
}

/// An event whose payload is not parsed.
#[derive(Debug, Deserialize)]
struct Seen<'a> {
    event_id: Uuid,
    ts: Timestamp,
    actor_id: ExecutorId,
    event_type: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    mess: &'a RawValue,
}

/// The blocks of what was written, as JSON.
///
/// # Errors
///
/// Fails if the payload has none.
pub fn mess_of(payload: &RawValue) -> serde_json::Result<&RawValue> {
    let Written { mess } = serde_json::from_str(payload.get())?;
    Ok(mess)
}

/// What somebody wrote to a thread.
#[derive(Debug)]
pub struct Message<'a> {
    /// Who wrote it.
    pub from: &'a ExecutorId,
    /// When.
    pub ts: Timestamp,
    /// Its blocks, as JSON.
    pub mess: &'a RawValue,
}

/// An event as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Its id.
    pub id: Uuid,
    /// When it happened.
    pub ts: Timestamp,
    /// Its type.
    pub event_type: &'a str,
    /// Who did it.
    pub from: &'a ExecutorId,
    /// Its payload, as JSON.
    pub payload: &'a RawValue,
}

impl<'a> Glance<'a> {
    /// Reads a thread document.
    ///
    /// # Errors
    ///
    /// Fails if it is none.
    pub fn of(document: &'a [u8]) -> serde_json::Result<Self> {
        let text = std::str::from_utf8(document).map_err(Error::custom)?;
        serde_json::from_str(text)
    }

    /// The messages, in order.
    ///
    /// # Errors
    ///
    /// Fails if one of them cannot be read.
    pub fn messages(&self) -> serde_json::Result<Vec<Message<'_>>> {
        let messages = self.events_of(WRITTEN).map(|event| {
            Ok(Message {
                from: &event.actor_id,
                ts: event.ts,
                mess: mess_of(event.payload)?,
            })
        });
        messages.collect()
    }

    /// What was said about the current status. Empty if the state is one that is not yet stored.
    ///
    /// # Errors
    ///
    /// Fails if a change of the status cannot be read.
    pub fn details(&self) -> serde_json::Result<Map<String, Value>> {
        // The changes since the thread last moved, latest first. Older ones say nothing of now.
        let mut changes: Vec<StatusChanged> = Vec::new();
        for event in self.events_of(CHANGED).rev() {
            changes.push(serde_json::from_str(event.payload.get())?);
            if changes.last().is_some_and(StatusChanged::moves) {
                break;
            }
        }
        let last = changes.iter().find(|change| !change.says_nothing());
        Ok(match last {
            Some(last) if last.new_status == self.state.status => details(changes.iter().rev()),
            _ => Map::new(),
        })
    }

    /// How the request ended, if it is over and the change that ended it is stored.
    ///
    /// # Errors
    ///
    /// Fails if an event cannot be read.
    pub fn outcome(&self) -> serde_json::Result<Option<Outcome>> {
        if !self.state.status.is_terminal() {
            return Ok(None);
        }
        for event in self.events_of(CHANGED).rev() {
            let change: StatusChanged = serde_json::from_str(event.payload.get())?;
            if change.moves() && change.new_status == self.state.status {
                let response = self.response_by(event)?;
                let (from, ts) = (event.actor_id.clone(), event.ts);
                return Ok(Some(Outcome::of(&change, from, ts, response.as_ref())));
            }
        }
        Ok(None)
    }

    /// The last response that whoever made the change `end` delivered with it or before.
    fn response_by(&self, end: &Seen<'_>) -> serde_json::Result<Option<Value>> {
        let theirs = self.events_of(WRITTEN).rev();
        let theirs = theirs.filter(|event| event.actor_id == end.actor_id && event.ts <= end.ts);
        for event in theirs {
            // Most messages are no responses, and need not be parsed to know that.
            if !event.payload.get().contains("\"response\"") {
                continue;
            }
            let message: MessageAdded = serde_json::from_str(event.payload.get())?;
            if let Some(response) = response_in(&message.mess) {
                return Ok(Some(response.clone()));
            }
        }
        Ok(None)
    }

    /// Every event of the thread, in order.
    pub fn events(&self) -> impl Iterator<Item = Told<'_>> {
        self.events.iter().map(|event| Told {
            id: event.event_id,
            ts: event.ts,
            event_type: &event.event_type,
            from: &event.actor_id,
            payload: event.payload,
        })
    }

    fn events_of(&self, event_type: &'static str) -> impl DoubleEndedIterator<Item = &Seen<'a>> {
        self.events
            .iter()
            .filter(move |event| event.event_type == event_type)
    }
}
