//! How far the import of an exchange has come, and how its stages read the bucket.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::app::App;
use crate::domain::ids::ExchangeId;
use crate::domain::time::Timestamp;
use crate::service::due::obligations::{Obligation, Subject};
use crate::storage::{Condition, List, Page, Put, Row, StoreError, encode, layout};

/// Objects that one stretch reads.
pub const STRETCH: usize = 200;
/// Threads that one stretch puts: each takes about eight operations, and Cloudflare's free plan
/// allows 1,000 in an invocation.
pub const THREADS: usize = 60;
/// Objects read or written at once.
pub const PARALLEL: usize = 6;
/// How far the taking over of an exchange has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The stage that it is at.
    #[serde(rename = "phase")]
    pub stage: Stage,
    /// The last key of the stage that was dealt with.
    #[serde(default)]
    pub after: Option<String>,
    /// Stretches of the log that were sorted.
    #[serde(default)]
    pub parts: u64,
    /// Lines of the log that could not be read as events of a thread.
    #[serde(default)]
    pub skipped: u64,
}

/// What an import does, one stage after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Make key objects from the executors' records.
    Executors,
    /// Sort the log by thread.
    Log,
    /// Put the threads.
    Threads,
    /// Nothing is left to do.
    Complete,
}

impl Progress {
    /// The beginning of a stage.
    pub fn at(stage: Stage) -> Self {
        Self {
            stage,
            after: None,
            parts: 0,
            skipped: 0,
        }
    }

    /// The same progress, in the next stage.
    #[must_use]
    pub fn enter(self, stage: Stage) -> Self {
        Self {
            stage,
            after: None,
            ..self
        }
    }
}

/// Whether this isolate knows, without asking, that every thread is derived.
pub fn is_known_complete(app: &App, exchange: &ExchangeId) -> bool {
    app.isolate.imported.borrow().contains(exchange)
}

/// Writes down that an import begins, unless that is written; says whether it was not.
///
/// # Errors
///
/// The store's.
pub async fn begin(app: &App, exchange: &ExchangeId) -> Result<bool, StoreError> {
    let first = Progress::at(Stage::Executors);
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
        begun_at: Timestamp::from_millis(0),
        subject: Subject::Import {
            exchange_id: exchange.clone(),
        },
        failures: 0,
        hold: None,
    }
}

/// Remembers that everything of the exchange is there.
pub fn remember(app: &App, exchange: &ExchangeId) {
    app.isolate.imported.borrow_mut().insert(exchange.clone());
}

/// Writes down how far an import has come, under a condition; says whether it held.
///
/// # Errors
///
/// The store's.
pub async fn save(
    app: &App,
    exchange: &ExchangeId,
    progress: &Progress,
    condition: Condition<'_>,
) -> Result<bool, StoreError> {
    let key = layout::import_progress(exchange);
    let body = encode(&key, progress)?;
    let put = app.store.put(&key, body, None, condition).await?;
    Ok(matches!(put, Put::Stored(_)))
}

/// Lists keys.
///
/// # Errors
///
/// The store's.
pub async fn list(
    app: &App,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Page, StoreError> {
    app.store.list(List::keys(prefix, after, limit)).await
}

/// The bodies of the listed objects that are still there.
pub async fn read_all(app: &App, rows: Vec<Row>) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
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
