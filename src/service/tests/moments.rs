//! What happens because a moment has come: the tick applies it, reads show it before the tick, and
//! calls race it.

use super::*;
use crate::domain::thread::transition::Refusal;
use crate::service::requests::list::Listed;
use crate::storage::memory::Verb;

pub fn claim_for(lease: &str) -> Update {
    call(json!({"status": "claimed", "lease": lease}))
}

pub fn in_minutes(world: &World, minutes: i64) -> String {
    world.now().plus_millis(minutes * MINUTE).to_string()
}

/// A world with a request that is needed in an hour.
pub fn with_deadline() -> (World, Ref) {
    let mut world = World::new();
    for executor in ["agent", "phone", "tablet"] {
        world.register(executor).unwrap();
    }
    let needed_by = in_minutes(&world, 60);
    let reference = world.ask("agent", json!({ "needed_by": needed_by }));
    (world, reference)
}

pub fn timers(world: &World) -> Vec<String> {
    let mut keys = world.store.keys("due/");
    keys.retain(|key| world.store.text(key).contains(r#""kind":"timer""#));
    keys
}

fn page(world: &mut World, status: Option<Status>) -> Listed {
    let app = world.app.clone();
    let filter = Filter {
        status,
        ..Filter::default()
    };
    world
        .run(async move { list(&app, &home(), &filter, 100, None).await })
        .unwrap()
}

#[test]
fn a_request_that_nobody_claims_expires_with_the_tick() {
    let (mut world, reference) = with_deadline();
    assert_eq!(timers(&world).len(), 1);
    world.tick_after(59 * MINUTE);
    assert_eq!(world.listed(Some(Status::Pending)), vec![reference.clone()]);
    // The moment has come but the tick has not, and the request is no longer shown as pending.
    world.pass(MINUTE);
    assert!(world.listed(Some(Status::Pending)).is_empty());
    assert!(world.listed(Some(Status::Expired)).is_empty());
    assert_eq!(page(&mut world, None).threads[0].status, Status::Expired);
    let stored = world.thread(&reference).unwrap().state;
    assert_eq!((stored.status, stored.version), (Status::Pending, 1));
    assert_eq!(stored.version_as_of(world.now()).to_string(), "1-due");
    let lines = world.log().len();
    let refused = world.update(&reference, "phone", set(Status::Claimed));
    assert!(matches!(
        refused,
        Err(ServiceError::Refused(Refusal::Ended {
            status: Status::Expired,
            holder: None
        }))
    ));
    assert_eq!(world.log().len(), lines, "a refusal writes nothing");
    world.tick_after(SECOND);
    assert_eq!(world.listed(Some(Status::Expired)), vec![reference.clone()]);
    let last = world
        .log()
        .into_iter()
        .find(|line| line["event_type"] == "status_changed");
    let last = last.unwrap();
    assert_eq!(last["actor_id"], "exchange");
    assert_eq!(last["payload"]["reason"], "not_claimed_in_time");
    assert_eq!(timers(&world).len(), 0);
    world.assert_settles("expired");
}

#[test]
fn a_condition_on_the_version_before_the_moment_fails_after_it() {
    let (mut world, reference) = with_deadline();
    world.pass(61 * MINUTE);
    let change = |world: &mut World, version, is_due| {
        let request = update::Request {
            powers: Powers::default(),
            exchange: home(),
            reference: reference.clone(),
            actor: id("phone"),
            update: say("too late"),
            versions: Some(vec![crate::domain::thread::state::Version {
                number: version,
                is_due,
            }]),
        };
        let app = world.invoke();
        world.run(async move { update(&app, request).await })
    };
    let refused = change(&mut world, 1, false);
    assert!(matches!(refused, Err(ServiceError::VersionDiffers { .. })));
    let state = change(&mut world, 1, true).unwrap();
    assert_eq!((state.status, state.version), (Status::Expired, 2));
    world.assert_settles("written with a message");
}

#[test]
fn a_claim_lapses_with_the_tick_and_can_be_renewed_until_then() {
    let (mut world, reference) = with_deadline();
    world
        .update(&reference, "phone", claim_for("PT30M"))
        .unwrap();
    assert_eq!(
        timers(&world).len(),
        2,
        "one for the deadline, one for the lease"
    );
    for _ in 0..4 {
        world.tick_after(20 * MINUTE);
        let state = world
            .update(&reference, "phone", Update::renew(None))
            .unwrap();
        let left = state.lease_until.unwrap().since(world.now());
        assert_eq!(left / MINUTE, 30);
        // One for the deadline, one by the tick that found nothing due, and one by the renewal
        // after it.
        assert!(timers(&world).len() <= 3, "they do not grow");
    }
    assert_eq!(world.count_log("status_changed"), 5);
    // The deadline has passed in the meantime, so the request expires when the claim lapses.
    world.tick_after(31 * MINUTE);
    assert_eq!(world.listed(Some(Status::Expired)), vec![reference]);
    world.assert_settles("lapsed and expired");
    assert_eq!(timers(&world).len(), 0);
}

#[test]
fn a_late_tick_does_everything_at_once_and_announces_once() {
    let (mut world, _) = with_deadline();
    world.join(
        "watch",
        json!({"notifications": [{"type": "webhook", "url": "https://watch.example/"}]}),
    );
    let urgent = world.ask("agent", json!({"priority": "urgent"}));
    world.sent();
    world.tick_after(5 * HOUR);
    world.tick_after(MINUTE);
    let mut titles: Vec<_> = world
        .sent()
        .iter()
        .map(|(_, request)| {
            let body: Value = serde_json::from_str(request.body.as_ref().unwrap()).unwrap();
            body["title"].as_str().unwrap().to_owned()
        })
        .collect();
    titles.sort();
    assert_eq!(
        titles,
        [
            "Expired: nobody claimed it in time",
            "Still open: nobody has claimed it"
        ]
    );
    assert_eq!(world.thread(&urgent).unwrap().state.nudges, 2);
    world.assert_settles("late");
}

/// Whoever comes first wins, whichever operation is held, and nothing is left half-done.
#[test]
fn a_claim_races_the_deadline() {
    for (verb, prefix) in [
        (Verb::Get, "threads/"),
        (Verb::Put, "due/"),
        (Verb::Put, "threads/"),
    ] {
        for moment in [Moment::Before, Moment::After] {
            let context = format!("held at {verb:?} {prefix} {moment:?}");
            let (mut world, reference) = with_deadline();
            world.pass(60 * MINUTE - SECOND);
            let mut held = world.store.hold(verb, prefix, 0, moment);
            let claim = change_of(world.invoke(), &reference, "phone", set(Status::Claimed));
            let claim = world.start(claim);
            assert!(held.is_reached(), "{context}");
            world.tick_after(2 * SECOND);
            held.release();
            world.go_on();
            let outcome = world.run(claim);
            let status = world.thread(&reference).unwrap().state.status;
            match (&outcome, status) {
                (Ok(_), Status::Claimed) | (Err(ServiceError::Refused(_)), Status::Expired) => {}
                other => panic!("{context}: {other:?}"),
            }
            assert_eq!(world.count_log("status_changed"), 1, "{context}");
            world.assert_settles(&context);
        }
    }
}

#[test]
fn a_renewal_races_the_end_of_the_lease() {
    for (verb, prefix) in [(Verb::Get, "threads/"), (Verb::Put, "threads/")] {
        for moment in [Moment::Before, Moment::After] {
            let context = format!("held at {verb:?} {prefix} {moment:?}");
            let (mut world, reference) = with_deadline();
            world
                .update(&reference, "phone", claim_for("PT30M"))
                .unwrap();
            world.pass(30 * MINUTE - SECOND);
            let mut held = world.store.hold(verb, prefix, 0, moment);
            let renewal = change_of(world.invoke(), &reference, "phone", Update::renew(None));
            let renewal = world.start(renewal);
            assert!(held.is_reached(), "{context}");
            world.tick_after(2 * SECOND);
            held.release();
            world.go_on();
            let outcome = world.run(renewal);
            let state = world.thread(&reference).unwrap().state;
            match (&outcome, state.status) {
                (Ok(renewed), Status::Claimed) => {
                    assert_eq!(renewed.lease_until, state.lease_until);
                }
                (Err(ServiceError::Refused(Refusal::NotClaimed)), Status::Pending) => {}
                other => panic!("{context}: {other:?}"),
            }
            world.assert_sound(&context);
            world.tick_after(HOUR);
            assert_eq!(
                world.listed(Some(Status::Expired)),
                vec![reference],
                "{context}"
            );
            world.assert_settles(&context);
        }
    }
}
