//! Sees to a registration. One that was committed is completed. Otherwise its key, which nobody
//! received, is deleted and its invitation given back, once no write can land any more.

use uuid::Uuid;

use super::batch::next_look;
use super::context::{Seen, Tick, put_off, require};
use crate::domain::time::Timestamp;
use crate::service::due::obligations::{Next, Registration};
use crate::service::keys;
use crate::service::members::admit::{Fate, complete, fate, undo};
use crate::storage::StoreError;

/// Completes or undoes the registration `id`.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn see_to(
    tick: &Tick<'_>,
    id: Uuid,
    begun_at: Timestamp,
    registration: &Registration,
) -> Result<Seen, StoreError> {
    let fate = fate(tick.app, id, registration).await?;
    let next = match fate {
        // Nothing is left to land, and what was done since must not be undone.
        Fate::Committed => Next::Done,
        Fate::Uncommitted | Fate::Other => next_look(tick, begun_at, false),
    };
    match fate {
        Fate::Committed => {
            // An earlier attempt may have deleted it. Nothing changes if it is there.
            let Registration {
                exchange_id,
                executor_id,
                key_hash,
                ..
            } = registration;
            keys::put(tick.app, exchange_id, key_hash, executor_id, begun_at).await?;
            let completed = complete(tick.app, id, registration).await;
            require(completed.map_err(put_off)?)?;
        }
        Fate::Uncommitted | Fate::Other if next == Next::Done => {
            undo(tick.app, id, registration, fate)
                .await
                .map_err(put_off)?;
        }
        Fate::Uncommitted | Fate::Other => {}
    }
    Ok(next.into())
}
