//! What happens because a moment has come: deadlines, leases, reminders and their timers.

use serde_json::json;

use super::*;
use crate::domain::thread::state::next_moment;

fn needed_in(minutes: i64) -> Value {
    let now = Story::begin().now;
    json!({"needed_by": now.plus_millis(minutes * MINUTE).to_string()})
}

fn claim_for(lease: &str) -> Value {
    json!({"status": "claimed", "lease": lease})
}

fn say() -> Value {
    json!({"mess": [{"note": "hello"}]})
}

/// The thread's next moment and its timer, in minutes from the beginning.
fn clock(story: &Story) -> (Option<i64>, Option<i64>) {
    let start = story.thread.state.created_at;
    let minutes = |moment: Timestamp| moment.since(start).div_euclid(MINUTE);
    let state = &story.thread.state;
    (next_moment(state).map(minutes), state.timer_at.map(minutes))
}

#[test]
fn what_nobody_claims_in_time_expires_by_the_exchange() {
    let mut story = Story::asking(needed_in(60));
    assert_eq!(clock(&story), (Some(60), Some(60)));
    assert_eq!(story.pass(59 * MINUTE), 0);
    assert_eq!(story.pass(MINUTE), 1);
    assert_eq!(
        story.last_change(),
        json!({"actor": "exchange", "old_status": "pending", "new_status": "expired",
            "executor_id": null, "reason": "not_claimed_in_time"})
    );
    assert_eq!(story.pass(HOUR), 0);
}

#[test]
fn a_claim_after_the_deadline_is_refused_before_any_tick() {
    let mut story = Story::asking(needed_in(60));
    story.wait(60 * MINUTE);
    let before = story.thread.clone();
    let refused = story.call("phone", json!({"status": "claimed"}));
    let (status, holder) = (Status::Expired, None);
    assert_eq!(refused, Err(Refusal::Ended { status, holder }));
    assert_eq!(story.thread, before, "nothing is written");
    assert!(before.state.version_as_of(story.now).is_due);
    assert_eq!(
        before.state.as_of(story.now).unwrap().status,
        Status::Expired
    );
    // The message is accepted. What was due is written with it, before it.
    assert_eq!(story.call("phone", say()), Ok(2));
    assert_eq!(story.status(), Status::Expired);
    let actors: Vec<_> = story
        .thread
        .events
        .iter()
        .rev()
        .take(2)
        .map(|e| e.actor_id.as_str())
        .collect();
    assert_eq!(actors, ["phone", "exchange"]);
    assert!(!story.thread.state.version_as_of(story.now).is_due);
}

#[test]
fn what_is_claimed_in_time_does_not_expire_until_it_is_released() {
    let mut story = Story::asking(needed_in(60));
    story.wait(59 * MINUTE);
    story.call("phone", json!({"status": "claimed"})).unwrap();
    assert_eq!(story.pass(10 * MINUTE), 0);
    assert_eq!(story.status(), Status::Claimed);
    assert_eq!(story.call("phone", json!({"status": "pending"})), Ok(2));
    assert_eq!(story.last_steps(), [Status::Pending, Status::Expired]);
    assert_eq!(story.last_change()["actor"], "exchange");
    // Releasing and claiming it again in one call does not avoid the deadline.
    let mut story = Story::asking(needed_in(60));
    story.call("phone", json!({"status": "claimed"})).unwrap();
    story.wait(61 * MINUTE);
    let around =
        json!({"mess": [{"status": {"code": "pending"}}, {"status": {"code": "claimed"}}]});
    assert!(matches!(
        story.call("phone", around),
        Err(Refusal::Ended { .. })
    ));
}

