//! The threads of another server, put from the sorted log.

use std::collections::HashSet;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{PARALLEL, Phase, Progress, STRETCH, list, read_all};
use crate::app::App;
use crate::domain::event::Event;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::limits::THREAD_BYTES;
use crate::domain::thread::Thread;
use crate::log::warn;
use crate::service::settle::{delete_all, entries, put_entry};
use crate::storage::cas::load;
use crate::storage::{Condition, Row, StoreError, encode, layout};

/// Puts the threads of a stretch of parts, and removes their parts.
pub(super) async fn derive(
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
