//! The auditor: it reads a whole bucket at rest and compares its parts with each other.
//!
//! For each exchange, the following must hold:
//!
//! 1. The state of a thread is what its events fold into, and the times of its batches never fall.
//! 2. Every event of a thread is in the log exactly once and says the same there. The log has no
//!    event of a thread that the thread does not contain.
//! 3. A thread is in the index of all threads and in that of its status, once each, and nowhere
//!    else.
//! 4. Every executor has its key, and is registered in the log exactly once. Every key has an
//!    executor, unless its registration may still be undone.
//! 5. No obligation is older than its kind may be, none is overdue, and attempts at deliveries are
//!    deleted after a week.
//! 6. Every owner is a member, and every change of what a member may do is in the audit.
//! 7. If something will happen to a thread by itself, it has a timer that comes no later.
//!
//! While the server is working, some of this does not hold for moments. Let the server come to rest
//! first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::delivery::plan::Chunk;
use crate::domain::exchange::Exchange;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::limits::REVOKED_KEYS;
use crate::domain::member::audit::AuditEntry;
use crate::domain::member::capability::Capability;
use crate::domain::member::executor::Executor;
use crate::domain::member::invitation::Invitation;
use crate::domain::thread::document::Thread;
use crate::domain::thread::event::Event;
use crate::domain::thread::state::{ThreadState, fold, next_moment};
use crate::domain::time::Timestamp;
use crate::service::deliveries::record::{Attempt, External, KEPT_FOR};
use crate::service::due::obligations::{LAST_LOOK, Obligation, Registration, Removal, Subject};
use crate::service::keys::KeyRecord;
use crate::storage::index::entries;
use crate::storage::{List, ObjectStore, StoreError, format, layout};

/// Milliseconds by which an obligation may be overdue. The tick runs once a minute.
const TICK_LATE: i64 = 150_000;

/// The age in milliseconds of a change after which a document may have forgotten it.
const MADE_LATELY: i64 = 24 * 3_600_000;

/// Milliseconds after a week within which old attempts must be deleted. They are deleted by the
/// day, and the deletions are spread over another day.
const SWEEP_LATE: i64 = 50 * 3_600_000;
/// Milliseconds within which a delivery succeeds or is given up. This covers all attempts, each of
/// which quiet hours may put off.
const DELIVERED_WITHIN: i64 = 10 * 24 * 3_600_000;

/// What the auditor found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The problems, one sentence each.
    pub problems: Vec<String>,
    /// How many threads were read.
    pub threads: usize,
    /// How many lines of the log were read.
    pub events: usize,
    /// How many executors were read.
    pub executors: usize,
    /// How many obligations there are.
    pub obligations: usize,
}

/// Everything in the bucket that belongs to one exchange.
#[derive(Default)]
struct Objects {
    threads: Vec<(String, Thread)>,
    log: HashMap<Uuid, Vec<(String, Value)>>,
    index: BTreeMap<String, String>,
    executors: HashMap<String, Executor>,
    keys: BTreeMap<String, KeyRecord>,
    exchange: Option<Exchange>,
    invitations: Vec<(String, Invitation)>,
    audit: BTreeMap<Uuid, (String, AuditEntry)>,
    obligations: Vec<Obligation>,
    /// The moments of the timers of each thread.
    timers: BTreeMap<Ref, Vec<Timestamp>>,
    derived: Option<Value>,
}

/// Audits the bucket as of `now`.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn audit(store: &dyn ObjectStore, now: Timestamp) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let mut exchanges: BTreeMap<String, Objects> = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let query = List::keys("", after.as_deref(), 1_000);
        let page = store.list(query).await?;
        for row in &page.rows {
            if let Some(object) = store.get(&row.key).await? {
                let text = String::from_utf8_lossy(&object.body);
                sort_in(&mut exchanges, &mut report, &row.key, &text, now);
            }
        }
        after = page.rows.last().map(|row| row.key.clone()).or(after);
        if !page.more {
            break;
        }
    }
    for (name, objects) in exchanges {
        match ExchangeId::parse(&name, "exchange") {
            Ok(exchange) => check(&exchange, &objects, &mut report, now),
            Err(_) => report.problems.push(format!("{name} is no exchange id")),
        }
    }
    Ok(report)
}

