//! Reading one thread.

use std::rc::Rc;

use crate::app::App;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::thread::document::Thread;
use crate::service::{ServiceError, import};
use crate::storage::cas::{Loaded, load};
use crate::storage::layout;

/// Reads a thread, with the tag to swap it by.
///
/// # Errors
///
/// There is none, it is not derived yet, or the store's.
pub async fn get(
    app: &Rc<App>,
    exchange: &ExchangeId,
    reference: &Ref,
) -> Result<Loaded<Thread>, ServiceError> {
    let key = layout::thread(exchange, reference);
    if let Some(loaded) = load(app.store.as_ref(), &key).await? {
        return Ok(loaded);
    }
    if import::is_known_complete(app, exchange) {
        return Err(ServiceError::NoThread);
    }
    if !import::is_complete(app, exchange).await? {
        return Err(ServiceError::Deriving);
    }
    // It may have been derived since we looked.
    load(app.store.as_ref(), &key)
        .await?
        .ok_or(ServiceError::NoThread)
}
