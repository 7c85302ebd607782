//! The document of a thread: one request with everything that happened to it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::due::owed_timer;
use super::event::{Event, Fact, StatusChanged, details};
use super::state::{ThreadState, fold};
use crate::domain::ids::{ExecutorId, Ref};
use crate::domain::json::{count_all, count_values};
use crate::domain::time::Timestamp;

/// A fact, and the actor that brought it about.
pub type Deed = (ExecutorId, Fact);

/// A thread document: a state, and the events that it was folded from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// The state that the events fold into.
    #[serde(flatten)]
    pub state: ThreadState,
    /// Everything that happened, in order.
    pub events: Vec<Event>,
}

/// What marks the events of a batch: the batch id, the moment, and a source of event ids.
pub struct Stamp<'a> {
    /// The id of the batch.
    pub batch_id: Uuid,
    /// The current moment by the clock. The batch's own moment may be a little later.
    pub now: Timestamp,
    /// Draws the id of an event.
    pub new_id: &'a dyn Fn() -> Uuid,
}

/// A batch that is part of a thread: its events, and the states before and after it.
#[derive(Debug, PartialEq)]
pub struct Committed<'a> {
    /// The state that the batch found; `None` if it created the thread.
    pub before: Option<ThreadState>,
    /// The state that the batch left.
    pub after: ThreadState,
    /// Its events.
    pub events: &'a [Event],
}

impl Thread {
    /// Makes a new thread from the facts of its creation. Returns `None` if no creation is among
    /// them.
    pub fn create(reference: &Ref, deeds: Vec<Deed>, stamp: &Stamp) -> Option<Self> {
        let events = stamped(deeds, stamp.now, stamp);
        Self::from_events(reference, events)
    }

    /// Folds `events` into a thread. Returns `None` if no creation is among them.
    pub fn from_events(reference: &Ref, events: Vec<Event>) -> Option<Self> {
        let state = fold(reference, &events)?;
        Some(Self { state, events })
    }

    /// Appends one more batch to this thread. Its moment is later than everything in the thread.
    #[must_use]
    pub fn append(mut self, deeds: Vec<Deed>, stamp: &Stamp) -> Self {
        let ts = stamp.now.max(self.state.updated_at.plus_millis(1));
        for event in stamped(deeds, ts, stamp) {
            self.state = self.state.apply(&event, self.events.last());
            self.events.push(event);
        }
        self
    }

    /// The batch `batch_id` with the states around it, or `None` if it was not committed.
    pub fn committed(&self, batch_id: Uuid) -> Option<Committed<'_>> {
        let is_ours = |event: &Event| event.batch_id == batch_id;
        let start = self.events.iter().position(is_ours)?;
        let end = self.events.iter().rposition(is_ours)?.checked_add(1)?;
        let reference = &self.state.reference;
        Some(Committed {
            before: fold(reference, self.events.get(..start)?),
            after: fold(reference, self.events.get(..end)?)?,
            events: self.events.get(start..end)?,
        })
    }

    /// The timers that the thread's batches owed, each with the batch that owed it.
    pub fn owed_timers(&self) -> Vec<(Uuid, Timestamp)> {
        let mut owed = Vec::new();
        let (mut before, mut state): (Option<ThreadState>, Option<ThreadState>) = (None, None);
        let mut read = 0_usize;
        for batch in self.events.chunk_by(|a, b| a.batch_id == b.batch_id) {
            for event in batch {
                let previous = read.checked_sub(1).and_then(|at| self.events.get(at));
                read = read.saturating_add(1);
                state = match state {
                    Some(state) => Some(state.apply(event, previous)),
                    None => fold(
                        &self.state.reference,
                        self.events.get(..read).unwrap_or(&[]),
                    ),
                };
            }
            if let (Some(after), Some(event)) = (&state, batch.first()) {
                let timer = owed_timer(before.as_ref(), after);
                owed.extend(timer.map(|moment| (event.batch_id, moment)));
            }
            before.clone_from(&state);
        }
        owed
    }

    /// The events that are messages, in order, each with its blocks.
    pub fn messages(&self) -> impl Iterator<Item = (&Event, &[Value])> {
        self.events.iter().filter_map(|event| match &event.fact {
            Fact::MessageAdded(message) => Some((event, message.mess.as_slice())),
            _ => None,
        })
    }

    /// How many JSON values were written to the thread.
    pub fn values(&self) -> usize {
        let of_fact = |fact: &Fact| match fact {
            Fact::ThreadCreated(created) => {
                count_values(&created.context).saturating_add(count_values(&created.response_hint))
            }
            Fact::MessageAdded(message) => count_all(message.mess.iter()),
            Fact::StatusChanged(change) => count_all(change.extra.values()).saturating_add(1),
            Fact::ExecutorRegistered(_) => 1,
        };
        self.events
            .iter()
            .fold(0, |count, event| count.saturating_add(of_fact(&event.fact)))
    }

    /// The last event that says something about the thread's status, and its payload.
    pub fn last_status(&self) -> Option<(&Event, &StatusChanged)> {
        self.changes().rfind(|(_, change)| !change.says_nothing())
    }

    /// What was said about the current status. Empty if the state is one that is not yet stored.
    pub fn details(&self) -> Map<String, Value> {
        match self.last_status() {
            Some((_, change)) if change.new_status == self.state.status => {
                details(self.changes().map(|(_, change)| change))
            }
            _ => Map::new(),
        }
    }

    /// All changes of status, in order.
    pub fn changes(&self) -> impl DoubleEndedIterator<Item = (&Event, &StatusChanged)> {
        self.events.iter().filter_map(|event| match &event.fact {
            Fact::StatusChanged(change) => Some((event, change)),
            _ => None,
        })
    }
}

fn stamped(deeds: Vec<Deed>, ts: Timestamp, stamp: &Stamp) -> Vec<Event> {
    deeds
        .into_iter()
        .map(|(actor_id, fact)| Event {
            event_id: (stamp.new_id)(),
            batch_id: stamp.batch_id,
            ts,
            actor_id,
            fact,
        })
        .collect()
}