fn sort_in(
    exchanges: &mut BTreeMap<String, Objects>,
    report: &mut Report,
    key: &str,
    text: &str,
    now: Timestamp,
) {
    let kind = key.split('/').next().unwrap_or_default();
    let mut unreadable = |what: &str| report.problems.push(format!("{key} is not {what}"));
    if kind == "due" {
        return sort_in_obligation(exchanges, report, key, text, now);
    }
    if key == layout::FORMAT {
        if !format::is_format(text) {
            unreadable("the format of the bucket");
        }
        return;
    }
    let Some(exchange) = layout::exchange_of(key) else {
        return unreadable("of any exchange");
    };
    let objects = exchanges.entry(exchange.to_owned()).or_default();
    match kind {
        "threads" => match serde_json::from_str(text) {
            Ok(thread) => objects.threads.push((key.to_owned(), thread)),
            Err(error) => unreadable(&format!("a thread: {error}")),
        },
        "events" => {
            for line in text.lines() {
                let value = serde_json::from_str::<Value>(line).unwrap_or_default();
                let id = value.get("event_id").and_then(Value::as_str);
                match id.and_then(|id| Uuid::parse_str(id).ok()) {
                    Some(id) => objects
                        .log
                        .entry(id)
                        .or_default()
                        .push((key.to_owned(), value)),
                    None => unreadable("a list of events"),
                }
            }
        }
        "index" => {
            objects.index.insert(key.to_owned(), text.to_owned());
        }
        "executors" => match serde_json::from_str(text) {
            Ok(executor) => {
                objects.executors.insert(key.to_owned(), executor);
            }
            Err(error) => unreadable(&format!("an executor: {error}")),
        },
        "keys" => match serde_json::from_str(text) {
            Ok(record) => {
                objects.keys.insert(key.to_owned(), record);
            }
            Err(error) => unreadable(&format!("a key: {error}")),
        },
        "exchanges" => match serde_json::from_str(text) {
            Ok(exchange) => objects.exchange = Some(exchange),
            Err(error) => unreadable(&format!("an exchange's document: {error}")),
        },
        "invitations" => match serde_json::from_str(text) {
            Ok(invitation) => objects.invitations.push((key.to_owned(), invitation)),
            Err(error) => unreadable(&format!("an invitation: {error}")),
        },
        "audit" => match serde_json::from_str::<AuditEntry>(text) {
            Ok(entry) => {
                let id = entry.id;
                if objects.audit.insert(id, (key.to_owned(), entry)).is_some() {
                    unreadable("alone: its mutation is in the audit twice");
                }
            }
            Err(error) => unreadable(&format!("an entry of the audit: {error}")),
        },
        "derived" if *key == format!("derived/exchange={exchange}.json") => {
            objects.derived = serde_json::from_str(text).ok();
        }
        "attempts" => match serde_json::from_str::<Attempt>(text) {
            Ok(attempt) if now.since(attempt.at) > KEPT_FOR.saturating_add(SWEEP_LATE) => {
                unreadable("deleted: it is older than a week");
            }
            Ok(_) => {}
            Err(error) => unreadable(&format!("an attempt: {error}")),
        },
        "capabilities" => {
            if serde_json::from_str::<Capability>(text).is_err() {
                unreadable("an entry of the catalogue");
            }
        }
        "external" => {
            if serde_json::from_str::<External>(text).is_err() {
                unreadable("an external id");
            }
        }
        "derived" | "streaks" => {}
        _ => unreadable("of the layout"),
    }
}

