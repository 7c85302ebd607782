//! How members are removed, and what they leave.

use futures::future::join;

use super::*;
use crate::service::members::executors;
use crate::service::members::removal::SETTLED;
use crate::storage::memory::Verb;

#[test]
fn who_is_removed_leaves_nothing_hanging() {
    let mut world = World::new();
    world.register("anna").unwrap();
    world.join(
        "bert",
        json!({"notifications": [{"type": "ntfy", "topic": "bert"}]}),
    );
    let key = world.key_of("cleo");
    let held = world.create("anna").unwrap().reference;
    world
        .update(&held, "cleo", set(Status::InProgress))
        .unwrap();
    let asked = world.create("cleo").unwrap().reference;
    let taken = world.create("cleo").unwrap().reference;
    world.update(&taken, "bert", set(Status::Claimed)).unwrap();
    let done = world.create("anna").unwrap().reference;
    world.update(&done, "cleo", set(Status::Completed)).unwrap();
    world.sent();

    world.remove("cleo", "anna").unwrap();
    assert_eq!(
        refused(world.log_in(&key)),
        AccessRefusal::Dead(Dead::Revoked)
    );
    let status = |world: &mut World, reference: &Ref| world.thread(reference).unwrap().state.status;
    assert_eq!(status(&mut world, &held), Status::Pending);
    assert_eq!(status(&mut world, &asked), Status::Cancelled);
    assert_eq!(status(&mut world, &taken), Status::Cancelled);
    assert_eq!(
        status(&mut world, &done),
        Status::Completed,
        "what is over stays"
    );
    let last = world.thread(&held).unwrap().events.last().unwrap().clone();
    assert_eq!(last.actor_id, id("anna"), "the event names who did it");
    assert!(
        !world.sent().is_empty(),
        "bert hears that he need not go on"
    );
    let app = world.invoke();
    let listed = world.run(async move { executors::list(&app, &home(), 1_000, None).await });
    assert_eq!(listed.unwrap().executors.len(), 2);
    world.assert_settles("removed");
    assert_eq!(
        world.audit().last().unwrap(),
        &["member_removed", "cleo", "anna"]
    );
    let again = world.remove("cleo", "anna");
    assert!(matches!(again, Err(ServiceError::NoExecutor)));
}

#[test]
fn requests_can_be_kept() {
    let mut world = World::new();
    world.register("anna").unwrap();
    world.register("bert").unwrap();
    let asked = world.create("bert").unwrap().reference;
    let app = world.invoke();
    world
        .run(async move { removal::remove(&app, home(), id("bert"), Some(id("bert")), true).await })
        .unwrap();
    world.run_ticks();
    assert_eq!(world.thread(&asked).unwrap().state.status, Status::Pending);
    // An owner can answer and cancel in its place.
    world
        .update(&asked, "anna", set(Status::Cancelled))
        .unwrap();
    world.assert_settles("kept");
}

#[test]
fn two_owners_who_remove_each_other() {
    for round in 0..20 {
        let mut world = World::new();
        world.clock.seed.set(round + 1);
        world.register("anna").unwrap();
        world.register("bert").unwrap();
        world
            .change("bert", "anna", json!({"role": "owner"}))
            .unwrap();
        let app = world.invoke();
        let (one, other) = world.run(join(
            removal::remove(&app, home(), id("anna"), Some(id("bert")), false),
            removal::remove(&app, home(), id("bert"), Some(id("anna")), false),
        ));
        let gone = [one, other].into_iter().flatten().count();
        assert_eq!((gone, world.owners().len()), (1, 1));
        let owner = world.owners().remove(0);
        assert!(world.record(&owner).access.removed_at.is_none());
        let last = world.remove(&owner, &owner);
        assert_eq!(refused(last), AccessRefusal::LastOwner);
        world.assert_settles("each other");
    }
}

#[test]
fn two_owners_who_step_down_at_once() {
    let mut world = World::new();
    world.register("anna").unwrap();
    world.register("bert").unwrap();
    world
        .change("bert", "anna", json!({"role": "owner"}))
        .unwrap();
    let app = world.invoke();
    let step_down = |name: &'static str| {
        let app = app.clone();
        async move {
            let change = Change::parse(&mut fields(json!({"role": "member"}))).unwrap();
            roles::change(&app, &home(), &id(name), Some(id(name)), change).await
        }
    };
    let (one, other) = world.run(join(step_down("anna"), step_down("bert")));
    let refusals: Vec<_> = [one, other].into_iter().filter(Result::is_err).collect();
    assert_eq!(refusals.len(), 1);
    assert_eq!(world.owners().len(), 1);
    world.assert_settles("at once");
}

