//! What creating hooks create, and the hooks that complete it.

use super::*;
use crate::delivery::send::HOPS_HEADER;

/// Hooks that create a task when a request is posted and complete it with the request.
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
    world
        .update(&reference, "tablet", set(Status::Completed))
        .unwrap();
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
    let urls: Vec<_> = sent
        .iter()
        .map(|(_, request)| request.url.as_str())
        .collect();
    assert_eq!(urls, ["https://make.example/", "https://end.example/a%2Fb"]);
    world.assert_settles("completed");
}

#[test]
fn a_completing_hook_does_not_wait_for_nothing() {
    // The creating hook fails permanently, or was added after the request, or returns no id.
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
        world
            .update(&reference, "tablet", set(Status::Completed))
            .unwrap();
        world.run_ticks();
        let called = hosts(&world.sent());
        assert_eq!(called.get("end"), None, "{case}");
        let attempts = world.attempts("phone");
        let dropped = attempts.iter().find(|a| a["event"] == "completed").unwrap();
        assert_eq!(dropped["outcome"], "dropped", "{case}");
        assert!(
            dropped["error"].as_str().unwrap().contains("gave an id"),
            "{case}"
        );
        world.assert_settles(case);
    }
}

#[test]
fn a_record_of_another_server_keeps_its_subscriptions_apart() {
    let mut world = World::new();
    world.register("agent").unwrap();
    world.register("tablet").unwrap();
    // The same hook is there for two events, and has no ids.
    let hook = json!({"type": "webhook", "url": "https://phone.example/"});
    let record = json!({"id": "phone", "hooks":
        {"on_request_created": [hook], "on_request_completed": [hook]}});
    let key = "executors/exchange=home/phone.json";
    world.store.plant(key, &record.to_string());
    let reference = world.create("agent").unwrap().reference;
    assert_eq!(hosts(&world.sent()).len(), 1);
    world
        .update(&reference, "tablet", set(Status::Completed))
        .unwrap();
    assert_eq!(
        hosts(&world.sent()).len(),
        0,
        "it made nothing to be completed"
    );
    // A change of the record does not change the identity of its hooks, so what is waiting is still
    // sent.
    world.react(|_| answered(503, ""));
    world.create("agent").unwrap();
    world.sent();
    let (app, change) = (world.invoke(), json!({"display_name": "Phone"}));
    let change = profile(&app, change);
    let change_profile = crate::service::members::executors::change_profile;
    world
        .run(async move { change_profile(&app, home(), id("phone"), change, None).await })
        .unwrap();
    world.tick_after(2 * MINUTE);
    assert_eq!(hosts(&world.sent()).len(), 1);
}