fn sort_in_obligation(
    exchanges: &mut BTreeMap<String, Objects>,
    report: &mut Report,
    key: &str,
    text: &str,
    now: Timestamp,
) {
    let mut unreadable = |what: &str| report.problems.push(format!("{key} is not {what}"));
    let Ok(obligation) = serde_json::from_str::<Obligation>(text) else {
        return unreadable("an obligation");
    };
    // An import is due at once and stays due for as long as it takes.
    let is_import = matches!(obligation.subject, Subject::Import { .. });
    let overdue = layout::due_at(key).is_none_or(|at| now.since(at) > TICK_LATE);
    if overdue && !is_import {
        unreadable("seen to: it is overdue");
    }
    let exchange = match &obligation.subject {
        Subject::Thread { exchange_id, .. }
        | Subject::Announcement { exchange_id, .. }
        | Subject::Deliveries(Chunk { exchange_id, .. })
        | Subject::Sweep { exchange_id, .. }
        | Subject::Timer { exchange_id, .. }
        | Subject::Registration(Registration { exchange_id, .. })
        | Subject::Amendment { exchange_id, .. }
        | Subject::Removal(Removal { exchange_id, .. })
        | Subject::Import { exchange_id } => exchange_id.as_str().to_owned(),
    };
    let objects = exchanges.entry(exchange).or_default();
    if let (Subject::Timer { reference, .. }, Some(at)) = (&obligation.subject, layout::due_at(key))
    {
        let timers = objects.timers.entry(reference.clone());
        timers.or_default().push(at);
    }
    objects.obligations.push(obligation);
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "counts of objects do not overflow"
)]
fn check(exchange: &ExchangeId, objects: &Objects, report: &mut Report, now: Timestamp) {
    let derived = objects
        .derived
        .as_ref()
        .and_then(|value| value.get("phase"));
    if derived.and_then(Value::as_str) != Some("complete") {
        let what = format!("{exchange} is not imported");
        report.problems.push(what);
        return;
    }
    report.threads += objects.threads.len();
    report.executors += objects.executors.len();
    report.obligations += objects.obligations.len();
    report.events += objects.log.values().map(Vec::len).sum::<usize>();
    let mut problems = Vec::new();
    check_threads(exchange, objects, &mut problems);
    check_log(exchange, objects, &mut problems);
    check_index(exchange, objects, &mut problems);
    check_executors(exchange, objects, &mut problems, now);
    check_obligations(objects, &mut problems, now);
    check_access(exchange, objects, &mut problems, now);
    check_timers(objects, &mut problems, now);
    report.problems.append(&mut problems);
}

/// 1.
fn check_threads(exchange: &ExchangeId, objects: &Objects, problems: &mut Vec<String>) {
    for (key, thread) in &objects.threads {
        let reference = &thread.state.reference;
        if *key != layout::thread(exchange, reference) {
            problems.push(format!("{key} holds {reference}"));
        }
        if fold(reference, &thread.events).as_ref() != Some(&thread.state) {
            problems.push(format!("{key} is not what its events fold into"));
        }
        for pair in thread.events.windows(2) {
            let [earlier, later] = pair else { continue };
            // Equal times are allowed, because another server's batches may share a moment. This
            // server's batches are later than all before them.
            let falls = earlier.ts > later.ts;
            if falls || (earlier.batch_id == later.batch_id && earlier.ts != later.ts) {
                problems.push(format!("{key}: the times of its batches do not rise"));
            }
        }
    }
}

/// 2.
fn check_log(exchange: &ExchangeId, objects: &Objects, problems: &mut Vec<String>) {
    let mut known = BTreeSet::new();
    for (key, thread) in &objects.threads {
        for event in &thread.events {
            known.insert(event.event_id);
            match objects.log.get(&event.event_id).map(Vec::as_slice) {
                Some([(at, line)]) if says(line, exchange, &thread.state.reference, event) => {
                    // This holds for this server and others alike: the batch gives the object its
                    // name.
                    if !at.ends_with(&format!("/{}.jsonl", event.batch_id)) {
                        problems.push(format!("{at} is not named by the batch that it holds"));
                    }
                }
                Some([(at, _)]) => problems.push(format!("{at} and {key} differ on an event")),
                Some(_) => problems.push(format!("{} is in the log twice", event.event_id)),
                None => problems.push(format!("{} of {key} is not in the log", event.event_id)),
            }
        }
    }
    for (id, lines) in &objects.log {
        for (key, line) in lines {
            let of_thread = line.get("thread_ref").is_some_and(|value| !value.is_null());
            if of_thread && !known.contains(id) {
                problems.push(format!(
                    "{key} holds an event that its thread does not know"
                ));
            }
            let field = |name| line.get(name).and_then(Value::as_str);
            let record = format!(
                "executors/exchange={exchange}/{}.json",
                field("actor_id").unwrap_or_default()
            );
            if field("event_type") == Some("executor_registered")
                && !objects.executors.contains_key(&record)
            {
                problems.push(format!("{key} registers one who has no record"));
            }
        }
    }
}

