//! A bucket that another MESS server wrote, with one event per object and keys of the older form.

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::domain::key::ApiKey;
use crate::service::import::standing::is_imported;
use crate::service::members::authenticate::{Login, authenticate};
use crate::storage::memory::Verb;

const KEY: &str = "mess_home_0123456789abcdef0123456789abcdef";

/// The objects of another server with this many threads. Each thread is posted and claimed, and
/// every other one is completed.
fn foreign(threads: usize) -> World {
    let world = World::new();
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(KEY));
    let executor = json!({
        "id": "phone", "display_name": "Phone", "capabilities": [], "notifications": [], "hooks": {},
        "preferences": {}, "api_key_hash": hash,
        "created_at": "2025-01-01T00:00:00.000Z", "last_seen": "2025-01-01T00:00:00.000Z",
    });
    world
        .store
        .plant("executors/exchange=home/phone.json", &executor.to_string());
    let mut count = 0_u128;
    let mut event = |ts: &str, reference: Option<&str>, kind: &str, payload: Value| {
        count += 1;
        // The names have nothing to do with the order of the events.
        let id =
            uuid::Uuid::from_u128(count.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let line = json!({"event_id": id, "ts": ts, "exchange_id": "home", "thread_ref": reference,
            "event_type": kind, "actor_id": "phone", "payload": payload});
        let day = ts[..10].replace('-', "/");
        let key = format!("events/exchange=home/{day}/{id}.jsonl");
        world.store.plant(&key, &format!("{line}\n"));
    };
    event(
        "2025-01-01T00:00:00.000Z",
        None,
        "executor_registered",
        json!({"display_name": "Phone", "capabilities": []}),
    );
    for n in 0..threads {
        let reference = format!("2025-01-02-{n:04}");
        let reference = Some(reference.as_str());
        let posted = format!("2025-01-02T00:{:02}:{:02}.000Z", n / 60 % 60, n % 60);
        let later = posted.replace("2025-01-02", "2025-01-03");
        event(
            &posted,
            reference,
            "thread_created",
            json!({"intent": format!("Errand {n}"),
            "context": [], "priority": "normal", "requestor_id": "phone", "response_hint": []}),
        );
        event(
            &posted,
            reference,
            "message_added",
            json!({"mess": [{"request": {"intent": "x"}}]}),
        );
        event(
            &later,
            reference,
            "status_changed",
            json!({"old_status": "pending", "new_status": "claimed", "executor_id": "phone"}),
        );
        if n % 2 == 0 {
            event(
                &later.replace(".000", ".500"),
                reference,
                "status_changed",
                json!({"old_status": "claimed", "new_status": "completed", "executor_id": "phone"}),
            );
            event(
                &later.replace(".000", ".500"),
                reference,
                "message_added",
                json!({"mess": [{"response": {"content": ["done"]}}]}),
            );
        }
    }
    world
}

fn login(world: &mut World) -> Option<Login> {
    let app = world.app.clone();
    let key = ApiKey::parse(KEY).unwrap();
    world
        .run(async move { authenticate(&app, &key).await })
        .unwrap()
}

fn is_complete(world: &mut World) -> bool {
    let app = world.app.clone();
    world
        .run(async move { is_imported(&app, &home()).await })
        .unwrap()
}

#[test]
fn logins_work_at_once_and_threads_once_they_are_imported() {
    let mut world = foreign(700);
    let reference = Ref::parse("2025-01-02-0003").unwrap();
    let found = login(&mut world).unwrap();
    assert_eq!((found.executor, found.is_imported), (id("phone"), false));
    assert!(matches!(
        world.thread(&reference),
        Err(ServiceError::NoThread)
    ));
    let claim = world.update(&reference, "phone", set(Status::Completed));
    assert!(matches!(claim, Err(ServiceError::NoThread)));
    // New requests are accepted in the meantime.
    let new = world.create("phone").unwrap();
    assert!(!is_complete(&mut world));
    let mut calls = 0;
    while !is_complete(&mut world) {
        calls += 1;
        assert!(calls < 100, "it does not end");
    }
    assert!(
        calls > 5,
        "a call does a bounded stretch, this took {calls}"
    );
    let thread = world.thread(&reference).unwrap();
    assert_eq!(thread.state.status, Status::Claimed);
    assert_eq!(thread.state.requestor_id, id("phone"));
    assert_eq!(world.listed(Some(Status::Completed)).len(), 350);
    assert_eq!(world.listed(Some(Status::Claimed)).len(), 350);
    assert_eq!(world.listed(Some(Status::Pending)), vec![new.reference]);
    world
        .update(&reference, "phone", set(Status::Completed))
        .unwrap();
    world.assert_settles("imported");
    assert!(world.store.keys("derived/exchange=home/").is_empty());
}