#[test]
fn an_id_is_found_although_the_url_that_uses_it_is_sealed() {
    let mut world = World::new();
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    world.set_config("SECRETS_KEY", key);
    world.register("agent").unwrap();
    world.register("tablet").unwrap();
    world.join("phone", task_hooks());
    world.react(|_| answered(503, ""));
    let reference = world.create("agent").unwrap().reference;
    world
        .update(&reference, "tablet", set(Status::Completed))
        .unwrap();
    world.react(|_| answered(200, r#"{"id": "t1"}"#));
    world.sent();
    for _ in 0..100 {
        world.tick_after(MINUTE);
    }
    let sent = world.sent();
    let urls: Vec<_> = sent.iter().map(|(_, r)| r.url.as_str()).collect();
    assert_eq!(urls, ["https://make.example/", "https://end.example/t1"]);
}

#[test]
fn what_was_made_is_not_made_twice() {
    let mut world = World::new();
    world.register("agent").unwrap();
    world.join("phone", task_hooks());
    world.react(|_| answered(200, r#"{"id": "t1"}"#));
    // Storing the id fails at first, so the delivery is put off.
    world.store.fail(Verb::Put, "external/", 0, Moment::Before);
    let reference = world.create("agent").unwrap().reference;
    assert_eq!(world.sent().len(), 1);
    assert_eq!(world.owed().len(), 1);
    world.tick_after(2 * MINUTE);
    assert_eq!(world.sent().len(), 0);
    let kept = world.store.keys("external/");
    assert!(kept[0].contains(reference.as_str()));
    assert!(world.store.text(&kept[0]).contains("t1"));
    assert_eq!(world.owed(), Vec::<String>::new());
}

#[test]
fn an_id_with_line_breaks_and_braces_is_only_an_id() {
    let mut world = World::new();
    world.register("agent").unwrap();
    world.register("tablet").unwrap();
    let hostile = "a\"\r\nX-Evil: 1\r\n\r\n{{intent}}/../b";
    let make = json!({"type": "webhook", "url": "https://make.example/"});
    let text = json!({"type": "webhook", "url": "https://text.example/?id={{external_id}}",
        "headers": {"X-Id": "<{{external_id}}>"}, "body": "{\"id\": \"{{external_id}}\"}"});
    let value = json!({"type": "webhook", "url": "https://value.example/{{external_id}}", "body": ["{{external_id}}"]});
    world.join(
        "phone",
        json!({"hooks": {"on_request_created": [make], "on_request_claimed": [text, value]}}),
    );
    world.react(move |_| answered(200, &json!({ "id": hostile }).to_string()));
    let reference = world.create("agent").unwrap().reference;
    world.sent();
    world
        .update(&reference, "tablet", set(Status::Claimed))
        .unwrap();
    let sent = world.sent();
    let of = |name: &str| &sent.iter().find(|(_, r)| host(r) == name).unwrap().1;
    let encoded = "a%22%0D%0AX-Evil%3A%201%0D%0A%0D%0A%7B%7Bintent%7D%7D%2F..%2Fb";
    assert_eq!(
        of("text").url,
        format!("https://text.example/?id={encoded}")
    );
    assert_eq!(of("value").url, format!("https://value.example/{encoded}"));
    let id = header(of("text"), "x-id").unwrap();
    assert_eq!(id, "<a\"  X-Evil: 1    {{intent}}/../b>");
    assert_eq!(body(of("text")), json!({ "id": hostile }));
    assert_eq!(body(of("value")), json!([hostile]));
}

/// A hook may post to its own exchange. Each delivery says how many led to it, also when a later tick
/// attempts it, so that whoever receives it can end a circle.
#[test]
fn deliveries_tell_how_many_led_to_them() {
    let mut world = World::new();
    let hook = json!({"type": "webhook", "url": "https://hook.example/"});
    world.join("agent", json!({"hooks": {"on_request_created": [hook]}}));
    let hops = |world: &World| -> Vec<String> {
        let sent = world.sent();
        let headers = sent.iter().flat_map(|(_, request)| &request.headers);
        let hops = headers.filter(|(name, _)| name == HOPS_HEADER);
        hops.map(|(_, value)| value.clone()).collect()
    };
    world.create("agent").unwrap();
    assert_eq!(hops(&world), ["1"]);
    world.react(|_| answered(503, ""));
    let work = creation(world.invoke_after(2), "agent");
    world.run(work).unwrap();
    assert_eq!(hops(&world), ["3"]);
    world.tick_after(2 * MINUTE);
    assert_eq!(hops(&world), ["3"], "the tick attempts it again");
    // A writer that dies leaves it to the tick to announce.
    world.react(|_| answered(200, ""));
    let app = world.invoke_after(1);
    let mut held = world.store.hold(Verb::Put, "threads/", 0, Moment::After);
    world.start(creation(app, "agent")).forget();
    assert!(held.is_reached());
    world.restart();
    held.release();
    world.tick_after(2 * MINUTE);
    assert!(
        hops(&world).contains(&"2".to_owned()),
        "the tick announces it"
    );
}

/// A delivery to the store of the bucket could write objects of other exchanges.
#[test]
fn the_store_of_the_bucket_is_never_called() {
    let mut world = World::new();
    let hook = |url: &str| json!({"type": "webhook", "method": "PUT", "url": url});
    let urls = [
        "https://s3.example:9000/bucket/keys/exchange=work/x.json",
        "http://S3.example:9000/other/",
        "https://s3.example/bucket/",
    ];
    let hooks = urls.map(hook);
    world.join("agent", json!({"hooks": {"on_request_created": hooks}}));
    world.create("agent").unwrap();
    let sent = world.sent();
    let called: Vec<_> = sent
        .iter()
        .map(|(_, request)| request.url.as_str())
        .collect();
    assert_eq!(
        called,
        ["https://s3.example/bucket/"],
        "that is another server"
    );
    let attempts = world.attempts("agent");
    let refused = attempts
        .iter()
        .filter(|a| a["error"] == "the URL may not be called");
    assert_eq!(refused.count(), 2);
}
