//! Rebuilds what can be derived: threads from the log, and the log and the index from the threads.
//!
//! It repairs what a disk lost (after a power cut, or because a file was deleted by mistake), as
//! far as another part of the bucket still contains it. Doing it twice does no harm. These are the
//! steps:
//!
//! 1. `step=exchanges` lists the exchanges.
//! 2. `step=discard&after={key}` removes empty objects, and threads that cannot be read, one
//!    stretch at a time.
//! 3. `step=derive&exchange={id}` imports what is only in the log, as from another server's bucket.
//!    The first call also has `begin`. Repeat it until it returns `done`.
//! 4. `step=settle&after={key}` writes the index entries and the timer of each thread, and the log
//!    objects of its batches that this server wrote.
//! 5. `step=sweep&after={key}` removes index entries that belong to no current version of a thread.

use std::collections::BTreeMap;
use std::rc::Rc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use super::error::ToolError;
use crate::app::App;
use crate::domain::ids::ExchangeId;
use crate::domain::json::from_bytes;
use crate::domain::thread::document::Thread;
use crate::domain::thread::state::ThreadState;
use crate::service::due::timers;
use crate::service::import::advance::advance;
use crate::service::import::progress::obligation;
use crate::service::requests::settle::Settlement;
use crate::storage::cas::load;
use crate::storage::index::{entries, put_entry};
use crate::storage::{List, Row, StoreError, layout};

/// How many objects are in a stretch.
const STRETCH: usize = 200;
/// How many objects are processed at once.
const PARALLEL: usize = 6;

/// Runs one step.
pub async fn step(app: &Rc<App>, query: &BTreeMap<String, String>) -> Result<Value, ToolError> {
    let given = |name: &str| query.get(name).map(String::as_str);
    let after = given("after");
    Ok(match given("step") {
        Some("exchanges") => json!(exchanges(app).await?),
        Some("discard") => walk(app, "", after, discard).await?,
        Some("derive") => {
            let exchange = ExchangeId::parse(given("exchange").unwrap_or_default(), "exchange")
                .map_err(|_| ToolError::NoSuchTool)?;
            // With the obligation, the tick continues if this is interrupted.
            let obligation = obligation(&exchange);
            if given("begin").is_some() {
                obligation.begin(app).await?;
                app.store
                    .delete(&layout::import_progress(&exchange))
                    .await?;
            }
            let done = advance(app, &exchange).await?;
            if done {
                app.store.delete(&obligation.first_key()).await?;
            }
            json!({"done": done})
        }
        Some("settle") => walk(app, "threads/", after, settle).await?,
        Some("sweep") => walk(app, "index/", after, sweep).await?,
        _ => return Err(ToolError::NoSuchTool),
    })
}

/// The exchanges that have executors. Without executors nobody could read the rest.
async fn exchanges(app: &App) -> Result<Vec<ExchangeId>, StoreError> {
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = app
            .store
            .list(List::keys("executors/", after.as_deref(), 1))
            .await?;
        let Some(row) = page.rows.first() else {
            return Ok(found);
        };
        let exchange = exchange_of(&row.key);
        // `0` is the character after the slash, so this is past all keys of the exchange.
        after = Some(match &exchange {
            Some(exchange) => format!("executors/exchange={exchange}0"),
            None => row.key.clone(),
        });
        found.extend(exchange);
    }
}

fn exchange_of(key: &str) -> Option<ExchangeId> {
    ExchangeId::parse(layout::exchange_of(key)?, "exchange").ok()
}

/// Does `work` on each object of a stretch. `work` returns whether it changed anything.
async fn walk(
    app: &App,
    prefix: &str,
    after: Option<&str>,
    work: impl AsyncFn(&App, &str) -> Result<bool, StoreError>,
) -> Result<Value, StoreError> {
    let page = app.store.list(List::keys(prefix, after, STRETCH)).await?;
    let work = &work;
    let changed: Vec<bool> = stream::iter(&page.rows)
        .map(|Row { key, .. }| work(app, key))
        .buffered(PARALLEL)
        .try_collect()
        .await?;
    let next = page.rows.last().map(|row| &row.key).filter(|_| page.more);
    Ok(json!({
        "objects": page.rows.len(),
        "changed": changed.into_iter().filter(|changed| *changed).count(),
        "next": next,
    }))
}

/// 2.
async fn discard(app: &App, key: &str) -> Result<bool, StoreError> {
    let is_thread = |body: &[u8]| from_bytes::<Thread>(body).is_ok();
    match app.store.get(key).await? {
        Some(object) if !key.starts_with("threads/") || is_thread(&object.body) => Ok(false),
        _ => {
            app.store.delete(key).await?;
            Ok(true)
        }
    }
}

/// 4.
async fn settle(app: &App, key: &str) -> Result<bool, StoreError> {
    let Some(exchange) = exchange_of(key) else {
        return Ok(false);
    };
    let store = app.store.as_ref();
    let Some(thread) = load::<Thread>(store, key).await? else {
        return Ok(false);
    };
    let thread = thread.document;
    let mut done = true;
    // Another server's events stay where that server put them. There, each event is a batch of its
    // own.
    let ours = thread
        .events
        .iter()
        .filter(|event| event.batch_id != event.event_id);
    let mut batches: Vec<_> = ours.map(|event| event.batch_id).collect();
    batches.dedup();
    for batch in batches {
        if let Some(settlement) = Settlement::of(&exchange, &thread, batch)? {
            done &= settlement.publish_log(store).await;
        }
    }
    timers::restore(app, &exchange, &thread).await?;
    let unwritable = |error| StoreError::new("write", key, &error);
    let summary = thread.state.entry().map_err(unwritable)?;
    for entry in entries(&exchange, &thread.state) {
        done &= put_entry(store, &entry, &summary).await;
    }
    if done {
        Ok(true)
    } else {
        Err(StoreError::new("settle", key, &"a step failed"))
    }
}

/// 5.
async fn sweep(app: &App, key: &str) -> Result<bool, StoreError> {
    let (Some(exchange), Some((_, reference))) = (exchange_of(key), layout::index_position(key))
    else {
        return Ok(false);
    };
    let thread = layout::thread(&exchange, &reference);
    let current = load::<ThreadState>(app.store.as_ref(), &thread).await?;
    let is_current =
        |state: &ThreadState| entries(&exchange, state).iter().any(|entry| entry == key);
    if current.is_some_and(|current| is_current(&current.document)) {
        return Ok(false);
    }
    app.store.delete(key).await?;
    Ok(true)
}
