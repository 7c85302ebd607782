//! Timers: none is late or lost, and what they cost.

use super::moments::{claim_for, in_minutes, timers, with_deadline};
use super::*;
use crate::storage::layout;
use crate::storage::memory::Verb;

/// The tick handles the few requests that are due among a thousand times as many that are not,
/// without looking at the others.
#[test]
fn what_a_tick_costs_does_not_depend_on_how_many_wait() {
    let cost = |pending: usize| {
        let mut world = World::new();
        for executor in ["agent", "phone"] {
            world.register(executor).unwrap();
        }
        let far = in_minutes(&world, 10_000);
        for n in 0..pending {
            let more = if n % 2 == 0 {
                json!({})
            } else {
                json!({"needed_by": far})
            };
            world.ask("agent", more);
        }
        let soon = in_minutes(&world, 60);
        let expiring: Vec<_> = (0..3)
            .map(|_| world.ask("agent", json!({"needed_by": soon})))
            .collect();
        let lapsing: Vec<_> = (0..2).map(|_| world.ask("agent", json!({}))).collect();
        for reference in &lapsing {
            world.update(reference, "phone", claim_for("PT1H")).unwrap();
        }
        let nudged = world.ask("agent", json!({"priority": "elevated"}));
        // The first tick on a bucket writes the bucket's format.
        world.tick_after(0);
        world.store.take_operations();
        world.tick_after(61 * MINUTE);
        let mut counts: HashMap<Verb, usize> = HashMap::new();
        for (verb, _) in world.store.take_operations() {
            *counts.entry(verb).or_default() += 1;
        }
        assert_eq!(world.listed(Some(Status::Expired)).len(), expiring.len());
        assert!(world.listed(Some(Status::Claimed)).is_empty());
        assert_eq!(world.thread(&nudged).unwrap().state.nudges, 1);
        assert_eq!(world.count_log("status_changed"), 2 + 3 + 2 + 1);
        let counts = [Verb::Get, Verb::Put, Verb::Delete, Verb::List].map(|verb| counts[&verb]);
        (world, counts)
    };
    let (_, few) = cost(10);
    let (mut world, many) = cost(10_000);
    // If more than a thousand wait, one list more tells whether a membership has ended.
    assert_eq!([few[0], few[1], few[2], few[3] + 1], many);
    // Six timers are due. Each is read and held. Its thread is read, put, and read twice more: to
    // complete the batch, and to see whether the thread has changed since. Each batch puts an
    // obligation, a log object and two entries. The request that is announced again puts one more
    // timer. Each batch deletes the timer, the obligation and two entries. The lists are of what is
    // due, of deliveries, and of whom to tell. The bucket's format is read too.
    assert_eq!(few, [6 * 4 + 1, 6 * 6 + 1, 6 * 4, 6 + 2]);
    world.assert_sound("after the tick");
}

#[test]
fn every_step_of_a_timer_can_fail_or_be_the_last() {
    let prepare = || {
        let (world, reference) = with_deadline();
        world.pass(61 * MINUTE);
        (world.store.take_operations(), world, reference)
    };
    let (_, mut world, _) = prepare();
    world.tick_after(0);
    let count = world.store.take_operations().len();
    assert!(count > 12, "{count}");
    let check = |world: &mut World, reference: &Ref, context: &str| {
        world.restart();
        world.assert_settles(context);
        let expected = vec![reference.clone()];
        assert_eq!(world.listed(Some(Status::Expired)), expected, "{context}");
        assert!(world.listed(Some(Status::Pending)).is_empty(), "{context}");
        assert_eq!(world.count_log("status_changed"), 1, "{context}");
    };
    for moment in [Moment::Before, Moment::After] {
        for nth in 0..count {
            let (_, mut world, reference) = prepare();
            let (app, mortal) = world.mortal(nth, moment);
            let now = world.now();
            world.start(async move { tick(&app, now).await }).forget();
            assert!(mortal.is_dead());
            check(
                &mut world,
                &reference,
                &format!("dies {moment:?} operation {nth}"),
            );
        }
        for verb in [Verb::Get, Verb::Put, Verb::Delete] {
            for nth in 0..6 {
                let (_, mut world, reference) = prepare();
                world.store.fail(verb, "", nth, moment);
                world.tick_after(0);
                world.store.heal();
                check(
                    &mut world,
                    &reference,
                    &format!("{verb:?} {nth} fails {moment:?}"),
                );
            }
        }
    }
}

/// A batch might have relied on a timer, but lands only after the tick has handled that timer. It
/// has a timer of its own.
#[test]
fn a_release_that_lands_late_still_expires_in_time() {
    let (mut world, reference) = with_deadline();
    world
        .update(&reference, "phone", claim_for("PT30M"))
        .unwrap();
    world.pass(20 * MINUTE);
    world
        .update(&reference, "phone", say("I need longer"))
        .unwrap();
    // The first timer comes at 30 minutes, when nothing is due any more.
    world.pass(10 * MINUTE - 5 * SECOND);
    let mut held = world.store.hold(Verb::Put, "threads/", 0, Moment::Before);
    let release = change_of(world.invoke(), &reference, "phone", set(Status::Pending));
    let release = world.start(release);
    assert!(held.is_reached());
    world.tick_after(10 * SECOND);
    held.release();
    world.go_on();
    world.run(release).unwrap();
    world.assert_sound("there is a timer in time");
    for _ in 0..31 {
        world.tick_after(MINUTE);
    }
    assert_eq!(world.listed(Some(Status::Expired)), vec![reference]);
    world.assert_settles("expired in time");
}

