//! Keys: further ones, those that end, and who may do what with which.

use std::collections::BTreeMap;

use futures::future::join;

use super::*;
use crate::domain::member::access::{Scope, Scopes};
use crate::domain::thread::transition::Refusal;
use crate::tools::reindex;

#[test]
fn a_key_more_can_do_no_more_and_lives_no_longer() {
    let mut world = World::new();
    let first = world.key_of("anna");
    let first = world.member_key(&first);
    let wanted = json!({"label": "agent", "scopes": ["read", "manage"], "expires_in": "P1D"});
    let (key, made) = world.add_key("anna", &first, wanted).unwrap();
    let login = world.log_in(&key).unwrap().unwrap();
    assert_eq!(login.executor, id("anna"));
    let scopes: Scopes = [Scope::Read, Scope::Manage].into();
    assert_eq!(login.grant.key.scopes, scopes);
    // From that one, another.
    let beyond = json!({"label": "x", "scopes": ["read", "execute"]});
    let outcome = world.add_key("anna", &made, beyond);
    assert!(matches!(outcome, Err(ServiceError::Invalid(_))));
    let longer = json!({"label": "x", "expires_in": "P30D"});
    let (_, third) = world.add_key("anna", &made, longer).unwrap();
    assert_eq!((third.expires_at, third.scopes), (made.expires_at, scopes));
    world.assert_sound("three keys");
}

#[test]
fn a_key_that_is_revoked_takes_those_that_were_made_with_it_along() {
    let mut world = World::new();
    let first = world.key_of("anna");
    let granted = world.member_key(&first);
    let (second, made) = world
        .add_key("anna", &granted, json!({"label": "b"}))
        .unwrap();
    let (third, _) = world.add_key("anna", &made, json!({"label": "c"})).unwrap();
    assert!(world.log_in(&third).unwrap().is_some());
    world.revoke_key("anna", made.id()).unwrap();
    for dead in [&second, &third] {
        assert_eq!(
            refused(world.log_in(dead)),
            AccessRefusal::Dead(Dead::Revoked)
        );
    }
    assert!(world.log_in(&first).unwrap().is_some());
    assert!(matches!(
        refused(world.revoke_key("anna", "nothing")),
        AccessRefusal::NoKey
    ));
    world.assert_settles("revoked");
}

#[test]
fn another_isolate_hears_of_it_within_a_minute() {
    let mut world = World::new();
    world.register("owner").unwrap();
    let key = world.key_of("anna");
    let elsewhere = isolate_over(
        Rc::new(world.store.clone()),
        &world.outside,
        world.pool.spawner(),
    );
    let ask = |world: &mut World, app: &Rc<App>| {
        let (app, key) = (app.clone(), key.clone());
        world.run(async move { authenticate(&app, &key).await })
    };
    assert!(ask(&mut world, &elsewhere).unwrap().is_some());
    world.revoke_key("anna", key.hash().id()).unwrap();
    assert!(
        ask(&mut world, &elsewhere).unwrap().is_some(),
        "it still believes"
    );
    world.pass(60 * SECOND);
    assert_eq!(
        refused(ask(&mut world, &elsewhere)),
        AccessRefusal::Dead(Dead::Revoked)
    );
}

#[test]
fn a_key_ends_at_its_moment_even_where_it_is_remembered() {
    let mut world = World::new();
    let first = world.key_of("anna");
    let first = world.member_key(&first);
    let wanted = json!({"label": "short", "expires_in": "PT1M"});
    let (key, _) = world.add_key("anna", &first, wanted).unwrap();
    world.pass(59 * SECOND);
    assert!(world.log_in(&key).unwrap().is_some());
    world.pass(SECOND);
    assert_eq!(
        refused(world.log_in(&key)),
        AccessRefusal::Dead(Dead::Expired)
    );
}

#[test]
fn a_key_is_not_made_with_one_that_is_revoked_meanwhile() {
    let mut world = World::new();
    world.register("owner").unwrap();
    let first = world.key_of("anna");
    let first = world.member_key(&first);
    let app = world.invoke();
    let wanted = Wanted::parse(&mut fields(json!({"label": "b"}))).unwrap();
    let (home, anna) = (home(), id("anna"));
    let (added, revoked) = world.run(async {
        let revoke = members_keys::revoke(&app, &home, &anna, None, first.id().to_owned());
        let add = members_keys::add(&app, &home, &anna, &first, wanted);
        let (revoked, added) = join(revoke, add).await;
        (added, revoked)
    });
    revoked.unwrap();
    // Whoever came first: no key is left that works.
    if let Ok((key, _)) = added {
        assert!(world.log_in(&key).is_err());
    }
    assert!(
        world
            .record("anna")
            .keys()
            .iter()
            .all(|key| key.revoked_at.is_some())
    );
    world.assert_settles("revoked meanwhile");
}

