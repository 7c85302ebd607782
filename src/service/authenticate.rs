//! Whose key it is.

use std::rc::Rc;

use super::register::KeyRecord;
use super::{ServiceError, derive, executors};
use crate::app::{App, KnownKey};
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::ApiKey;
use crate::storage::cas::load;
use crate::storage::layout;

/// Milliseconds for which a key that was found is believed without asking again.
const BELIEVED: i64 = 60_000;
/// Keys that an isolate remembers; when there are more it begins anew.
const REMEMBERED: usize = 10_000;

/// Finds the executor that `key` belongs to, in the exchange that the key names; `None` when
/// it is nobody's.
///
/// # Errors
///
/// The store's, or that the bucket of another server is not far enough taken over to tell.
pub async fn executor_of(app: &Rc<App>, key: &ApiKey) -> Result<Option<ExecutorId>, ServiceError> {
    let hash = key.hash();
    let now = app.clock.now();
    if let Some(known) = app.isolate.keys.borrow().get(&hash)
        && known.until > now
    {
        return Ok(Some(known.executor.clone()));
    }
    let exchange = key.exchange();
    let stored = load::<KeyRecord>(app.store.as_ref(), &layout::key(exchange, &hash)).await?;
    let executor = match stored {
        Some(record) => record.document.executor_id,
        None if key.is_older_form() => match derive::find_older_key(app, exchange, &hash).await? {
            Some(executor) => executor,
            None => return Ok(None),
        },
        None => return Ok(None),
    };
    let mut keys = app.isolate.keys.borrow_mut();
    if keys.len() >= REMEMBERED {
        keys.clear();
    }
    let known = KnownKey {
        executor: executor.clone(),
        until: now.plus_millis(BELIEVED),
    };
    keys.insert(hash, known);
    drop(keys);
    see(app, exchange.clone(), executor.clone());
    Ok(Some(executor))
}

/// Notes, after the answer, that the executor was here.
fn see(app: &Rc<App>, exchange: ExchangeId, executor: ExecutorId) {
    let seen = app.clone();
    app.background.run(async move {
        if let Err(error) = executors::touch(&seen, &exchange, &executor).await {
            crate::log::warn("last_seen was not moved", &error);
        }
    });
}