#[test]
fn the_tick_imports_when_nobody_calls() {
    let mut world = foreign(500);
    assert_eq!(login(&mut world).unwrap().executor, id("phone"));
    assert!(!is_complete(&mut world));
    for _ in 0..60 {
        world.tick_after(61 * SECOND);
    }
    world.restart();
    world.store.take_operations();
    assert!(is_complete(&mut world));
    world.assert_settles("by the tick");
    assert_eq!(world.listed(None).len(), 500);
}

#[test]
fn events_of_one_moment_are_in_their_order() {
    let mut world = foreign(2);
    while !is_complete(&mut world) {}
    let thread = world
        .thread(&Ref::parse("2025-01-02-0000").unwrap())
        .unwrap();
    let types: Vec<_> = thread
        .events
        .iter()
        .map(|event| event.fact.event_type())
        .collect();
    assert_eq!(
        types,
        [
            "thread_created",
            "message_added",
            "status_changed",
            "status_changed",
            "message_added"
        ]
    );
    assert_eq!(thread.state.status, Status::Completed);
    assert_eq!(thread.state.version, 5);
}

#[test]
fn a_key_that_is_nobodys_gets_in_nowhere_and_writes_nothing() {
    let mut world = World::new();
    let keys_before = world.store.keys("");
    assert_eq!(login(&mut world), None);
    assert_eq!(world.store.keys(""), keys_before);
    let mut world = foreign(1);
    let app = world.app.clone();
    let other = ApiKey::parse("mess_home_ffffffffffffffffffffffffffffffff").unwrap();
    let found = world
        .run(async move { authenticate(&app, &other).await })
        .unwrap();
    assert_eq!(found, None);
}

#[test]
fn a_takeover_survives_every_failure() {
    for verb in [Verb::Get, Verb::Put, Verb::Delete, Verb::List] {
        for nth in (0..60).step_by(3) {
            let context = format!("{verb:?} {nth}");
            let mut world = foreign(30);
            world.store.fail(verb, "", nth, Moment::After);
            for _ in 0..20 {
                let app = world.app.clone();
                let _ = world.run(async move { is_imported(&app, &home()).await });
            }
            world.store.heal();
            while !is_complete(&mut world) {}
            world.assert_settles(&context);
            assert_eq!(world.listed(None).len(), 30, "{context}");
        }
    }
}

/// Two isolates and the tick import at once. One of them dies on the way, and clients change
/// threads that have been imported already.
#[test]
fn a_takeover_by_many_at_once_is_sound() {
    let reference = Ref::parse("2025-01-02-0001").unwrap();
    for nth in (0..240).step_by(7) {
        for moment in [Moment::Before, Moment::After] {
            let context = format!("one dies {moment:?} operation {nth}");
            let mut world = foreign(12);
            let (mortal, _) = world.mortal(nth, moment);
            let mut changed = false;
            for _ in 0..12 {
                for app in [mortal.clone(), world.app.clone()] {
                    let call = async move { is_imported(&app, &home()).await };
                    world.start(call).forget();
                }
                world.tick_after(30 * SECOND);
                changed |= world
                    .update(&reference, "phone", set(Status::Completed))
                    .is_ok();
            }
            assert!(is_complete(&mut world) && changed, "{context}");
            world.assert_settles(&context);
            assert_eq!(world.listed(None).len(), 12, "{context}");
            assert_eq!(world.listed(Some(Status::Completed)).len(), 7, "{context}");
        }
    }
}

/// A log of this server whose threads are lost is imported like that of another server. Several
/// steps of one moment keep their order, and what will happen by itself gets its timer.
#[test]
fn what_this_server_wrote_is_derived_as_it_was() {
    let mut world = World::new();
    world.register("phone").unwrap();
    let needed_by = world.now().plus_millis(10 * HOUR).to_string();
    let (mut refs, mut states) = (Vec::new(), Vec::new());
    for n in 0..8 {
        world.pass(SECOND);
        let reference = world.ask(
            "phone",
            json!({"needed_by": needed_by, "priority": "urgent"}),
        );
        let steps = ["claimed", "held", "in_progress", "waiting", "retrying"];
        let mess: Vec<_> = steps.map(|code| json!({"status": {"code": code}})).into();
        if n % 2 == 0 {
            let steps = call(json!({"lease": "PT2H", "status": "retrying", "mess": mess}));
            world.update(&reference, "phone", steps).unwrap();
        }
        states.push(world.thread(&reference).unwrap().state);
        refs.push(reference);
    }
    for prefix in ["threads/", "index/", "due/", "derived/"] {
        for key in world.store.keys(prefix) {
            world.store.forget(&key);
        }
    }
    world.restart();
    while !is_complete(&mut world) {}
    for (reference, state) in refs.iter().zip(states) {
        assert_eq!(world.thread(reference).unwrap().state, state);
    }
    world.assert_sound("derived");
    world.tick_after(11 * HOUR);
    world.tick_after(MINUTE);
    assert_eq!(world.listed(Some(Status::Expired)).len(), 8);
}

