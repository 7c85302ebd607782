//! Deliveries: owed from the commit on, attempted by the schedule, told once.

use std::collections::BTreeMap;

use super::*;
use crate::service::executors;
use crate::storage::memory::Verb;

/// A hook or channel that posts to `https://{host}.example/`.
fn webhook(host: &str) -> Value {
    json!({"type": "webhook", "url": format!("https://{host}.example/")})
}

/// How often each host was called, by the requests that were sent.
fn hosts(sent: &[(Timestamp, Request)]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, request) in sent {
        *counts.entry(host(request)).or_insert(0) += 1;
    }
    counts
}

fn host(request: &Request) -> String {
    let rest = request.url.split("//").nth(1).unwrap();
    rest.split(".example").next().unwrap().to_owned()
}

fn body(request: &Request) -> Value {
    serde_json::from_str(request.body.as_deref().unwrap_or("null")).unwrap()
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let found = request.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// The hosts that are called by what happens in `act`, ticks not included.
fn told(world: &mut World, act: impl FnOnce(&mut World)) -> Vec<String> {
    world.sent();
    act(world);
    hosts(&world.sent()).into_keys().collect()
}

#[test]
fn everyone_is_told_but_who_did_it() {
    let mut world = World::new();
    for name in ["agent", "phone", "tablet"] {
        world.join(name, json!({"notifications": [webhook(name)]}));
    }
    let mut reference = None;
    let created = told(&mut world, |world| {
        reference = Some(world.create("agent").unwrap().reference);
    });
    assert_eq!(created, ["phone", "tablet"], "not the requestor");
    let reference = reference.unwrap();
    let claimed = told(&mut world, |world| {
        world.update(&reference, "phone", set(Status::Claimed)).unwrap();
    });
    assert_eq!(claimed, ["agent", "tablet"]);
    let written = told(&mut world, |world| {
        world.update(&reference, "agent", say("the back door too")).unwrap();
    });
    assert_eq!(written, ["phone", "tablet"]);
    let repeated = told(&mut world, |world| {
        world.update(&reference, "phone", set(Status::Claimed)).unwrap();
    });
    assert_eq!(repeated, Vec::<String>::new());
    world.assert_settles("told");
}

#[test]
fn nobody_is_told_of_less_than_they_want() {
    let mut world = World::new();
    world.register("agent").unwrap();
    for least in ["background", "normal", "elevated", "urgent"] {
        let profile = json!({"notifications": [webhook(least)], "preferences": {"min_priority": least}});
        world.join(least, profile);
    }
    world.join("default", json!({"notifications": [webhook("default")]}));
    for (priority, expected) in [
        ("background", vec!["background"]),
        ("normal", vec!["background", "default", "normal"]),
        ("elevated", vec!["background", "default", "elevated", "normal"]),
        ("urgent", vec!["background", "default", "elevated", "normal", "urgent"]),
    ] {
        let told = told(&mut world, |world| {
            world.ask("agent", json!({"priority": priority}));
        });
        assert_eq!(told, expected, "{priority}");
    }
}

#[test]
fn hooks_are_triggered_by_their_event() {
    let mut world = World::new();
    let events = ["created", "claimed", "started", "completed", "rejected", "cancelled"];
    let hooks = |name: &str| -> Value {
        let hook = |event| (format!("on_request_{event}"), json!([webhook(&format!("{name}-{event}"))]));
        events.map(hook).into_iter().collect()
    };
    for name in ["agent", "phone", "tablet"] {
        world.join(name, json!({"hooks": hooks(name)}));
    }
    let of = |event: &str, names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{name}-{event}")).collect()
    };
    let all = ["agent", "phone", "tablet"];
    world.react(|_| answered(200, "ok"));
    let reference = world.create("agent").unwrap().reference;
    assert_eq!(hosts(&world.sent()).into_keys().collect::<Vec<_>>(), of("created", &all));
    let mut step = |actor: &str, status, expected: Vec<String>| {
        let told = told(&mut world, |world| {
            world.update(&reference, actor, set(status)).unwrap();
        });
        assert_eq!(told, expected, "{status}");
    };
    step("phone", Status::Claimed, of("claimed", &all));
    // Only those who take part, where nobody else has an external id.
    step("phone", Status::InProgress, of("started", &["agent", "phone"]));
    step("phone", Status::Waiting, vec![]);
    step("phone", Status::Completed, of("completed", &["agent", "phone"]));
    let rejected = world.create("agent").unwrap().reference;
    let cancelled = world.create("agent").unwrap().reference;
    let mut end = |reference: &Ref, status, event| {
        let told = told(&mut world, |world| {
            world.update(reference, "agent", set(status)).unwrap();
        });
        assert_eq!(told, of(event, &all));
    };
    end(&rejected, Status::Rejected, "rejected");
    end(&cancelled, Status::Cancelled, "cancelled");
}

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
    let waited: Vec<_> = sent.iter().map(|(at, _)| at.since(start) / MINUTE).collect();
    // After 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h, each a little longer, at the next tick.
    let due = [0, 1, 6, 36, 156, 456, 1_056, 1_656];
    assert_eq!(waited.len(), 8, "{waited:?}");
    for (waited, due) in waited.iter().zip(due) {
        assert!((due..=due + due / 9 + 8).contains(waited), "{waited} for {due}");
    }
    let ids: std::collections::BTreeSet<_> =
        sent.iter().map(|(_, request)| header(request, "webhook-id").unwrap()).collect();
    assert_eq!(ids.len(), 1);
    let attempts = world.attempts("phone");
    let outcomes: Vec<_> = attempts.iter().map(|a| a["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes[0], "delivered");
    assert!(outcomes[1..].iter().all(|outcome| *outcome == "retrying"));
    let next = attempts[1]["next_attempt_at"].as_str().unwrap();
    let wait = Timestamp::parse(attempts[0]["at"].as_str().unwrap())
        .unwrap()
        .since(Timestamp::parse(next).unwrap());
    assert!((0..=MINUTE).contains(&wait), "at the first tick after {next}");
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
    let waited: Vec<_> = sent.iter().map(|(at, _)| at.since(start) / MINUTE).collect();
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
        let record: Value = serde_json::from_str(&world.store.text("executors/exchange=home/phone.json")).unwrap();
        let [dead, alive] = [0, 1].map(|at| record["notifications"][at]["disabled"].clone());
        assert_eq!(dead.is_object(), day >= 5, "day {day}: {dead}");
        assert!(alive.is_null());
    }
    world.sent();
    world.create("agent").unwrap();
    assert_eq!(hosts(&world.sent()).into_keys().collect::<Vec<_>>(), ["alive"]);
    // Giving it again enables it, under its old id.
    world.react(|_| answered(200, ""));
    let (app, change) = (world.invoke(), profile);
    let change = super::profile(&app, change);
    world
        .run(async move { executors::change_profile(&app, home(), id("phone"), change).await })
        .unwrap();
    world.create("agent").unwrap();
    assert_eq!(hosts(&world.sent()).len(), 2);
    world.assert_settles("disabled");
}

