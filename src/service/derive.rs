//! Taking over the bucket of another MESS server, which holds only `events/` and `executors/`.
//!
//! Keys, threads and the index are derived from them, a bounded stretch at a time: after
//! requests that miss them, and in the tick. How far it has come lies in
//! `derived/exchange={id}.json`, moved by compare-and-swap; doing a stretch twice does no harm.
//! The other server must be stopped first.
//!
//! Other servers write several events with one time into objects named at random, so no thread
//! is put before the whole log was read: the log is first sorted by thread, into
//! `derived/exchange={id}/{ref}/`, then each thread is put from its parts.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::ServiceError;
use super::obligations::{Obligation, Subject};
use super::register::put_key;
use super::settle::{delete_all, entries, put_entry};
use crate::app::App;
use crate::domain::event::Event;
use crate::domain::executor::Executor;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::key::KeyHash;
use crate::domain::limits::THREAD_BYTES;
use crate::domain::thread::Thread;
use crate::log::warn;
use crate::storage::cas::{Loaded, load};
use crate::storage::{Condition, List, Page, Put, Row, StoreError, encode, layout};

/// Objects that one stretch reads.
const STRETCH: usize = 200;
/// Stretches in one look of the tick.
const STRETCHES: usize = 3;
/// Objects read or written at once.
const PARALLEL: usize = 6;
/// Executor records that a login with an older key looks through.
const LOGIN_EXAMINED: usize = 300;

/// How far the taking over of an exchange has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    phase: Phase,
    /// The last key of the phase that was dealt with.
    #[serde(default)]
    after: Option<String>,
    /// Stretches of the log that were sorted.
    #[serde(default)]
    parts: u64,
    /// Lines of the log that could not be read as events of a thread.
    #[serde(default)]
    skipped: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// Make key objects from the executors' records.
    Executors,
    /// Sort the log by thread.
    Log,
    /// Put the threads.
    Threads,
    /// Nothing is left to do.
    Complete,
}

/// Where an exchange stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Every thread is derived, or was made by this server.
    Complete,
    /// There is nothing in it yet.
    New,
    /// There may be more in the log than in the threads.
    Underway,
}

impl Progress {
    fn at(phase: Phase) -> Self {
        Self {
            phase,
            after: None,
            parts: 0,
            skipped: 0,
        }
    }

    /// The same progress, in the next phase.
    fn enter(self, phase: Phase) -> Self {
        Self {
            phase,
            after: None,
            ..self
        }
    }
}

/// Whether every thread of the exchange is derived. If not, the work goes on after the answer.
///
/// # Errors
///
/// The store's.
pub async fn is_complete(app: &Rc<App>, exchange: &ExchangeId) -> Result<bool, ServiceError> {
    match standing(app, exchange).await? {
        Standing::Complete | Standing::New => Ok(true),
        Standing::Underway => {
            continue_in_background(app, exchange);
            Ok(false)
        }
    }
}

/// Marks an exchange that has nothing in it as one with nothing to take over; to be called
/// before its first member joins.
///
/// # Errors
///
/// The store's.
pub async fn mark_if_new(app: &Rc<App>, exchange: &ExchangeId) -> Result<(), ServiceError> {
    if standing(app, exchange).await? == Standing::New {
        save(
            app,
            exchange,
            &Progress::at(Phase::Complete),
            Condition::Absent,
        )
        .await?;
        remember(app, exchange);
    }
    Ok(())
}

async fn standing(app: &App, exchange: &ExchangeId) -> Result<Standing, StoreError> {
    if app.isolate.derived.borrow().contains(exchange) {
        return Ok(Standing::Complete);
    }
    let store = app.store.as_ref();
    match load::<Progress>(store, &layout::derived(exchange)).await? {
        Some(loaded) if loaded.document.phase == Phase::Complete => {
            remember(app, exchange);
            return Ok(Standing::Complete);
        }
        Some(_) => return Ok(Standing::Underway),
        None => {}
    }
    let executors = list(app, &layout::executors(exchange), None, 1).await?;
    let events = list(app, &layout::events(exchange), None, 1).await?;
    if executors.rows.is_empty() && events.rows.is_empty() {
        return Ok(Standing::New);
    }
    let subject = Subject::Derivation {
        exchange_id: exchange.clone(),
    };
    Obligation::new(app, subject).open(app).await?;
    save(
        app,
        exchange,
        &Progress::at(Phase::Executors),
        Condition::Absent,
    )
    .await?;
    Ok(Standing::Underway)
}

