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

mod keys;
mod log;
mod threads;

use std::rc::Rc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::ServiceError;
use super::due::obligations::{Obligation, Subject};
use crate::app::App;
use crate::domain::ids::ExchangeId;
use crate::domain::time::Timestamp;
use crate::runtime::log::warn;
use crate::storage::cas::{Loaded, load};
use crate::storage::{Condition, List, Page, Put, Row, StoreError, encode, layout};

pub use keys::find_older_key;

/// Objects that one stretch reads.
const STRETCH: usize = 200;
/// Threads that one stretch puts: each takes about eight operations, and Cloudflare's free plan
/// allows 1,000 in an invocation.
const THREADS: usize = 60;
/// Milliseconds after which work in the background is taken for lost: the runtime ends it.
const BACKGROUND: i64 = 60_000;
/// Objects read or written at once.
const PARALLEL: usize = 6;
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
    Underway(Phase),
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
        Standing::Underway(_) => {
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
        let complete = Progress::at(Phase::Complete);
        if save(app, exchange, &complete, Condition::Absent).await? {
            remember(app, exchange);
        }
    }
    Ok(())
}

/// Whether this isolate knows, without asking, that every thread is derived.
pub fn is_known_complete(app: &App, exchange: &ExchangeId) -> bool {
    app.isolate.derived.borrow().contains(exchange)
}

async fn standing(app: &App, exchange: &ExchangeId) -> Result<Standing, StoreError> {
    if is_known_complete(app, exchange) {
        return Ok(Standing::Complete);
    }
    let store = app.store.as_ref();
    match load::<Progress>(store, &layout::derived(exchange)).await? {
        Some(loaded) if loaded.document.phase == Phase::Complete => {
            remember(app, exchange);
            return Ok(Standing::Complete);
        }
        Some(loaded) => return Ok(Standing::Underway(loaded.document.phase)),
        None => {}
    }
    let executors = list(app, &layout::executors(exchange), None, 1).await?;
    let events = list(app, &layout::events(exchange), None, 1).await?;
    if executors.rows.is_empty() && events.rows.is_empty() {
        return Ok(Standing::New);
    }
    obligation(exchange).open(app).await?;
    begin(app, exchange).await?;
    Ok(Standing::Underway(Phase::Executors))
}

async fn begin(app: &App, exchange: &ExchangeId) -> Result<bool, StoreError> {
    let first = Progress::at(Phase::Executors);
    save(app, exchange, &first, Condition::Absent).await
}

/// The obligation to take the exchange over: the same one whoever opens it, due at once.
pub fn obligation(exchange: &ExchangeId) -> Obligation {
    let mut id = [0; 16];
    for (byte, from) in id.iter_mut().zip(sha2::Sha256::digest(exchange.as_str())) {
        *byte = from;
    }
    Obligation {
        id: uuid::Builder::from_custom_bytes(id).into_uuid(),
        opened_at: Timestamp::from_millis(0),
        subject: Subject::Derivation {
            exchange_id: exchange.clone(),
        },
        failures: 0,
        claim: None,
    }
}

fn remember(app: &App, exchange: &ExchangeId) {
    app.isolate.derived.borrow_mut().insert(exchange.clone());
}

fn continue_in_background(app: &Rc<App>, exchange: &ExchangeId) {
    let now = app.clock.now();
    let mut deriving = app.isolate.deriving.borrow_mut();
    if deriving.get(exchange).is_some_and(|until| *until > now) {
        return;
    }
    deriving.insert(exchange.clone(), now.plus_millis(BACKGROUND));
    drop(deriving);
    let (at_work, exchange) = (app.clone(), exchange.clone());
    app.background.run(async move {
        if let Err(error) = advance(&at_work, &exchange).await {
            warn("an exchange could not be taken over further", &error);
        }
        at_work.isolate.deriving.borrow_mut().remove(&exchange);
    });
}

/// Does one stretch, and saves how far it came unless another was faster; says whether
/// everything is derived.
///
/// # Errors
///
/// The store's; what was done up to then is kept.
pub async fn advance(app: &App, exchange: &ExchangeId) -> Result<bool, StoreError> {
    let key = layout::derived(exchange);
    let Some(Loaded { document, tag }) = load::<Progress>(app.store.as_ref(), &key).await? else {
        // Whoever opened the obligation came no further.
        begin(app, exchange).await?;
        return Ok(false);
    };
    let next = match document.phase {
        Phase::Executors => keys::derive(app, exchange, document.clone()).await?,
        Phase::Log => log::sort(app, exchange, document.clone()).await?,
        Phase::Threads => threads::derive(app, exchange, document.clone()).await?,
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
    app.store.list(List::keys(prefix, after, limit)).await
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
