//! Deliveries: they are owed from the commit on, attempted on schedule, and made once.

mod durable;
mod made;
mod schedule;
mod told;
mod whom;

use std::collections::BTreeMap;

use super::*;
use crate::storage::memory::Verb;

/// A hook or channel that posts to `https://{host}.example/`.
fn webhook(host: &str) -> Value {
    json!({"type": "webhook", "url": format!("https://{host}.example/")})
}

/// How often each host was called, counted from the requests that were sent.
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
    let found = request
        .headers
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// The hosts that are called because of what happens in `act`, without any tick.
fn told(world: &mut World, act: impl FnOnce(&mut World)) -> Vec<String> {
    world.sent();
    act(world);
    hosts(&world.sent()).into_keys().collect()
}