#[test]
fn many_who_notice_owe_it_once() {
    let mut world = foreign(3);
    for _ in 0..5 {
        world.restart();
        let app = world.app.clone();
        let call = async move { is_imported(&app, &home()).await };
        world.start(call).forget();
    }
    assert!(world.store.keys("due/").len() <= 1);
}

#[test]
fn lines_that_are_no_events_are_left_out_and_left_alone() {
    let mut world = foreign(1);
    let bad = [
        ("events/exchange=home/2025/01/02/a.jsonl", "not json\n\n"),
        (
            "events/exchange=home/2025/01/02/b.jsonl",
            r#"{"thread_ref": "../../x", "event_id": 5}"#,
        ),
        (
            "events/exchange=home/2025/01/02/c.jsonl",
            r#"{"thread_ref": ["x"]}"#,
        ),
        (
            "events/exchange=home/2025/01/02/d.jsonl",
            r#"{"thread_ref": "2025-01-02-0000",
            "event_type": "status_changed", "payload": {"new_status": "exploded"}}"#,
        ),
        ("executors/exchange=home/broken.json", "{"),
    ];
    for (key, text) in bad {
        world.store.plant(key, text);
    }
    while !is_complete(&mut world) {}
    assert_eq!(world.listed(None).len(), 1);
    for (key, text) in bad {
        assert_eq!(world.store.text(key), text);
    }
}

/// Runs all steps of a reindexing.
fn reindex(world: &mut World) {
    let app = world.app.clone();
    world.run(async move {
        let step = async |query: &[(&str, &str)]| {
            let owned = |text: &str| text.to_owned();
            let query = query.iter().map(|(a, b)| (owned(a), owned(b))).collect();
            crate::tools::reindex::step(&app, &query).await.unwrap()
        };
        let walk = async |name: &str| {
            let mut after = String::new();
            loop {
                let part = step(&[("step", name), ("after", &after)]).await;
                match part["next"].as_str() {
                    Some(next) => next.clone_into(&mut after),
                    None => break,
                }
            }
        };
        walk("discard").await;
        for exchange in step(&[("step", "exchanges")]).await.as_array().unwrap() {
            let derive = ("exchange", exchange.as_str().unwrap());
            let mut part = step(&[("step", "derive"), derive, ("begin", "1")]).await;
            while part["done"] != true {
                part = step(&[("step", "derive"), derive]).await;
            }
        }
        walk("settle").await;
        walk("sweep").await;
    });
}

#[test]
fn reindexing_changes_nothing_that_is_in_order() {
    let mut world = foreign(30);
    login(&mut world).unwrap();
    while !is_complete(&mut world) {}
    let reference = world.ask("phone", json!({}));
    world
        .update(&reference, "phone", set(Status::Claimed))
        .unwrap();
    world.assert_settles("before");
    let all = |world: &World| {
        let keys = world.store.keys("");
        let texts = keys.iter().map(|key| world.store.text(key));
        keys.iter().cloned().zip(texts).collect::<Vec<_>>()
    };
    let before = all(&world);
    reindex(&mut world);
    let after = all(&world);
    assert_eq!(after, before);

    // And what was lost is restored as it was.
    for (key, _) in &before {
        if key.starts_with("threads/") {
            world.store.plant(key, "");
        } else if key.starts_with("index/") || key.starts_with("keys/") {
            let store = world.store.clone();
            world.run(async move { store.delete(key).await }).unwrap();
        }
    }
    reindex(&mut world);
    let is_same = |(key, _): &&(String, String)| !key.starts_with("keys/");
    let (after, before) = (all(&world), before);
    assert_eq!(
        after.iter().filter(is_same).collect::<Vec<_>>(),
        before.iter().filter(is_same).collect::<Vec<_>>()
    );
}
