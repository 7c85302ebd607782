//! Whose key it is.

use std::rc::Rc;

use super::executors;
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::{ApiKey, KeyHash};
use crate::isolate::KnownKey;
use crate::service::import::standing::{find_older_key, is_imported};
use crate::service::{ServiceError, keys};

/// Milliseconds for which a key that was found is believed without asking again.
const BELIEVED: i64 = 60_000;
/// Keys that an isolate remembers; when there are more it begins anew.
const REMEMBERED: usize = 10_000;

/// Who holds a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The executor.
    pub executor: ExecutorId,
    /// Whether everything of its exchange is there: false while another server's bucket is being
    /// imported. This is the one place where that is asked.
    pub is_imported: bool,
}

/// Finds whose `key` is, in the exchange that the key names; `None` when it is nobody's.
///
/// # Errors
///
/// The store's, or that the bucket of another server is not far enough imported to tell.
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

/// Notes, after the answer, that the executor was here.
fn see(app: &Rc<App>, exchange: ExchangeId, executor: ExecutorId) {
    let seen = app.clone();
    app.background.run(async move {
        if let Err(error) = executors::touch(&seen, &exchange, &executor).await {
            crate::runtime::log::warn("last_seen was not moved", &error);
        }
    });
}
