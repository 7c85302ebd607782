//! The rest of an announcement: executors that the writer's own invocation did not come to.

use super::batch::Batch;
use super::context::{Seen, Tick};
use crate::service::due::obligations::Next;
use crate::storage::StoreError;

/// Goes on after the key `after`.
///
/// # Errors
///
/// The store's.
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
