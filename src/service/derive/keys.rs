//! The keys of executors that another server registered.

use std::rc::Rc;

use super::{Phase, Progress, STRETCH, is_complete, list, read_all};
use crate::app::App;
use crate::domain::executor::Executor;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::KeyHash;
use crate::log::warn;
use crate::service::ServiceError;
use crate::service::register::put_key;
use crate::storage::{StoreError, layout};

/// Executor records that a login with an older key looks through.
const LOGIN_EXAMINED: usize = 300;

/// Finds the executor that an older key belongs to, in a bucket where it has no object yet.
///
/// # Errors
///
/// The store's, or that there are too many records to tell now.
pub async fn find_older_key(
    app: &Rc<App>,
    exchange: &ExchangeId,
    hash: &KeyHash,
) -> Result<Option<ExecutorId>, ServiceError> {
    if is_complete(app, exchange).await? {
        return Ok(None);
    }
    let prefix = layout::executors(exchange);
    let page = list(app, &prefix, None, LOGIN_EXAMINED).await?;
    for (key, body) in read_all(app, page.rows).await? {
        let Some(executor) = read_executor(&key, &body) else {
            continue;
        };
        if executor.older_key().as_ref() == Some(hash) {
            put_key(app, exchange, hash, &executor.id, app.clock.now()).await?;
            return Ok(Some(executor.id));
        }
    }
    if page.more {
        return Err(ServiceError::Deriving);
    }
    Ok(None)
}

fn read_executor(key: &str, body: &[u8]) -> Option<Executor> {
    serde_json::from_slice(body)
        .map_err(|error| warn(&format!("{key} is not an executor's record"), &error))
        .ok()
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
        let Some(executor) = read_executor(&key, &body) else {
            continue;
        };
        if let Some(hash) = executor.older_key() {
            put_key(app, exchange, &hash, &executor.id, app.clock.now()).await?;
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
