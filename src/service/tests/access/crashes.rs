//! Every operation of every change of access fails, or its writer dies at it. The ticks repair it.

use super::*;
use crate::storage::memory::Verb;

/// What a case needs from its preparation.
#[derive(Clone, Default)]
struct Given {
    code: Option<Code>,
    key: Option<MemberKey>,
}

struct Case {
    name: &'static str,
    /// Where the put is that commits it, or that must not be left alone.
    commit: &'static str,
    prepare: fn(&mut World) -> Given,
    run: fn(Rc<App>, Given) -> Work,
    /// Whether the change is there. It must be there entirely or not at all.
    is_visible: fn(&mut World) -> bool,
}

type Work = LocalBoxFuture<'static, Result<(), ServiceError>>;

fn two_members(world: &mut World) -> Given {
    world.register("anna").unwrap();
    let key = world.key_of("bert");
    Given {
        key: Some(world.member_key(&key)),
        ..Given::default()
    }
}

fn two_owners(world: &mut World) -> Given {
    let given = two_members(world);
    world
        .change("bert", "anna", json!({"role": "owner"}))
        .unwrap();
    let held = world.create("anna").unwrap().reference;
    world.update(&held, "bert", set(Status::Claimed)).unwrap();
    world.create("bert").unwrap();
    given
}

fn invited(world: &mut World, what: Value) -> Given {
    two_members(world);
    Given {
        code: Some(world.code("anna", what)),
        ..Given::default()
    }
}

fn enter(app: Rc<App>, given: Given, name: Option<&'static str>) -> Work {
    Box::pin(async move {
        let joining = joining(name, given.code.as_ref());
        register(&app, home(), joining).await.map(drop)
    })
}

fn change(app: Rc<App>, change: Value) -> Work {
    Box::pin(async move {
        let change = Change::parse(&mut fields(change)).unwrap();
        roles::change(&app, &home(), &id("bert"), Some(id("anna")), change).await
    })
}

/// Whether the only invitation was used.
fn is_used(world: &World) -> bool {
    let key = world.store.keys("invitations/").remove(0);
    let invitation: Value = serde_json::from_str(&world.store.text(&key)).unwrap();
    invitation["uses"]
        .as_array()
        .is_some_and(|uses| uses.len() == 1)
}

fn has_joined(world: &mut World, name: &str) -> bool {
    let records = world.store.keys("executors/");
    let is_there = records
        .iter()
        .any(|key| key.ends_with(&format!("/{name}.json")));
    assert_eq!(world.count_log("executor_registered"), records.len());
    assert_eq!(world.store.keys("keys/").len(), records.len());
    is_there
}

const CASES: [Case; 9] = [
    Case {
        name: "found",
        commit: "exchanges/",
        prepare: |_| Given::default(),
        run: |app, given| enter(app, given, Some("phone")),
        is_visible: |world| {
            let is_there = has_joined(world, "phone");
            // Either way, the exchange has an owner in the end.
            world.register("other").ok();
            let owner = world.owners().remove(0);
            assert_eq!(owner == "phone", is_there);
            assert!(world.record(&owner).access.removed_at.is_none());
            is_there
        },
    },
    Case {
        name: "join by an invitation",
        commit: "executors/exchange=home/phone",
        prepare: |world| invited(world, json!({"executor_id": "phone", "role": "guest"})),
        run: |app, given| enter(app, given, None),
        is_visible: |world| {
            let is_there = has_joined(world, "phone");
            assert_eq!(is_used(world), is_there);
            is_there
        },
    },
    Case {
        name: "join as an owner",
        commit: "executors/exchange=home/phone",
        prepare: |world| invited(world, json!({"executor_id": "phone", "role": "owner"})),
        run: |app, given| enter(app, given, None),
        is_visible: |world| {
            let is_there = has_joined(world, "phone");
            assert_eq!(is_used(world), is_there);
            assert_eq!(world.owners().len(), 1 + usize::from(is_there));
            is_there
        },
    },
    Case {
        name: "a phone for a lost one",
        commit: "executors/exchange=home/bert",
        prepare: |world| invited(world, json!({"executor_id": "bert", "revoke_others": true})),
        run: |app, given| enter(app, given, None),
        is_visible: |world| {
            let keys = world.record("bert").keys();
            let is_there = keys.len() == 2;
            assert_eq!(is_used(world), is_there);
            assert_eq!(keys[0].revoked_at.is_some(), is_there);
            assert_eq!(world.store.keys("keys/").len(), 2 + usize::from(is_there));
            is_there
        },
    },
    Case {
        name: "add a key",
        commit: "executors/exchange=home/bert",
        prepare: two_members,
        run: |app, given| {
            Box::pin(async move {
                let wanted = Wanted::parse(&mut fields(json!({"label": "b"}))).unwrap();
                let with = given.key.unwrap();
                let added = members_keys::add(&app, &home(), &id("bert"), &with, wanted).await;
                added.map(drop)
            })
        },
        is_visible: |world| world.record("bert").keys().len() == 2,
    },
    Case {
        name: "revoke a key",
        commit: "executors/exchange=home/bert",
        prepare: two_members,
        run: |app, given| {
            Box::pin(async move {
                let key = given.key.unwrap().id().to_owned();
                members_keys::revoke(&app, &home(), &id("bert"), None, key).await
            })
        },
        is_visible: |world| world.record("bert").keys()[0].revoked_at.is_some(),
    },
    Case {
        name: "remove an owner",
        commit: "exchanges/",
        prepare: two_owners,
        run: |app, _| {
            Box::pin(async move {
                removal::remove(&app, home(), id("bert"), Some(id("anna")), false).await
            })
        },
        is_visible: |world| {
            let is_gone = world.record("bert").access.removed_at.is_some();
            assert_eq!(world.owners().len(), 2 - usize::from(is_gone));
            let (pending, cancelled) = (
                world.listed(Some(Status::Pending)).len(),
                world.listed(Some(Status::Cancelled)).len(),
            );
            // Both were open: one that bert held and one that he had posted.
            let expected = if is_gone { (1, 1) } else { (1, 0) };
            assert_eq!((pending, cancelled), expected);
            is_gone
        },
    },
    Case {
        name: "make an owner",
        commit: "exchanges/",
        prepare: two_members,
        run: |app, _| change(app, json!({"role": "owner"})),
        is_visible: |world| world.owners().len() == 2,
    },
    Case {
        name: "suspend",
        commit: "executors/exchange=home/bert",
        prepare: two_members,
        run: |app, _| change(app, json!({"suspended": true})),
        is_visible: |world| world.record("bert").access.suspended,
    },
];

