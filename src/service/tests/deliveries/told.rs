//! Who is told of conversations, of what falls due, and of requests that need a capability.

use super::*;

fn titles(world: &World) -> BTreeMap<String, String> {
    let sent = world.sent();
    let title = |request: &Request| body(request)["title"].as_str().unwrap().to_owned();
    let told: BTreeMap<_, _> = sent.iter().map(|(_, r)| (host(r), title(r))).collect();
    assert_eq!(told.len(), sent.len(), "each is told once");
    told
}

fn expect(world: &World, expected: &[(&str, &str)]) {
    let told = titles(world);
    let told: Vec<_> = told
        .iter()
        .map(|(host, title)| (host.as_str(), title.as_str()))
        .collect();
    assert_eq!(told, expected);
}

/// An exchange in which `agent`, `phone` and `tablet` have channels.
fn three() -> World {
    let mut world = World::new();
    for name in ["agent", "phone", "tablet"] {
        world.join(
            name,
            json!({"display_name": format!("My {name}"), "notifications": [webhook(name)]}),
        );
    }
    world
}

#[test]
fn a_reply_reaches_its_executor_however_little_the_request_presses() {
    let mut world = three();
    let least = json!({"preferences": {"min_priority": "urgent"}});
    let (app, change) = (world.invoke(), least);
    let change = profile(&app, change);
    let change_profile = crate::service::members::executors::change_profile;
    world
        .run(async move { change_profile(&app, home(), id("phone"), change, None).await })
        .unwrap();
    let reference = world.ask("agent", json!({"confirm_before": true}));
    expect(&world, &[("tablet", "New request")]);
    let ask =
        json!({"mess": [{"status": {"code": "claimed"}}, {"status": {"code": "needs_input"}}]});
    world.update(&reference, "phone", call(ask)).unwrap();
    expect(
        &world,
        &[
            ("agent", "My phone has a question"),
            ("tablet", "My phone has a question"),
        ],
    );
    let reply = json!({"mess": [{"reply": {"answers": {"it": "left"}}}]});
    world.update(&reference, "agent", call(reply)).unwrap();
    expect(
        &world,
        &[
            ("phone", "Answered by My agent"),
            ("tablet", "Answered by My agent"),
        ],
    );
    for (goes_on, title) in [
        (false, "Not confirmed by My agent"),
        (true, "Confirmed by My agent"),
    ] {
        let status = set(Status::NeedsConfirmation);
        world.update(&reference, "phone", status).unwrap();
        world.sent();
        let reply = json!({"mess": [{"reply": {"confirm": goes_on}}]});
        world.update(&reference, "agent", call(reply)).unwrap();
        expect(&world, &[("phone", title), ("tablet", title)]);
    }
    world.update(&reference, "agent", say("hurry")).unwrap();
    expect(&world, &[("tablet", "Message from My agent")]);
    world.assert_settles("told");
}

#[test]
fn a_renewal_tells_nobody_and_a_lapse_everybody() {
    let mut world = three();
    let reference = world.ask("agent", json!({}));
    let claim = call(json!({"status": "claimed", "lease": "PT30M"}));
    world.update(&reference, "phone", claim).unwrap();
    world.sent();
    world.pass(10 * MINUTE);
    world
        .update(&reference, "phone", Update::renew(None))
        .unwrap();
    expect(&world, &[]);
    world.tick_after(21 * MINUTE);
    expect(&world, &[]);
    world.tick_after(10 * MINUTE);
    let title = "Open again: the claim of My phone has lapsed";
    expect(
        &world,
        &[("agent", title), ("phone", title), ("tablet", title)],
    );
    world.assert_settles("lapsed");
}