#[test]
fn a_claim_that_comes_during_the_removal_does_not_stay() {
    let mut world = World::new();
    world.register("anna").unwrap();
    world.register("bert").unwrap();
    let reference = world.create("anna").unwrap().reference;
    // Another isolate still trusts the key, and its claim lands after the removal is done.
    let mut held = world.store.hold(Verb::Put, "threads/", 0, Moment::Before);
    let claim = change_of(world.app.clone(), &reference, "bert", set(Status::Claimed));
    let claimed = world.start(claim);
    assert!(held.is_reached());
    world.remove("bert", "anna").unwrap();
    world.pass(25 * SECOND);
    held.release();
    world.run(claimed).unwrap();
    assert_eq!(
        world.thread(&reference).unwrap().state.status,
        Status::Claimed
    );
    world.tick_after(SETTLED);
    assert_eq!(
        world.thread(&reference).unwrap().state.status,
        Status::Pending
    );
    world.assert_settles("a late claim");
}

#[test]
fn many_requests_are_left_in_stretches() {
    let mut world = World::new();
    world.register("anna").unwrap();
    world.register("bert").unwrap();
    for _ in 0..120 {
        world.create("bert").unwrap();
        world.pass(7);
    }
    world.remove("bert", "anna").unwrap();
    world.assert_settles("many");
    assert!(world.listed(Some(Status::Pending)).is_empty());
    assert_eq!(world.listed(Some(Status::Cancelled)).len(), 120);
}

#[test]
fn roles_are_changed_by_owners_and_told() {
    let mut world = World::new();
    world.register("anna").unwrap();
    world.register("bert").unwrap();
    let only = world.change("anna", "anna", json!({"role": "guest"}));
    assert_eq!(refused(only), AccessRefusal::LastOwner);
    world
        .change("bert", "anna", json!({"role": "guest", "kind": "device"}))
        .unwrap();
    assert_eq!(world.record("bert").access.role, Role::Guest);
    world
        .change("bert", "anna", json!({"role": "owner"}))
        .unwrap();
    assert_eq!(world.record("bert").access.role, Role::Member);
    assert_eq!(world.owners(), ["anna", "bert"]);
    world
        .change("anna", "bert", json!({"role": "guest"}))
        .unwrap();
    assert_eq!(world.owners(), ["bert"]);
    assert_eq!(world.record("anna").access.role, Role::Guest);
    let nobody = world.change("nobody", "bert", json!({"role": "owner"}));
    assert!(matches!(nobody, Err(ServiceError::NoExecutor)));
    world.assert_settles("roles");
    let told = world.audit();
    assert_eq!(
        told.iter()
            .filter(|[event, ..]| event == "member_changed")
            .count(),
        5
    );
}

#[test]
fn the_time_zone_of_the_exchange_counts_for_quiet_hours_that_name_none() {
    let mut world = World::new();
    world.register("anna").unwrap();
    // 12:00 in UTC is 21:00 in Tokyo.
    let quiet = json!({"enabled": true, "start": "20:00", "end": "23:00"});
    world.join(
        "bert",
        json!({"notifications": [{"type": "ntfy", "topic": "b"}],
        "preferences": {"quiet_hours": quiet}}),
    );
    world.create("anna").unwrap();
    assert_eq!(world.sent().len(), 1);
    let app = world.invoke();
    let change =
        exchange::Change::parse(&app, &mut fields(json!({"timezone": "Asia/Tokyo"}))).unwrap();
    world
        .run(async move { exchange::change(&app, &home(), Some(id("anna")), change).await })
        .unwrap();
    world.create("anna").unwrap();
    assert_eq!(world.sent().len(), 0);
    world.assert_sound("a time zone");
}

#[test]
fn an_owner_who_is_removed_or_demoted_at_once_owns_nothing() {
    let changes = [json!({"role": "guest"}), json!({"suspended": true})];
    for seed in 1..40 {
        for other in [None, Some(&changes[0]), Some(&changes[1])] {
            let mut world = World::new();
            world.clock.seed.set(seed);
            world.register("anna").unwrap();
            world.register("bert").unwrap();
            let app = world.invoke();
            let promote = Change::parse(&mut fields(json!({"role": "owner"}))).unwrap();
            let (home, bert, anna) = (home(), id("bert"), Some(id("anna")));
            let promoted = roles::change(&app, &home, &bert, anna.clone(), promote);
            match other {
                None => {
                    let removed =
                        removal::remove(&app, home.clone(), bert.clone(), anna.clone(), false);
                    let _ = world.pool.run_until(join(removed, promoted));
                }
                Some(other) => {
                    let other = Change::parse(&mut fields(other.clone())).unwrap();
                    let other = roles::change(&app, &home, &bert, anna.clone(), other);
                    let _ = world.pool.run_until(join(other, promoted));
                }
            }
            world.go_on();
            let access = world.record("bert").access;
            let owns = world.owners().contains(&"bert".to_owned());
            let may_own = access.is_active() && access.role != Role::Guest;
            assert!(!owns || may_own, "{other:?}: {access:?}");
            assert!(world.owners().contains(&"anna".to_owned()));
            world.assert_settles("at once");
        }
    }
}