#[test]
fn a_receiver_that_wants_nothing_more_is_disabled_at_once() {
    let mut world = World::new();
    world.register("agent").unwrap();
    world.join("phone", json!({"hooks": {"on_request_created": [webhook("gone")]}}));
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
fn five_hundred_executors_each_get_what_they_should() {
    let mut world = World::new();
    world.register("agent").unwrap();
    for n in 0..500 {
        let hooks = json!({"on_request_claimed": [webhook(&format!("h{n}"))]});
        world.join(&format!("e{n}"), json!({ "hooks": hooks }));
    }
    world.join("phone", json!({"notifications": [webhook("phone")]}));
    let reference = world.create("agent").unwrap().reference;
    world.sent();
    let alone = claim_cost(&mut World::new(), None);
    let crowded = claim_cost(&mut world, Some(&reference));
    assert_eq!(alone, crowded, "operations before the answer");
    // What the writer left comes with the ticks, each within its bound.
    let mut sent = world.sent();
    assert!(sent.len() <= 48, "{}", sent.len());
    for _ in 0..16 {
        world.store.take_operations();
        world.tick_after(MINUTE + SECOND);
        let operations = world.store.take_operations().len();
        assert!(operations < 1_000, "{operations} operations in one tick");
        let more = world.sent();
        assert!(more.len() <= 48, "{} requests in one tick", more.len());
        sent.extend(more);
    }
    let counts = hosts(&sent);
    assert_eq!(counts.len(), 500);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(world.owed(), Vec::<String>::new());
}

/// The operations of a claim until it answers.
fn claim_cost(world: &mut World, reference: Option<&Ref>) -> BTreeMap<Verb, usize> {
    let reference = match reference {
        Some(reference) => reference.clone(),
        None => world.create("agent").unwrap().reference,
    };
    world.store.take_operations();
    let app = world.invoke();
    let work = change_of(app, &reference, "phone", set(Status::Claimed));
    world.pool.run_until(work).unwrap();
    let mut counts = BTreeMap::new();
    for (verb, _) in world.store.take_operations() {
        *counts.entry(verb).or_insert(0) += 1;
    }
    world.go_on();
    counts
}

#[test]
fn receivers_that_never_answer_are_not_asked_twice_too_soon() {
    let mut world = World::new();
    world.register("agent").unwrap();
    for n in 0..45 {
        world.join(&format!("e{n}"), json!({"notifications": [webhook(&format!("h{n}"))]}));
    }
    world.react(|_| Err(Unreachable::Timeout));
    let start = world.now();
    world.create("agent").unwrap();
    let first = world.sent();
    let took = world.now().since(start);
    assert!(took <= 30 * SECOND, "the background took {took} ms");
    assert_eq!(first.len(), 12, "two chunks, since none begins after 15 s");
    let mut sent = first;
    for _ in 0..4 {
        world.tick_after(MINUTE);
        sent.extend(world.sent());
    }
    assert_eq!(hosts(&sent).len(), 45);
    for n in 0..45 {
        let name = format!("e{n}");
        let attempts = world.attempts(&name);
        let times: Vec<_> = sent
            .iter()
            .filter(|(_, request)| host(request) == format!("h{n}"))
            .map(|(at, _)| *at)
            .collect();
        assert_eq!(attempts.len(), times.len(), "every outcome of {name} is recorded");
        for attempt in &attempts {
            assert_eq!(attempt["outcome"], "retrying");
            assert_eq!(attempt["error"], "no answer within 10 s");
        }
        if let ([first, second], Some(attempt)) = (times.as_slice(), attempts.last()) {
            let due = Timestamp::parse(attempt["next_attempt_at"].as_str().unwrap()).unwrap();
            assert!(second >= &due && first < &due);
        }
    }
}

#[test]
fn whatever_dies_it_is_sent_at_least_once_and_at_most_twice() {
    let prepare = || {
        let mut world = World::new();
        world.register("agent").unwrap();
        let hooks = json!({"on_request_claimed": [webhook("hook")]});
        world.join("phone", json!({"notifications": [webhook("channel")], "hooks": hooks}));
        world.register("tablet").unwrap();
        let reference = world.create("agent").unwrap().reference;
        world.pass(HOUR);
        world.sent();
        (world, reference)
    };
    let claim = |app, reference: &Ref| change_of(app, reference, "tablet", set(Status::Claimed));
    let check = |world: &mut World, mut sent: Vec<(Timestamp, Request)>, context: &str| {
        world.run_ticks();
        sent.extend(world.sent());
        let committed = world.count_log("status_changed") == 1;
        let counts = hosts(&sent);
        assert_eq!(counts.len(), if committed { 2 } else { 0 }, "{context}: {counts:?}");
        assert!(counts.values().all(|count| *count <= 2), "{context}: {counts:?}");
        let ids: std::collections::BTreeSet<_> =
            sent.iter().map(|(_, request)| header(request, "webhook-id").unwrap()).collect();
        assert_eq!(ids.len(), counts.len(), "{context}: the same id both times");
        world.assert_settles(context);
    };
    for moment in [Moment::Before, Moment::After] {
        // The writer dies at each of its operations.
        for nth in 0.. {
            let (mut world, reference) = prepare();
            let (app, mortal) = world.mortal(nth, moment);
            let _work = world.start(claim(app, &reference));
            let sent = world.sent();
            check(&mut world, sent, &format!("writer, operation {nth} {moment:?}"));
            if !mortal.is_dead() {
                break;
            }
        }
        // The writer dies right after the commit, and the tick at each of its operations.
        for nth in 0.. {
            let (mut world, reference) = prepare();
            let (app, _) = world.mortal(2, Moment::After);
            let _work = world.start(claim(app, &reference));
            assert_eq!(world.sent().len(), 0);
            world.pass(MINUTE + SECOND);
            let (app, mortal) = world.mortal(nth, moment);
            let now = world.now();
            let _tick = world.start(async move { tick(&app, now).await });
            let sent = world.sent();
            check(&mut world, sent, &format!("tick, operation {nth} {moment:?}"));
            if !mortal.is_dead() {
                break;
            }
        }
    }
}

#[test]
fn quiet_hours_put_off_and_forget_what_is_over() {
    let mut world = World::new();
    world.register("agent").unwrap();
    // 2025-02-01T12:00 UTC is 13:00 in Berlin.
    let quiet = json!({"enabled": true, "start": "12:30", "end": "14:15", "timezone": "Europe/Berlin"});
    let profile = json!({"notifications": [webhook("phone")], "preferences": {"quiet_hours": quiet}});
    world.join("phone", profile);
    world.register("tablet").unwrap();
    let end = Timestamp::parse("2025-02-01T13:15:00Z").unwrap();
    let wanted = world.create("agent").unwrap().reference;
    let taken = world.create("agent").unwrap().reference;
    let told = |world: &mut World, act: &dyn Fn(&mut World)| {
        act(world);
        world.sent().len()
    };
    assert_eq!(told(&mut world, &|world| { world.update(&taken, "tablet", set(Status::Claimed)).unwrap(); }), 0);
    assert_eq!(told(&mut world, &|world| { world.ask("agent", json!({"priority": "urgent"})); }), 1);
    let until_end = end.since(world.now());
    world.tick_after(until_end - 1);
    assert_eq!(world.sent().len(), 0);
    world.tick_after(1);
    let sent = world.sent();
    let refs: Vec<_> = sent
        .iter()
        .map(|(_, request)| (body(request)["thread"]["ref"].clone(), body(request)["title"].clone()))
        .collect();
    assert_eq!(
        refs,
        [
            (json!(wanted), json!("New request")),
            (json!(taken), json!("Claimed by tablet"))
        ]
    );
    let dropped: Vec<_> = world
        .attempts("phone")
        .into_iter()
        .filter(|attempt| attempt["outcome"] == "dropped")
        .map(|attempt| attempt["ref"].clone())
        .collect();
    assert_eq!(dropped, [json!(taken)], "the news that it was new");
    world.assert_settles("quiet");
}

/// Hooks that make a task when a request is posted and end it with the request.
fn task_hooks() -> Value {
    json!({"hooks": {
        "on_request_created": [{"type": "webhook", "url": "https://make.example/"}],
        "on_request_completed": [{"type": "webhook", "url": "https://end.example/{{external_id}}"}],
    }})
}

#[test]
fn a_completing_hook_waits_for_the_creating_one() {
    let mut world = World::new();
    world.register("agent").unwrap();
    world.register("tablet").unwrap();
    world.join("phone", task_hooks());
    world.react(|request| match host(request).as_str() {
        "make" => answered(503, ""),
        _ => answered(200, ""),
    });
    let reference = world.create("agent").unwrap().reference;
    world.update(&reference, "tablet", set(Status::Completed)).unwrap();
    world.tick_after(2 * MINUTE);
    let sent = world.sent();
    assert!(sent.iter().all(|(_, request)| host(request) == "make"));
    world.react(|request| match host(request).as_str() {
        "make" => answered(201, r#"{"id": "a/b"}"#),
        _ => answered(200, ""),
    });
    for _ in 0..100 {
        world.tick_after(MINUTE);
    }
    let sent = world.sent();
    let urls: Vec<_> = sent.iter().map(|(_, request)| request.url.as_str()).collect();
    assert_eq!(urls, ["https://make.example/", "https://end.example/a%2Fb"]);
    world.assert_settles("completed");
}

#[test]
fn a_completing_hook_does_not_wait_for_nothing() {
    // The creating hook fails for good; or it came after the request; or it gives no id.
    for (case, answer, late) in [
        ("failed", (422, "{}"), false),
        ("came late", (200, r#"{"id": 5}"#), true),
        ("no id", (200, "ok"), false),
    ] {
        let mut world = World::new();
        world.register("agent").unwrap();
        world.register("tablet").unwrap();
        if !late {
            world.join("phone", task_hooks());
        }
        world.react(move |_| answered(answer.0, answer.1));
        let reference = world.create("agent").unwrap().reference;
        if late {
            world.pass(SECOND);
            world.join("phone", task_hooks());
        }
        world.update(&reference, "tablet", set(Status::Completed)).unwrap();
        world.run_ticks();
        let called = hosts(&world.sent());
        assert_eq!(called.get("end"), None, "{case}");
        let dropped = world.attempts("phone").remove(0);
        assert_eq!(dropped["outcome"], "dropped", "{case}");
        assert_eq!(dropped["event"], "completed");
        assert!(dropped["error"].as_str().unwrap().contains("gave an id"), "{case}");
        world.assert_settles(case);
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
fn what_telling_costs() {
    let mut world = World::new();
    world.register("agent").unwrap();
    for n in 0..20 {
        world.register(&format!("e{n}")).unwrap();
    }
    world.join("phone", json!({"notifications": [webhook("phone")]}));
    world.create("agent").unwrap();
    world.store.take_operations();
    world.create("agent").unwrap();
    let count = |operations: &[(Verb, String)], verb, prefix: &str| {
        let is = |(v, key): &&(Verb, String)| *v == verb && key.starts_with(prefix);
        operations.iter().filter(is).count()
    };
    let operations = world.store.take_operations();
    // One list finds whom to tell; no record is read that this isolate holds at its tag, but the
    // actor's, for the name.
    assert_eq!(count(&operations, Verb::List, "executors/"), 1);
    assert_eq!(count(&operations, Verb::Get, "executors/"), 1);
    assert_eq!(count(&operations, Verb::Put, "due/"), 2, "the obligation, the chunk");
    assert_eq!(count(&operations, Verb::Delete, "due/"), 2);
    assert_eq!(count(&operations, Verb::Put, "attempts/"), 1);
    assert_eq!(count(&operations, Verb::Get, "threads/"), 2, "tidying, sending");
    assert_eq!(operations.len(), 7 + 1 + 1 + 2 + 1 + 1 + 1, "{operations:?}");
    // Of a priority that nobody wants to hear of, the list is all.
    world.ask("agent", json!({"priority": "background"}));
    let operations = world.store.take_operations();
    assert_eq!(operations.len(), 7 + 1, "{operations:?}");
}

#[test]
fn credentials_do_not_reach_the_bucket_s_obligations_or_logs() {
    let mut world = World::new();
    world.register("agent").unwrap();
    let secret = "https://phone.example/a-very-secret-path";
    let hook = json!({"type": "todoist", "token": "a-very-secret-token"});
    world.join("phone", json!({"notifications": [{"type": "webhook", "url": secret}],
        "hooks": {"on_request_created": [hook]}}));
    world.react(|request| answered(500, &format!("{}{:?}", request.url, request.headers)));
    world.create("agent").unwrap();
    for key in world.store.keys("") {
        if !key.starts_with("executors/") {
            assert!(!world.store.text(&key).contains("very-secret"), "{key}");
        }
    }
    assert_eq!(world.attempts("phone").len(), 2);
}
