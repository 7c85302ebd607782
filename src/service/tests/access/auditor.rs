//! What the auditor finds in the documents of access.

use super::*;
use crate::tools::audit::audit;

/// A world with an owner, a member who was invited, and an invitation that is open.
fn world() -> World {
    let mut world = World::new();
    world.register("anna").unwrap();
    let code = world.code("anna", json!({"executor_id": "bert"}));
    world.enter(joining(None, Some(&code))).unwrap();
    world.code("anna", json!({}));
    world.run_ticks();
    world.assert_sound("to begin with");
    world
}

fn problems(world: &mut World) -> Vec<String> {
    let (store, now) = (world.store.clone(), world.now());
    world
        .run(async move { audit(&store, now).await })
        .unwrap()
        .problems
}

fn found(world: &mut World, what: &str) {
    let problems = problems(world);
    let is_there = problems.iter().any(|problem| problem.contains(what));
    assert!(is_there, "{what}: {problems:?}");
}

/// Changes the JSON of an object behind the exchange's back.
fn change(world: &World, key: &str, change: impl FnOnce(&mut Value)) {
    let mut document: Value = serde_json::from_str(&world.store.text(key)).unwrap();
    change(&mut document);
    world.store.plant(key, &document.to_string());
}

#[test]
fn a_change_that_the_audit_does_not_tell() {
    let mut world = world();
    let entry = world.store.keys("audit/").remove(0);
    let store = world.store.clone();
    world
        .run(async move { store.delete(&entry).await })
        .unwrap();
    found(&mut world, "is not in the audit");
}

#[test]
fn an_entry_of_the_audit_in_the_wrong_place() {
    let mut world = world();
    let entry = world.store.keys("audit/").remove(0);
    change(&world, &entry, |entry| {
        entry["at"] = json!("2025-01-01T00:00:00.000Z");
    });
    found(&mut world, "is not where its entry belongs");
}

#[test]
fn an_owner_who_is_no_member() {
    let mut world = world();
    let document = "exchanges/exchange=home.json";
    change(&world, document, |document| {
        document["owners"] = json!(["anna", "nobody"]);
    });
    found(&mut world, "nobody owns home and is no member");
}

#[test]
fn an_invitation_that_was_used_in_vain() {
    let mut world = world();
    let is_used = |key: &String| world.store.text(key).contains("bert");
    let key = world
        .store
        .keys("invitations/")
        .into_iter()
        .find(is_used)
        .unwrap();
    let now = world.now().to_string();
    change(&world, &key, |invitation| {
        invitation["uses"][0]["id"] = json!(uuid::Uuid::nil());
        invitation["uses"][0]["at"] = json!(now);
    });
    found(&mut world, "was used by bert in vain");
}

#[test]
fn a_key_that_leads_to_nobody() {
    let mut world = world();
    let key = world.store.keys("keys/").remove(0);
    let store = world.store.clone();
    world.run(async move { store.delete(&key).await }).unwrap();
    found(&mut world, "has no key");
}

#[test]
fn documents_that_cannot_be_read() {
    let mut world = world();
    for key in [
        "exchanges/exchange=home.json",
        "invitations/exchange=home/X.json",
        "audit/exchange=home/X.json",
    ] {
        world.store.plant(key, "{}");
        found(&mut world, &format!("{key} is not"));
    }
}
