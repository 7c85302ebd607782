//! Reading one thread.

use super::{ServiceError, derive};
use crate::app::App;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::thread::Thread;
use crate::storage::cas::{Loaded, load};
use crate::storage::layout;

/// Reads a thread.
///
/// # Errors
///
/// There is none, it is not derived yet, or the store's.
pub async fn get(
    app: &std::rc::Rc<App>,
    exchange: &ExchangeId,
    reference: &Ref,
) -> Result<Thread, ServiceError> {
    let key = layout::thread(exchange, reference);
    match load(app.store.as_ref(), &key).await? {
        Some(Loaded { document, .. }) => Ok(document),
        None => Err(missing(app, exchange).await?),
    }
}

/// What it means that a thread is not in the bucket.
pub async fn missing(
    app: &std::rc::Rc<App>,
    exchange: &ExchangeId,
) -> Result<ServiceError, ServiceError> {
    if derive::is_complete(app, exchange).await? {
        Ok(ServiceError::NoThread)
    } else {
        Ok(ServiceError::Deriving)
    }
}