#[test]
fn a_second_phone_and_a_lost_one() {
    let mut world = World::new();
    let first = world.key_of("anna");
    let code = world.code("anna", json!({"executor_id": "me", "label": "tablet"}));
    let second = world.enter(joining(None, Some(&code))).unwrap();
    assert_eq!((&second.executor, second.role), (&id("anna"), Role::Owner));
    assert!(world.log_in(&first).unwrap().is_some());
    assert_eq!(world.count_log("executor_registered"), 1);
    // The first one is lost.
    let code = world.code(
        "anna",
        json!({"executor_id": "anna", "revoke_others": true}),
    );
    let third = world.enter(joining(Some("anna"), Some(&code))).unwrap();
    for lost in [&first, &second.key] {
        assert_eq!(
            refused(world.log_in(lost)),
            AccessRefusal::Dead(Dead::Revoked)
        );
    }
    assert!(world.log_in(&third.key).unwrap().is_some());
    // The invitation is for nobody else.
    let code = world.code("anna", json!({"executor_id": "anna"}));
    let other = world.enter(joining(Some("bert"), Some(&code)));
    assert!(matches!(other, Err(ServiceError::Invalid(_))));
    world.assert_settles("three phones");
}

#[test]
fn whoever_invites_itself_gets_no_more_than_its_key_has() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let bert = world.key_of("bert");
    let bert = world.member_key(&bert);
    let wanted = json!({"label": "x", "scopes": ["read", "manage"], "expires_in": "P1D"});
    let (small, granted) = world.add_key("bert", &bert, wanted).unwrap();
    let offer_itself = |world: &mut World, what: Value| world.invite_with(&small, false, what);
    let for_others = offer_itself(&mut world, json!({}));
    assert_eq!(refused(for_others.map(drop)), AccessRefusal::OwnersOnly);
    let for_others = offer_itself(&mut world, json!({"executor_id": "anna"}));
    assert_eq!(refused(for_others.map(drop)), AccessRefusal::OwnersOnly);
    let made = offer_itself(&mut world, json!({"executor_id": "me", "role": "guest"})).unwrap();
    assert_eq!(made.expires_at.since(world.now()), HOUR);
    let joined = world.enter(joining(None, Some(&made.code))).unwrap();
    assert_eq!(
        joined.role,
        Role::Member,
        "an invitation of oneself changes no role"
    );
    let key = world.member_key(&joined.key);
    assert_eq!(
        (key.scopes, key.expires_at),
        (granted.scopes, granted.expires_at)
    );
    // Neither the scopes of another, nor the end of all other keys.
    let beyond = offer_itself(
        &mut world,
        json!({"executor_id": "me", "scopes": ["execute"]}),
    );
    assert!(matches!(beyond, Err(ServiceError::Invalid(_))));
    for much in [
        json!({"executor_id": "me", "revoke_others": true}),
        json!({"executor_id": "me", "role": "owner"}),
    ] {
        let outcome = offer_itself(&mut world, much).map(drop);
        assert_eq!(refused(outcome), AccessRefusal::FullKeyNeeded);
    }
    world.assert_settles("itself");
}

#[test]
fn a_small_key_of_an_owner_makes_no_owners() {
    let mut world = World::new();
    let first = world.key_of("anna");
    world.register("bert").unwrap();
    let first = world.member_key(&first);
    let wanted = json!({"label": "x", "scopes": ["manage", "read"]});
    let (small, _) = world.add_key("anna", &first, wanted).unwrap();
    let made = world.invite_with(&small, true, json!({})).unwrap();
    let joined = world
        .enter(joining(Some("cleo"), Some(&made.code)))
        .unwrap();
    let scopes: Scopes = [Scope::Manage, Scope::Read].into();
    assert_eq!(
        world.member_key(&joined.key).scopes,
        scopes,
        "no more than it has itself"
    );
    for much in [json!({"role": "owner"}), json!({"executor_id": "bert"})] {
        let outcome = world.invite_with(&small, true, much).map(drop);
        assert_eq!(refused(outcome), AccessRefusal::FullKeyNeeded);
    }
}

