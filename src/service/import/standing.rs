//! Whether an exchange is completely imported, and whose key of the older form it is until then.
use std::rc::Rc;

use super::advance::continue_in_background;
use super::keys::read_executor;
use super::progress::{
    Progress, Stage, begin, is_known_complete, list, obligation, read_all, remember, save,
};
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::KeyHash;
use crate::service::{ServiceError, keys};
use crate::storage::cas::load;
use crate::storage::{Condition, StoreError, layout};

/// How many executor records a login with a key of the older form looks through.
const LOGIN_EXAMINED: usize = 300;

/// The standing of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Every thread has been imported, or was made by this server.
    Complete,
    /// The exchange is empty.
    New,
    /// The log may contain more than the threads do.
    Underway(Stage),
}

/// Whether every thread of the exchange has been imported. If not, the import advances after the
/// answer.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn is_imported(app: &Rc<App>, exchange: &ExchangeId) -> Result<bool, ServiceError> {
    match standing(app, exchange).await? {
        Standing::Complete | Standing::New => Ok(true),
        Standing::Underway(_) => {
            continue_in_background(app, exchange);
            Ok(false)
        }
    }
}

/// Marks an empty exchange as one that has nothing to import. This must be called before its first
/// member joins.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn mark_if_new(app: &App, exchange: &ExchangeId) -> Result<(), ServiceError> {
    if standing(app, exchange).await? == Standing::New {
        let complete = Progress::at(Stage::Complete);
        if save(app, exchange, &complete, Condition::Absent).await? {
            remember(app, exchange);
        }
    }
    Ok(())
}

async fn standing(app: &App, exchange: &ExchangeId) -> Result<Standing, StoreError> {
    if is_known_complete(app, exchange) {
        return Ok(Standing::Complete);
    }
    let store = app.store.as_ref();
    match load::<Progress>(store, &layout::import_progress(exchange)).await? {
        Some(loaded) if loaded.document.stage == Stage::Complete => {
            remember(app, exchange);
            return Ok(Standing::Complete);
        }
        Some(loaded) => return Ok(Standing::Underway(loaded.document.stage)),
        None => {}
    }
    let executors = list(app, &layout::executors(exchange), None, 1).await?;
    let events = list(app, &layout::events(exchange), None, 1).await?;
    if executors.rows.is_empty() && events.rows.is_empty() {
        return Ok(Standing::New);
    }
    obligation(exchange).begin(app).await?;
    begin(app, exchange).await?;
    Ok(Standing::Underway(Stage::Executors))
}

/// Finds the executor that a key of the older form belongs to. The key may not have an object yet.
/// Until the import has made the key objects, this looks through the records themselves.
///
/// # Errors
///
/// Fails with the store's error, or if there are too many records to look through now.
pub async fn find_older_key(
    app: &Rc<App>,
    exchange: &ExchangeId,
    hash: &KeyHash,
) -> Result<Option<ExecutorId>, ServiceError> {
    if is_known_complete(app, exchange) {
        return Ok(None);
    }
    if standing(app, exchange).await? != Standing::Underway(Stage::Executors) {
        // The key's object may have been made since the last look.
        return Ok(keys::find(app, exchange, hash).await?);
    }
    let page = list(app, &layout::executors(exchange), None, LOGIN_EXAMINED).await?;
    for (key, body) in read_all(app, page.rows).await? {
        let Some(executor) = read_executor(exchange, &key, &body) else {
            continue;
        };
        if executor.find_key(hash).is_some() {
            keys::put(app, exchange, hash, &executor.id, app.clock.now()).await?;
            return Ok(Some(executor.id));
        }
    }
    if page.more {
        continue_in_background(app, exchange);
        return Err(ServiceError::Importing);
    }
    Ok(None)
}
