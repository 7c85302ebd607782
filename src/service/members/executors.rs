//! The members of an exchange and their profiles.

use std::rc::Rc;

use serde_json::Value;

use crate::app::App;
use crate::delivery::FORMS;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::KeyHash;
use crate::domain::limits::{EXECUTOR_BYTES, LIST_BYTES};
use crate::domain::member::executor::{Executor, LAST_SEEN_STEP, REMOVED, WANTS};
use crate::domain::member::profile::{Editor, Profile};
use crate::domain::member::sealed::Seal;
use crate::domain::member::subscriptions::Rules;
use crate::domain::text::{Fields, Invalid};
use crate::domain::time::Timestamp;
use crate::runtime::background::nothing;
use crate::runtime::log::{describe, warn};
use crate::service::records::{Owner, read_own, summarize};
use crate::service::{ServiceError, WRITE_WINDOW, to_json, turn_to_read_rows};
use crate::storage::cas::{Decision, Loaded, Target, load, swap};
use crate::storage::rows::{Pace, list_summaries};
use crate::storage::{Condition, List, StoreError, encode, layout};

/// How many members one operation lists.
const ROWS: usize = 100;

/// A page of members as others may see them.
#[derive(Debug)]
pub struct Page {
    /// The members, sorted by id.
    pub executors: Vec<Value>,
    /// Where the next page begins, or `None` if this is the last one.
    pub next: Option<String>,
}

/// Reads where a page begins, as [`Page::next`] said it.
///
/// # Errors
///
/// Fails if it was never said.
pub fn parse_cursor(given: Option<&str>) -> Result<Option<ExecutorId>, Invalid> {
    let parse = |text: &str| {
        let problem = "must be the next_cursor of the list of executors";
        ExecutorId::parse(text, "cursor").map_err(|_| Invalid::new("cursor", problem))
    };
    given.map(parse).transpose()
}

/// Lists up to `limit` members after `cursor`, and stops at about [`LIST_BYTES`]. Those who are gone
/// are left out.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn list(
    app: &App,
    exchange: &ExchangeId,
    limit: usize,
    cursor: Option<ExecutorId>,
) -> Result<Page, ServiceError> {
    let _turn = turn_to_read_rows(app, exchange).await?;
    let prefix = layout::executors(exchange);
    let mut after = cursor.map(|id| layout::executor(exchange, &id));
    let (store, cache) = (app.store.as_ref(), &app.isolate.summaries);
    let (mut executors, mut bytes, pacer) = (Vec::new(), 0_usize, Pace::new(store));
    let next = loop {
        let query = List {
            prefix: &prefix,
            after: after.as_deref(),
            limit: limit.saturating_sub(executors.len()).min(ROWS),
            summaries: true,
        };
        let page = list_summaries(store, cache, query, summarize).await?;
        let last = page.rows.len();
        let mut more = page.more;
        for (at, row) in page.rows.into_iter().enumerate() {
            let size = row.summary.as_ref().map_or(0, String::len);
            bytes = bytes.saturating_add(size);
            pacer.did(size).await;
            let shown = row.summary.as_deref().and_then(shown);
            executors.extend(shown.filter(|shown| shown.get(REMOVED).is_none()));
            after = Some(row.key);
            if bytes >= LIST_BYTES {
                more |= at.saturating_add(1) < last;
                break;
            }
        }
        if !more {
            break None;
        }
        if executors.len() >= limit || bytes >= LIST_BYTES {
            let last = after.as_deref();
            let name = last.and_then(|key| layout::name_in(&prefix, key));
            break name.map(ToOwned::to_owned);
        }
    };
    // In the order of keys `a-1.json` comes before `a.json`, but in the order of ids `a` comes
    // first.
    executors.sort_by(|a: &Value, b: &Value| id_of(a).cmp(id_of(b)));
    Ok(Page { executors, next })
}

/// The page of a list in which somebody sees only itself.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn only(
    app: &App,
    exchange: &ExchangeId,
    executor: &ExecutorId,
) -> Result<Page, ServiceError> {
    let record = read_own(app, Owner { exchange, executor }).await?;
    Ok(Page {
        executors: vec![record.public()],
        next: None,
    })
}

