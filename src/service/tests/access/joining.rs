//! Founding an exchange, inviting, and joining by an invitation.

use futures::future::join_all;

use super::*;
use crate::domain::exchange::FOUNDING;
use crate::storage::memory::Verb;

#[test]
fn who_comes_first_owns_the_exchange() {
    let mut world = World::new();
    let anna = world.enter(joining(Some("anna"), None)).unwrap();
    let bert = world.enter(joining(Some("bert"), None)).unwrap();
    assert_eq!((anna.role, bert.role), (Role::Owner, Role::Member));
    assert_eq!(world.owners(), ["anna"]);
    world.assert_sound("two members");
    let told = world.audit();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], ["member_joined", "anna", "anna"]);
}

#[test]
fn of_many_who_come_at_once_one_owns_the_exchange() {
    let mut world = World::new();
    let app = world.app.clone();
    let work = (0..16).map(|n| {
        let (app, name) = (app.clone(), format!("m{n}"));
        async move { register(&app, home(), joining(Some(&name), None)).await }
    });
    let joined = world.run(join_all(work.collect::<Vec<_>>()));
    let roles: Vec<_> = joined
        .into_iter()
        .map(|joined| joined.unwrap().role)
        .collect();
    let owners = roles.iter().filter(|role| **role == Role::Owner).count();
    assert_eq!((owners, world.owners().len()), (1, 1));
    world.assert_sound("16 at once");
}

#[test]
fn a_founder_that_died_is_replaced_after_a_minute() {
    let mut world = World::new();
    // It dies after it made the exchange's document.
    drop(world.store.hold(Verb::Put, "due/", 0, Moment::Before));
    let work = registration(world.app.clone(), "anna");
    world.start(work).forget();
    world.restart();
    assert_eq!(world.owners(), ["anna"]);
    world.pass(FOUNDING - SECOND);
    let early = world.enter(joining(Some("bert"), None)).unwrap();
    assert_eq!(early.role, Role::Member, "the founder may still come");
    world.pass(2 * SECOND);
    let late = world.enter(joining(Some("cleo"), None)).unwrap();
    assert_eq!(late.role, Role::Owner);
    assert_eq!(world.owners(), ["cleo"]);
    let last = world.enter(joining(Some("dora"), None)).unwrap();
    assert_eq!(last.role, Role::Member);
    world.assert_settles("a founder that died");
}

#[test]
fn a_founder_that_died_comes_again_under_the_same_id() {
    let mut world = World::new();
    drop(world.store.hold(Verb::Put, "keys/", 0, Moment::Before));
    let work = registration(world.app.clone(), "anna");
    world.start(work).forget();
    world.restart();
    let again = world.enter(joining(Some("anna"), None)).unwrap();
    assert_eq!(
        (again.role, world.owners()),
        (Role::Owner, vec!["anna".to_owned()])
    );
    world.assert_settles("the same founder");
}

#[test]
fn an_exchange_from_before_gets_a_document_without_owners() {
    let mut world = World::new();
    world.register("old").unwrap();
    // As if it had been there before exchanges had documents.
    let store = world.store.clone();
    world
        .run(async move { store.delete("exchanges/exchange=home.json").await })
        .unwrap();
    world.restart();
    let new = world.enter(joining(Some("new"), None)).unwrap();
    assert_eq!(new.role, Role::Member);
    assert_eq!(world.owners(), Vec::<String>::new());
    // The operator makes an owner.
    let change = Change::parse(&mut fields(json!({"role": "owner"}))).unwrap();
    world.pass(1);
    let app = world.invoke();
    world
        .run(async move { roles::change(&app, &home(), &id("old"), None, change).await })
        .unwrap();
    assert_eq!(world.owners(), ["old"]);
    assert_eq!(
        world.audit().last().unwrap(),
        &["member_changed", "old", ""]
    );
    world.assert_sound("an owner by the operator");
}

#[test]
fn an_invitation_says_who_one_will_be() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let what =
        json!({"display_name": "Jürgen", "role": "guest", "kind": "person", "scopes": ["read"]});
    let code = world.code("anna", what);
    let joined = world.enter(joining(None, Some(&code))).unwrap();
    assert_eq!(joined.executor, id("juergen"));
    assert_eq!(joined.role, Role::Guest);
    let record = world.record("juergen");
    assert_eq!(record.display_name, "Jürgen");
    assert_eq!(json!(record.access.kind), json!("person"));
    assert_eq!(json!(world.member_key(&joined.key).scopes), json!(["read"]));
    let again = world.enter(joining(None, Some(&code)));
    assert_eq!(refused(again), AccessRefusal::Invitation(Useless::UsedUp));
    world.assert_sound("one invited");
    assert_eq!(
        world.audit()[1..],
        [
            ["invitation_made", "", "anna"].map(str::to_owned),
            ["member_joined", "juergen", "juergen"].map(str::to_owned),
        ]
    );
}

