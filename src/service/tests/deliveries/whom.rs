//! Who is told of what.

use super::*;

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
        world
            .update(&reference, "phone", set(Status::Claimed))
            .unwrap();
    });
    assert_eq!(claimed, ["agent", "tablet"]);
    let written = told(&mut world, |world| {
        world
            .update(&reference, "agent", say("the back door too"))
            .unwrap();
    });
    assert_eq!(written, ["phone", "tablet"]);
    let repeated = told(&mut world, |world| {
        world
            .update(&reference, "phone", set(Status::Claimed))
            .unwrap();
    });
    assert_eq!(repeated, Vec::<String>::new());
    world.assert_settles("told");
}

#[test]
fn nobody_is_told_of_less_than_they_want() {
    let mut world = World::new();
    world.register("agent").unwrap();
    for least in ["background", "normal", "elevated", "urgent"] {
        let profile =
            json!({"notifications": [webhook(least)], "preferences": {"min_priority": least}});
        world.join(least, profile);
    }
    world.join("default", json!({"notifications": [webhook("default")]}));
    for (priority, expected) in [
        ("background", vec!["background"]),
        ("normal", vec!["background", "default", "normal"]),
        (
            "elevated",
            vec!["background", "default", "elevated", "normal"],
        ),
        (
            "urgent",
            vec!["background", "default", "elevated", "normal", "urgent"],
        ),
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
    let events = [
        "created",
        "claimed",
        "started",
        "completed",
        "rejected",
        "cancelled",
    ];
    let hooks = |name: &str| -> Value {
        let hook = |event| {
            (
                format!("on_request_{event}"),
                json!([webhook(&format!("{name}-{event}"))]),
            )
        };
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
    assert_eq!(
        hosts(&world.sent()).into_keys().collect::<Vec<_>>(),
        of("created", &all)
    );
    let mut step = |actor: &str, status, expected: Vec<String>| {
        let told = told(&mut world, |world| {
            world.update(&reference, actor, set(status)).unwrap();
        });
        assert_eq!(told, expected, "{status}");
    };
    step("phone", Status::Claimed, of("claimed", &all));
    // Only those who take part are told, because nobody else has an external id.
    step(
        "phone",
        Status::InProgress,
        of("started", &["agent", "phone"]),
    );
    step("phone", Status::Waiting, vec![]);
    step(
        "phone",
        Status::Completed,
        of("completed", &["agent", "phone"]),
    );
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
fn quiet_hours_put_off_and_forget_what_is_over() {
    let mut world = World::new();
    // Reminders are turned off here.
    world.set_config("NUDGES", r#"{"*": {"urgent": []}}"#);
    world.register("agent").unwrap();
    // 2025-02-01T12:00 UTC is 13:00 in Berlin.
    let quiet =
        json!({"enabled": true, "start": "12:30", "end": "14:15", "timezone": "Europe/Berlin"});
    let profile =
        json!({"notifications": [webhook("phone")], "preferences": {"quiet_hours": quiet}});
    world.join("phone", profile);
    world.register("tablet").unwrap();
    let end = Timestamp::parse("2025-02-01T13:15:00Z").unwrap();
    let wanted = world.create("agent").unwrap().reference;
    let taken = world.create("agent").unwrap().reference;
    let told = |world: &mut World, act: &dyn Fn(&mut World)| {
        act(world);
        world.sent().len()
    };
    assert_eq!(
        told(&mut world, &|world| {
            world
                .update(&taken, "tablet", set(Status::Claimed))
                .unwrap();
        }),
        0
    );
    assert_eq!(
        told(&mut world, &|world| {
            world.ask("agent", json!({"priority": "urgent"}));
        }),
        1
    );
    let until_end = end.since(world.now());
    world.tick_after(until_end - 1);
    assert_eq!(world.sent().len(), 0);
    world.tick_after(1);
    let sent = world.sent();
    let told: BTreeMap<_, _> = sent
        .iter()
        .map(|(_, request)| body(request))
        .map(|told| (told["thread"]["ref"].to_string(), told["title"].clone()))
        .collect();
    let expected = [
        (json!(wanted).to_string(), json!("New request")),
        (json!(taken).to_string(), json!("Claimed by tablet")),
    ];
    assert_eq!(told, expected.into());
    assert_eq!(sent.len(), 2);
    let dropped: Vec<_> = world
        .attempts("phone")
        .into_iter()
        .filter(|attempt| attempt["outcome"] == "dropped")
        .map(|attempt| attempt["ref"].clone())
        .collect();
    assert_eq!(dropped, [json!(taken)], "the news that it was new");
    world.assert_settles("quiet");
}

#[test]
fn every_template_variable_has_its_value() {
    let mut world = World::new();
    world.join("agent", json!({"display_name": "The Agent"}));
    world.join("tablet", json!({"display_name": "My Tablet"}));
    let names = crate::domain::member::template::VARIABLES;
    let fields: Value = names
        .iter()
        .map(|name| ((*name).to_owned(), json!(format!("{{{{{name}}}}}"))))
        .collect();
    let hook = json!({"type": "webhook", "url": "https://all.example/", "body": fields});
    let created = json!({"type": "webhook", "url": "https://make.example/"});
    world.join(
        "phone",
        json!({"hooks": {"on_request_created": [created], "on_request_claimed": [hook]}}),
    );
    world.react(|_| answered(200, r#"{"id": "ext-1"}"#));
    let state = world.create("agent").unwrap();
    world.pass(SECOND);
    world.sent();
    let claimed = world
        .update(&state.reference, "tablet", set(Status::Claimed))
        .unwrap();
    let (_, request) = world.sent().remove(0);
    assert_eq!(
        body(&request),
        json!({
            "ref": state.reference,
            "intent": "Check front door",
            "status": "claimed",
            "priority": "normal",
            "requestor_id": "agent",
            "executor_id": "tablet",
            "event": "claimed",
            "executor_name": "My Tablet",
            "created_at": state.created_at,
            "updated_at": claimed.updated_at,
            "old_status": "pending",
            "actor_id": "tablet",
            "external_id": "ext-1",
        })
    );
}

#[test]
fn a_notice_says_what_happened() {
    let mut world = World::new();
    for name in ["agent", "phone"] {
        let name_of = format!("My {name}");
        world.join(
            name,
            json!({"display_name": name_of, "notifications": [webhook(name)]}),
        );
    }
    let reference = world.create("agent").unwrap().reference;
    for (actor, change, title) in [
        ("agent", say("quick"), "Message from My agent"),
        ("phone", set(Status::Claimed), "Claimed by My phone"),
        ("phone", set(Status::InProgress), "Started by My phone"),
        ("phone", set(Status::NeedsInput), "My phone has a question"),
        (
            "phone",
            set(Status::NeedsConfirmation),
            "My phone asks for confirmation",
        ),
        ("phone", set(Status::Waiting), "Waiting: My phone"),
        (
            "phone",
            set(Status::Pending),
            "Released by My phone, open again",
        ),
        ("phone", set(Status::Declined), "Declined by My phone"),
    ] {
        world.sent();
        world.update(&reference, actor, change).unwrap();
        let (_, request) = world.sent().remove(0);
        let told = body(&request);
        assert_eq!(told["title"], title);
        assert_eq!(
            told["body"],
            format!("Check front door\n{reference} · normal")
        );
        assert_eq!(told["thread"]["ref"], json!(reference));
    }
}

#[test]
fn a_phone_is_cleared_once_when_others_take_over() {
    let mut world = World::new();
    for name in ["agent", "phone", "tablet"] {
        let channel = json!({"type": "ntfy", "topic": name});
        world.join(name, json!({"notifications": [channel]}));
    }
    let mut reference = None;
    let mut step = |world: &mut World, actor: &str, change: Option<Update>, expected: &[&str]| {
        world.sent();
        match (&reference, change) {
            (Some(reference), Some(change)) => {
                world.update(reference, actor, change).unwrap();
            }
            _ => reference = Some(world.create(actor).unwrap().reference),
        }
        let sent = world.sent();
        let told: std::collections::BTreeSet<_> = sent
            .iter()
            .map(|(_, request)| match request.method.as_str() {
                "PUT" => format!("clear {}", request.url.split('/').nth(3).unwrap()),
                _ => format!("ring {}", body(request)["topic"].as_str().unwrap()),
            })
            .collect();
        assert_eq!(
            told.iter().map(String::as_str).collect::<Vec<_>>(),
            expected
        );
    };
    let takeover = call(json!({"status": "claimed", "takeover": true}));
    let world = &mut world;
    step(world, "agent", None, &["ring phone", "ring tablet"]);
    let claim = Some(set(Status::Claimed));
    step(world, "phone", claim, &["clear tablet", "ring agent"]);
    let start = Some(set(Status::InProgress));
    step(world, "phone", start, &["ring agent"]);
    step(world, "agent", Some(say("hurry")), &["ring phone"]);
    step(
        world,
        "tablet",
        Some(takeover),
        &["ring agent", "ring phone"],
    );
    let release = Some(set(Status::Pending));
    step(world, "tablet", release, &["ring agent", "ring phone"]);
    let cancel = Some(set(Status::Cancelled));
    step(world, "agent", cancel, &["clear phone", "clear tablet"]);
}

#[test]
fn a_clearing_that_failed_is_repeated_while_the_request_is_taken() {
    for (then, cleared) in [(Status::InProgress, 1), (Status::Pending, 0)] {
        let mut world = World::new();
        world.register("agent").unwrap();
        world.register("phone").unwrap();
        let channel = json!({"type": "ntfy", "topic": "tablet"});
        world.join("tablet", json!({"notifications": [channel]}));
        let reference = world.create("agent").unwrap().reference;
        world.react(|_| answered(502, ""));
        world
            .update(&reference, "phone", set(Status::Claimed))
            .unwrap();
        world.react(|_| answered(200, "{}"));
        world.update(&reference, "phone", set(then)).unwrap();
        world.sent();
        world.tick_after(2 * MINUTE);
        let sent = world.sent();
        let count = sent.iter().filter(|(_, r)| r.method == "PUT").count();
        assert_eq!(count, cleared, "{then}");
        world.assert_settles("cleared");
    }
}

#[test]
fn one_record_that_cannot_be_read_silences_nobody() {
    let mut world = World::new();
    world.register("agent").unwrap();
    world.join("phone", json!({"notifications": [webhook("phone")]}));
    world.store.plant(
        "executors/exchange=home/broken.json",
        r#"{"id": 5, "hooks": []}"#,
    );
    world.create("agent").unwrap();
    assert_eq!(hosts(&world.sent()).len(), 1);
    assert_eq!(world.owed(), Vec::<String>::new());
}
