//! Every write of every path with several writes fails, or the writer dies at it. The ticks repair
//! it.

use super::*;
use crate::storage::memory::Verb;

/// A mutation to break: it is prepared and then run.
struct Case {
    name: &'static str,
    prepare: fn(&mut World) -> Option<Ref>,
    run: fn(Rc<App>, Option<Ref>) -> Work,
}

type Work = LocalBoxFuture<'static, Result<(), ServiceError>>;

const CASES: [Case; 6] = [
    Case {
        name: "register",
        prepare: |world| {
            world.register("agent").unwrap();
            None
        },
        run: |app, _| Box::pin(registration(app, "phone")),
    },
    Case {
        name: "register the first",
        prepare: |_| None,
        run: |app, _| Box::pin(registration(app, "phone")),
    },
    Case {
        name: "create",
        prepare: |world| {
            world.register("agent").unwrap();
            None
        },
        run: |app, _| Box::pin(async move { creation(app, "agent").await.map(drop) }),
    },
    Case {
        name: "claim",
        prepare: prepare_thread,
        run: |app, reference| {
            let work = change_of(app, &reference.unwrap(), "phone", set(Status::Claimed));
            Box::pin(async move { work.await.map(drop) })
        },
    },
    // This batch has several events and owes a timer.
    Case {
        name: "claim with a lease",
        prepare: prepare_thread,
        run: |app, reference| {
            let body = json!({"status": "claimed", "lease": "P7D", "mess": [{"note": 1}]});
            let work = change_of(app, &reference.unwrap(), "phone", call(body));
            Box::pin(async move { work.await.map(drop) })
        },
    },
    Case {
        name: "message",
        prepare: prepare_thread,
        run: |app, reference| {
            let work = change_of(app, &reference.unwrap(), "phone", say("on my way"));
            Box::pin(async move { work.await.map(drop) })
        },
    },
];

#[expect(clippy::unnecessary_wraps, reason = "it is a `Case::prepare`")]
fn prepare_thread(world: &mut World) -> Option<Ref> {
    world.register("agent").unwrap();
    world.register("phone").unwrap();
    let state = world.create("agent").unwrap();
    world.pass(HOUR);
    Some(state.reference)
}

impl Case {
    fn prepared(&self) -> (World, Option<Ref>) {
        let mut world = World::new();
        let reference = (self.prepare)(&mut world);
        world.store.take_operations();
        (world, reference)
    }

    /// How many operations of each kind an undisturbed run makes, including its background work.
    fn operations(&self) -> Vec<(Verb, usize)> {
        let (mut world, reference) = self.prepared();
        let work = (self.run)(world.app.clone(), reference);
        world.run(work).unwrap();
        let operations = world.store.take_operations();
        [Verb::Get, Verb::Put, Verb::Delete, Verb::List]
            .map(|verb| (verb, operations.iter().filter(|(v, _)| *v == verb).count()))
            .to_vec()
    }

    /// Whether the bucket shows the mutation. It must be committed entirely or not at all.
    fn is_visible(&self, world: &mut World, reference: Option<&Ref>) -> bool {
        match (self.name, reference) {
            ("create", _) => {
                let pending = world.listed(Some(Status::Pending));
                assert_eq!(pending, world.listed(None));
                assert_eq!(world.count_log("thread_created"), pending.len());
                assert_eq!(world.count_log("message_added"), pending.len());
                assert_eq!(world.store.keys("threads/").len(), pending.len());
                assert!(pending.len() <= 1);
                !pending.is_empty()
            }
            ("claim" | "claim with a lease", Some(reference)) => {
                let thread = world.thread(reference).unwrap();
                let claimed = thread.state.status == Status::Claimed;
                let expected = vec![reference.clone()];
                let nowhere = Vec::new();
                let (pending, taken) = (
                    world.listed(Some(Status::Pending)),
                    world.listed(Some(Status::Claimed)),
                );
                assert_eq!(
                    taken,
                    if claimed {
                        expected.clone()
                    } else {
                        nowhere.clone()
                    }
                );
                assert_eq!(pending, if claimed { nowhere } else { expected.clone() });
                assert_eq!(world.listed(None), expected);
                assert_eq!(world.count_log("status_changed"), usize::from(claimed));
                claimed
            }
            ("message", Some(reference)) => {
                let said = world.thread(reference).unwrap().messages().count() == 2;
                assert_eq!(world.count_log("message_added"), 1 + usize::from(said));
                assert_eq!(world.listed(Some(Status::Pending)), vec![reference.clone()]);
                assert_eq!(world.listed(None), vec![reference.clone()]);
                said
            }
            _ => {
                let records = world.store.keys("executors/");
                let registered = records.iter().any(|key| key.ends_with("/phone.json"));
                assert_eq!(world.count_log("executor_registered"), records.len());
                assert_eq!(world.store.keys("keys/").len(), records.len());
                registered
            }
        }
    }
}

#[test]
fn every_operation_fails_in_turn() {
    let mut tried = 0;
    for case in CASES {
        for (verb, count) in case.operations() {
            for nth in 0..count {
                for moment in [Moment::Before, Moment::After] {
                    let context = format!("{}: {verb:?} {nth} fails {moment:?}", case.name);
                    let (mut world, reference) = case.prepared();
                    world.store.fail(verb, "", nth, moment);
                    let work = (case.run)(world.app.clone(), reference.clone());
                    let outcome = world.run(work);
                    world.store.heal();
                    if let Err(error) = &outcome {
                        assert!(
                            matches!(error, ServiceError::Store(_)),
                            "{context}: {error:?}"
                        );
                    } else {
                        // The mutation was acknowledged, so it is there before any tick.
                        if let Some(reference) = &reference {
                            let version = world.thread(reference).unwrap().state.version;
                            assert_eq!(version, 2, "{context}");
                        }
                        let commit = if case.name == "create" {
                            "threads/"
                        } else {
                            "executors/exchange=home/phone"
                        };
                        assert_eq!(world.store.keys(commit).len(), 1, "{context}");
                    }
                    world.assert_settles(&context);
                    let visible = case.is_visible(&mut world, reference.as_ref());
                    assert!(
                        visible || outcome.is_err(),
                        "{context}: acknowledged and lost"
                    );
                    tried += 1;
                }
            }
        }
    }
    assert!(tried >= 80, "only {tried} faults were tried");
}