#[test]
fn an_invitation_for_several_gives_each_an_id_of_its_own() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let code = world.code("anna", json!({"display_name": "Anna", "max_uses": 3}));
    for expected in ["anna-2", "anna-3", "anna-4"] {
        let joined = world.enter(joining(None, Some(&code))).unwrap();
        assert_eq!(joined.executor, id(expected));
    }
    let more = world.enter(joining(None, Some(&code)));
    assert_eq!(refused(more), AccessRefusal::Invitation(Useless::UsedUp));
}

#[test]
fn of_two_who_use_an_invitation_at_once_one_joins() {
    let mut world = World::new();
    world.register("anna").unwrap();
    for round in 0..20 {
        let code = world.code("anna", json!({}));
        let app = world.invoke();
        let work = (0..8).map(|n| {
            let (app, name, code) = (app.clone(), format!("m{round}-{n}"), code.clone());
            async move { register(&app, home(), joining(Some(&name), Some(&code))).await }
        });
        let joined = world.run(join_all(work.collect::<Vec<_>>()));
        let (joined, others): (Vec<_>, Vec<_>) = joined.into_iter().partition(Result::is_ok);
        assert_eq!(joined.len(), 1);
        for other in others {
            assert_eq!(refused(other), AccessRefusal::Invitation(Useless::UsedUp));
        }
    }
    world.assert_sound("20 invitations");
    assert!(world.store.keys("due/").is_empty());
}

#[test]
fn an_invitation_that_led_to_nothing_can_be_used_again() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let code = world.code("anna", json!({}));
    // The id is taken while the invitation is used.
    let mut held = world
        .store
        .hold(Verb::Put, "executors/exchange=home/bert", 0, Moment::Before);
    let app = world.invoke();
    let used = code.clone();
    let work = async move { register(&app, home(), joining(Some("bert"), Some(&used))).await };
    let handle = world.start(work);
    assert!(held.is_reached());
    world.restart();
    world.register("bert").unwrap();
    held.release();
    let outcome = world.run(handle);
    assert!(matches!(outcome, Err(ServiceError::AlreadyRegistered)));
    let joined = world.enter(joining(Some("cleo"), Some(&code))).unwrap();
    assert_eq!(joined.executor, id("cleo"));
    world.assert_settles("given back");
}

#[test]
fn who_was_removed_invites_nobody() {
    let mut world = World::new();
    world.register("anna").unwrap();
    world.register("bert").unwrap();
    world
        .change("bert", "anna", json!({"role": "owner"}))
        .unwrap();
    let code = world.code("bert", json!({}));
    // Even before what the removal leaves behind is done.
    world
        .store
        .fail_always(Verb::List, "invitations/", Moment::Before);
    world.remove("bert", "anna").unwrap();
    let used = world.enter(joining(Some("cleo"), Some(&code)));
    assert_eq!(refused(used), AccessRefusal::Invitation(Useless::Revoked));
    world.store.heal();
    world.assert_settles("removed");
}

#[test]
fn why_a_code_is_of_no_use() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let made = world
        .invite("anna", json!({"expires_in": "PT10M"}))
        .unwrap();
    let look_up = |world: &mut World, code: &Code| {
        let (app, code) = (world.invoke(), code.clone());
        world.run(async move { invitations::look_up(&app, &home(), &code).await })
    };
    let shown = look_up(&mut world, &made.code).unwrap();
    assert_eq!(
        (&shown["name"], &shown["invited_by"]),
        (&json!("home"), &json!("anna"))
    );
    // Looking does not use it up.
    look_up(&mut world, &made.code).unwrap();
    let other = Code::new([9; 28]);
    let refusal = AccessRefusal::Invitation(Useless::Unknown);
    assert_eq!(refused(look_up(&mut world, &other)), refusal);
    let entered = world.enter(joining(Some("a"), Some(&other)));
    assert_eq!(refused(entered), refusal);
    let second = world.invite("anna", json!({})).unwrap();
    let (app, revoked) = (world.invoke(), second.id.clone());
    let by = Some(id("anna"));
    world
        .run(async move { invitations::revoke(&app, &home(), by, &revoked).await })
        .unwrap();
    let refusal = AccessRefusal::Invitation(Useless::Revoked);
    assert_eq!(refused(look_up(&mut world, &second.code)), refusal);
    world.pass(10 * MINUTE);
    let refusal = AccessRefusal::Invitation(Useless::Expired);
    assert_eq!(refused(look_up(&mut world, &made.code)), refusal);
    assert_eq!(world.store.keys("executors/").len(), 1);
}

