//! The keys of executors that another server registered.

use std::rc::Rc;

use super::{
    Phase, Progress, STRETCH, Standing, continue_in_background, is_known_complete, list, read_all,
    standing,
};
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::KeyHash;
use crate::domain::member::executor::Executor;
use crate::runtime::log::{describe, warn};
use crate::service::{ServiceError, keys};
use crate::storage::{StoreError, layout};

/// Executor records that a login with an older key looks through.
const LOGIN_EXAMINED: usize = 300;

/// Finds the executor that an older key belongs to, in a bucket where it may have no object
/// yet. Only until the key objects are made are the records themselves looked through.
///
/// # Errors
///
/// The store's, or that there are too many records to tell now.
pub async fn find_older_key(
    app: &Rc<App>,
    exchange: &ExchangeId,
    hash: &KeyHash,
) -> Result<Option<ExecutorId>, ServiceError> {
    if is_known_complete(app, exchange) {
        return Ok(None);
    }
    if standing(app, exchange).await? != Standing::Underway(Phase::Executors) {
        // Its object may have been made since we looked.
        return Ok(keys::find(app, exchange, hash).await?);
    }
    let page = list(app, &layout::executors(exchange), None, LOGIN_EXAMINED).await?;
    for (key, body) in read_all(app, page.rows).await? {
        let Some(executor) = read_executor(exchange, &key, &body) else {
            continue;
        };
        if executor.key_hash().as_ref() == Some(hash) {
            keys::put(app, exchange, hash, &executor.id, app.clock.now()).await?;
            return Ok(Some(executor.id));
        }
    }
    if page.more {
        continue_in_background(app, exchange);
        return Err(ServiceError::Deriving);
    }
    Ok(None)
}

/// Reads a record, which must be of the executor that its key names.
fn read_executor(exchange: &ExchangeId, key: &str, body: &[u8]) -> Option<Executor> {
    let executor: Executor = serde_json::from_slice(body)
        .map_err(|error| {
            let what = format!("{key} is not an executor's record");
            warn(&what, &describe(&error));
        })
        .ok()?;
    let named = ExecutorId::parse(executor.id.as_str(), "id")
        .is_ok_and(|id| layout::executor(exchange, &id) == key);
    if !named {
        warn("a record is left out", &format!("{key} names another id"));
    }
    named.then_some(executor)
}

/// Makes the key objects of a stretch of executors.
pub(super) async fn derive(
    app: &App,
    exchange: &ExchangeId,
    progress: Progress,
) -> Result<Progress, StoreError> {
    let prefix = layout::executors(exchange);
    let page = list(app, &prefix, progress.after.as_deref(), STRETCH).await?;
    let last = page.rows.last().map(|row| row.key.clone());
    for (key, body) in read_all(app, page.rows).await? {
        let Some(executor) = read_executor(exchange, &key, &body) else {
            continue;
        };
        if let Some(hash) = executor.key_hash() {
            keys::put(app, exchange, &hash, &executor.id, app.clock.now()).await?;
        }
    }
    if page.more {
        return Ok(Progress {
            after: last,
            ..progress
        });
    }
    Ok(progress.enter(Phase::Log))
}
