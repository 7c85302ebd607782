//! When a delivery is tried again, and when no more.

use super::*;
use crate::service::members::executors;

#[test]
fn a_flapping_receiver_gets_it_by_the_schedule_and_under_one_id() {
    let mut world = World::new();
    world.register("agent").unwrap();
    world.join("phone", json!({"notifications": [webhook("phone")]}));
    world.react(|_| answered(503, ""));
    world.create("agent").unwrap();
    let start = world.now();
    for minute in 1..=32 * 60 {
        if minute == 20 * 60 {
            world.react(|_| answered(204, ""));
        }
        world.tick_after(MINUTE);
    }
    let sent = world.sent();
    let waited: Vec<_> = sent
        .iter()
        .map(|(at, _)| at.since(start) / MINUTE)
        .collect();
    // Retries come after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h, each a little later, at the
    // next tick.
    let due = [0, 1, 6, 36, 156, 456, 1_056, 1_656];
    assert_eq!(waited.len(), 8, "{waited:?}");
    for (waited, due) in waited.iter().zip(due) {
        assert!(
            (due..=due + due / 9 + 8).contains(waited),
            "{waited} for {due}"
        );
    }
    let ids: std::collections::BTreeSet<_> = sent
        .iter()
        .map(|(_, request)| header(request, "webhook-id").unwrap())
        .collect();
    assert_eq!(ids.len(), 1);
    let attempts = world.attempts("phone");
    let outcomes: Vec<_> = attempts
        .iter()
        .map(|a| a["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes[0], "delivered");
    assert!(outcomes[1..].iter().all(|outcome| *outcome == "retrying"));
    let next = attempts[1]["next_attempt_at"].as_str().unwrap();
    let wait = Timestamp::parse(attempts[0]["at"].as_str().unwrap())
        .unwrap()
        .since(Timestamp::parse(next).unwrap());
    assert!(
        (0..=MINUTE).contains(&wait),
        "at the first tick after {next}"
    );
    assert_eq!(world.owed(), Vec::<String>::new());
    world.run_ticks();
    assert_eq!(world.sent().len(), 0, "then silence");
}

#[test]
fn a_receiver_says_when_to_come_back() {
    let mut world = World::new();
    world.register("agent").unwrap();
    world.join("phone", json!({"notifications": [webhook("phone")]}));
    world.react(|_| {
        let mut answer = answered(429, "");
        if let Ok(response) = &mut answer {
            response.retry_after = Some(10 * MINUTE);
        }
        answer
    });
    world.create("agent").unwrap();
    let start = world.now();
    for _ in 0..25 {
        world.tick_after(MINUTE);
    }
    let sent = world.sent();
    let waited: Vec<_> = sent
        .iter()
        .map(|(at, _)| at.since(start) / MINUTE)
        .collect();
    assert_eq!(waited, [0, 10, 20]);
}

#[test]
fn a_receiver_that_never_recovers_is_disabled_after_five_days() {
    let mut world = World::new();
    world.register("agent").unwrap();
    let profile = json!({"notifications": [webhook("dead"), webhook("alive")]});
    world.join("phone", profile.clone());
    world.react(|request| answered(if host(request) == "dead" { 500 } else { 200 }, ""));
    for day in 0..8 {
        world.create("agent").unwrap();
        for _ in 0..24 {
            world.tick_after(HOUR);
        }
        let record: Value =
            serde_json::from_str(&world.store.text("executors/exchange=home/phone.json")).unwrap();
        let [dead, alive] = [0, 1].map(|at| record["notifications"][at]["disabled"].clone());
        assert_eq!(dead.is_object(), day >= 5, "day {day}: {dead}");
        assert!(alive.is_null());
    }
    world.sent();
    world.create("agent").unwrap();
    assert_eq!(
        hosts(&world.sent()).into_keys().collect::<Vec<_>>(),
        ["alive"]
    );
    // Setting the channel again enables it under its old id.
    world.react(|_| answered(200, ""));
    let (app, change) = (world.invoke(), profile);
    let change = super::profile(&app, change);
    world
        .run(
            async move { executors::change_profile(&app, home(), id("phone"), change, None).await },
        )
        .unwrap();
    world.create("agent").unwrap();
    assert_eq!(hosts(&world.sent()).len(), 2);
    world.assert_settles("disabled");
}

#[test]
fn a_receiver_that_wants_nothing_more_is_disabled_at_once() {
    let mut world = World::new();
    world.register("agent").unwrap();
    world.join(
        "phone",
        json!({"hooks": {"on_request_created": [webhook("gone")]}}),
    );
    world.react(|_| answered(410, ""));
    world.create("agent").unwrap();
    world.create("agent").unwrap();
    world.run_ticks();
    assert_eq!(world.sent().len(), 1);
    let attempts = world.attempts("phone");
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0]["outcome"], "failed");
    assert_eq!(attempts[0]["status"], 410);
    let record = world.store.text("executors/exchange=home/phone.json");
    assert!(record.contains("answered 410"), "{record}");
}

#[test]
fn what_fails_for_good_is_not_sent_again() {
    for status in [301, 400, 401, 404, 422] {
        let mut world = World::new();
        world.register("agent").unwrap();
        world.join("phone", json!({"notifications": [webhook("phone")]}));
        world.react(move |_| answered(status, ""));
        world.create("agent").unwrap();
        assert_eq!(world.owed(), Vec::<String>::new());
        world.run_ticks();
        assert_eq!(world.sent().len(), 1);
        assert_eq!(world.attempts("phone")[0]["outcome"], "failed");
    }
}

#[test]
fn attempts_are_deleted_after_a_week() {
    let mut world = World::new();
    world.register("agent").unwrap();
    world.join("phone", json!({"notifications": [webhook("phone")]}));
    for _ in 0..250 {
        world.create("agent").unwrap();
        world.pass(SECOND);
    }
    assert_eq!(world.store.keys("attempts/").len(), 250);
    world.run_ticks();
    for _ in 0..6 * 24 {
        world.tick_after(HOUR);
    }
    assert_eq!(world.store.keys("attempts/").len(), 250);
    for _ in 0..3 * 24 {
        world.tick_after(HOUR);
    }
    assert_eq!(world.store.keys("attempts/").len(), 0);
    assert_eq!(world.store.keys("due/").len(), 0);
    world.assert_sound("swept");
}

#[test]
fn a_channel_that_is_enabled_again_begins_anew() {
    let mut world = World::new();
    world.register("agent").unwrap();
    let profile = json!({"notifications": [webhook("phone")]});
    world.join("phone", profile.clone());
    world.react(|_| answered(404, ""));
    for _ in 0..7 {
        world.create("agent").unwrap();
        world.pass(24 * HOUR);
    }
    let disabled = |world: &World| {
        world
            .store
            .text("executors/exchange=home/phone.json")
            .contains("\"disabled\"")
    };
    assert!(disabled(&world));
    assert_eq!(world.store.keys("streaks/"), Vec::<String>::new());
    let app = world.invoke();
    let change = super::profile(&app, profile);
    world
        .run(
            async move { executors::change_profile(&app, home(), id("phone"), change, None).await },
        )
        .unwrap();
    world.create("agent").unwrap();
    assert!(!disabled(&world), "one failure is no streak of five days");
}