#[test]
fn only_who_can_do_it_hears_of_it() {
    let mut world = World::new();
    world.join("agent", json!({"notifications": [webhook("agent")]}));
    let hook = |name: &str| json!({"on_request_created": [webhook(&format!("{name}-hook"))]});
    for (name, capabilities) in [
        ("both", json!(["see", {"lift": {"kg": 5}}])),
        ("eyes", json!(["see"])),
        ("none", json!([])),
    ] {
        let profile = json!({"capabilities": capabilities, "hooks": hook(name),
            "notifications": [webhook(name)]});
        world.join(name, profile);
    }
    let reference = world.ask("agent", json!({"requires": ["see", {"lift": {"kg": 3}}]}));
    let told = |world: &World| hosts(&world.sent()).into_keys().collect::<Vec<_>>();
    assert_eq!(told(&world), ["both", "both-hook"]);
    let refused = world.update(&reference, "eyes", set(Status::Claimed));
    let missing = vec!["lift".to_owned()];
    let refusal = crate::domain::thread::transition::Refusal::MissingCapabilities { missing };
    assert!(matches!(refused, Err(ServiceError::Refused(r)) if r == refusal));
    world
        .update(&reference, "both", set(Status::Claimed))
        .unwrap();
    assert_eq!(
        told(&world),
        ["agent"],
        "who asks is told, who cannot is not"
    );
    world
        .update(&reference, "both", set(Status::Pending))
        .unwrap();
    assert_eq!(told(&world), ["agent"]);
    world.assert_settles("requires");
}

#[test]
fn what_nobody_claims_is_brought_before_who_is_named() {
    let mut world = three();
    world.set_config("NUDGES", r#"{"home": {"elevated": ["PT5M", "PT20M"]}}"#);
    let boss = json!({"notifications": [{"type": "ntfy", "topic": "boss"}], "preferences": {"min_priority": "urgent"}});
    world.join("boss", boss);
    let terms = json!({"priority": "elevated", "escalate_to": ["boss"], "requires": ["see"]});
    let reference = world.ask("agent", terms);
    expect(&world, &[]);
    let (app, change) = (world.invoke(), json!({"capabilities": ["see"]}));
    let change = profile(&app, change);
    let change_profile = crate::service::members::executors::change_profile;
    world
        .run(async move { change_profile(&app, home(), id("phone"), change, None).await })
        .unwrap();
    let sent = |world: &World| {
        let sent = world.sent();
        let mut told: Vec<_> = sent
            .iter()
            .map(|(_, r)| match r.url.strip_prefix("https://ntfy.sh/") {
                Some("") => format!("ring {}", body(r)["topic"].as_str().unwrap()),
                Some(path) => path.rsplit('/').next().unwrap().to_owned(),
                None => host(r),
            })
            .collect();
        told.sort();
        told
    };
    world.tick_after(4 * MINUTE);
    assert!(sent(&world).is_empty());
    world.tick_after(MINUTE);
    assert_eq!(
        sent(&world),
        ["phone", "ring boss"],
        "announced again, not to who asks"
    );
    world.tick_after(15 * MINUTE);
    assert_eq!(sent(&world), ["phone", "ring boss"]);
    world.tick_after(5 * HOUR);
    assert!(sent(&world).is_empty(), "and then no more");
    world
        .update(&reference, "phone", set(Status::Claimed))
        .unwrap();
    assert_eq!(
        sent(&world),
        ["agent", "clear"],
        "the boss's phone is cleared"
    );
    world.assert_settles("escalated");
}

#[test]
fn what_has_expired_is_cleared_from_phones() {
    let mut world = World::new();
    for name in ["agent", "phone"] {
        world.join(
            name,
            json!({"notifications": [{"type": "ntfy", "topic": name}]}),
        );
    }
    let needed_by = world.now().plus_millis(HOUR).to_string();
    let reference = world.ask("agent", json!({ "needed_by": needed_by }));
    world.sent();
    world.tick_after(HOUR);
    let sent = world.sent();
    let mut urls: Vec<_> = sent.iter().map(|(_, r)| r.url.clone()).collect();
    urls.sort();
    let clear = format!("https://ntfy.sh/phone/{reference}/clear");
    assert_eq!(urls, ["https://ntfy.sh/".to_owned(), clear]);
    let told = sent
        .iter()
        .map(|(_, r)| body(r))
        .find(|b| b["topic"] == "agent")
        .unwrap();
    assert_eq!(told["title"], "Expired: nobody claimed it in time");
    world.assert_settles("cleared");
}

#[test]
fn what_is_written_with_a_message_is_not_the_writers_doing() {
    let mut world = three();
    let needed_by = world.now().plus_millis(HOUR).to_string();
    let late = world.ask("agent", json!({ "needed_by": needed_by }));
    let held = world.ask("agent", json!({}));
    let claim = call(json!({"status": "claimed", "lease": "PT30M"}));
    world.update(&held, "phone", claim).unwrap();
    world.sent();
    world.pass(HOUR);
    for (reference, title) in [
        (&late, "Expired: nobody claimed it in time"),
        (&held, "Open again: the claim of My phone has lapsed"),
    ] {
        world.update(reference, "phone", say("am I late?")).unwrap();
        let everyone = ["agent", "phone", "tablet"].map(|who| (who, title));
        expect(&world, &everyone);
    }
    world.assert_settles("written with a message");
}

#[test]
fn of_announcements_that_quiet_hours_put_off_only_the_last_rings() {
    let mut world = World::new();
    world.register("agent").unwrap();
    let quiet = json!({"enabled": true, "start": "12:00", "end": "18:00", "timezone": "UTC"});
    let profile =
        json!({"notifications": [webhook("phone")], "preferences": {"quiet_hours": quiet}});
    world.join("phone", profile);
    let needed_by = world.now().plus_millis(5 * HOUR).to_string();
    world.ask("agent", json!({"priority": "elevated"}));
    let stale = world.ask(
        "agent",
        json!({"priority": "elevated", "needed_by": needed_by}),
    );
    for _ in 0..12 {
        world.tick_after(30 * MINUTE);
    }
    let sent = world.sent();
    let told: Vec<_> = sent
        .iter()
        .map(|(_, r)| body(r))
        .map(|b| (b["title"].clone(), b["thread"]["ref"] == json!(stale)))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.contains(&(json!("Still open: nobody has claimed it"), false)));
    assert!(told.contains(&(json!("Expired: nobody claimed it in time"), true)));
    world.assert_settles("quiet");
}

