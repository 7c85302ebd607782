//! Deletes an executor's old attempts, one stretch at a time.

use super::context::{Seen, Tick};
use crate::service::deliveries::record::sweep;
use crate::service::due::obligations::Next;
use crate::service::records::Owner;
use crate::storage::StoreError;

/// Deletes a stretch.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn see_to(tick: &Tick<'_>, owner: Owner<'_>) -> Result<Seen, StoreError> {
    let now = tick.now();
    let next = if sweep(tick.app, owner, now).await? {
        Next::Again(now.plus_millis(1))
    } else {
        Next::Done
    };
    Ok(next.into())
}
