//! Reads one thread.

use crate::app::App;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::thread::document::Thread;
use crate::service::ServiceError;
use crate::storage::cas::{Loaded, load};
use crate::storage::layout;

/// Reads a thread, together with the tag that a swap needs.
///
/// # Errors
///
/// Fails if there is no such thread, or with the store's error.
pub async fn get(
    app: &App,
    exchange: &ExchangeId,
    reference: &Ref,
) -> Result<Loaded<Thread>, ServiceError> {
    let key = layout::thread(exchange, reference);
    let loaded = load(app.store.as_ref(), &key).await?;
    loaded.ok_or(ServiceError::NoThread)
}