#[test]
fn a_registration_whose_answer_got_lost_gets_the_same_key() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let drawn = ApiKey::from_token(&home(), "00112233445566778899aabbccddeeff01234567").unwrap();
    let code = world.code("anna", json!({}));
    let ask = Joining {
        drawn: Some(drawn.clone()),
        ..joining(Some("bert"), Some(&code))
    };
    let first = world.enter(ask.clone()).unwrap();
    assert_eq!(first.key, drawn);
    // The invitation is used up, and still this is the same registration.
    let again = world.enter(ask.clone()).unwrap();
    assert_eq!((again.key, again.executor), (drawn.clone(), id("bert")));
    assert_eq!(world.count_log("executor_registered"), 2);
    // With another token it is another registration.
    let other = ApiKey::from_token(&home(), "ffeeddccbbaa99887766554433221100aaaabbbb");
    let other = Joining {
        drawn: other,
        ..joining(Some("bert"), None)
    };
    assert!(matches!(
        world.enter(other),
        Err(ServiceError::AlreadyRegistered)
    ));
    // The token does not open another id.
    let elsewhere = Joining {
        id: Some(id("cleo")),
        ..ask.clone()
    };
    assert_eq!(refused(world.enter(elsewhere)), AccessRefusal::TokenUsed);
    // After revocation it gives nothing.
    world.revoke_key("bert", drawn.hash().id()).unwrap();
    assert_eq!(
        refused(world.enter(ask)),
        AccessRefusal::KeyIsDead(Dead::Revoked)
    );
    world.assert_settles("the same key");
}

#[test]
fn who_asks_twice_at_once_with_a_token_of_its_own_is_registered_once() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let code = world.code("anna", json!({"max_uses": 2}));
    let drawn = ApiKey::from_token(&home(), "00112233445566778899aabbccddeeff01234567");
    let ask = Joining {
        drawn: drawn.clone(),
        ..joining(Some("bert"), Some(&code))
    };
    let app = world.invoke();
    let work: Vec<_> = (0..2)
        .map(|_| {
            let (app, ask) = (app.clone(), ask.clone());
            async move { register(&app, home(), ask).await }
        })
        .collect();
    for joined in world.run(join_all(work)) {
        assert_eq!(Some(joined.unwrap().key), drawn);
    }
    assert_eq!(world.count_log("executor_registered"), 2);
    let joined = world.enter(joining(Some("cleo"), Some(&code)));
    assert!(joined.is_ok(), "the use that led to nothing was given back");
    world.assert_settles("twice at once");
}

#[test]
fn ids_that_differ_in_case_only() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let other = world.enter(joining(Some("Anna"), None));
    assert_eq!(
        refused(other),
        AccessRefusal::SameButForCase { other: id("anna") }
    );
    assert_eq!(world.store.keys("keys/").len(), 1);
}