/// A row as other members may see it.
fn shown(summary: &str) -> Option<Value> {
    let mut shown: Value = serde_json::from_str(summary)
        .map_err(|error| warn("a member cannot be shown", &describe(&error)))
        .ok()?;
    if let Some(fields) = shown.as_object_mut() {
        fields.shift_remove(WANTS);
    }
    Some(shown)
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

/// Changes an executor's own profile. With `versions`, it must be at one of them.
///
/// # Errors
///
/// Fails if there is no such executor, if the profile is at another version, if the record would be too
/// large, or with the store's error.
pub async fn change_profile(
    app: &Rc<App>,
    exchange: ExchangeId,
    id: ExecutorId,
    profile: Profile,
    versions: Option<Vec<String>>,
) -> Result<(), ServiceError> {
    let (at_work, named) = (app.clone(), exchange.clone());
    change_record(app, exchange, id, move |executor: &mut Executor| {
        executor.name_entries();
        let version = executor.profile_version();
        if versions
            .as_ref()
            .is_some_and(|versions| !versions.contains(&version))
        {
            return Err(ServiceError::ProfileDiffers);
        }
        edit(&at_work, &named, executor, profile.clone())
    })
    .await
}

/// Changes an executor's record, as it itself may.
///
/// # Errors
///
/// Fails if there is no such executor, with the error of `change`, if the record would be too large, or
/// with the store's error.
pub async fn change_record<T: 'static>(
    app: &Rc<App>,
    exchange: ExchangeId,
    id: ExecutorId,
    change: impl Fn(&mut Executor) -> Result<T, ServiceError> + 'static,
) -> Result<T, ServiceError> {
    let at_work = app.clone();
    let work = async move {
        let changed = swap_record(&at_work, &exchange, &id, &change).await;
        (changed, nothing())
    };
    app.background.finish(work).await?
}

async fn swap_record<T>(
    app: &App,
    exchange: &ExchangeId,
    id: &ExecutorId,
    change: &dyn Fn(&mut Executor) -> Result<T, ServiceError>,
) -> Result<T, ServiceError> {
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
    let swapped = swap(target, current, &|_| None, &mut |executor: Option<
        Executor,
    >| {
        let is_member = |executor: &Executor| executor.access.removed_at.is_none();
        let executor = executor.filter(is_member);
        let mut executor = executor.ok_or(ServiceError::NoExecutor)?;
        let changed = change(&mut executor)?;
        executor.last_seen = executor.last_seen.max(now);
        let body = to_json(&executor, "the profile", EXECUTOR_BYTES)?;
        Ok(Decision::Put(body, Some(executor.summary()), changed))
    })
    .await;
    Ok(swapped.result?)
}

/// Whether a key, or its owner, was last seen at least [`LAST_SEEN_STEP`] ago.
pub fn is_unseen(executor: &Executor, hash: &KeyHash, now: Timestamp) -> bool {
    let is_long_ago = |seen: Timestamp| now.since(seen) >= LAST_SEEN_STEP;
    let key = executor.find_key(hash);
    let last_used = key.and_then(|key| key.last_used_at).unwrap_or_default();
    is_long_ago(executor.last_seen) || is_long_ago(last_used)
}

/// Notes in a record, as it was read, that a key was used, and seals credentials that are not sealed
/// with the current key.
///
/// # Errors
///
/// Fails with the store's error. It does not fail if another change of the record was faster,
/// because the next call tries again.
pub async fn touch(
    app: &App,
    exchange: &ExchangeId,
    record: Loaded<Executor>,
    hash: &KeyHash,
) -> Result<(), StoreError> {
    let Loaded { mut document, tag } = record;
    let key = layout::executor(exchange, &document.id);
    document.used(hash, app.clock.now());
    // An empty profile contains nothing that could be refused.
    let _ = edit(app, exchange, &mut document, Profile::default());
    let body = encode(&key, &document)?;
    let summary = document.summary();
    let condition = Condition::Matches(&tag);
    let put = app.store.put(&key, body, Some(&summary), condition);
    put.await?;
    Ok(())
}