fn remember(app: &App, exchange: &ExchangeId) {
    app.isolate.derived.borrow_mut().insert(exchange.clone());
}

fn continue_in_background(app: &Rc<App>, exchange: &ExchangeId) {
    if !app.isolate.deriving.borrow_mut().insert(exchange.clone()) {
        return;
    }
    let (at_work, exchange) = (app.clone(), exchange.clone());
    app.background.run(async move {
        if let Err(error) = stretch(&at_work, &exchange).await {
            warn("an exchange could not be taken over further", &error);
        }
        at_work.isolate.deriving.borrow_mut().remove(&exchange);
    });
}

/// Works on the exchange for a bounded time; says whether everything is derived.
///
/// # Errors
///
/// The store's; what was done up to then is kept.
pub async fn advance(app: &App, exchange: &ExchangeId) -> Result<bool, StoreError> {
    for _ in 0..STRETCHES {
        if stretch(app, exchange).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Does one stretch, and saves how far it came unless another was faster.
async fn stretch(app: &App, exchange: &ExchangeId) -> Result<bool, StoreError> {
    let key = layout::derived(exchange);
    let Some(Loaded { document, tag }) = load::<Progress>(app.store.as_ref(), &key).await? else {
        return Ok(false);
    };
    let next = match document.phase {
        Phase::Executors => derive_keys(app, exchange, document.clone()).await?,
        Phase::Log => sort_log(app, exchange, document.clone()).await?,
        Phase::Threads => derive_threads(app, exchange, document.clone()).await?,
        Phase::Complete => return Ok(true),
    };
    if next == document {
        return Ok(false);
    }
    let saved = save(app, exchange, &next, Condition::Matches(&tag)).await?;
    Ok(saved && next.phase == Phase::Complete)
}

async fn save(
    app: &App,
    exchange: &ExchangeId,
    progress: &Progress,
    condition: Condition<'_>,
) -> Result<bool, StoreError> {
    let key = layout::derived(exchange);
    let body = encode(&key, progress)?;
    let put = app.store.put(&key, body, None, condition).await?;
    Ok(matches!(put, Put::Stored(_)))
}

async fn list(
    app: &App,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Page, StoreError> {
    let query = List {
        prefix,
        after,
        limit,
        summaries: false,
    };
    app.store.list(query).await
}

/// The bodies of the listed objects that are still there.
async fn read_all(app: &App, rows: Vec<Row>) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let objects: Vec<_> = stream::iter(rows)
        .map(async |row: Row| -> Result<_, StoreError> {
            let object = app.store.get(&row.key).await?;
            Ok(object.map(|object| (row.key, object.body)))
        })
        .buffered(PARALLEL)
        .try_collect()
        .await?;
    Ok(objects.into_iter().flatten().collect())
}

/// Finds the executor that an older key belongs to, in a bucket where it has no object yet.
///
/// # Errors
///
/// The store's, or that there are too many records to tell now.
pub async fn find_older_key(
    app: &Rc<App>,
    exchange: &ExchangeId,
    hash: &KeyHash,
) -> Result<Option<ExecutorId>, ServiceError> {
    if is_complete(app, exchange).await? {
        return Ok(None);
    }
    let prefix = layout::executors(exchange);
    let page = list(app, &prefix, None, LOGIN_EXAMINED).await?;
    for (key, body) in read_all(app, page.rows).await? {
        let Some(executor) = read_executor(&key, &body) else {
            continue;
        };
        if executor.older_key().as_ref() == Some(hash) {
            put_key(app, exchange, hash, &executor.id, app.clock.now()).await?;
            return Ok(Some(executor.id));
        }
    }
    if page.more {
        return Err(ServiceError::Deriving);
    }
    Ok(None)
}

fn read_executor(key: &str, body: &[u8]) -> Option<Executor> {
    serde_json::from_slice(body)
        .map_err(|error| warn(&format!("{key} is not an executor's record"), &error))
        .ok()
}

/// Makes the key objects of a stretch of executors.
async fn derive_keys(
    app: &App,
    exchange: &ExchangeId,
    progress: Progress,
) -> Result<Progress, StoreError> {
    let prefix = layout::executors(exchange);
    let page = list(app, &prefix, progress.after.as_deref(), STRETCH).await?;
    let last = page.rows.last().map(|row| row.key.clone());
    for (key, body) in read_all(app, page.rows).await? {
        let Some(executor) = read_executor(&key, &body) else {
            continue;
        };
        if let Some(hash) = executor.older_key() {
            put_key(app, exchange, &hash, &executor.id, app.clock.now()).await?;
        }
    }
    if page.more {
        return Ok(Progress {
            after: last,
            ..progress
        });
    }
    Ok(progress.enter(Phase::Log))
}

/// Sorts a stretch of the log by thread.
async fn sort_log(
    app: &App,
    exchange: &ExchangeId,
    progress: Progress,
) -> Result<Progress, StoreError> {
    let prefix = layout::events(exchange);
    let page = list(app, &prefix, progress.after.as_deref(), STRETCH).await?;
    let last = page.rows.last().map(|row| row.key.clone());
    let mut parts: BTreeMap<Ref, String> = BTreeMap::new();
    let mut skipped: u64 = 0;
    for (key, body) in read_all(app, page.rows).await? {
        let text = String::from_utf8_lossy(&body);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match read_line(&key, line) {
                Line::Event(reference, event) => {
                    let json = serde_json::to_string(&event)
                        .map_err(|error| StoreError::new("write", &key, &error))?;
                    let part = parts.entry(reference).or_default();
                    part.push_str(&json);
                    part.push('\n');
                }
                Line::OfNoThread => {}
                Line::Unreadable(reason) => {
                    warn(&format!("a line of {key} is left out"), &reason);
                    skipped = skipped.saturating_add(1);
                }
            }
        }
    }
    stream::iter(parts)
        .map(|(reference, lines)| async move {
            let key = layout::derived_part(exchange, &reference, progress.parts);
            let body = lines.into_bytes();
            app.store.put(&key, body, None, Condition::Always).await
        })
        .buffered(PARALLEL)
        .try_collect::<Vec<_>>()
        .await?;
    let progress = Progress {
        parts: progress.parts.saturating_add(1),
        skipped: progress.skipped.saturating_add(skipped),
        ..progress
    };
    if page.more {
        return Ok(Progress {
            after: last,
            ..progress
        });
    }
    Ok(progress.enter(Phase::Threads))
}

/// What a line of another server's log is.
enum Line {
    /// An event of a thread.
    Event(Ref, Box<Event>),
    /// An event that belongs to no thread.
    OfNoThread,
    /// Nothing that this server can read.
    Unreadable(String),
}

/// Reads a line of the log object `key`. The object's name is the batch: every event that
/// another server wrote is one of its own.
fn read_line(key: &str, line: &str) -> Line {
    let unreadable = |reason: &dyn std::fmt::Display| Line::Unreadable(reason.to_string());
    let mut value: Value = match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => return unreadable(&error),
    };
    let reference = match value.get("thread_ref") {
        None | Some(Value::Null) => return Line::OfNoThread,
        Some(Value::String(text)) => match Ref::parse(text) {
            Ok(reference) => reference,
            Err(error) => return unreadable(&error),
        },
        Some(_) => return unreadable(&"thread_ref is not a string"),
    };
    let name = key.rsplit('/').next().unwrap_or_default();
    let batch = name
        .strip_suffix(".jsonl")
        .and_then(|stem| Uuid::parse_str(stem).ok());
    if let Some(fields) = value.as_object_mut() {
        let batch = match batch {
            Some(batch) => Value::String(batch.to_string()),
            None => fields.get("event_id").cloned().unwrap_or_default(),
        };
        fields.insert("batch_id".to_owned(), batch);
    }
    match serde_json::from_value::<Event>(value) {
        Ok(event) => Line::Event(reference, Box::new(event)),
        Err(error) => unreadable(&error),
    }
}

