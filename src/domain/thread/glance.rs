//! A thread as it is shown. What was written to it is not parsed but kept as the text that it is in
//! the document, so that reading a thread costs little, whatever is in it.

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::Error;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::event::{StatusChanged, details};
use super::state::ThreadState;
use crate::domain::ids::ExecutorId;
use crate::domain::time::Timestamp;

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
        let messages = self.events_of("message_added").map(|event| {
            let Written { mess } = serde_json::from_str(event.payload.get())?;
            Ok(Message {
                from: &event.actor_id,
                ts: event.ts,
                mess,
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
        for event in self.events_of("status_changed").rev() {
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

    fn events_of(&self, event_type: &'static str) -> impl DoubleEndedIterator<Item = &Seen<'a>> {
        self.events
            .iter()
            .filter(move |event| event.event_type == event_type)
    }
}
