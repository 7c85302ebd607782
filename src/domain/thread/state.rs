//! The state that a thread's events fold into, and the moments at which it changes by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::event::{Event, Fact, StatusChanged};
use super::status::{Priority, Status};
use super::terms::Terms;
use crate::domain::duration::Duration;
use crate::domain::ids::{ExecutorId, Ref};
use crate::domain::limits::ROW_INTENT_CHARS;
use crate::domain::time::Timestamp;

/// Within this many milliseconds before a timer, a batch does not rely on it. Before the batch
/// lands, the tick may have handled the timer and seen the thread as it was.
const TIMER_MARGIN: i64 = 60_000;

/// Whether a batch of the moment `ts` may rely on a timer that is set for `at`.
pub fn is_reliable(at: Timestamp, ts: Timestamp) -> bool {
    at > ts.plus_millis(TIMER_MARGIN)
}

/// The state that a thread's events fold into. Lists show it too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadState {
    /// The thread's name.
    #[serde(rename = "ref")]
    pub reference: Ref,
    /// Its current status.
    pub status: Status,
    /// What is asked for.
    pub intent: String,
    /// Whether `intent` is only the beginning of what is asked for. This is so in lists alone, never
    /// in a thread.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub intent_truncated: bool,
    /// Who posted the request.
    pub requestor_id: ExecutorId,
    /// The holder, while there is one; afterwards the executor that the request ended with.
    pub executor_id: Option<ExecutorId>,
    /// How urgent it is.
    pub priority: Priority,
    /// When it was posted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// How many batches the thread consists of.
    pub version: u64,
    /// The terms under which it was posted.
    #[serde(flatten)]
    pub terms: Terms,
    /// Whether the requestor has confirmed what the holder wants to do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirmed: bool,
    /// How long the claim lasts after the holder's last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Duration>,
    /// When the claim lapses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Timestamp>,
    /// Since when it is open again, if it is to be announced again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_since: Option<Timestamp>,
    /// How often it has been announced again since then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nudges: u32,
    /// The moment of a timer that will look at the thread. It is no later than the next moment at
    /// which something happens by itself. Once it has passed, it says nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer_at: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The version of a thread as shown: the stored version, and whether something has fallen due since
/// then that is not yet stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// How many batches the thread consists of.
    pub number: u64,
    /// Whether the thread is shown with what is due but not yet stored.
    pub is_due: bool,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}",
            self.number,
            if self.is_due { "-due" } else { "" }
        )
    }
}

impl ThreadState {
    /// The state after one more event. `previous` is the event before that one.
    #[must_use]
    pub fn apply(mut self, event: &Event, previous: Option<&Event>) -> Self {
        if previous.is_none_or(|previous| previous.batch_id != event.batch_id) {
            self.version = self.version.saturating_add(1);
        }
        self.take(&event.fact, &event.actor_id, event.ts);
        self
    }

