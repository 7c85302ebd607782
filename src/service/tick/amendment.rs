//! Sees to a change of what members may do: if it was committed, the audit tells of it.

use serde::Deserialize;

use super::batch::next_look;
use super::context::{Seen, Tick, require};
use crate::domain::ids::ExchangeId;
use crate::domain::member::access::Changes;
use crate::domain::member::audit::AuditEntry;
use crate::domain::time::Timestamp;
use crate::service::members::audit;
use crate::storage::StoreError;
use crate::storage::cas::load;

/// The part of a document that says what changed it: in a record it is below `access`.
#[derive(Deserialize)]
struct Changed {
    #[serde(default)]
    changes: Changes,
    access: Option<Access>,
}

#[derive(Deserialize)]
struct Access {
    #[serde(default)]
    changes: Changes,
}

/// Writes the entry in the audit if the document under `object` was changed.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn see_to(
    tick: &Tick<'_>,
    exchange: &ExchangeId,
    object: &str,
    entry: &AuditEntry,
    begun_at: Timestamp,
) -> Result<Seen, StoreError> {
    let stored = load::<Changed>(tick.app.store.as_ref(), object).await?;
    let is_committed = stored.is_some_and(|stored| {
        let Changed { changes, access } = stored.document;
        changes.have(entry.id) || access.is_some_and(|access| access.changes.have(entry.id))
    });
    if is_committed {
        require(audit::write(tick.app, exchange, entry).await)?;
    }
    Ok(next_look(tick, begun_at, is_committed).into())
}