#[test]
fn a_revoked_key_does_not_come_back_by_an_invitation() {
    let mut world = World::new();
    let first = world.key_of("anna");
    let stolen = {
        let code = world.code("anna", json!({"executor_id": "anna"}));
        world.enter(joining(None, Some(&code))).unwrap().key
    };
    let back = world.invite_with(
        &stolen,
        true,
        json!({"executor_id": "me", "revoke_others": true}),
    );
    let (back, others) = (
        back.unwrap().code,
        world.invite_with(&stolen, true, json!({})),
    );
    let others = others.unwrap().code;
    world.revoke_key("anna", stolen.hash().id()).unwrap();
    for code in [&back, &others] {
        let outcome = world.enter(joining(None, Some(code)));
        assert_eq!(
            refused(outcome),
            AccessRefusal::Invitation(Useless::Revoked)
        );
    }
    assert!(world.log_in(&first).unwrap().is_some());
    world.assert_settles("stolen");
}

#[test]
fn the_last_owner_keeps_a_key_to_govern_with() {
    let mut world = World::new();
    let anna = world.key_of("anna");
    let only = world.revoke_key("anna", anna.hash().id());
    assert_eq!(refused(only), AccessRefusal::LastKey);
    assert!(world.log_in(&anna).unwrap().is_some());
    let code = world.code("anna", json!({"executor_id": "anna"}));
    world.enter(joining(None, Some(&code))).unwrap();
    world.revoke_key("anna", anna.hash().id()).unwrap();
    world.assert_settles("another key");
}

#[test]
fn a_full_record_prevents_nothing_that_an_owner_does() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let full = |length: usize| {
        let header = "a".repeat(length);
        let headers: serde_json::Map<_, _> =
            (0..7).map(|n| (format!("X-{n}"), json!(header))).collect();
        let channel = json!({"type": "webhook", "url": "https://example.com/", "headers": headers});
        json!({ "notifications": vec![channel; 20] })
    };
    // The longest that is accepted.
    let is_accepted = |length: usize| {
        let mut other = World::new();
        let app = other.invoke();
        let mal = Joining::plain(id("mal"), profile(&app, full(length)));
        other.enter(mal).is_ok()
    };
    let mut longest = 0;
    for step in [1_024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1] {
        if is_accepted(longest + step) {
            longest += step;
        }
    }
    let app = world.invoke();
    let mal = Joining::plain(id("mal"), profile(&app, full(longest)));
    let mal = world.enter(mal).unwrap();
    let record = world.store.text("executors/exchange=home/mal.json").len();
    assert!(
        crate::domain::limits::EXECUTOR_BYTES - record < 200,
        "{record}"
    );
    world
        .change("mal", "anna", json!({"suspended": true, "role": "guest"}))
        .unwrap();
    world.revoke_key("mal", mal.key.hash().id()).unwrap();
    world.remove("mal", "anna").unwrap();
    world.assert_settles("a full record");
}

#[test]
fn who_is_suspended_can_do_nothing_until_it_may_again() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let key = world.key_of("bert");
    world
        .change("bert", "anna", json!({"suspended": true}))
        .unwrap();
    assert_eq!(refused(world.log_in(&key)), AccessRefusal::Suspended);
    world
        .change("bert", "anna", json!({"suspended": false}))
        .unwrap();
    assert!(world.log_in(&key).unwrap().is_some());
    let owner = world.change("anna", "anna", json!({"suspended": true}));
    assert_eq!(refused(owner), AccessRefusal::IsOwner);
    world.assert_settles("suspended");
}

#[test]
fn who_is_suspended_hears_of_nothing() {
    let mut world = World::new();
    world.register("anna").unwrap();
    world.join(
        "bert",
        json!({"notifications": [{"type": "ntfy", "topic": "bert"}]}),
    );
    world.create("anna").unwrap();
    assert_eq!(world.sent().len(), 1);
    world
        .change("bert", "anna", json!({"suspended": true}))
        .unwrap();
    world.create("anna").unwrap();
    assert_eq!(world.sent().len(), 0);
    world
        .change("bert", "anna", json!({"suspended": false}))
        .unwrap();
    world.create("anna").unwrap();
    assert_eq!(world.sent().len(), 1);
}

