//! Imports the keys of executors that another server registered.

use super::progress::{Progress, STRETCH, Stage, list, read_all};
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::json::from_bytes;
use crate::domain::member::executor::Executor;
use crate::runtime::log::{describe, warn};
use crate::service::keys;
use crate::storage::{StoreError, layout};

/// Reads a record. Returns `None` if it cannot be read, or if it belongs to another executor than
/// its key says.
pub fn read_executor(exchange: &ExchangeId, key: &str, body: &[u8]) -> Option<Executor> {
    let executor: Executor = from_bytes(body)
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

/// Makes the key objects for a stretch of executors.
pub async fn make(
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
        // Those that are no longer valid as well: the record says which are.
        for key in executor.keys() {
            keys::put(app, exchange, &key.hash, &executor.id, app.clock.now()).await?;
        }
    }
    if page.more {
        return Ok(Progress {
            after: last,
            ..progress
        });
    }
    Ok(progress.enter(Stage::Log))
}