#[test]
fn nobody_becomes_an_owner_who_is_suspended() {
    let mut world = World::new();
    world.register("anna").unwrap();
    world.register("bert").unwrap();
    world
        .change("bert", "anna", json!({"suspended": true}))
        .unwrap();
    let promoted = world.change("bert", "anna", json!({"role": "owner"}));
    assert_eq!(refused(promoted), AccessRefusal::IsOwner);
    world
        .change("bert", "anna", json!({"role": "owner", "suspended": false}))
        .unwrap();
    assert_eq!(world.owners(), ["anna", "bert"]);
}

#[test]
fn a_thread_that_is_full_is_left_as_well() {
    let mut world = World::new();
    world.register("anna").unwrap();
    world.register("mal").unwrap();
    let full = world.create("mal").unwrap().reference;
    let held = world.create("anna").unwrap().reference;
    world.update(&held, "mal", set(Status::Claimed)).unwrap();
    for size in [1_000_000, 100_000, 10_000, 1_000, 100] {
        while world.update(&full, "mal", say(&"x".repeat(size))).is_ok() {
            world.pass(1);
        }
    }
    let status = world.update(
        &full,
        "mal",
        call(json!({"status": "cancelled", "message": "y".repeat(500)})),
    );
    assert!(matches!(status, Err(ServiceError::TooLarge { .. })));
    world.remove("mal", "anna").unwrap();
    world.run_ticks();
    let status = |world: &mut World, reference: &Ref| world.thread(reference).unwrap().state.status;
    assert_eq!(status(&mut world, &full), Status::Cancelled);
    assert_eq!(status(&mut world, &held), Status::Pending);
    world.assert_settles("a full thread");
}

#[test]
fn an_owner_ends_what_it_lacks_the_capabilities_for() {
    let mut world = World::new();
    for name in ["anna", "bert", "cleo"] {
        world.register(name).unwrap();
    }
    let asked = world.ask("bert", json!({"requires": ["fly"]}));
    assert!(
        world
            .update(&asked, "cleo", set(Status::Cancelled))
            .is_err()
    );
    let done = world
        .update(&asked, "anna", set(Status::Cancelled))
        .unwrap();
    assert_eq!((done.status, done.executor_id), (Status::Cancelled, None));
    let asked = world.ask("bert", json!({"requires": ["fly"]}));
    world.remove("bert", "anna").unwrap();
    assert_eq!(
        world.thread(&asked).unwrap().state.status,
        Status::Cancelled
    );
}

#[test]
fn who_becomes_a_guest_is_not_told_of_what_was_put_off() {
    let mut world = World::new();
    world.register("anna").unwrap();
    // It is 12:00.
    let quiet = json!({"enabled": true, "start": "11:00", "end": "13:00"});
    world.join(
        "bert",
        json!({"notifications": [{"type": "ntfy", "topic": "b"}],
        "preferences": {"quiet_hours": quiet}}),
    );
    world.create("anna").unwrap();
    assert_eq!(world.sent().len(), 0);
    world
        .change("bert", "anna", json!({"role": "guest"}))
        .unwrap();
    world.tick_after(2 * HOUR);
    assert_eq!(world.sent().len(), 0);
    world
        .change("bert", "anna", json!({"role": "member"}))
        .unwrap();
    world.assert_settles("a guest");
}

#[test]
fn an_owners_reply_is_an_answer_like_any_other() {
    let mut world = World::new();
    for name in ["anna", "bert"] {
        world.register(name).unwrap();
    }
    world.join(
        "cleo",
        json!({"notifications": [{"type": "ntfy", "topic": "c"}],
        "preferences": {"min_priority": "urgent"}}),
    );
    let reference = world.create("bert").unwrap().reference;
    let question = json!({"mess": [{"status": {"code": "claimed"}}, {"status": {"code": "needs_input",
        "questions": [{"field": "door", "question": "Which?"}]}}]});
    world.update(&reference, "cleo", call(question)).unwrap();
    world.sent();
    let answer = call(json!({"mess": [{"reply": {"answers": {"door": "left"}}}]}));
    world.update(&reference, "anna", answer).unwrap();
    assert_eq!(
        world.sent().len(),
        1,
        "who has asked waits for it, however low the priority"
    );
}

#[test]
fn members_who_come_and_go_hold_up_nobody() {
    let mut world = World::new();
    world.register("anna").unwrap();
    world.register("bert").unwrap();
    for n in 0..120 {
        let name = format!("m{n}");
        world.register(&name).unwrap();
        world.remove(&name, &name).unwrap();
    }
    world.pass(SECOND);
    let reference = world.create("anna").unwrap().reference;
    let claim = call(json!({"status": "claimed", "lease": "PT1M"}));
    world.update(&reference, "bert", claim).unwrap();
    // The lease ends after all removals are due, and the first tick after it applies that.
    world.tick_after(61 * SECOND);
    assert_eq!(
        world.thread(&reference).unwrap().state.status,
        Status::Pending
    );
    assert!(
        !world.store.keys("due/departures/").is_empty(),
        "they take their time"
    );
    for _ in 0..20 {
        world.tick_after(61 * SECOND);
    }
    assert!(world.store.keys("due/departures/").is_empty());
    world.assert_settles("come and gone");
}