#[test]
fn nothing_that_was_revoked_revives() {
    let mut world = World::new();
    let first = world.key_of("anna");
    let granted = world.member_key(&first);
    let (second, made) = world
        .add_key("anna", &granted, json!({"label": "b"}))
        .unwrap();
    world.register("bert").unwrap();
    world
        .change("bert", "anna", json!({"role": "owner"}))
        .unwrap();
    world.revoke_key("anna", made.id()).unwrap();
    let gone = world.key_of("cleo");
    world.remove("cleo", "anna").unwrap();
    // The objects of all keys are lost and made again, as after a reindexing.
    let (store, lost) = (world.store.clone(), world.store.keys("keys/"));
    world
        .run(async move {
            for key in lost {
                store.delete(&key).await?;
            }
            Ok::<_, crate::storage::StoreError>(())
        })
        .unwrap();
    world.restart();
    let mut query: BTreeMap<String, String> =
        [("step", "derive"), ("exchange", "home"), ("begin", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    for _ in 0..10 {
        let (app, asked) = (world.invoke(), query.clone());
        let done = world.run(async move { reindex::step(&app, &asked).await });
        query.remove("begin");
        if done.ok().is_some_and(|done| done["done"] == true) {
            break;
        }
    }
    assert_eq!(world.store.keys("keys/").len(), 4);
    assert!(world.log_in(&first).unwrap().is_some());
    for dead in [&second, &gone] {
        assert_eq!(
            refused(world.log_in(dead)),
            AccessRefusal::Dead(Dead::Revoked)
        );
    }
    world.assert_sound("made again");
}

#[test]
fn the_key_of_another_server_is_revoked_for_good() {
    const KEY: &str = "mess_home_0123456789abcdef0123456789abcdef";
    const HASH: &str = "l8IrtyEC9czNArbNLt/4oE9y2+lh+6t2pl3kH6wXC8I=";
    let mut world = World::new();
    let record = json!({"id": "phone", "display_name": "Phone", "api_key_hash": HASH});
    world
        .store
        .plant("executors/exchange=home/phone.json", &record.to_string());
    let key = ApiKey::parse(KEY).unwrap();
    assert!(world.log_in(&key).unwrap().is_some());
    world.revoke_key("phone", key.hash().id()).unwrap();
    assert_eq!(
        refused(world.log_in(&key)),
        AccessRefusal::Dead(Dead::Revoked)
    );
    world.restart();
    assert_eq!(
        refused(world.log_in(&key)),
        AccessRefusal::Dead(Dead::Revoked)
    );
    assert!(
        !world
            .store
            .text("executors/exchange=home/phone.json")
            .contains(HASH)
    );
}

#[test]
fn an_owner_stands_in_for_others() {
    let mut world = World::new();
    for name in ["anna", "bert", "cleo"] {
        world.register(name).unwrap();
    }
    let ask = |world: &mut World| {
        let reference = world.create("bert").unwrap().reference;
        world
            .update(&reference, "cleo", set(Status::Claimed))
            .unwrap();
        reference
    };
    for status in [Status::Pending, Status::Cancelled] {
        let reference = ask(&mut world);
        let stranger = {
            world.register(&format!("dora-{status}")).unwrap();
            world.update(&reference, &format!("dora-{status}"), set(status))
        };
        assert!(matches!(
            stranger,
            Err(ServiceError::Refused(Refusal::HeldByOther { .. }))
        ));
        let done = world.update(&reference, "anna", set(status)).unwrap();
        assert_eq!(done.status, status);
        let thread = world.thread(&reference).unwrap();
        assert_eq!(
            thread.events.last().unwrap().actor_id,
            id("anna"),
            "the event names it"
        );
    }
    let reference = ask(&mut world);
    let question = json!({"status": "needs_input", "questions": [{"field": "door", "question": "Which door?"}]});
    world.update(&reference, "cleo", call(question)).unwrap();
    let answer = call(json!({"mess": [{"reply": {"answers": {"door": "left"}}}]}));
    assert!(world.update(&reference, "cleo", answer.clone()).is_err());
    world.update(&reference, "anna", answer).unwrap();
    world.assert_settles("stood in");
}

#[test]
fn a_key_is_good_only_for_its_scopes() {
    let mut world = World::new();
    world.register("anna").unwrap();
    world.register("bert").unwrap();
    let reference = world.create("anna").unwrap().reference;
    let attempt = |world: &mut World, actor: &str, powers: Powers, update: Update| {
        let request = update::Request {
            exchange: home(),
            reference: reference.clone(),
            actor: id(actor),
            update,
            powers,
            versions: None,
        };
        let app = world.invoke();
        world.run(async move { super::update(&app, request).await })
    };
    let only = |asks, executes| Powers {
        asks,
        executes,
        ..Powers::default()
    };
    let lacks = |outcome: Result<ThreadState, ServiceError>, scope| {
        let refusal = match outcome {
            Err(ServiceError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal, Refusal::Scope(scope));
    };
    let claim = || set(Status::Claimed);
    lacks(
        attempt(&mut world, "bert", only(true, false), claim()),
        Scope::Execute,
    );
    lacks(
        attempt(&mut world, "bert", only(false, false), say("hi")),
        Scope::Execute,
    );
    attempt(&mut world, "bert", only(true, false), say("hi")).unwrap();
    attempt(&mut world, "bert", only(false, true), claim()).unwrap();
    let cancel = || set(Status::Cancelled);
    lacks(
        attempt(&mut world, "anna", only(false, true), cancel()),
        Scope::Request,
    );
    let renew = || Update::renew(Some(crate::domain::duration::Duration::minutes(5)));
    lacks(
        attempt(&mut world, "bert", only(true, false), renew()),
        Scope::Execute,
    );
    attempt(&mut world, "anna", only(true, false), cancel()).unwrap();
}

#[test]
fn a_guest_touches_only_what_is_addressed_to_it() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let code = world.code("anna", json!({"executor_id": "gast", "role": "guest"}));
    world.enter(joining(None, Some(&code))).unwrap();
    let guest = Powers {
        role: Role::Guest,
        ..Powers::default()
    };
    let attempt = |world: &mut World, reference: &Ref, update: Update| {
        let request = update::Request {
            exchange: home(),
            reference: reference.clone(),
            actor: id("gast"),
            update,
            powers: guest,
            versions: None,
        };
        let app = world.invoke();
        world.run(async move { super::update(&app, request).await })
    };
    let foreign = world.create("anna").unwrap().reference;
    for update in [set(Status::Claimed), say("hi"), set(Status::Cancelled)] {
        let outcome = attempt(&mut world, &foreign, update);
        assert!(matches!(
            outcome,
            Err(ServiceError::Refused(Refusal::NotAddressed))
        ));
    }
    let own = world.create("gast").unwrap().reference;
    attempt(&mut world, &own, say("hi")).unwrap();
    let escalated = world.ask(
        "anna",
        json!({"priority": "urgent", "escalate_to": ["gast"]}),
    );
    let early = attempt(&mut world, &escalated, set(Status::Claimed));
    assert!(early.is_err(), "it was not escalated yet");
    world.tick_after(16 * MINUTE);
    attempt(&mut world, &escalated, set(Status::Claimed)).unwrap();
    let app = world.invoke();
    let filter = Filter {
        guest: Some(id("gast")),
        ..Filter::default()
    };
    let listed = world.run(async move { list(&app, &home(), &filter, 100, None).await });
    let mut seen: Vec<_> = listed
        .unwrap()
        .threads
        .into_iter()
        .map(|state| state.reference)
        .collect();
    let mut expected = vec![own, escalated];
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn a_guest_hears_only_of_what_is_addressed_to_it() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let code = world.code("anna", json!({"executor_id": "gast", "role": "guest"}));
    let app = world.invoke();
    let hook = json!({"type": "webhook", "url": "https://example.com/hook"});
    let said = json!({"notifications": [{"type": "ntfy", "topic": "gast"}],
        "hooks": {"on_request_created": [hook.clone()], "on_request_claimed": [hook]}});
    let guest = Joining {
        profile: profile(&app, said),
        ..joining(None, Some(&code))
    };
    world.enter(guest).unwrap();
    world.register("bert").unwrap();
    let foreign = world.create("anna").unwrap().reference;
    world
        .update(&foreign, "bert", set(Status::Claimed))
        .unwrap();
    assert_eq!(world.sent().len(), 0, "neither by a channel nor by a hook");
    let own = world.create("gast").unwrap().reference;
    world.sent();
    world.update(&own, "bert", set(Status::Claimed)).unwrap();
    assert_eq!(world.sent().len(), 2, "its own");
}

#[test]
fn the_pages_of_a_guest_name_nothing_that_is_not_addressed_to_it() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let code = world.code("anna", json!({"executor_id": "gast", "role": "guest"}));
    world.enter(joining(None, Some(&code))).unwrap();
    let mut own = vec![world.create("gast").unwrap().reference];
    for _ in 0..1_500 {
        world.pass(7);
        world.create("anna").unwrap();
    }
    world.pass(7);
    own.push(world.create("gast").unwrap().reference);
    own.reverse();
    let filter = Filter {
        guest: Some(id("gast")),
        ..Filter::default()
    };
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let (app, filter, after) = (world.invoke(), filter.clone(), cursor.clone());
        let page = world.run(async move { list(&app, &home(), &filter, 1, after.as_ref()).await });
        let page = page.unwrap();
        seen.extend(page.threads.into_iter().map(|state| state.reference));
        cursor = page.next;
        match &cursor {
            Some(cursor) => assert!(own.contains(&cursor.reference), "{cursor:?}"),
            None => break,
        }
    }
    assert_eq!(seen, own);
}
