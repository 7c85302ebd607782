//! Replies that race each other, and a reply that races a cancellation.

use futures::future::join_all;

use super::*;
use crate::domain::thread::transition::Refusal;
use crate::storage::memory::Verb;

fn with_thread() -> (World, Ref) {
    let mut world = World::new();
    for executor in ["agent", "phone"] {
        world.register(executor).unwrap();
    }
    let reference = world.ask("agent", json!({}));
    (world, reference)
}

fn asked() -> (World, Ref) {
    let (mut world, reference) = with_thread();
    let questions = json!([{"field": "area", "question": "Which?", "options": ["sink", "stove"]}]);
    let ask = json!({"mess": [{"status": {"code": "claimed"}},
        {"status": {"code": "needs_input", "questions": questions}}]});
    let state = world.update(&reference, "phone", call(ask)).unwrap();
    assert_eq!((state.status, state.version), (Status::NeedsInput, 2));
    (world, reference)
}

fn answer(area: &str) -> Update {
    call(json!({"mess": [{"reply": {"answers": {"area": area}}}]}))
}

#[test]
fn of_two_replies_to_one_question_one_counts() {
    let (mut world, reference) = asked();
    let replies =
        ["sink", "stove"].map(|area| change_of(world.invoke(), &reference, "agent", answer(area)));
    let outcomes = world.run(join_all(replies));
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 1));
    assert!(matches!(
        lost[0],
        Err(ServiceError::Refused(Refusal::NoOpenQuestion {
            status: Status::InProgress
        }))
    ));
    assert_eq!(world.thread(&reference).unwrap().messages().count(), 3);
    world.assert_settles("two replies");
    // The second of two equal replies counts as a retry.
    let (mut world, reference) = asked();
    let replies = [0, 1].map(|_| change_of(world.invoke(), &reference, "agent", answer("sink")));
    let outcomes = world.run(join_all(replies));
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(world.thread(&reference).unwrap().messages().count(), 3);
}

#[test]
fn a_reply_races_a_cancellation() {
    for reply_first in [true, false] {
        let (mut world, reference) = asked();
        let cancel = call(json!({"mess": [{"cancel": {"reason": "not needed"}}]}));
        let (first, second) = if reply_first {
            (answer("sink"), cancel)
        } else {
            (cancel, answer("sink"))
        };
        let mut held = world.store.hold(Verb::Put, "threads/", 0, Moment::Before);
        let slow = change_of(world.invoke(), &reference, "agent", first);
        let slow = world.start(slow);
        assert!(held.is_reached());
        let fast = world.update(&reference, "agent", second);
        assert!(fast.is_ok(), "{fast:?}");
        held.release();
        world.go_on();
        let slow = world.run(slow);
        let status = world.thread(&reference).unwrap().state.status;
        assert_eq!(status, Status::Cancelled, "cancelled in either order");
        if reply_first {
            let status = Status::Cancelled;
            let refusal = Refusal::NoOpenQuestion { status };
            assert!(matches!(slow, Err(ServiceError::Refused(r)) if r == refusal));
        } else {
            assert!(
                slow.is_ok(),
                "the answered request can be cancelled: {slow:?}"
            );
        }
        world.assert_settles("a reply and a cancellation");
    }
}