    /// Applies a fact to the state without starting a new version.
    pub fn take(&mut self, fact: &Fact, actor: &ExecutorId, ts: Timestamp) {
        self.updated_at = self.updated_at.max(ts);
        match fact {
            Fact::StatusChanged(change) => self.take_change(change, ts),
            Fact::ThreadCreated(_) | Fact::MessageAdded(_) | Fact::ExecutorRegistered(_) => {}
        }
        match self.lease {
            // Anything that the holder does renews its claim.
            Some(lease) if self.holder() == Some(actor) => {
                self.lease_until = Some(ts.plus_millis(lease.millis()));
            }
            Some(_) => {}
            None => self.lease_until = None,
        }
        if let Some(moment) = next_moment(self)
            && !self
                .timer_at
                .is_some_and(|at| at <= moment && is_reliable(at, ts))
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
        // A lease belongs to one claim: the next holder sets its own.
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

    /// The text of the thread's entries in the index: the state, with the beginning of a long intent.
    ///
    /// # Errors
    ///
    /// Fails if the state cannot be written as JSON.
    pub fn entry(&self) -> serde_json::Result<String> {
        if row_end(&self.intent).is_none() {
            return serde_json::to_string(self);
        }
        let mut state = self.clone();
        state.truncate_intent();
        serde_json::to_string(&state)
    }

    /// Reads the text of an index entry. Entries of older versions have the whole intent.
    ///
    /// # Errors
    ///
    /// Fails if the text is no entry.
    pub fn from_entry(text: &str) -> serde_json::Result<Self> {
        let mut state: Self = serde_json::from_str(text)?;
        state.truncate_intent();
        Ok(state)
    }

    fn truncate_intent(&mut self) {
        if let Some(end) = row_end(&self.intent) {
            self.intent.truncate(end);
            self.intent_truncated = true;
        }
    }

    /// The executor that holds the thread and must be asked before its status changes.
    pub fn holder(&self) -> Option<&ExecutorId> {
        match self.status {
            Status::Pending => None,
            _ => self.executor_id.as_ref(),
        }
    }

    /// Whether nobody claimed the request and so it was escalated to the executor.
    pub fn is_escalated_to(&self, id: &ExecutorId) -> bool {
        self.nudges > 0 && self.terms.escalate_to.contains(id)
    }

    /// Whether a guest may know of the request: it posted it, holds it or ended it, or the request was
    /// escalated to it.
    pub fn is_addressed_to(&self, id: &ExecutorId) -> bool {
        self.requestor_id == *id
            || self.executor_id.as_ref() == Some(id)
            || self.is_escalated_to(id)
    }
}

/// Where a row cuts off an intent, or `None` if the row shows all of it.
fn row_end(intent: &str) -> Option<usize> {
    let mut rest = intent.char_indices().skip(ROW_INTENT_CHARS);
    rest.next().map(|(at, _)| at)
}

/// Folds a thread's events, in order, into its state.
///
/// The first `thread_created` gives the request. A log from another server may hold events before
/// it.
pub fn fold(reference: &Ref, events: &[Event]) -> Option<ThreadState> {
    let (first, created) = events.iter().find_map(|event| match &event.fact {
        Fact::ThreadCreated(created) => Some((event, created)),
        _ => None,
    })?;
    // In another server's log each event is a batch of its own. Nobody here agreed to what that
    // server wrote under the names of the terms.
    let terms = if first.event_id == first.batch_id {
        Terms::default()
    } else {
        created.terms.clone()
    };
    let start = ThreadState {
        reference: reference.clone(),
        status: Status::Pending,
        intent: created.intent.clone(),
        intent_truncated: false,
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

/// The next moment at which something happens by itself.
pub fn next_moment(state: &ThreadState) -> Option<Timestamp> {
    let nudges = usize::try_from(state.nudges).unwrap_or(usize::MAX);
    let nudges_at = nudges_at(state, nudges);
    [lapses_at(state), expires_at(state), nudges_at]
        .into_iter()
        .flatten()
        .min()
}

/// When the claim lapses, if the request is held under a lease.
pub fn lapses_at(state: &ThreadState) -> Option<Timestamp> {
    let is_held = state.status != Status::Pending && !state.status.is_terminal();
    state.lease_until.filter(|_| is_held)
}

/// When the request expires if nobody claims it.
pub fn expires_at(state: &ThreadState) -> Option<Timestamp> {
    let is_open = state.status == Status::Pending;
    state.terms.needed_by.filter(|_| is_open)
}

/// When the request is announced again, after `count` earlier reminders.
pub fn nudges_at(state: &ThreadState, count: usize) -> Option<Timestamp> {
    let is_open = state.status == Status::Pending;
    let wait = state.terms.nudge_after.get(count).filter(|_| is_open)?;
    let since = state.open_since.unwrap_or(state.created_at);
    Some(since.plus_millis(wait.millis()))
}