#[test]
fn an_exchange_has_room_for_so_many_members() {
    let mut world = World::new();
    world.set_config("LIMITS", r#"{"members": 3}"#);
    for name in ["a", "b", "c"] {
        world.enter(joining(Some(name), None)).unwrap();
    }
    let more = world.enter(joining(Some("d"), None));
    assert_eq!(refused(more), AccessRefusal::Full { limit: 3 });
    world.remove("b", "a").unwrap();
    world.enter(joining(Some("d"), None)).unwrap();
    let again = world.enter(joining(Some("b"), None));
    assert!(
        matches!(again, Err(ServiceError::AlreadyRegistered)),
        "an id is never given again"
    );
    world.assert_settles("full");
}

#[test]
fn where_invitations_are_needed_only_the_founder_needs_none() {
    let mut world = World::new();
    world.set_config("JOIN", "invitation");
    let anna = world.enter(joining(Some("anna"), None)).unwrap();
    assert_eq!(anna.role, Role::Owner);
    let stranger = world.enter(joining(Some("bert"), None));
    assert_eq!(refused(stranger), AccessRefusal::InvitationNeeded);
    // A stranger learns nothing about who is there.
    let stranger = world.enter(joining(Some("anna"), None));
    assert_eq!(refused(stranger), AccessRefusal::InvitationNeeded);
    let writes = world.store.keys("").len();
    world.restart();
    let stranger = world.enter(joining(Some("bert"), None));
    assert_eq!(refused(stranger), AccessRefusal::InvitationNeeded);
    assert_eq!(world.store.keys("").len(), writes, "and leaves nothing");
    let code = world.code("anna", json!({}));
    world.enter(joining(Some("bert"), Some(&code))).unwrap();
}

#[test]
fn only_the_exchanges_that_are_named_are_founded() {
    let mut world = World::new();
    world.set_config("EXCHANGES", "work");
    let outcome = world.enter(joining(Some("anna"), None));
    assert_eq!(refused(outcome), AccessRefusal::NotFounded);
    assert!(world.store.keys("executors/").is_empty());
    assert!(world.store.keys("exchanges/").is_empty());
}

#[test]
fn there_is_room_for_so_many_invitations() {
    let mut world = World::new();
    world.register("anna").unwrap();
    for _ in 0..crate::domain::limits::INVITATIONS {
        world.code("anna", json!({"expires_in": "PT10M"}));
    }
    let more = world.invite("anna", json!({}));
    assert!(matches!(
        refused(more.map(drop)),
        AccessRefusal::TooMany { .. }
    ));
    // Those that are over make room.
    world.pass(10 * MINUTE);
    world.invite("anna", json!({})).unwrap();
    let left = world.store.keys("invitations/").len();
    assert_eq!(left, crate::domain::limits::INVITATIONS - 50 + 1);
    world.assert_sound("some are left");
}

#[test]
fn who_is_no_owner_any_more_invites_nobody() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let bert = world.key_of("bert");
    world
        .change("bert", "anna", json!({"role": "owner"}))
        .unwrap();
    let owner = world.code("bert", json!({"role": "owner"}));
    let key = world.code("bert", json!({"executor_id": "anna"}));
    let own = world
        .invite_with(&bert, true, json!({"executor_id": "me"}))
        .unwrap()
        .code;
    world
        .change("bert", "anna", json!({"role": "member"}))
        .unwrap();
    for code in [&owner, &key] {
        let outcome = world.enter(joining(None, Some(code)));
        assert_eq!(
            refused(outcome),
            AccessRefusal::Invitation(Useless::Revoked)
        );
    }
    world.enter(joining(None, Some(&own))).unwrap();
    world.assert_settles("demoted");
}

#[test]
fn an_invitation_for_a_new_id_never_opens_a_members_account() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let first = world.code("anna", json!({"executor_id": "bert", "role": "guest"}));
    let second = world.code("anna", json!({"executor_id": "bert"}));
    world.enter(joining(None, Some(&second))).unwrap();
    let outcome = world.enter(joining(None, Some(&first)));
    assert!(matches!(outcome, Err(ServiceError::AlreadyRegistered)));
    assert_eq!(world.record("bert").keys().len(), 1);
    world.assert_settles("twice invited");
}

#[test]
fn who_was_made_an_owner_by_an_invitation_is_so_once() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let code = world.code("anna", json!({"executor_id": "bert", "role": "owner"}));
    // Its writer dies before it ends the obligation.
    drop(world.store.hold(Verb::Delete, "due/", 0, Moment::Before));
    let app = world.invoke();
    let work = async move { register(&app, home(), joining(None, Some(&code))).await };
    let joined = world.start(work);
    joined.forget();
    assert_eq!(world.owners(), ["anna", "bert"]);
    world.restart();
    world
        .change("bert", "anna", json!({"role": "member"}))
        .unwrap();
    world.run_ticks();
    assert_eq!(world.owners(), ["anna"]);
    world.assert_settles("once");
}

#[test]
fn a_registration_that_is_refused_founds_nothing() {
    let mut world = World::new();
    let masked = json!({"notifications": [{"type": "ntfy", "topic": "a", "token": "••••abcd"}]});
    let app = world.invoke();
    let refused = Joining::plain(id("anna"), profile(&app, masked));
    assert!(world.enter(refused).is_err());
    assert!(
        world.store.keys("").is_empty(),
        "{:?}",
        world.store.keys("")
    );
    let bert = world.enter(joining(Some("bert"), None)).unwrap();
    assert_eq!(bert.role, Role::Owner);
}

