//! Puts the threads of another server from the sorted log.

use std::collections::HashSet;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::progress::{PARALLEL, Progress, Stage, THREADS, list, read_all};
use crate::app::App;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::limits::THREAD_BYTES;
use crate::domain::thread::document::Thread;
use crate::domain::thread::event::Event;
use crate::runtime::log::{describe, warn};
use crate::service::due::timers;
use crate::storage::cas::load;
use crate::storage::index::{delete_all, entries, put_entry};
use crate::storage::{Condition, Put, Row, StoreError, encode, layout};

/// Puts the threads of a stretch of parts, and deletes their parts.
pub async fn put(
    app: &App,
    exchange: &ExchangeId,
    progress: Progress,
) -> Result<Progress, StoreError> {
    let prefix = layout::import_parts(exchange);
    let page = list(app, &prefix, None, THREADS).await?;
    let mut refs: Vec<Ref> = Vec::new();
    let mut strays = Vec::new();
    for row in &page.rows {
        match layout::import_ref(exchange, &row.key) {
            Some(reference) if refs.last() != Some(&reference) => refs.push(reference),
            Some(_) => {}
            None => strays.push(row.key.clone()),
        }
    }
    // The parts of the last thread may continue beyond this page, so each thread's parts are listed
    // by its own prefix.
    stream::iter(refs)
        .map(|reference| derive_thread(app, exchange, reference))
        .buffered(PARALLEL)
        .try_collect::<Vec<_>>()
        .await?;
    delete_all(app.store.as_ref(), &strays).await;
    // Parts that are done disappear from the list, so there is no position to keep.
    if page.more {
        return Ok(progress);
    }
    Ok(progress.enter(Stage::Complete))
}

/// Imports one thread from its parts: puts its index entries and timers, then the thread, and then
/// deletes its parts.
///
/// The entries come before the thread, so that nobody can change the thread before its entries
/// exist. The thread is put only if there is none, and before any of its parts is deleted. So
/// whoever finds that some of the parts are gone changes nothing.
async fn derive_thread(app: &App, exchange: &ExchangeId, reference: Ref) -> Result<(), StoreError> {
    let prefix = format!("{}{reference}/", layout::import_parts(exchange));
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
                .map_err(|error| StoreError::new("parse", &key, &describe(&error)))?;
            events.push(event);
        }
    }
    let store = app.store.as_ref();
    let key = layout::thread(exchange, &reference);
    // If the thread exists, another import has put it, and may have deleted some of the parts
    // before they were read here. Or this server created it, and its log was sorted along with the
    // rest.
    if store.get(&key).await?.is_none() {
        match Thread::from_events(&reference, in_order(events)) {
            Some(thread) => put_with_entries(app, exchange, &key, &thread).await?,
            None => warn("a thread without its creation is left out", &key),
        }
    }
    if !delete_all(store, &keys).await {
        return Err(StoreError::new("delete", &prefix, &"parts remain"));
    }
    Ok(())
}

async fn put_with_entries(
    app: &App,
    exchange: &ExchangeId,
    key: &str,
    thread: &Thread,
) -> Result<(), StoreError> {
    let store = app.store.as_ref();
    let body = encode(key, thread)?;
    if body.len() > THREAD_BYTES {
        warn(
            "a thread is beyond the limit: it can be read, not changed",
            &key,
        );
    }
    let unwritable = |error| StoreError::new("write", key, &error);
    let summary = thread.state.entry().map_err(unwritable)?;
    let entries = entries(exchange, &thread.state);
    for entry in &entries {
        if !put_entry(store, entry, &summary).await {
            return Err(StoreError::new("put", entry, &"no index entry"));
        }
    }
    timers::restore(app, exchange, thread).await?;
    if let Put::Stored(_) = store.put(key, body, None, Condition::Absent).await? {
        return Ok(());
    }
    // Another was faster. If the thread has changed since then, the entries written here are
    // outdated.
    let stored = load::<Thread>(store, key).await?;
    let version = thread.state.version;
    let outdated = stored.is_some_and(|stored| stored.document.state.version != version);
    if outdated && !delete_all(store, &entries).await {
        return Err(StoreError::new("delete", key, &"outdated entries remain"));
    }
    Ok(())
}

/// Sorts events as other servers do: by time, then by type, then by id. An event that was written
/// twice counts once.
fn in_order(mut events: Vec<Event>) -> Vec<Event> {
    let mut seen = HashSet::new();
    events.retain(|event| seen.insert(event.event_id));
    events.sort_by_key(|event| (event.ts, event.fact.rank(), event.event_id));
    events
}