/// The same for a batch that lands after the tick has handled the timer of the very moment.
#[test]
fn a_release_that_lands_after_its_timer_was_seen_to_still_expires() {
    for nth in 0..2 {
        let (mut world, reference) = with_deadline();
        world
            .update(&reference, "phone", set(Status::Claimed))
            .unwrap();
        world.pass(60 * MINUTE - 5 * SECOND);
        let mut held = world.store.hold(Verb::Put, "threads/", 0, Moment::Before);
        let release = change_of(world.invoke(), &reference, "phone", set(Status::Pending));
        let release = world.start(release);
        assert!(held.is_reached());
        // In the second round, the tick still holds the timer when the batch sets its own.
        let mut timer = world.store.hold(Verb::Delete, "due/", 0, Moment::Before);
        world.pass(10 * SECOND);
        let (app, now) = (world.invoke(), world.now());
        let ticking = world.start(async move { tick(&app, now).await });
        assert!(timer.is_reached(), "nothing was due");
        if nth == 0 {
            timer.release();
            world.go_on();
        }
        held.release();
        world.go_on();
        timer.release();
        world.go_on();
        world.run(ticking).unwrap();
        world.run(release).unwrap();
        world.assert_sound("there is a timer");
        world.tick_after(MINUTE);
        assert_eq!(world.listed(Some(Status::Expired)), vec![reference]);
        world.assert_settles("expired");
    }
}

/// A tick may run later than the time that the cron gives it. It applies what is due all the same.
#[test]
fn a_tick_may_come_later_than_its_time() {
    let (mut world, reference) = with_deadline();
    world.pass(61 * MINUTE);
    let (app, now) = (world.invoke(), world.now().plus_millis(-50 * SECOND));
    world.run(async move { tick(&app, now).await }).unwrap();
    assert_eq!(world.listed(Some(Status::Expired)), vec![reference]);
    world.assert_settles("late cron");
}

#[test]
fn what_lapsed_is_derived_anew_with_its_timer() {
    let (mut world, reference) = with_deadline();
    world
        .update(&reference, "phone", claim_for("PT30M"))
        .unwrap();
    for key in timers(&world) {
        world.store.forget(&key);
    }
    let (store, now) = (world.store.clone(), world.now());
    let report = world.run(async move { audit(&store, now).await }).unwrap();
    assert!(
        report.problems[0].contains("has no timer"),
        "{:?}",
        report.problems
    );
    let app = world.invoke();
    let query = [("step".to_owned(), "settle".to_owned())].into();
    world
        .run(async move { crate::tools::reindex::step(&app, &query).await })
        .unwrap();
    world.assert_sound("reindexed");
    // The claim has no lease, so nothing comes next. But a release will rely on the deadline's
    // timer.
    let (mut world, reference) = with_deadline();
    world
        .update(&reference, "phone", set(Status::Claimed))
        .unwrap();
    for key in timers(&world) {
        world.store.forget(&key);
    }
    let app = world.invoke();
    let query = [("step".to_owned(), "settle".to_owned())].into();
    world
        .run(async move { crate::tools::reindex::step(&app, &query).await })
        .unwrap();
    world
        .update(&reference, "phone", set(Status::Pending))
        .unwrap();
    world.assert_sound("released after reindexing");
    world.tick_after(60 * MINUTE);
    assert_eq!(world.listed(Some(Status::Expired)), vec![reference]);
}

#[test]
fn a_renewal_costs_no_timer() {
    let (mut world, reference) = with_deadline();
    world.update(&reference, "phone", claim_for("P1D")).unwrap();
    world.pass(MINUTE);
    world.store.take_operations();
    world.update(&reference, "phone", say("half way")).unwrap();
    let puts = |operations: Vec<(Verb, String)>| {
        let is_put = |(verb, key): &&(Verb, String)| *verb == Verb::Put && key.starts_with("due/");
        operations.iter().filter(is_put).count()
    };
    assert_eq!(
        puts(world.store.take_operations()),
        1,
        "the obligation alone"
    );
}

#[test]
fn a_tick_of_an_outdated_version_does_nothing() {
    let (mut world, reference) = with_deadline();
    world.tick_after(0);
    world
        .store
        .plant(layout::FORMAT, r#"{"least_version":"99.0.0"}"#);
    world.pass(61 * MINUTE);
    world.store.take_operations();
    let (app, now) = (world.invoke(), world.now());
    let ticked = world.run(async move { tick(&app, now).await });
    assert!(ticked.unwrap_err().to_string().contains("at least 99.0.0"));
    assert!(world.app.isolate.is_outdated.get());
    assert_eq!(world.store.take_operations().len(), 1, "it only reads that");
    // Once this version may write the bucket again, the tick applies what was due.
    world
        .store
        .plant(layout::FORMAT, r#"{"least_version":"0.2.0"}"#);
    world.tick_after(MINUTE);
    assert!(!world.app.isolate.is_outdated.get());
    assert_eq!(world.listed(Some(Status::Expired)), vec![reference]);
    world.assert_settles("after a version that may write it");
}
