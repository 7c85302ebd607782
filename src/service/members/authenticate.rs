//! Finds out whose key it is.

use std::rc::Rc;

use super::executors;
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::{ApiKey, KeyHash};
use crate::isolate::KnownKey;
use crate::service::import::standing::{find_older_key, is_imported};
use crate::service::{ServiceError, keys};

/// For this many milliseconds, an isolate trusts a key that it found without looking again.
const BELIEVED: i64 = 60_000;
/// How many keys an isolate remembers. If there are more, it forgets all of them and starts again.
const REMEMBERED: usize = 10_000;

/// The executor that a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The executor.
    pub executor: ExecutorId,
    /// Whether its exchange is complete. It is not while another server's bucket is being imported.
    /// This is determined here only.
    pub is_imported: bool,
}

/// Finds the executor that `key` belongs to, in the exchange that the key names. Returns `None` if
/// the key belongs to nobody.
///
/// # Errors
///
/// Fails with the store's error, or if too little of another server's bucket is imported to tell.
pub async fn authenticate(app: &Rc<App>, key: &ApiKey) -> Result<Option<Login>, ServiceError> {
    let Some(executor) = executor_of(app, key).await? else {
        return Ok(None);
    };
    let is_imported = is_imported(app, key.exchange()).await?;
    Ok(Some(Login {
        executor,
        is_imported,
    }))
}

async fn executor_of(app: &Rc<App>, key: &ApiKey) -> Result<Option<ExecutorId>, ServiceError> {
    let hash = key.hash();
    if let Some(known) = app.isolate.keys.borrow().get(&hash)
        && known.until > app.clock.now()
    {
        return Ok(Some(known.executor.clone()));
    }
    let exchange = key.exchange();
    let executor = match keys::find(app, exchange, &hash).await? {
        None if key.is_older_form() => find_older_key(app, exchange, &hash).await?,
        found => found,
    };
    let Some(executor) = executor else {
        return Ok(None);
    };
    remember(app, hash, &executor);
    see(app, exchange.clone(), executor.clone());
    Ok(Some(executor))
}

fn remember(app: &App, hash: KeyHash, executor: &ExecutorId) {
    let mut keys = app.isolate.keys.borrow_mut();
    if keys.len() >= REMEMBERED {
        keys.clear();
    }
    let known = KnownKey {
        executor: executor.clone(),
        until: app.clock.now().plus_millis(BELIEVED),
    };
    keys.insert(hash, known);
}

/// Records after the answer that the executor was seen.
fn see(app: &Rc<App>, exchange: ExchangeId, executor: ExecutorId) {
    let seen = app.clone();
    app.background.run(async move {
        if let Err(error) = executors::touch(&seen, &exchange, &executor).await {
            crate::runtime::log::warn("last_seen was not moved", &error);
        }
    });
}
