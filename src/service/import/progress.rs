//! The progress of an exchange's import, and how its stages read the bucket.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::app::App;
use crate::domain::ids::ExchangeId;
use crate::domain::time::Timestamp;
use crate::service::due::obligations::{Obligation, Subject};
use crate::storage::{Condition, List, Page, Put, Row, StoreError, encode, layout};

/// How many objects one stretch reads.
pub const STRETCH: usize = 200;
/// How many threads one stretch puts. Each takes about eight operations, and Cloudflare's free plan
/// allows 1,000 in an invocation.
pub const THREADS: usize = 60;
/// How many objects are read or written at once.
pub const PARALLEL: usize = 6;
/// The progress of an exchange's import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The current stage.
    #[serde(rename = "phase")]
    pub stage: Stage,
    /// The last key that the stage has processed.
    #[serde(default)]
    pub after: Option<String>,
    /// How many stretches of the log have been sorted.
    #[serde(default)]
    pub parts: u64,
    /// How many lines of the log could not be read as events of a thread.
    #[serde(default)]
    pub skipped: u64,
}

/// The stages of an import, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Makes key objects from the executors' records.
    Executors,
    /// Sorts the log by thread.
    Log,
    /// Puts the threads.
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

    /// The same progress at the beginning of another stage.
    #[must_use]
    pub fn enter(self, stage: Stage) -> Self {
        Self {
            stage,
            after: None,
            ..self
        }
    }
}

/// Whether this isolate remembers that the import is complete, so that it need not ask the store.
pub fn is_known_complete(app: &App, exchange: &ExchangeId) -> bool {
    app.isolate.imported.borrow().contains(exchange)
}

/// Records that an import begins, unless that is recorded already. Returns whether it was new.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn begin(app: &App, exchange: &ExchangeId) -> Result<bool, StoreError> {
    let first = Progress::at(Stage::Executors);
    save(app, exchange, &first, Condition::Absent).await
}

/// The obligation to import the exchange. It is the same whoever begins it, and it is due at once.
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
        hops: 0,
        hold: None,
    }
}

/// Remembers that the exchange is complete.
pub fn remember(app: &App, exchange: &ExchangeId) {
    app.isolate.imported.borrow_mut().insert(exchange.clone());
}

/// Saves the progress of an import under a condition. Returns whether the condition held.
///
/// # Errors
///
/// Fails with the store's error.
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
/// Fails with the store's error.
pub async fn list(
    app: &App,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Page, StoreError> {
    app.store.list(List::keys(prefix, after, limit)).await
}

/// Reads the listed objects, and leaves out those that no longer exist.
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