#[test]
fn strangers_leave_nothing_for_exchanges_that_cannot_be_founded() {
    let mut world = World::new();
    world.set_config("EXCHANGES", "work");
    let outcome = world.enter(joining(Some("anna"), None));
    assert_eq!(refused(outcome), AccessRefusal::NotFounded);
    assert!(world.store.keys("").is_empty());
}

#[test]
fn one_token_registers_one_id() {
    let drawn = ApiKey::from_token(&home(), "00112233445566778899aabbccddeeff01234567");
    for seed in 1..30 {
        let mut world = World::new();
        world.clock.seed.set(seed);
        world.register("anna").unwrap();
        let app = world.invoke();
        let work: Vec<_> = ["bert", "cleo"]
            .into_iter()
            .map(|name| {
                let ask = Joining {
                    drawn: drawn.clone(),
                    ..joining(Some(name), None)
                };
                let app = app.clone();
                async move { register(&app, home(), ask).await }
            })
            .collect();
        let outcomes = world.run(join_all(work));
        let joined: Vec<_> = outcomes.into_iter().flatten().collect();
        assert_eq!(joined.len(), 1);
        let login = world.log_in(&joined[0].key).unwrap().unwrap();
        assert_eq!(login.executor, joined[0].executor);
        world.assert_settles("one token");
        assert!(world.log_in(&joined[0].key).unwrap().is_some());
    }
}

#[test]
fn an_invitation_is_not_burnt_by_an_answer_that_got_lost() {
    let drawn = ApiKey::from_token(&home(), "00112233445566778899aabbccddeeff01234567");
    for commit in ["keys/", "executors/"] {
        let mut world = World::new();
        world.register("anna").unwrap();
        let code = world.code("anna", json!({}));
        let ask = Joining {
            drawn: drawn.clone(),
            ..joining(Some("bert"), Some(&code))
        };
        drop(world.store.hold(Verb::Put, commit, 0, Moment::Before));
        let (app, first) = (world.invoke(), ask.clone());
        world
            .start(async move { register(&app, home(), first).await })
            .forget();
        world.restart();
        let joined = world.enter(ask).unwrap();
        assert_eq!(Some(joined.key.clone()), drawn, "{commit}");
        world.assert_settles(commit);
        assert!(world.log_in(&joined.key).unwrap().is_some());
        assert_eq!(world.count_log("executor_registered"), 2);
    }
}

#[test]
fn members_keep_no_owner_from_inviting() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let bert = world.key_of("bert");
    let mut made = 0;
    while world
        .invite_with(&bert, false, json!({"executor_id": "me"}))
        .is_ok()
    {
        made += 1;
        assert!(made < 50, "it does not end");
    }
    assert_eq!(made, crate::domain::limits::OWN_INVITATIONS);
    world.invite("anna", json!({})).unwrap();
}

#[test]
fn people_of_one_name_join_at_once() {
    let mut world = World::new();
    world.register("anna").unwrap();
    let code = world.code("anna", json!({"display_name": "Ben", "max_uses": 3}));
    let app = world.invoke();
    let work: Vec<_> = (0..3)
        .map(|_| {
            let (app, code) = (app.clone(), code.clone());
            async move { register(&app, home(), joining(None, Some(&code))).await }
        })
        .collect();
    let joined = world.run(join_all(work));
    let mut ids: Vec<_> = joined
        .into_iter()
        .map(|joined| joined.unwrap().executor)
        .collect();
    ids.sort();
    assert_eq!(ids, [id("ben"), id("ben-2"), id("ben-3")]);
    world.assert_settles("three of one name");
}

#[test]
fn the_ids_of_an_exchange_are_bounded_too() {
    let mut world = World::new();
    world.set_config("LIMITS", r#"{"members": 2}"#);
    world.enter(joining(Some("anna"), None)).unwrap();
    let mut joined = 0;
    loop {
        let name = format!("m{joined}");
        match world.enter(joining(Some(&name), None)) {
            Ok(_) => world.remove(&name, "anna").unwrap(),
            Err(error) => {
                break assert_eq!(
                    refused(Err::<(), _>(error)),
                    AccessRefusal::Full { limit: 2 }
                );
            }
        }
        joined += 1;
        assert!(joined < 100, "it does not end");
    }
    assert_eq!(joined, 19);
}
