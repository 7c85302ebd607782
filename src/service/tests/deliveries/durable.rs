//! Nothing is lost, whatever dies or does not answer. Also what deliveries cost.

use super::*;
use crate::service::members::executors::change_profile;

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
    // The ticks deliver what the writer left, each tick within its bound.
    let operations = world.store.take_operations().len();
    assert!(operations < 1_000, "{operations} operations by the writer");
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
        world.join(
            &format!("e{n}"),
            json!({"notifications": [webhook(&format!("h{n}"))]}),
        );
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
        assert_eq!(
            attempts.len(),
            times.len(),
            "every outcome of {name} is recorded"
        );
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
        world.join(
            "phone",
            json!({"notifications": [webhook("channel")], "hooks": hooks}),
        );
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
        assert_eq!(
            counts.len(),
            if committed { 2 } else { 0 },
            "{context}: {counts:?}"
        );
        assert!(
            counts.values().all(|count| *count <= 2),
            "{context}: {counts:?}"
        );
        let ids: std::collections::BTreeSet<_> = sent
            .iter()
            .map(|(_, request)| header(request, "webhook-id").unwrap())
            .collect();
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
            check(
                &mut world,
                sent,
                &format!("writer, operation {nth} {moment:?}"),
            );
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
            check(
                &mut world,
                sent,
                &format!("tick, operation {nth} {moment:?}"),
            );
            if !mortal.is_dead() {
                break;
            }
        }
    }
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
    // One list finds whom to tell. This isolate remembers the other records at their tags, so it
    // reads only the actor's, for the display name.
    assert_eq!(count(&operations, Verb::List, "executors/"), 1);
    assert_eq!(count(&operations, Verb::Get, "executors/"), 1);
    assert_eq!(
        count(&operations, Verb::Put, "due/"),
        2,
        "the obligation, the chunk"
    );
    assert_eq!(count(&operations, Verb::Delete, "due/"), 2);
    assert_eq!(count(&operations, Verb::Put, "attempts/"), 1);
    assert_eq!(
        count(&operations, Verb::Get, "threads/"),
        2,
        "tidying, sending"
    );
    assert_eq!(
        operations.len(),
        7 + 1 + 1 + 2 + 1 + 1 + 1,
        "{operations:?}"
    );
    // Nobody wants notices of this priority, so the list is the only operation.
    world.ask("agent", json!({"priority": "background"}));
    let operations = world.store.take_operations();
    assert_eq!(operations.len(), 7 + 1, "{operations:?}");
}

/// On a bucket that lists no summaries, and where all that the members can do is more than an isolate
/// remembers.
#[test]
fn only_the_profiles_of_those_who_may_be_told_are_read() {
    let mut world = World::over(Memory::like_s3());
    let long: Vec<String> = (0..100)
        .map(|n| format!("{n}{}", "x".repeat(150)))
        .collect();
    for n in 0..600 {
        world.join(&format!("e{n}"), json!({"capabilities": long}));
    }
    let sees: Vec<&str> = long
        .iter()
        .map(String::as_str)
        .take(90)
        .chain(["see"])
        .collect();
    let channel = |name: &str| json!([webhook(name)]);
    let phone = json!({"capabilities": sees, "notifications": channel("phone")});
    world.join("phone", phone);
    let blind = json!({"capabilities": long, "notifications": channel("blind")});
    world.join("blind", blind);
    let reads = |world: &World| -> Vec<String> {
        let operations = world.store.take_operations().into_iter();
        let read =
            operations.filter(|(verb, key)| *verb == Verb::Get && key.contains("executors/"));
        read.map(|(_, key)| key.rsplit('/').next().unwrap().to_owned())
            .collect()
    };
    let see = json!({"requires": ["see"]});
    world.ask("e0", see.clone());
    world.sent();
    reads(&world);
    let told = told(&mut world, |world| {
        world.ask("e0", see.clone());
    });
    assert_eq!(told, ["phone"]);
    // Both have channels. Their records are remembered at their tags, so nobody's is read but the
    // actor's, for the display name.
    assert_eq!(reads(&world), ["e0.json"]);
    // One whose record has changed is read again. That is all.
    let (app, e7) = (world.invoke(), id("e7"));
    let profile = profile(&app, json!({"display_name": "Seven"}));
    world
        .run(async move { change_profile(&app, home(), e7, profile, None).await })
        .unwrap();
    reads(&world);
    world.ask("e0", see);
    let mut read = reads(&world);
    read.sort();
    assert_eq!(read, ["e0.json", "e7.json"]);
}