/// Puts the threads of a stretch of parts, and removes their parts.
async fn derive_threads(
    app: &App,
    exchange: &ExchangeId,
    progress: Progress,
) -> Result<Progress, StoreError> {
    let prefix = layout::derived_threads(exchange);
    let page = list(app, &prefix, None, STRETCH).await?;
    let mut refs: Vec<Ref> = Vec::new();
    let mut strays = Vec::new();
    for row in &page.rows {
        match layout::derived_ref(exchange, &row.key) {
            Some(reference) if refs.last() != Some(&reference) => refs.push(reference),
            Some(_) => {}
            None => strays.push(row.key.clone()),
        }
    }
    // The parts of the last thread may go on beyond this page: it is read by its own prefix.
    stream::iter(refs)
        .map(|reference| derive_thread(app, exchange, reference))
        .buffered(PARALLEL)
        .try_collect::<Vec<_>>()
        .await?;
    delete_all(app.store.as_ref(), &strays).await;
    if page.more {
        // The parts are gone; this says that work was done.
        return Ok(Progress {
            parts: progress.parts.saturating_add(1),
            ..progress
        });
    }
    Ok(progress.enter(Phase::Complete))
}

/// Puts one thread from its parts.
///
/// The thread is put before any of its parts is removed, and only if there is none, so that
/// whoever finds some of the parts gone changes nothing.
async fn derive_thread(app: &App, exchange: &ExchangeId, reference: Ref) -> Result<(), StoreError> {
    let prefix = format!("{}{reference}/", layout::derived_threads(exchange));
    let mut rows = Vec::new();
    loop {
        let after = rows.last().map(|row: &Row| row.key.clone());
        let mut page = list(app, &prefix, after.as_deref(), 1_000).await?;
        rows.append(&mut page.rows);
        if !page.more {
            break;
        }
    }
    let keys: Vec<String> = rows.iter().map(|row| row.key.clone()).collect();
    let mut events: Vec<Event> = Vec::new();
    for (key, body) in read_all(app, rows).await? {
        for line in String::from_utf8_lossy(&body).lines() {
            let event = serde_json::from_str(line)
                .map_err(|error| StoreError::new("parse", &key, &error))?;
            events.push(event);
        }
    }
    let store = app.store.as_ref();
    let key = layout::thread(exchange, &reference);
    match Thread::from_events(&reference, in_order(events)) {
        None => warn("a thread without its creation is left out", &key),
        Some(thread) => {
            let body = encode(&key, &thread)?;
            if body.len() > THREAD_BYTES {
                warn(
                    "a thread is larger than the limit; it can be read, not changed",
                    &key,
                );
            }
            store.put(&key, body, None, Condition::Absent).await?;
            index(app, exchange, &key).await?;
        }
    }
    if !delete_all(store, &keys).await {
        return Err(StoreError::new("delete", &prefix, &"parts remain"));
    }
    Ok(())
}

/// Other servers' order: time, then type, then id. An event that was written twice counts once.
fn in_order(mut events: Vec<Event>) -> Vec<Event> {
    let mut seen = HashSet::new();
    events.retain(|event| seen.insert(event.event_id));
    events.sort_by_key(|event| (event.ts, event.fact.rank(), event.event_id));
    events
}

/// Puts the index entries of the thread as it is now, until it stays so.
async fn index(app: &App, exchange: &ExchangeId, key: &str) -> Result<(), StoreError> {
    let store = app.store.as_ref();
    let mut indexed: Option<(u64, [String; 2])> = None;
    loop {
        let Some(loaded) = load::<Thread>(store, key).await? else {
            return Ok(());
        };
        let state = loaded.document.state;
        if let Some((version, entries)) = indexed {
            if version == state.version {
                return Ok(());
            }
            delete_all(store, &entries).await;
        }
        let summary =
            serde_json::to_string(&state).map_err(|error| StoreError::new("write", key, &error))?;
        let entries = entries(exchange, &state);
        for entry in &entries {
            if !put_entry(store, entry, &summary).await {
                return Err(StoreError::new("put", entry, &"the index entry is missing"));
            }
        }
        indexed = Some((state.version, entries));
    }
}