#[test]
fn the_writer_dies_at_every_operation_in_turn() {
    for case in CASES {
        for moment in [Moment::Before, Moment::After] {
            for nth in 0.. {
                let context = format!("{}: dies {moment:?} operation {nth}", case.name);
                let (mut world, reference) = case.prepared();
                let (app, store) = world.mortal(nth, moment);
                let work = (case.run)(app, reference.clone());
                world.start(work).forget();
                if !store.is_dead() {
                    assert!(nth >= 6, "{context}: only so few operations");
                    break;
                }
                world.assert_settles(&context);
                case.is_visible(&mut world, reference.as_ref());
            }
        }
    }
}

#[test]
fn a_tick_dies_at_every_operation_and_the_next_completes_its_work() {
    for case in CASES {
        // The writer dies right after the commit, so the tick has to do everything.
        let commit = if case.name.starts_with("register") {
            "executors/"
        } else {
            "threads/"
        };
        for moment in [Moment::Before, Moment::After] {
            for nth in 0.. {
                let context = format!("{}: tick dies {moment:?} operation {nth}", case.name);
                let (mut world, reference) = case.prepared();
                drop(world.store.hold(Verb::Put, commit, 0, Moment::After));
                let work = (case.run)(world.app.clone(), reference.clone());
                world.start(work).forget();
                world.restart();
                world.pass(61 * SECOND);
                let now = world.now();
                let (app, store) = world.mortal(nth, moment);
                world.start(async move { tick(&app, now).await }).forget();
                let died = store.is_dead();
                world.assert_settles(&context);
                assert!(case.is_visible(&mut world, reference.as_ref()), "{context}");
                if !died {
                    assert!(nth >= 5, "{context}: only so few operations");
                    break;
                }
            }
        }
    }
}

#[test]
fn an_uncommitted_change_leaves_nothing_after_an_hour() {
    let mut world = World::new();
    let reference = prepare_thread(&mut world).unwrap();
    drop(world.store.hold(Verb::Put, "threads/", 0, Moment::Before));
    let work = change_of(world.app.clone(), &reference, "phone", set(Status::Claimed));
    world.start(work).forget();
    world.restart();
    assert_eq!(world.store.keys("due/").len(), 1);
    for minutes in [1, 1, 2, 4, 8, 16, 20] {
        world.tick_after(minutes * MINUTE);
        assert_eq!(world.store.keys("due/").len(), 1, "it may yet land");
        world.assert_sound("while it waits");
    }
    world.tick_after(10 * MINUTE);
    assert_eq!(world.store.keys("due/").len(), 0);
    assert_eq!(
        world.thread(&reference).unwrap().state.status,
        Status::Pending
    );
    world.assert_sound("at the end");
}

#[test]
fn a_commit_that_lands_late_is_completed() {
    let mut world = World::new();
    let reference = prepare_thread(&mut world).unwrap();
    let mut held = world.store.hold(Verb::Put, "threads/", 0, Moment::Before);
    let work = change_of(world.app.clone(), &reference, "phone", set(Status::Claimed));
    let handle = world.start(work);
    assert!(held.is_reached());
    world.tick_after(61 * SECOND);
    world.tick_after(2 * MINUTE);
    // The runtime is gone, but its put reaches the store after three minutes.
    held.release();
    handle.forget();
    world.go_on();
    world.restart();
    world.assert_settles("late commit");
    assert_eq!(world.listed(Some(Status::Claimed)), vec![reference]);
    assert_eq!(world.count_log("status_changed"), 1);
}

#[test]
fn an_unreadable_obligation_stands_in_nobodys_way() {
    let mut world = World::new();
    let reference = prepare_thread(&mut world).unwrap();
    for n in 0..120 {
        let key = format!("due/0000000000{n:03}-future.json");
        world
            .store
            .plant(&key, r#"{"kind":"from_a_later_version"}"#);
    }
    drop(world.store.hold(Verb::Put, "threads/", 0, Moment::After));
    let work = change_of(world.app.clone(), &reference, "phone", set(Status::Claimed));
    world.start(work).forget();
    world.restart();
    for _ in 0..4 {
        world.tick_after(61 * SECOND);
    }
    assert_eq!(world.listed(Some(Status::Claimed)), vec![reference]);
    assert_eq!(world.count_log("status_changed"), 1);
}

#[test]
fn an_obligation_at_which_the_look_fails_is_put_off_and_met_later() {
    let mut world = World::new();
    let reference = prepare_thread(&mut world).unwrap();
    drop(world.store.hold(Verb::Put, "threads/", 0, Moment::After));
    let work = change_of(world.app.clone(), &reference, "phone", set(Status::Claimed));
    world.start(work).forget();
    world.restart();
    world
        .store
        .fail_always(Verb::Put, "events/", Moment::Before);
    for _ in 0..5 {
        world.tick_after(10 * MINUTE);
    }
    assert_eq!(world.count_log("status_changed"), 0);
    assert_eq!(world.store.keys("due/").len(), 1);
    world.store.heal();
    world.assert_settles("after the store has recovered");
    assert_eq!(world.count_log("status_changed"), 1);
}
