//! A thread: one request and all that happened to it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::due;
use super::event::{Event, Fact, StatusChanged, details};
use super::status::{Priority, Status};
use super::terms::Terms;
use crate::domain::duration::Duration;
use crate::domain::ids::{ExecutorId, Ref};
use crate::domain::time::Timestamp;

/// The state that the events of a thread fold into; also what a list shows of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadState {
    /// Its name.
    #[serde(rename = "ref")]
    pub reference: Ref,
    /// Where it stands.
    pub status: Status,
    /// What is asked for.
    pub intent: String,
    /// Who asks.
    pub requestor_id: ExecutorId,
    /// Who holds it, while someone does; who ended it, afterwards.
    pub executor_id: Option<ExecutorId>,
    /// How much it presses.
    pub priority: Priority,
    /// When it was posted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// How many batches it consists of.
    pub version: u64,
    /// What was agreed when it was posted.
    #[serde(flatten)]
    pub terms: Terms,
    /// Whether the requestor has confirmed what its holder wants to do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirmed: bool,
    /// For how long the claim holds after the holder's last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Duration>,
    /// When the claim lapses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Timestamp>,
    /// Since when it is open again, if it is to be announced again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_since: Option<Timestamp>,
    /// How often it has been announced again since.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nudges: u32,
    /// The moment of a timer that looks at it, no later than anything falls due by itself, unless
    /// that moment has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer_at: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What tells one content of a thread from another: its version, and whether something has fallen
/// due since that is not written yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The version.
    pub version: u64,
    /// Whether it is shown with what is due.
    pub is_due: bool,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}",
            self.version,
            if self.is_due { "-due" } else { "" }
        )
    }
}

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
                let timer = due::owed_timer(before.as_ref(), after);
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

impl ThreadState {
    /// The state after one more event; `previous` is the event before it.
    #[must_use]
    pub fn apply(mut self, event: &Event, previous: Option<&Event>) -> Self {
        if previous.is_none_or(|previous| previous.batch_id != event.batch_id) {
            self.version = self.version.saturating_add(1);
        }
        self.take(&event.fact, &event.actor_id, event.ts);
        self
    }

    /// Takes over what a fact says, as part of the present version.
    pub fn take(&mut self, fact: &Fact, actor: &ExecutorId, ts: Timestamp) {
        self.updated_at = self.updated_at.max(ts);
        match fact {
            Fact::StatusChanged(change) => self.take_change(change, ts),
            Fact::ThreadCreated(_) | Fact::MessageAdded(_) | Fact::ExecutorRegistered(_) => {}
        }
        match self.lease {
            // Whatever the holder does renews its claim.
            Some(lease) if self.holder() == Some(actor) => {
                self.lease_until = Some(ts.plus_millis(lease.millis()));
            }
            Some(_) => {}
            None => self.lease_until = None,
        }
        if let Some(moment) = due::next_moment(self)
            && !self
                .timer_at
                .is_some_and(|at| at <= moment && due::is_reliable(at, ts))
        {
            self.timer_at = Some(moment);
        }
    }

    fn take_change(&mut self, change: &StatusChanged, ts: Timestamp) {
        let (was_pending, before) = (self.status == Status::Pending, self.holder().cloned());
        self.status = change.new_status;
        self.executor_id = match change.new_status {
            Status::Pending => None,
            _ => change.executor_id.clone().or(self.executor_id.take()),
        };
        // A claim is agreed with its holder: the next one has its own.
        if self.holder() != before.as_ref() || change.takeover || self.status.is_terminal() {
            self.lease = None;
        }
        if self.holder() != before.as_ref() || self.status == Status::NeedsConfirmation {
            self.confirmed = false;
        }
        if self.status == Status::Pending && !was_pending && !self.terms.nudge_after.is_empty() {
            (self.open_since, self.nudges) = (Some(ts), 0);
        }
        if change.lease.is_some() && !self.status.is_terminal() {
            self.lease = change.lease;
        }
        if let Some(confirmed) = change.confirmed {
            self.confirmed = confirmed;
        }
        if let Some(nudges) = change.nudge {
            self.nudges = nudges;
        }
    }

    /// The tag of what is shown at `now`.
    pub fn tag_as_of(&self, now: Timestamp) -> Tag {
        Tag {
            version: self.version,
            is_due: due::is_due(self, now),
        }
    }

    /// The state as it is at `now`, if something has fallen due that is not written yet.
    pub fn as_of(&self, now: Timestamp) -> Option<Self> {
        if !due::is_due(self, now) {
            return None;
        }
        let mut state = self.clone();
        due::settle(&mut state, now);
        Some(state)
    }

    /// Who holds the thread and must be asked before its status changes.
    pub fn holder(&self) -> Option<&ExecutorId> {
        match self.status {
            Status::Pending => None,
            _ => self.executor_id.as_ref(),
        }
    }
}

/// Folds a thread's events, in order, into its state.
///
/// The first `thread_created` gives the request; a foreign log may hold events before it.
pub fn fold(reference: &Ref, events: &[Event]) -> Option<ThreadState> {
    let (first, created) = events.iter().find_map(|event| match &event.fact {
        Fact::ThreadCreated(created) => Some((event, created)),
        _ => None,
    })?;
    // What another server, whose events are batches of their own, wrote under these names was
    // agreed with nobody here.
    let terms = if first.event_id == first.batch_id {
        Terms::default()
    } else {
        created.terms.clone()
    };
    let start = ThreadState {
        reference: reference.clone(),
        status: Status::Pending,
        intent: created.intent.clone(),
        requestor_id: created.requestor_id.clone(),
        executor_id: None,
        priority: created.priority,
        created_at: first.ts,
        updated_at: first.ts,
        version: 0,
        terms,
        confirmed: false,
        lease: None,
        lease_until: None,
        open_since: None,
        nudges: 0,
        timer_at: None,
    };
    let mut previous = None;
    Some(events.iter().fold(start, |state, event| {
        let state = state.apply(event, previous);
        previous = Some(event);
        state
    }))
}

fn count_values(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => count_all(items.iter()),
        Value::Object(fields) => count_all(fields.values()),
        _ => 0,
    };
    inner.saturating_add(1)
}

/// How many values `values` consist of, all together.
pub fn count_all<'a>(values: impl Iterator<Item = &'a Value>) -> usize {
    values.fold(0, |count, value| count.saturating_add(count_values(value)))
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