/// Whether a line of the log says the same about an event as the thread does.
fn says(line: &Value, exchange: &ExchangeId, reference: &Ref, event: &Event) -> bool {
    let mut line = line.clone();
    let Some(fields) = line.as_object_mut() else {
        return false;
    };
    let place = (
        fields.remove("exchange_id"),
        fields.remove("thread_ref"),
        fields.insert("batch_id".to_owned(), event.batch_id.to_string().into()),
    );
    let named = (
        Some(Value::from(exchange.as_str())),
        Some(Value::from(reference.as_str())),
        None,
    );
    place == named && serde_json::from_value::<Event>(line).is_ok_and(|said| said == *event)
}

/// 3.
fn check_index(exchange: &ExchangeId, objects: &Objects, problems: &mut Vec<String>) {
    let mut expected = BTreeMap::new();
    for (_, thread) in &objects.threads {
        for entry in entries(exchange, &thread.state) {
            expected.insert(entry, &thread.state);
        }
    }
    for (key, state) in &expected {
        match objects.index.get(key) {
            None => problems.push(format!("{key} is missing")),
            Some(body) if !is_entry_of(body, state) => {
                problems.push(format!("{key} is out of date"));
            }
            Some(_) => {}
        }
    }
    for key in objects.index.keys() {
        if !expected.contains_key(key) {
            problems.push(format!("{key} should not be there"));
        }
    }
}

/// Whether an index entry says what it should. Older versions wrote the whole state.
fn is_entry_of(body: &str, state: &ThreadState) -> bool {
    [state.entry(), serde_json::to_string(state)]
        .into_iter()
        .flatten()
        .any(|text| text == body)
}

/// 4.
fn check_executors(
    exchange: &ExchangeId,
    objects: &Objects,
    problems: &mut Vec<String>,
    now: Timestamp,
) {
    let mut keys = BTreeSet::new();
    for (key, executor) in &objects.executors {
        if *key != layout::executor(exchange, &executor.id) {
            problems.push(format!("{key} holds {}", executor.id));
        }
        for member_key in executor.keys() {
            let at = layout::key(exchange, &member_key.hash);
            match objects.keys.get(&at) {
                Some(record) if record.executor_id == executor.id => {}
                Some(_) => problems.push(format!("{at} is not the key of {}", executor.id)),
                None => problems.push(format!("{key} has no key")),
            }
            keys.insert(at);
        }
        let events = objects.log.values().flatten().filter(|(_, line)| {
            line.get("event_type").and_then(Value::as_str) == Some("executor_registered")
                && line.get("actor_id").and_then(Value::as_str) == Some(executor.id.as_str())
        });
        if events.count() != 1 {
            problems.push(format!("{key} is not registered exactly once in the log"));
        }
    }
    for key in objects.keys.keys().filter(|key| !keys.contains(*key)) {
        let owed = objects.obligations.iter().any(|owed| {
            let age = now.since(owed.begun_at);
            matches!(&owed.subject, Subject::Registration(owed)
                if layout::key(&owed.exchange_id, &owed.key_hash) == *key && age < LAST_LOOK)
        });
        // A record forgets keys that are no longer valid, if there are many.
        let owner = objects.keys.get(key).map(|record| &record.executor_id);
        let record =
            owner.and_then(|owner| objects.executors.get(&layout::executor(exchange, owner)));
        let forgets = record.is_some_and(|record| record.keys().len() > REVOKED_KEYS);
        if !owed && !forgets {
            problems.push(format!("{key} is nobody's key"));
        }
    }
}

