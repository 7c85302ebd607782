//! Imports another server's bucket, one stretch at a time.

use super::context::{Seen, Tick};
use crate::domain::ids::ExchangeId;
use crate::service::due::obligations::Next;
use crate::service::import::advance::advance;
use crate::storage::StoreError;

/// Imports a stretch.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn see_to(tick: &Tick<'_>, exchange: &ExchangeId) -> Result<Seen, StoreError> {
    let now = tick.now();
    let next = if advance(tick.app, exchange).await? {
        Next::Done
    } else {
        Next::Again(now)
    };
    Ok(next.into())
}
