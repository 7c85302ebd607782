//! Sees to the end of a membership, until nothing of the member can be committed any more.

use super::batch::{OPERATIONS_FOR_OTHERS, next_look};
use super::context::{Seen, Tick, put_off, require};
use crate::domain::time::Timestamp;
use crate::service::due::obligations::{Next, Removal};
use crate::service::members::audit;
use crate::service::members::removal::{SETTLED, complete, depart};
use crate::storage::StoreError;

/// Completes a removal that was committed.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn see_to(
    tick: &Tick<'_>,
    removal: &Removal,
    begun_at: Timestamp,
) -> Result<Seen, StoreError> {
    let app = tick.app;
    if !complete(app, removal).await.map_err(put_off)? {
        return Ok(next_look(tick, begun_at, false).into());
    }
    require(audit::write(app, &removal.exchange_id, &removal.entry).await)?;
    let is_settled = tick.now().since(begun_at) >= SETTLED;
    let is_done = depart(app, removal, OPERATIONS_FOR_OTHERS).await;
    let is_done = is_done.map_err(put_off)?;
    let next = match (is_done, is_settled) {
        (true, true) => Next::Done,
        (true, false) => Next::Again(begun_at.plus_millis(SETTLED)),
        (false, _) => Next::Again(tick.now()),
    };
    Ok(next.into())
}
