//! Continues an announcement for the executors that the writer's invocation did not get to.

use super::batch::Batch;
use super::context::{Seen, Tick};
use crate::service::due::obligations::Next;
use crate::storage::StoreError;

/// Announces the batch to the executors after the key `after`.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn see_to(tick: &Tick<'_>, batch: &Batch<'_>, after: &str) -> Result<Seen, StoreError> {
    let Some(thread) = batch.load_thread(tick.app).await? else {
        return Ok(Next::Done.into());
    };
    let announced = batch.announce(tick, &thread, Some(after.to_owned()));
    Ok(Seen {
        next: Next::Done,
        announced: announced.await?,
    })
}