#[test]
fn a_claim_lapses_when_its_lease_ends() {
    let mut story = Story::begin();
    assert_eq!(story.call("phone", claim_for("PT30M")), Ok(1));
    assert_eq!(story.last_change()["lease"], "PT30M");
    assert_eq!(clock(&story), (Some(30), Some(30)));
    story.wait(29 * MINUTE);
    let refused = story.call("tablet", json!({"status": "claimed"}));
    let Err(Refusal::HeldByOther { lease_until, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(lease_until, story.thread.state.lease_until);
    assert_eq!(story.pass(2 * MINUTE), 1);
    assert_eq!((story.status(), story.holder()), (Status::Pending, None));
    assert_eq!(story.last_change()["reason"], "lease_ended");
    assert_eq!(story.last_change()["actor"], "exchange");
}

#[test]
fn another_claims_what_has_lapsed_before_any_tick() {
    let mut story = Story::begin();
    story.call("phone", claim_for("PT30M")).unwrap();
    story.wait(30 * MINUTE);
    assert_eq!(story.call("tablet", json!({"status": "claimed"})), Ok(2));
    assert_eq!(story.last_steps(), [Status::Pending, Status::Claimed]);
    assert_eq!(story.holder(), Some("tablet"));
    let change = story.last_change();
    assert_eq!(
        (&change["takeover"], &change["step"]),
        (&Value::Null, &json!(2))
    );
    assert_eq!(
        story.thread.state.lease, None,
        "it has a lease of its own, or none"
    );
}

#[test]
fn whatever_the_holder_does_renews_the_claim() {
    for body in [
        say(),
        json!({"status": "in-progress"}),
        json!({"mess": [{"status": {"code": "claimed", "progress_pct": 10}}]}),
    ] {
        let mut story = Story::begin();
        story.call("phone", claim_for("PT30M")).unwrap();
        story.wait(20 * MINUTE);
        story.call("agent", say()).unwrap();
        assert_eq!(clock(&story).0, Some(30), "another's doing renews nothing");
        story.call("phone", body.clone()).unwrap();
        assert_eq!(
            clock(&story),
            (Some(50), Some(30)),
            "{body}: and costs no timer"
        );
        assert_eq!(story.pass(29 * MINUTE), 0);
        assert_eq!(story.pass(MINUTE), 1);
        assert_eq!(story.status(), Status::Pending);
    }
}

#[test]
fn a_claim_is_renewed_by_its_holder_alone() {
    let renew = |lease: &str| Update::renew(crate::domain::duration::Duration::parse(lease));
    let mut story = Story::begin();
    assert_eq!(story.apply("phone", renew("")), Err(Refusal::NotClaimed));
    story.call("phone", json!({"status": "claimed"})).unwrap();
    let refused = story.apply("phone", renew(""));
    assert!(matches!(refused, Err(Refusal::Invalid(invalid)) if invalid.path == "lease"));
    assert_eq!(story.apply("phone", renew("PT10M")), Ok(1));
    assert_eq!(clock(&story).0, Some(10));
    story.wait(5 * MINUTE);
    let refused = story.apply("tablet", renew("PT10M"));
    assert!(matches!(refused, Err(Refusal::HeldByOther { .. })));
    assert_eq!(story.apply("phone", renew("")), Ok(1));
    assert_eq!(clock(&story).0, Some(15));
    assert_eq!(story.apply("phone", renew("PT2H")), Ok(1));
    assert_eq!(clock(&story).0, Some(125));
    // The renewal comes too late: the request is open again.
    story.wait(3 * HOUR);
    assert_eq!(story.apply("phone", renew("")), Err(Refusal::NotClaimed));
    story.call("phone", json!({"status": "completed"})).unwrap();
    assert!(matches!(
        story.apply("phone", renew("")),
        Err(Refusal::Ended { .. })
    ));
}

#[test]
fn a_lease_ends_with_its_claim() {
    for (actor, body) in [
        ("phone", json!({"status": "pending"})),
        ("phone", json!({"status": "completed"})),
        ("agent", json!({"status": "cancelled"})),
        ("tablet", json!({"status": "claimed", "takeover": true})),
    ] {
        let mut story = Story::begin();
        story.call("phone", claim_for("PT30M")).unwrap();
        story.call(actor, body.clone()).unwrap();
        let state = &story.thread.state;
        assert_eq!((state.lease, state.lease_until), (None, None), "{body}");
        assert_eq!(story.pass(HOUR), 0);
    }
}

#[test]
fn the_requestors_answer_comes_too_late_when_the_claim_has_lapsed() {
    let mut story = Story::begin();
    story.call("phone", claim_for("PT30M")).unwrap();
    story
        .call("phone", json!({"status": "needs_input"}))
        .unwrap();
    story.wait(31 * MINUTE);
    let reply = json!({"mess": [{"reply": {"answers": {"a": 1}}}]});
    let status = Status::Pending;
    assert_eq!(
        story.call("agent", reply),
        Err(Refusal::NoOpenQuestion { status })
    );
}

#[test]
fn what_presses_is_announced_again_to_a_bound() {
    let mut story = Story::asking(json!({"priority": "urgent"}));
    assert_eq!(clock(&story), (Some(15), Some(15)));
    assert_eq!(story.pass(14 * MINUTE), 0);
    assert_eq!(story.pass(MINUTE), 1);
    let change = story.last_change();
    assert_eq!(
        (&change["nudge"], &change["actor"]),
        (&json!(1), &json!("exchange"))
    );
    assert_eq!(story.status(), Status::Pending);
    assert_eq!(clock(&story), (Some(60), Some(60)));
    assert_eq!(story.pass(45 * MINUTE), 1);
    assert_eq!(story.last_change()["nudge"], 2);
    for _ in 0..10 {
        assert_eq!(story.pass(HOUR), 0, "and then no more");
    }
    let mut elevated = Story::asking(json!({"priority": "elevated"}));
    assert_eq!(clock(&elevated).0, Some(60));
    assert_eq!(elevated.pass(HOUR), 1);
    assert_eq!(clock(&elevated).0, Some(240));
    for priority in ["normal", "background"] {
        let story = Story::asking(json!({ "priority": priority }));
        assert_eq!(clock(&story), (None, None), "{priority}");
    }
}

#[test]
fn what_is_open_again_is_announced_anew() {
    let mut story = Story::asking(json!({"priority": "urgent"}));
    story.pass(20 * MINUTE);
    story.call("phone", json!({"status": "claimed"})).unwrap();
    assert_eq!(clock(&story).0, None);
    assert_eq!(story.pass(2 * HOUR), 0, "what is claimed is not announced");
    story.call("phone", json!({"status": "pending"})).unwrap();
    let now = story.now.since(story.thread.state.created_at) / MINUTE;
    assert_eq!(clock(&story), (Some(now + 15), Some(now + 15)));
}

#[test]
fn a_timer_is_owed_only_when_none_comes_soon_enough() {
    let mut story = Story::asking(needed_in(600));
    assert_eq!(clock(&story), (Some(600), Some(600)));
    story.call("phone", claim_for("PT30M")).unwrap();
    assert_eq!(
        clock(&story),
        (Some(30), Some(30)),
        "an earlier moment owes one"
    );
    story.wait(10 * MINUTE);
    story.call("phone", json!({"status": "pending"})).unwrap();
    assert_eq!(
        clock(&story),
        (Some(600), Some(30)),
        "an early one covers a later moment"
    );
    // That timer has fired, and the tick has set another. The thread does not know its moment.
    story.wait(HOUR);
    story.call("phone", say()).unwrap();
    assert_eq!(clock(&story), (Some(600), Some(600)));
    // A timer that is about to fire may be gone when the batch lands.
    let mut story = Story::asking(needed_in(600));
    story.call("phone", claim_for("PT30M")).unwrap();
    story.wait(30 * MINUTE - 10_000);
    story.call("phone", say()).unwrap();
    assert_eq!(clock(&story), (Some(59), Some(59)));
}