#[test]
fn who_asks_hears_in_the_morning_that_it_is_open_again() {
    let mut world = World::new();
    let quiet = json!({"enabled": true, "start": "12:00", "end": "18:00", "timezone": "UTC"});
    for name in ["agent", "phone"] {
        let channel =
            json!({"notifications": [webhook(name)], "preferences": {"quiet_hours": quiet}});
        world.join(name, channel);
    }
    let reference = world.ask("agent", json!({"priority": "elevated"}));
    let claim = call(json!({"status": "claimed", "lease": "PT30M"}));
    world.update(&reference, "phone", claim).unwrap();
    for _ in 0..12 {
        world.tick_after(30 * MINUTE + SECOND);
    }
    expect(
        &world,
        &[
            ("agent", "Open again: the claim of phone has lapsed"),
            ("phone", "Still open: nobody has claimed it"),
        ],
    );
}

#[test]
fn every_step_of_a_call_has_its_hooks_and_the_whole_one_notification() {
    let mut world = World::new();
    world.register("agent").unwrap();
    let template = json!({"event": "{{event}}", "status": "{{status}}", "old": "{{old_status}}"});
    let hook = |event: &str| json!([{"type": "webhook", "url": format!("https://{event}.example/"), "body": template}]);
    let hooks = json!({"on_request_claimed": hook("claimed"), "on_request_started": hook("started"),
        "on_request_completed": hook("completed")});
    world.join("phone", json!({ "hooks": hooks }));
    world.join("tablet", json!({"notifications": [webhook("tablet")]}));
    let reference = world.ask("agent", json!({}));
    world.sent();
    let all = json!({"mess": [{"status": {"code": "claimed"}}, {"status": {"code": "in_progress"}},
        {"response": {"content": ["done"]}}]});
    world.update(&reference, "phone", call(all)).unwrap();
    let sent = world.sent();
    let told: BTreeMap<_, _> = sent.iter().map(|(_, r)| (host(r), body(r))).collect();
    assert_eq!(sent.len(), 4);
    assert_eq!(
        told["claimed"],
        json!({"event": "claimed", "status": "claimed", "old": "pending"})
    );
    assert_eq!(
        told["started"],
        json!({"event": "started", "status": "in-progress", "old": "claimed"})
    );
    assert_eq!(
        told["completed"],
        json!({"event": "completed", "status": "completed", "old": "in-progress"})
    );
    assert_eq!(told["tablet"]["title"], "Completed by phone");
    // An answer triggers no hooks.
    let reference = world.ask("agent", json!({}));
    world
        .update(&reference, "phone", set(Status::NeedsInput))
        .unwrap();
    world.sent();
    let reply = json!({"mess": [{"reply": {"answers": {"a": 1}}}]});
    world.update(&reference, "agent", call(reply)).unwrap();
    assert_eq!(
        hosts(&world.sent()).into_keys().collect::<Vec<_>>(),
        ["tablet"]
    );
    world.assert_settles("steps");
}
