//! Tests briefly whether a store honours conditional writes, before the exchange relies on it.
//!
//! With a store that ignores conditions, several executors could claim the same request.
//! `conformance` tests the whole contract, but only in tools and tests.

use super::{Condition, ObjectStore, Put, StoreError};

/// Why a store is not fit for the exchange.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It did not do what it was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It does not apply conditions correctly.
    #[error(
        "the store ignores conditional writes ({0}), so that one request could be claimed by \
         several: use one that honours If-Match and If-None-Match"
    )]
    Unconditional(&'static str),
}

/// Tries conditional writes on the object `key`, which must not exist, and then removes it.
///
/// # Errors
///
/// Fails with the store's error, or if the store ignores a condition.
pub async fn try_conditions(store: &dyn ObjectStore, key: &str) -> Result<(), Unfit> {
    let tried = try_in_turn(store, key).await;
    // Deletes it even after a failure, so that nothing is left behind.
    let removed = store.delete(key).await;
    tried?;
    Ok(removed?)
}

async fn try_in_turn(store: &dyn ObjectStore, key: &str) -> Result<(), Unfit> {
    let put = async |body: &str, condition: Condition<'_>| {
        let body = body.as_bytes().to_vec();
        store.put(key, body, None, condition).await
    };
    // If the store cannot be used at all, this read fails with the store's own error.
    store.get(key).await?;
    let Put::Stored(first) = put("first", Condition::Absent).await? else {
        return Err(Unfit::Unconditional("it refuses to create an object"));
    };
    if put("second", Condition::Absent).await? != Put::ConditionFailed {
        return Err(Unfit::Unconditional("it creates an object that is there"));
    }
    if put("third", Condition::Matches(&first)).await? == Put::ConditionFailed {
        return Err(Unfit::Unconditional("it refuses the right tag"));
    }
    if put("fourth", Condition::Matches(&first)).await? != Put::ConditionFailed {
        return Err(Unfit::Unconditional("it replaces an object at a stale tag"));
    }
    Ok(())
}