/// 5.
fn check_obligations(objects: &Objects, problems: &mut Vec<String>, now: Timestamp) {
    for obligation in &objects.obligations {
        let lifetime = match obligation.subject {
            // A timer may be set for any moment.
            Subject::Import { .. } | Subject::Timer { .. } => continue,
            Subject::Sweep { .. } => KEPT_FOR.saturating_add(SWEEP_LATE),
            Subject::Deliveries(_) => DELIVERED_WITHIN,
            Subject::Thread { .. }
            | Subject::Announcement { .. }
            | Subject::Registration(_)
            | Subject::Amendment { .. }
            | Subject::Removal(_) => LAST_LOOK,
        };
        let age = now.since(obligation.begun_at);
        if age > lifetime.saturating_add(TICK_LATE) {
            let id = obligation.id;
            problems.push(format!("the obligation {id} is older than it may get"));
        }
    }
}

/// 6. A founder that died may own the exchange without a record.
fn check_access(
    exchange: &ExchangeId,
    objects: &Objects,
    problems: &mut Vec<String>,
    now: Timestamp,
) {
    let owed = |id: Uuid| objects.obligations.iter().any(|owed| owed.id == id);
    if let Some(document) = &objects.exchange {
        for owner in &document.owners {
            let record = objects.executors.get(&layout::executor(exchange, owner));
            let is_member = record.is_some_and(|record| record.access.removed_at.is_none());
            let founds = record.is_none() && document.owners.len() == 1;
            let is_going = document.changes.iter().any(owed);
            if !is_member && !founds && !is_going {
                problems.push(format!("{owner} owns {exchange} and is no member"));
            }
        }
    }
    let records = objects.executors.iter();
    let records = records.map(|(key, executor)| (key, &executor.access.changes));
    let invitations = objects.invitations.iter();
    let invitations = invitations.map(|(key, invitation)| (key, &invitation.changes));
    let document = layout::exchange(exchange);
    let changes = objects
        .exchange
        .iter()
        .map(|exchange| (&document, &exchange.changes));
    for (key, changes) in records.chain(invitations).chain(changes) {
        for id in changes.iter() {
            if !objects.audit.contains_key(&id) && !owed(id) {
                problems.push(format!("{key}: its change {id} is not in the audit"));
            }
        }
    }
    for (id, (key, entry)) in &objects.audit {
        if *key != layout::audit_entry(exchange, entry.at, *id) {
            problems.push(format!("{key} is not where its entry belongs"));
        }
    }
    for (key, invitation) in &objects.invitations {
        for used in &invitation.uses {
            let record = objects
                .executors
                .get(&layout::executor(exchange, &used.executor_id));
            let is_known = record.is_some_and(|record| {
                let registered = record.registration.as_ref();
                record.access.changes.have(used.id)
                    || registered.is_some_and(|registered| registered.batch_id == used.id)
            });
            if !is_known && !owed(used.id) && now.since(used.at) < MADE_LATELY {
                problems.push(format!("{key} was used by {} in vain", used.executor_id));
            }
        }
    }
}

/// 7. While a batch has an obligation, its timer may be missing, because the obligation will set
///    it.
fn check_timers(objects: &Objects, problems: &mut Vec<String>, now: Timestamp) {
    let owed_for = |reference: &Ref| {
        objects.obligations.iter().any(|owed| match &owed.subject {
            Subject::Thread { reference: of, .. } => of == reference,
            _ => false,
        })
    };
    for (key, thread) in &objects.threads {
        let reference = &thread.state.reference;
        // The next moment, and the timer on which the next batches rely.
        let relied_on = thread.state.timer_at.filter(|at| *at > now);
        let moments = [next_moment(&thread.state), relied_on];
        let Some(moment) = moments.into_iter().flatten().min() else {
            continue;
        };
        let timers = objects.timers.get(reference);
        let is_set = timers.is_some_and(|timers| timers.iter().any(|at| *at <= moment));
        if !is_set && !owed_for(reference) {
            problems.push(format!("{key} has no timer by {moment}"));
        }
    }
}
