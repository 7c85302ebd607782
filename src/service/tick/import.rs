//! The import of another server's bucket, a stretch at a time.

use super::context::{Seen, Tick};
use crate::domain::ids::ExchangeId;
use crate::service::due::obligations::Next;
use crate::service::import::advance::advance;
use crate::storage::StoreError;

/// Does a stretch.
///
/// # Errors
///
/// The store's.
pub async fn see_to(tick: &Tick<'_>, exchange: &ExchangeId) -> Result<Seen, StoreError> {
    let now = tick.now();
    let next = if advance(tick.app, exchange).await? {
        Next::Done
    } else {
        Next::Again(now)
    };
    Ok(next.into())
}
