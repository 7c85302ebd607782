//! What happens to a thread by itself because a moment has come.
//!
//! | when | while | then |
//! | --- | --- | --- |
//! | the lease of a claim ends | somebody holds the request | it is open again |
//! | `needed_by` comes | nobody has claimed the request | it has expired |
//! | the request has been open for long | nobody has claimed it | it is announced again |
//!
//! The first two take effect at their moment, stored or not: every decision and every read begins
//! with them.

use serde_json::{Map, Value};

use super::event::{Fact, StatusChanged};
use super::state::{
    ThreadState, Version, expires_at, is_reliable, lapses_at, next_moment, nudges_at,
};
use super::status::Status;
use crate::domain::ids::ExecutorId;
use crate::domain::time::Timestamp;

/// Why the exchange changed a status, as given in the event's `reason`.
mod reason {
    pub const LEASE_ENDED: &str = "lease_ended";
    pub const NOT_CLAIMED_IN_TIME: &str = "not_claimed_in_time";
    pub const STILL_OPEN: &str = "still_open";
}

/// The moment for which a batch must set a timer. `before` is the state that the batch found, and
/// `after` is the state that it left. Returns `None` if nothing more happens by itself, or if the
/// batch can rely on an existing timer.
pub fn owed_timer(before: Option<&ThreadState>, after: &ThreadState) -> Option<Timestamp> {
    next_moment(after)?;
    let known = before.and_then(|before| before.timer_at);
    let is_covered = |at: &Timestamp| known == Some(*at) && is_reliable(*at, after.updated_at);
    after.timer_at.filter(|at| !is_covered(at))
}

impl ThreadState {
    /// The version of the thread as shown at `now`.
    pub fn version_as_of(&self, now: Timestamp) -> Version {
        Version {
            number: self.version,
            is_due: is_due(self, now),
        }
    }

    /// The state as of `now`, if something has fallen due that is not yet stored.
    pub fn as_of(&self, now: Timestamp) -> Option<Self> {
        if !is_due(self, now) {
            return None;
        }
        let mut state = self.clone();
        apply(&mut state, now);
        Some(state)
    }
}

/// Whether, at `now`, something has fallen due that the stored state does not show.
pub fn is_due(state: &ThreadState, now: Timestamp) -> bool {
    next_change(state, now).is_some()
}

/// Applies everything that is due at `now`, each change at its own moment, and returns the facts.
pub fn apply(state: &mut ThreadState, now: Timestamp) -> Vec<Fact> {
    let mut facts = Vec::new();
    while let Some((moment, change)) = next_change(state, now) {
        let fact = Fact::StatusChanged(change);
        state.take(&fact, &ExecutorId::exchange(), moment);
        facts.push(fact);
    }
    facts
}

/// The first change that is due at `now`, and the moment at which it fell due.
fn next_change(state: &ThreadState, now: Timestamp) -> Option<(Timestamp, StatusChanged)> {
    let change = |status, reason: &str| {
        let mut change = StatusChanged::new(state.status, status, None);
        change.extra = because(reason);
        change
    };
    match (lapses_at(state), expires_at(state)) {
        (Some(moment), _) if moment <= now => {
            Some((moment, change(Status::Pending, reason::LEASE_ENDED)))
        }
        (_, Some(moment)) if moment <= now => {
            Some((moment, change(Status::Expired, reason::NOT_CLAIMED_IN_TIME)))
        }
        _ => None,
    }
}

/// The reminder that is due at `now`, if the thread is still open. A late reminder stands for all
/// those that were missed.
pub fn nudge(state: &ThreadState, now: Timestamp) -> Option<StatusChanged> {
    let reached = (0..state.terms.nudge_after.len())
        .rev()
        .find(|count| nudges_at(state, *count).is_some_and(|moment| moment <= now))?;
    let count = u32::try_from(reached).ok()?.saturating_add(1);
    if count <= state.nudges {
        return None;
    }
    let mut change = StatusChanged::new(state.status, state.status, None);
    change.nudge = Some(count);
    change.extra = because(reason::STILL_OPEN);
    Some(change)
}

