//! API keys: one object for each key, stored under the key's hash, tells which executor it belongs
//! to.

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::KeyHash;
use crate::domain::time::Timestamp;
use crate::storage::cas::load;
use crate::storage::{Condition, Put, StoreError, encode, layout};

/// What is stored under a key's hash.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The executor that the key belongs to.
    pub executor_id: ExecutorId,
    /// When the key was stored.
    pub created_at: Timestamp,
}

/// Stores which executor a key belongs to, unless the key's object exists already.
pub async fn put(
    app: &App,
    exchange: &ExchangeId,
    hash: &KeyHash,
    executor: &ExecutorId,
    now: Timestamp,
) -> Result<Put, StoreError> {
    let record = KeyRecord {
        executor_id: executor.clone(),
        created_at: now,
    };
    let key = layout::key(exchange, hash);
    let body = encode(&key, &record)?;
    app.store.put(&key, body, None, Condition::Absent).await
}

/// Finds the executor whose key has this hash.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn find(
    app: &App,
    exchange: &ExchangeId,
    hash: &KeyHash,
) -> Result<Option<ExecutorId>, StoreError> {
    let key = layout::key(exchange, hash);
    let record = load::<KeyRecord>(app.store.as_ref(), &key).await?;
    Ok(record.map(|record| record.document.executor_id))
}
