//! A thread: one request and all that happened to it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::due::owed_timer;
use super::event::{Event, Fact, StatusChanged, details};
use super::state::{ThreadState, fold};
use crate::domain::ids::{ExecutorId, Ref};
use crate::domain::json::{count_all, count_values};
use crate::domain::time::Timestamp;

/// A fact, and whose doing it is.
pub type Deed = (ExecutorId, Fact);

/// A thread document: the state and the events that it was folded from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// What the events amount to.
    #[serde(flatten)]
    pub state: ThreadState,
    /// Everything that happened, in order.
    pub events: Vec<Event>,
}

/// What stamps a batch: its id, its moment, and where its events' ids come from.
pub struct Stamp<'a> {
    /// Id of the batch.
    pub batch_id: Uuid,
    /// The moment by the clock; the batch's own may be a little later.
    pub now: Timestamp,
    /// Draws the id of an event.
    pub new_id: &'a dyn Fn() -> Uuid,
}

/// A batch that is part of a thread: what it says, and the states around it.
#[derive(Debug, PartialEq)]
pub struct Committed<'a> {
    /// The state that it found; `None` when it created the thread.
    pub before: Option<ThreadState>,
    /// The state that it left.
    pub after: ThreadState,
    /// Its events.
    pub events: &'a [Event],
}

impl Thread {
    /// A new thread from the facts of its creation; `None` unless they begin with one.
    pub fn create(reference: &Ref, deeds: Vec<Deed>, stamp: &Stamp) -> Option<Self> {
        let events = stamped(deeds, stamp.now, stamp);
        Self::from_events(reference, events)
    }

    /// The thread that `events` amount to; `None` when there is no creation among them.
    pub fn from_events(reference: &Ref, events: Vec<Event>) -> Option<Self> {
        let state = fold(reference, &events)?;
        Some(Self { state, events })
    }

    /// This thread with one more batch, later than everything in it.
    #[must_use]
    pub fn append(mut self, deeds: Vec<Deed>, stamp: &Stamp) -> Self {
        let ts = stamp.now.max(self.state.updated_at.plus_millis(1));
        for event in stamped(deeds, ts, stamp) {
            self.state = self.state.apply(&event, self.events.last());
            self.events.push(event);
        }
        self
    }

    /// Whether `batch_id` was committed, and what it said.
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

    /// The timers that its batches owed, each with its batch.
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

    /// What was written to the thread, in order: the events that are messages.
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

    /// The last event that said anything of the thread's status, and what it said.
    pub fn last_status(&self) -> Option<(&Event, &StatusChanged)> {
        self.changes().rfind(|(_, change)| !change.says_nothing())
    }

    /// What was said of the present status; nothing when the state is one that is not written yet.
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
