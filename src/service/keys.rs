//! Whose key it is: one object for each key, under its hash.

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::KeyHash;
use crate::domain::time::Timestamp;
use crate::storage::cas::load;
use crate::storage::{Condition, Put, StoreError, encode, layout};

/// What lies under a key's hash.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Whose key it is.
    pub executor_id: ExecutorId,
    /// Since when.
    pub created_at: Timestamp,
}

/// Puts the object that tells whose key it is.
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
/// The store's.
pub async fn find(
    app: &App,
    exchange: &ExchangeId,
    hash: &KeyHash,
) -> Result<Option<ExecutorId>, StoreError> {
    let key = layout::key(exchange, hash);
    let record = load::<KeyRecord>(app.store.as_ref(), &key).await?;
    Ok(record.map(|record| record.document.executor_id))
}
