//! Sees to a registration. One that was committed is completed. Otherwise its key, which nobody
//! received, is deleted once no write can land any more.

use super::batch::next_look;
use super::context::{Seen, Tick, require};
use crate::domain::member::executor::Executor;
use crate::service::due::obligations::{Next, Obligation, Subject};
use crate::service::members::register::{is_of, write_event};
use crate::storage::cas::load;
use crate::storage::{StoreError, layout};

/// Completes or undoes the registration of `obligation`.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn see_to(tick: &Tick<'_>, obligation: &Obligation) -> Result<Seen, StoreError> {
    let Subject::Registration {
        exchange_id: exchange,
        executor_id: executor,
        key_hash,
        ..
    } = &obligation.subject
    else {
        return Ok(Next::Done.into());
    };
    let store = tick.app.store.as_ref();
    let stored = load::<Executor>(store, &layout::executor(exchange, executor)).await?;
    let is_committed = stored.is_some_and(|stored| is_of(&stored.document, obligation));
    let next = next_look(tick, obligation.begun_at, is_committed);
    if is_committed {
        require(write_event(tick.app, obligation).await)?;
    } else if next == Next::Done {
        store.delete(&layout::key(exchange, key_hash)).await?;
    }
    Ok(next.into())
}