fn because(reason: &str) -> Map<String, Value> {
    Map::from_iter([("reason".to_owned(), reason.into())])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(&format!("2025-02-01T{text}:00Z")).unwrap()
    }

    fn state(more: &Value) -> ThreadState {
        let mut state = json!({"ref": "2025-02-01-XY1Z", "status": "pending", "intent": "x",
            "requestor_id": "agent", "executor_id": null, "priority": "urgent",
            "created_at": at("12:00"), "updated_at": at("12:00"), "version": 1});
        let fields = more.as_object().unwrap().clone();
        state.as_object_mut().unwrap().extend(fields);
        serde_json::from_value(state).unwrap()
    }

    fn reasons(state: &mut ThreadState, now: Timestamp) -> Vec<Value> {
        let facts = apply(state, now);
        let reason = |fact: Fact| serde_json::to_value(fact).unwrap()["payload"]["reason"].clone();
        facts.into_iter().map(reason).collect()
    }

    #[test]
    fn what_nobody_claims_expires_and_what_is_claimed_does_not() {
        let needed = json!({"needed_by": at("13:00")});
        assert!(!is_due(&state(&needed), at("12:59")));
        let mut expired = state(&needed);
        assert_eq!(
            reasons(&mut expired, at("13:00")),
            [reason::NOT_CLAIMED_IN_TIME]
        );
        assert_eq!(expired.status, Status::Expired);
        assert_eq!(expired.updated_at, at("13:00"));
        assert_eq!(next_moment(&expired), None);
        let claimed =
            json!({"status": "claimed", "executor_id": "phone", "needed_by": at("13:00")});
        assert!(!is_due(&state(&claimed), at("23:00")));
    }

    #[test]
    fn a_claim_that_lapses_after_the_deadline_expires_at_once() {
        let mut lapsed = state(&json!({"status": "waiting", "executor_id": "phone",
            "lease": "PT1H", "lease_until": at("14:00"), "needed_by": at("13:00")}));
        assert_eq!(next_moment(&lapsed), Some(at("14:00")));
        assert_eq!(
            reasons(&mut lapsed, at("14:00")),
            [reason::LEASE_ENDED, reason::NOT_CLAIMED_IN_TIME]
        );
        assert_eq!(
            (lapsed.status, &lapsed.executor_id),
            (Status::Expired, &None)
        );
        assert_eq!((lapsed.lease, lapsed.lease_until), (None, None));
    }

    #[test]
    fn what_is_over_never_lapses() {
        let over = state(&json!({"status": "completed", "executor_id": "phone",
            "lease": "PT1H", "lease_until": at("13:00"), "needed_by": at("13:00")}));
        assert!(!is_due(&over, at("23:00")));
        assert_eq!(next_moment(&over), None);
    }

    #[test]
    fn nudges_come_by_their_schedule_and_end() {
        let mut open = state(&json!({"nudge_after": ["PT15M", "PT1H"]}));
        assert_eq!(next_moment(&open), Some(at("12:15")));
        assert_eq!(nudge(&open, at("12:14")), None);
        let first = nudge(&open, at("12:15")).unwrap();
        assert_eq!(first.nudge, Some(1));
        assert!(!first.moves());
        // A late reminder stands for both.
        assert_eq!(nudge(&open, at("13:30")).unwrap().nudge, Some(2));
        let (fact, exchange) = (Fact::StatusChanged(first), ExecutorId::exchange());
        open.take(&fact, &exchange, at("12:16"));
        assert_eq!(next_moment(&open), Some(at("13:00")));
        assert_eq!(nudge(&open, at("12:59")), None);
        open.nudges = 2;
        assert_eq!(next_moment(&open), None);
        assert_eq!(nudge(&open, at("23:00")), None);
    }

    #[test]
    fn the_schedule_begins_anew_when_it_is_open_again() {
        let mut open = state(&json!({"nudge_after": ["PT15M"], "nudges": 1}));
        let mut change = |new, executor: Option<&str>, moment| {
            let executor = executor.map(|id| ExecutorId::parse(id, "").unwrap());
            let actor = ExecutorId::parse("phone", "").unwrap();
            let fact = Fact::StatusChanged(StatusChanged::new(open.status, new, executor));
            open.take(&fact, &actor, moment);
            next_moment(&open)
        };
        assert_eq!(change(Status::Claimed, Some("phone"), at("13:00")), None);
        assert_eq!(
            change(Status::Pending, None, at("14:00")),
            Some(at("14:15"))
        );
    }
}
