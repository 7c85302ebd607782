//! Several writers at once: some interleavings one by one, and many writers at a time.

use futures::future::join_all;

use super::*;
use crate::domain::thread::transition::Refusal;
use crate::storage::memory::Verb;

fn with_thread() -> (World, Ref) {
    let mut world = World::new();
    for executor in ["agent", "phone", "tablet"] {
        world.register(executor).unwrap();
    }
    let state = world.create("agent").unwrap();
    world.pass(HOUR);
    (world, state.reference)
}

#[test]
fn a_claim_has_one_winner() {
    let (mut world, reference) = with_thread();
    let claims = (0..64).map(|n| {
        let actor = format!("executor-{n}");
        change_of(world.app.clone(), &reference, &actor, set(Status::Claimed))
    });
    let outcomes = {
        let claims: Vec<_> = claims.collect();
        world.run(join_all(claims))
    };
    let winners = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(winners, 1);
    let holder = world.thread(&reference).unwrap().state.executor_id.unwrap();
    for outcome in outcomes.into_iter().filter_map(Result::err) {
        let ServiceError::Refused(Refusal::HeldByOther { holder: named, .. }) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(named, holder);
    }
    assert_eq!(world.count_log("status_changed"), 1);
    world.assert_sound("after 64 claims");
    assert!(world.store.keys("due/").is_empty());
}

#[test]
fn a_registration_has_one_winner() {
    let mut world = World::new();
    let work: Vec<_> = (0..32)
        .map(|_| registration(world.app.clone(), "phone"))
        .collect();
    let outcomes = world.run(join_all(work));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(
        outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().err())
            .all(|error| matches!(error, ServiceError::AlreadyRegistered))
    );
    world.assert_sound("after 32 registrations");
    assert_eq!(world.store.keys("keys/").len(), 1);
    assert!(world.store.keys("due/").is_empty());
}

#[test]
fn messages_of_many_are_all_kept() {
    let (mut world, reference) = with_thread();
    let work: Vec<_> = (0..8)
        .map(|n| {
            change_of(
                world.app.clone(),
                &reference,
                "phone",
                say(&format!("message {n}")),
            )
        })
        .collect();
    let outcomes = world.run(join_all(work));
    let kept = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    for outcome in outcomes {
        assert!(
            matches!(outcome, Ok(_) | Err(ServiceError::Contended)),
            "{outcome:?}"
        );
    }
    assert!(kept >= 4, "only {kept} of 8 got through");
    assert_eq!(
        world.thread(&reference).unwrap().messages().count(),
        1 + kept
    );
    world.assert_settles("after 8 messages at once");
}

/// A slow claim is held at each of its operations in turn, before and after the operation takes
/// effect. In the meantime another call cancels the thread. Then the slow claim goes on.
#[test]
fn a_slow_writer_is_overtaken_by_a_fast_one() {
    for (verb, nth) in operations_of_a_claim() {
        for moment in [Moment::Before, Moment::After] {
            let context = format!("held at {verb:?} {nth} {moment:?}");
            let (mut world, reference) = with_thread();
            let mut held = world.store.hold(verb, "", nth, moment);
            let slow = change_of(world.app.clone(), &reference, "phone", set(Status::Claimed));
            let slow = world.start(slow);
            assert!(held.is_reached(), "{context}");
            // The requestor may cancel whether the claim is committed or not.
            let fast = world.update(&reference, "agent", set(Status::Cancelled));
            let fast = fast.unwrap_or_else(|error| panic!("{context}: {error:?}"));
            assert_eq!(fast.status, Status::Cancelled);
            held.release();
            world.go_on();
            let slow = world.run(slow);
            assert!(
                matches!(slow, Ok(_) | Err(ServiceError::Refused(_))),
                "{context}: {slow:?}"
            );
            // Both have answered and nothing has failed, so the lists show it before any tick.
            assert_eq!(
                world.listed(Some(Status::Cancelled)),
                vec![reference.clone()],
                "{context}"
            );
            assert!(world.listed(Some(Status::Claimed)).is_empty(), "{context}");
            assert!(world.listed(Some(Status::Pending)).is_empty(), "{context}");
            assert_eq!(world.listed(None), vec![reference.clone()], "{context}");
            world.assert_sound(&context);
            assert_eq!(
                world.count_log("status_changed"),
                1 + usize::from(slow.is_ok())
            );
            world.assert_settles(&context);
        }
    }
}

/// The same, but the tick runs while the slow claim is held. Then the slow claim dies or goes on.
#[test]
fn a_slow_writer_is_overtaken_by_the_tick() {
    for (verb, nth) in operations_of_a_claim() {
        for moment in [Moment::Before, Moment::After] {
            for goes_on in [false, true] {
                let context = format!("held at {verb:?} {nth} {moment:?}, goes on: {goes_on}");
                let (mut world, reference) = with_thread();
                let mut held = world.store.hold(verb, "", nth, moment);
                let slow = change_of(world.app.clone(), &reference, "phone", set(Status::Claimed));
                let slow = world.start(slow);
                world.tick_after(61 * SECOND);
                let fast = world.update(&reference, "agent", set(Status::Cancelled));
                assert_eq!(fast.unwrap().status, Status::Cancelled, "{context}");
                world.tick_after(2 * MINUTE);
                if goes_on {
                    held.release();
                    world.go_on();
                    let outcome = world.run(slow);
                    // Its time is over. It may find out that it has won, or that it cannot go on.
                    assert!(
                        matches!(
                            outcome,
                            Ok(_) | Err(ServiceError::Refused(_) | ServiceError::Contended)
                        ),
                        "{context}: {outcome:?}"
                    );
                } else {
                    slow.forget();
                }
                world.assert_settles(&context);
                assert_eq!(world.listed(None), vec![reference.clone()], "{context}");
                assert!(world.listed(Some(Status::Claimed)).is_empty(), "{context}");
            }
        }
    }
}

