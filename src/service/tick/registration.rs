//! Sees to a registration. One that was committed is completed. Otherwise its key, which nobody
//! received, is deleted and its invitation given back, once no write can land any more.

use super::batch::next_look;
use super::context::{Seen, Tick, put_off, require};
use crate::service::due::obligations::{Next, Obligation};
use crate::service::members::admit::{Fate, complete, fate, put_key_again, undo};
use crate::storage::StoreError;

/// Completes or undoes the registration of `obligation`.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn see_to(tick: &Tick<'_>, obligation: &Obligation) -> Result<Seen, StoreError> {
    let fate = fate(tick.app, obligation).await?;
    let next = match fate {
        // Nothing is left to land, and what was done since must not be undone.
        Fate::Committed => Next::Done,
        Fate::Uncommitted | Fate::Other => next_look(tick, obligation.begun_at, false),
    };
    match fate {
        Fate::Committed => {
            put_key_again(tick.app, obligation).await?;
            let completed = complete(tick.app, obligation).await;
            require(completed.map_err(put_off)?)?;
        }
        Fate::Uncommitted | Fate::Other if next == Next::Done => {
            undo(tick.app, obligation, fate).await.map_err(put_off)?;
        }
        Fate::Uncommitted | Fate::Other => {}
    }
    Ok(next.into())
}