impl Case {
    fn prepared(&self) -> (World, Given) {
        let mut world = World::new();
        let given = (self.prepare)(&mut world);
        // What the preparation owes is done.
        world.run_ticks();
        world.restart();
        world.store.take_operations();
        (world, given)
    }

    fn operations(&self) -> Vec<(Verb, usize)> {
        let (mut world, given) = self.prepared();
        let work = (self.run)(world.app.clone(), given);
        world.run(work).unwrap();
        let operations = world.store.take_operations();
        [Verb::Get, Verb::Put, Verb::Delete, Verb::List]
            .map(|verb| (verb, operations.iter().filter(|(v, _)| *v == verb).count()))
            .to_vec()
    }
}

#[test]
fn every_operation_of_a_change_fails_in_turn() {
    let mut tried = 0;
    for case in CASES {
        for (verb, count) in case.operations() {
            for nth in 0..count {
                for moment in [Moment::Before, Moment::After] {
                    let context = format!("{}: {verb:?} {nth} fails {moment:?}", case.name);
                    let (mut world, given) = case.prepared();
                    world.store.fail(verb, "", nth, moment);
                    let work = (case.run)(world.app.clone(), given);
                    let outcome = world.run(work);
                    world.store.heal();
                    world.assert_settles(&context);
                    let visible = (case.is_visible)(&mut world);
                    assert!(
                        visible || outcome.is_err(),
                        "{context}: acknowledged and lost"
                    );
                    tried += 1;
                }
            }
        }
    }
    assert!(tried >= 150, "only {tried} faults were tried");
}

#[test]
fn the_writer_of_a_change_dies_at_every_operation_in_turn() {
    for case in CASES {
        for moment in [Moment::Before, Moment::After] {
            for nth in 0.. {
                let context = format!("{}: dies {moment:?} operation {nth}", case.name);
                let (mut world, given) = case.prepared();
                let (app, store) = world.mortal(nth, moment);
                world.start((case.run)(app, given)).forget();
                if !store.is_dead() {
                    assert!(nth >= 4, "{context}: only so few operations");
                    break;
                }
                world.assert_settles(&context);
                (case.is_visible)(&mut world);
            }
        }
    }
}

#[test]
fn a_tick_that_completes_a_change_dies_at_every_operation() {
    for case in CASES {
        for moment in [Moment::Before, Moment::After] {
            for nth in 0.. {
                let context = format!("{}: tick dies {moment:?} operation {nth}", case.name);
                let (mut world, given) = case.prepared();
                drop(world.store.hold(Verb::Put, case.commit, 0, Moment::After));
                world.start((case.run)(world.app.clone(), given)).forget();
                world.restart();
                world.pass(61 * SECOND);
                let now = world.now();
                let (app, store) = world.mortal(nth, moment);
                world.start(async move { tick(&app, now).await }).forget();
                let died = store.is_dead();
                world.assert_settles(&context);
                let visible = (case.is_visible)(&mut world);
                // A founder is there only with its record.
                assert!(visible || case.name == "found", "{context}");
                if !died {
                    break;
                }
            }
        }
    }
}