/// A writer that seemed dead to the tick puts an entry after all, and then dies. The last look at
/// its obligation, an hour after the obligation began, removes the entry.
#[test]
fn an_entry_that_lands_after_the_tick_is_removed_in_the_end() {
    for nth in 0..2 {
        let (mut world, reference) = with_thread();
        let mut held = world.store.hold(Verb::Put, "index/", nth, Moment::Before);
        let slow = change_of(world.app.clone(), &reference, "phone", set(Status::Claimed));
        let slow = world.start(slow);
        assert!(held.is_reached());
        world.tick_after(61 * SECOND);
        world
            .update(&reference, "agent", set(Status::Cancelled))
            .unwrap();
        drop(world.store.hold(Verb::Get, "threads/", 0, Moment::Before));
        held.release();
        world.go_on();
        slow.forget();
        world.restart();
        let twice = world.listed(Some(Status::Claimed)).len() + world.store.keys("index/").len();
        assert!(twice > 2, "the stale entry stands for now");
        world.assert_settles("after the hour");
        assert!(world.listed(Some(Status::Claimed)).is_empty());
    }
}

/// The creator is slow to write the index. In the meantime another executor has found the thread
/// and claims it.
#[test]
fn a_slow_creator_is_overtaken_by_a_claim() {
    for nth in 0..2 {
        for moment in [Moment::Before, Moment::After] {
            let context = format!("held at index entry {nth} {moment:?}");
            let mut world = World::new();
            world.register("agent").unwrap();
            let mut held = world.store.hold(Verb::Put, "index/", nth, moment);
            let slow = world.start(creation(world.app.clone(), "agent"));
            assert!(held.is_reached(), "{context}");
            let key = world.store.keys("threads/").remove(0);
            let thread: Thread = serde_json::from_str(&world.store.text(&key)).unwrap();
            let reference = thread.state.reference;
            world
                .update(&reference, "phone", set(Status::Claimed))
                .unwrap();
            held.release();
            world.go_on();
            world.run(slow).unwrap();
            assert!(world.listed(Some(Status::Pending)).is_empty(), "{context}");
            assert_eq!(
                world.listed(Some(Status::Claimed)),
                vec![reference.clone()],
                "{context}"
            );
            world.assert_sound(&context);
        }
    }
}

/// The answer to a put is lost. The writer reads the thread again, and finds that its put was made.
#[test]
fn an_unclear_put_is_looked_up_before_anything_is_decided() {
    let (mut world, reference) = with_thread();
    world.store.fail(Verb::Put, "threads/", 0, Moment::After);
    let state = world
        .update(&reference, "phone", set(Status::Claimed))
        .unwrap();
    assert_eq!((state.status, state.version), (Status::Claimed, 2));
    assert_eq!(world.count_log("status_changed"), 1);
    world.assert_settles("lost answer");
}

#[test]
fn a_client_that_hangs_up_does_not_cut_a_mutation_short() {
    let (mut world, reference) = with_thread();
    let mut held = world.store.hold(Verb::Put, "threads/", 0, Moment::After);
    let work = change_of(world.app.clone(), &reference, "phone", set(Status::Claimed));
    let client = world.start(work);
    assert!(held.is_reached());
    drop(client);
    held.release();
    world.go_on();
    assert_eq!(world.listed(Some(Status::Claimed)), vec![reference]);
    assert!(world.store.keys("due/").is_empty());
    world.assert_sound("after the client hung up");
}

#[test]
fn two_ticks_do_not_work_on_one_obligation() {
    let (mut world, reference) = with_thread();
    drop(world.store.hold(Verb::Put, "threads/", 0, Moment::After));
    let work = change_of(world.app.clone(), &reference, "phone", set(Status::Claimed));
    world.start(work).forget();
    world.restart();
    world.pass(61 * SECOND);
    world.store.take_operations();
    let (app, now) = (world.app.clone(), world.now());
    let ticks = join_all((0..4).map(|_| tick(&app, now)));
    let outcomes = world.run(ticks);
    assert!(outcomes.into_iter().all(|outcome| outcome.is_ok()));
    let logged = world
        .store
        .take_operations()
        .into_iter()
        .filter(|(verb, key)| *verb == Verb::Put && key.starts_with("events/"))
        .count();
    assert_eq!(logged, 1);
    world.assert_settles("after four ticks at once");
}

/// The verb and the number of every operation that a claim makes, including its background work.
fn operations_of_a_claim() -> Vec<(Verb, usize)> {
    let (mut world, reference) = with_thread();
    world.store.take_operations();
    world
        .update(&reference, "phone", set(Status::Claimed))
        .unwrap();
    let mut counts = HashMap::new();
    world
        .store
        .take_operations()
        .into_iter()
        .map(|(verb, _)| {
            let count = counts.entry(verb as u8).or_insert(0);
            *count += 1;
            (verb, *count - 1)
        })
        .collect()
}
