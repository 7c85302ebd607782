//! The members of an exchange and their profiles.

use std::rc::Rc;

use serde_json::Value;

use super::{ServiceError, WRITE_WINDOW, to_json};
use crate::app::App;
use crate::domain::executor::{Executor, LAST_SEEN_STEP, Profile};
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::limits::EXECUTOR_BYTES;
use crate::storage::cas::{Loaded, Step, Target, load, swap};
use crate::storage::rows::list_summaries;
use crate::storage::{Condition, List, StoreError, encode, layout};

/// Lists the members of an exchange, as other members may see them, sorted by id.
///
/// # Errors
///
/// The store's.
pub async fn list(app: &App, exchange: &ExchangeId) -> Result<Vec<Value>, ServiceError> {
    let prefix = layout::executors(exchange);
    let mut executors = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let query = List {
            prefix: &prefix,
            after: after.as_deref(),
            limit: 100,
            summaries: true,
        };
        let store = app.store.as_ref();
        let page = list_summaries(store, &app.isolate.summaries, query, summarize).await?;
        after = page.rows.last().map(|(key, _)| key.clone()).or(after);
        for (key, summary) in page.rows {
            match summary.as_deref().map(serde_json::from_str) {
                Some(Ok(executor)) => executors.push(executor),
                Some(Err(error)) => crate::log::warn("an executor cannot be shown", &error),
                None => crate::log::warn("an executor cannot be shown", &key),
            }
        }
        if !page.more {
            break;
        }
    }
    // Keys sort `a-1.json` before `a.json`, ids do not.
    executors.sort_by(|a: &Value, b: &Value| id_of(a).cmp(id_of(b)));
    Ok(executors)
}

fn id_of(public: &Value) -> &str {
    public.get("id").and_then(Value::as_str).unwrap_or_default()
}

fn summarize(body: &[u8]) -> Option<String> {
    let executor: Executor = serde_json::from_slice(body).ok()?;
    Some(executor.public().to_string())
}

/// Changes an executor's own profile.
///
/// # Errors
///
/// There is no such executor, the record would be too large, or the store's.
pub async fn change_profile(
    app: &Rc<App>,
    exchange: ExchangeId,
    id: ExecutorId,
    profile: Profile,
) -> Result<(), ServiceError> {
    let store = app.store.as_ref();
    let key = layout::executor(&exchange, &id);
    let current = load::<Executor>(store, &key).await?;
    let now = app.clock.now();
    let target = Target {
        store,
        clock: app.clock.as_ref(),
        key: &key,
        deadline: now.plus_millis(WRITE_WINDOW),
    };
    // One object, one put: to repeat it after an unclear answer does no harm.
    let swapped = swap(
        target,
        current,
        |_| None,
        |executor: Option<Executor>| {
            let mut executor = executor.ok_or(ServiceError::NoExecutor)?;
            executor.change(profile.clone());
            executor.last_seen = executor.last_seen.max(now);
            let body = to_json(&executor, "the profile", EXECUTOR_BYTES)?;
            Ok(Step::Put(body, Some(executor.public().to_string()), ()))
        },
    )
    .await;
    Ok(swapped.result?)
}

/// Moves `last_seen`, unless it was moved within [`LAST_SEEN_STEP`].
///
/// # Errors
///
/// The store's. Losing to another change of the record is none: the next call tries again.
pub async fn touch(app: &App, exchange: &ExchangeId, id: &ExecutorId) -> Result<(), StoreError> {
    let store = app.store.as_ref();
    let key = layout::executor(exchange, id);
    let Some(Loaded { mut document, tag }) = load::<Executor>(store, &key).await? else {
        return Ok(());
    };
    let now = app.clock.now();
    if now.since(document.last_seen) < LAST_SEEN_STEP {
        return Ok(());
    }
    document.last_seen = now;
    let body = encode(&key, &document)?;
    let summary = document.public().to_string();
    store
        .put(&key, body, Some(&summary), Condition::Matches(&tag))
        .await?;
    Ok(())
}
