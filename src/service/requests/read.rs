//! Reading one thread.

use crate::app::App;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::thread::document::Thread;
use crate::service::ServiceError;
use crate::storage::cas::{Loaded, load};
use crate::storage::layout;

/// Reads a thread, with the tag to swap it by.
///
/// # Errors
///
/// There is none, or the store's.
pub async fn get(
    app: &App,
    exchange: &ExchangeId,
    reference: &Ref,
) -> Result<Loaded<Thread>, ServiceError> {
    let key = layout::thread(exchange, reference);
    let loaded = load(app.store.as_ref(), &key).await?;
    loaded.ok_or(ServiceError::NoThread)
}
