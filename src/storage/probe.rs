//! A short trial of a store before it is relied on: does it honour conditional writes?
//!
//! A store that ignores them would let several executors claim one request. The whole contract is
//! tried by `conformance`, which is for tools and tests.

use super::{Condition, ObjectStore, Put, StoreError};

/// Why a store is not fit for the exchange.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It did not do what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It writes although the condition does not hold.
    #[error(
        "the store ignores conditional writes ({0}), so that one request could be claimed by \
         several: use one that honours If-Match and If-None-Match"
    )]
    Unconditional(&'static str),
}

/// Tries conditional writes on the object `key`, which must not exist, and removes it.
///
/// # Errors
///
/// The store fails, or ignores a condition.
pub async fn try_conditions(store: &dyn ObjectStore, key: &str) -> Result<(), Unfit> {
    let tried = try_in_turn(store, key).await;
    // Also when it has failed: nothing is to stay behind.
    let removed = store.delete(key).await;
    tried?;
    Ok(removed?)
}

async fn try_in_turn(store: &dyn ObjectStore, key: &str) -> Result<(), Unfit> {
    let put = async |body: &str, condition: Condition<'_>| {
        let body = body.as_bytes().to_vec();
        store.put(key, body, None, condition).await
    };
    // A store that cannot be used at all says so in its own words.
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
