//! The members of an exchange and their profiles.

use std::rc::Rc;

use serde_json::Value;

use crate::app::App;
use crate::delivery::FORMS;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::member::executor::{Executor, LAST_SEEN_STEP, WANTS};
use crate::domain::member::profile::{Editor, Profile};
use crate::domain::member::sealed::Seal;
use crate::domain::member::subscriptions::Rules;
use crate::domain::text::{Fields, Invalid};
use crate::runtime::background::nothing;
use crate::service::records::{Owner, summarize};
use crate::service::{ServiceError, WRITE_WINDOW, to_json, turn_to_read_rows};
use crate::storage::cas::{Decision, Loaded, Target, load, swap};
use crate::storage::rows::read_summaries;
use crate::storage::{Condition, StoreError, encode, layout};

/// Lists the members of an exchange as other members may see them, sorted by id.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn list(app: &App, exchange: &ExchangeId) -> Result<Vec<Value>, ServiceError> {
    let _turn = turn_to_read_rows(app, exchange).await?;
    let prefix = layout::executors(exchange);
    let (store, cache) = (app.store.as_ref(), &app.isolate.summaries);
    let mut executors = read_summaries(store, cache, &prefix, summarize).await?;
    for executor in executors.iter_mut().filter_map(Value::as_object_mut) {
        executor.shift_remove(WANTS);
    }
    // In the order of keys `a-1.json` comes before `a.json`, but in the order of ids `a` comes
    // first.
    executors.sort_by(|a: &Value, b: &Value| id_of(a).cmp(id_of(b)));
    Ok(executors)
}

fn id_of(public: &Value) -> &str {
    public.get("id").and_then(Value::as_str).unwrap_or_default()
}

/// Reads the fields of a profile by the rules of this deployment.
///
/// # Errors
///
/// Fails with the path of the first thing that is wrong.
pub fn parse_profile(app: &App, fields: &mut Fields) -> Result<Profile, Invalid> {
    let rules = Rules {
        forms: FORMS,
        allow_private: app.config.outbound_allow_private,
        is_zone: &|zone| app.zones.offset(zone, app.clock.now()).is_some(),
    };
    Profile::parse(fields, &rules)
}

/// Writes a profile into an executor's record. Seals the credentials if the deployment has a key.
///
/// # Errors
///
/// Fails if a credential is masked but the record has no credential in its place.
pub fn edit(
    app: &App,
    exchange: &ExchangeId,
    executor: &mut Executor,
    profile: Profile,
) -> Result<(), ServiceError> {
    let owner = Owner {
        exchange,
        executor: &executor.id,
    };
    let owner = owner.sealed_for();
    let editor = Editor {
        forms: FORMS,
        seal: Seal {
            keys: &app.config.secrets,
            owner: &owner,
        },
        now: app.clock.now(),
        new_id: &|| app.clock.new_entry_id(),
        nonce: &|| app.clock.random_bytes(),
    };
    editor
        .change(executor, profile)
        .map_err(ServiceError::Invalid)
}

/// Changes an executor's own profile.
///
/// # Errors
///
/// Fails if there is no such executor, if the record would be too large, or with the store's error.
pub async fn change_profile(
    app: &Rc<App>,
    exchange: ExchangeId,
    id: ExecutorId,
    profile: Profile,
) -> Result<(), ServiceError> {
    let at_work = app.clone();
    let work = async move {
        let changed = swap_profile(&at_work, &exchange, &id, &profile).await;
        (changed, nothing())
    };
    app.background.finish(work).await?
}

async fn swap_profile(
    app: &App,
    exchange: &ExchangeId,
    id: &ExecutorId,
    profile: &Profile,
) -> Result<(), ServiceError> {
    let store = app.store.as_ref();
    let key = layout::executor(exchange, id);
    let current = load::<Executor>(store, &key).await?;
    let now = app.clock.now();
    let target = Target {
        store,
        clock: app.clock.as_ref(),
        key: &key,
        deadline: now.plus_millis(WRITE_WINDOW),
    };
    // This is one put of one object, so repeating it after an unclear answer does no harm.
    let swapped = swap(
        target,
        current,
        |_| None,
        |executor: Option<Executor>| {
            let mut executor = executor.ok_or(ServiceError::NoExecutor)?;
            edit(app, exchange, &mut executor, profile.clone())?;
            executor.last_seen = executor.last_seen.max(now);
            let body = to_json(&executor, "the profile", EXECUTOR_BYTES)?;
            Ok(Decision::Put(body, Some(executor.summary()), ()))
        },
    )
    .await;
    Ok(swapped.result?)
}

/// Moves `last_seen`, unless it was moved within [`LAST_SEEN_STEP`], and seals credentials that are
/// not sealed with the current key.
///
/// # Errors
///
/// Fails with the store's error. It does not fail if another change of the record was faster,
/// because the next call tries again.
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
    // An empty profile contains nothing that could be refused.
    let _ = edit(app, exchange, &mut document, Profile::default());
    let body = encode(&key, &document)?;
    let summary = document.summary();
    store
        .put(&key, body, Some(&summary), Condition::Matches(&tag))
        .await?;
    Ok(())
}
