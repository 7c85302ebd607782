//! What a thread's events fold into, and the moments at which it changes by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::event::{Event, Fact, StatusChanged};
use super::status::{Priority, Status};
use super::terms::Terms;
use crate::domain::duration::Duration;
use crate::domain::ids::{ExecutorId, Ref};
use crate::domain::time::Timestamp;

/// Milliseconds before a timer at which a batch does not rely on it any more: the tick may have
/// seen to it, and found the thread as it was, before the batch lands.
const TIMER_MARGIN: i64 = 60_000;

/// Whether a batch of the moment `ts` may rely on a timer that is set for `at`.
pub fn is_reliable(at: Timestamp, ts: Timestamp) -> bool {
    at > ts.plus_millis(TIMER_MARGIN)
}

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
pub struct Version {
    /// How many batches the thread consists of.
    pub number: u64,
    /// Whether it is shown with what is due.
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

/// The next moment at which anything happens by itself.
pub fn next_moment(state: &ThreadState) -> Option<Timestamp> {
    let nudges = usize::try_from(state.nudges).unwrap_or(usize::MAX);
    let nudges_at = nudges_at(state, nudges);
    [lapses_at(state), expires_at(state), nudges_at]
        .into_iter()
        .flatten()
        .min()
}

/// When the claim lapses, if somebody holds it by a lease.
pub fn lapses_at(state: &ThreadState) -> Option<Timestamp> {
    let is_held = state.status != Status::Pending && !state.status.is_terminal();
    state.lease_until.filter(|_| is_held)
}

/// When it expires, if it is still pending then.
pub fn expires_at(state: &ThreadState) -> Option<Timestamp> {
    let is_open = state.status == Status::Pending;
    state.terms.needed_by.filter(|_| is_open)
}

/// When it is announced again after that has happened `count` times.
pub fn nudges_at(state: &ThreadState, count: usize) -> Option<Timestamp> {
    let is_open = state.status == Status::Pending;
    let wait = state.terms.nudge_after.get(count).filter(|_| is_open)?;
    let since = state.open_since.unwrap_or(state.created_at);
    Some(since.plus_millis(wait.millis()))
}