#[test]
fn credentials_do_not_reach_the_bucket_s_obligations_or_logs() {
    let mut world = World::new();
    world.register("agent").unwrap();
    let secret = "https://phone.example/a-very-secret-path";
    let hook = json!({"type": "todoist", "token": "a-very-secret-token"});
    world.join(
        "phone",
        json!({"notifications": [{"type": "webhook", "url": secret}],
        "hooks": {"on_request_created": [hook]}}),
    );
    world.react(|request| answered(500, &format!("{}{:?}", request.url, request.headers)));
    world.create("agent").unwrap();
    for key in world.store.keys("") {
        if !key.starts_with("executors/") {
            assert!(!world.store.text(&key).contains("very-secret"), "{key}");
        }
    }
    assert_eq!(world.attempts("phone").len(), 2);
}

#[test]
fn what_is_owed_survives_a_receiver_that_kills_the_isolate() {
    let mut world = World::new();
    world.register("agent").unwrap();
    world.join("phone", json!({"notifications": [webhook("phone")]}));
    world.react(|_| answered(503, ""));
    world.create("agent").unwrap();
    world.sent();
    world.react(|_| answered(200, ""));
    // Each tick dies in the middle of the delivery.
    let mut sent = 0;
    for _ in 0..60 {
        world.pass(3 * MINUTE);
        let (app, _) = world.mortal(8, Moment::Before);
        let now = world.now();
        let _tick = world.start(async move { tick(&app, now).await });
        sent += world.sent().len();
    }
    assert!((3..10).contains(&sent), "{sent}: put off, longer each time");
    world.run_ticks();
    world.assert_settles("it is delivered in the end");
    assert_eq!(world.attempts("phone")[0]["outcome"], "delivered");
}

#[test]
fn one_exchange_does_not_hold_up_another() {
    let mut world = World::new();
    world.register("agent").unwrap();
    for n in 0..40 {
        let channels: Vec<_> = (0..20).map(|_| webhook("dead")).collect();
        world.join(&format!("e{n}"), json!({ "notifications": channels }));
    }
    world.react(|request| match host(request).as_str() {
        "dead" => Err(Unreachable::Timeout),
        _ => answered(503, ""),
    });
    for _ in 0..20 {
        world.create("agent").unwrap();
    }
    assert!(world.store.keys("due/deliveries/").len() > 1_000);
    // There is another exchange, and a writer that died.
    let other = ExchangeId::parse("other", "").unwrap();
    let (app, exchange) = (world.invoke(), other.clone());
    let channel = profile(&app, json!({"notifications": [webhook("alive")]}));
    let request = request(&app, json!({"intent": "Check front door"}));
    world.run(async move {
        register(&app, exchange.clone(), Joining::plain(id("phone"), channel))
            .await
            .unwrap();
        create(&app, exchange, id("agent"), request).await.unwrap();
    });
    let lines = world.log().len();
    let (app, _) = world.mortal(1, Moment::After);
    let _work = world.start(creation(app, "agent"));
    assert_eq!(
        world.log().len(),
        lines,
        "committed, and not in the log yet"
    );
    world.sent();
    world.react(|request| match host(request).as_str() {
        "dead" => Err(Unreachable::Timeout),
        _ => answered(200, ""),
    });
    world.tick_after(2 * MINUTE);
    assert_eq!(hosts(&world.sent()).get("alive"), Some(&1));
    assert_eq!(world.log().len(), lines + 2, "what a crash left is mended");
}
