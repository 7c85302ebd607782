//! Records the outcomes of deliveries: the log of attempts, streaks of failures, and the ids that
//! providers gave.

use futures::stream::{self, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::delivery::FORMS;
use crate::delivery::retry::GIVEN_UP_AFTER;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref, derived_id};
use crate::domain::member::executor::{Executor, entry_id};
use crate::domain::member::subscriptions::own;
use crate::domain::time::Timestamp;
use crate::runtime::log::warn;
use crate::service::due::obligations::{Obligation, Subject};
use crate::service::records::Owner;
use crate::storage::cas::{Decision, Swapped, Target, load, swap};
use crate::storage::rows::{list_summaries, whole_body};
use crate::storage::{Condition, List, Put, StoreError, encode, layout};

/// For this many milliseconds, attempts are kept.
pub const KEPT_FOR: i64 = 7 * 24 * 3_600_000;
/// How many arranged deletions an isolate remembers. If there are more, it forgets all of them and
/// starts again.
const SWEEPS_KNOWN: usize = 10_000;
const DAY: i64 = 24 * 3_600_000;
/// How many old attempts one sweep deletes.
const SWEPT: usize = 200;
/// How many operations run at once.
const PARALLEL: usize = 6;
/// For this many milliseconds, a change of a record may start a put.
const WRITE_WINDOW: i64 = 30_000;

/// How an attempt ended, as the log of attempts shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The receiver has the delivery.
    Delivered,
    /// The delivery will be tried again.
    Retrying,
    /// The delivery failed and will not be tried again.
    Failed,
    /// The delivery was no longer needed, or can never be made.
    Dropped,
}

/// An attempt, as it is stored and as its owner sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it was made.
    pub at: Timestamp,
    /// The id of the delivery, which is the same for all its attempts.
    pub delivery_id: Uuid,
    /// The event that it tells.
    pub event: String,
    /// The request, or `None` if it is a test.
    #[serde(rename = "ref")]
    pub reference: Option<Ref>,
    /// The type of the channel or hook.
    #[serde(rename = "type")]
    pub kind: String,
    /// The id of the channel or hook.
    pub subscription: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong, if something did.
    pub error: Option<String>,
    /// When the delivery is tried again, if it is.
    pub next_attempt_at: Option<Timestamp>,
}

/// What is known about the id that a hook should get for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum External {
    /// The provider's id.
    ExternalId(String),
    /// There will be no id: the hook failed permanently, or its provider gave none.
    Never,
}

/// A streak of failures of a channel or hook, with the moment when it began.
#[derive(Serialize, Deserialize)]
struct Streak {
    since: Timestamp,
}

/// Writes an attempt to its owner's log. If that fails, the log only has a gap.
pub async fn log_attempt(app: &App, owner: Owner<'_>, attempt: &Attempt) {
    let key = layout::attempt(
        owner.exchange,
        owner.executor,
        attempt.at,
        attempt.delivery_id,
    );
    let write = async {
        let body = encode(&key, attempt)?;
        let summary = String::from_utf8_lossy(&body).into_owned();
        app.store
            .put(&key, body, Some(&summary), Condition::Absent)
            .await
    };
    if let Err(error) = write.await {
        warn("an attempt could not be logged", &error);
    }
}

/// An owner's last attempts, newest first.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn last_attempts(
    app: &App,
    owner: Owner<'_>,
    limit: usize,
) -> Result<Vec<Value>, StoreError> {
    let prefix = layout::attempts(owner.exchange, owner.executor);
    let query = List {
        prefix: &prefix,
        after: None,
        limit,
        summaries: true,
    };
    let store = app.store.as_ref();
    let page = list_summaries(store, &app.isolate.summaries, query, whole_body).await?;
    let rows = page.rows.into_iter().filter_map(|row| row.summary);
    Ok(rows
        .filter_map(|row| serde_json::from_str(&row).ok())
        .collect())
}

/// Arranges that an executor's attempts of this day are deleted when they are old. There is one
/// obligation for each executor and day. Their moments are spread over a day, so that they do not
/// all fall due at midnight.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn arrange_sweep(
    app: &App,
    exchange: &ExchangeId,
    executor: &ExecutorId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let day = now.millis().div_euclid(DAY);
    let parts = ["sweep", exchange.as_str(), executor.as_str()];
    let id = derived_id(&[&parts.join(" "), &day.to_string()]);
    let known = id.to_string();
    if app.isolate.swept.borrow().contains(&known) {
        return Ok(());
    }
    let spread = i64::from(id.as_fields().0).rem_euclid(DAY);
    let subject = Subject::Sweep {
        exchange_id: exchange.clone(),
        executor_id: executor.clone(),
    };
    let obligation = Obligation::of(id, now, subject);
    let day_is_over = Timestamp::from_millis(day.saturating_add(1).saturating_mul(DAY));
    let due_at = day_is_over.plus_millis(KEPT_FOR.saturating_add(spread));
    obligation.put_new(app, &layout::due(due_at, id)).await?;
    let mut swept = app.isolate.swept.borrow_mut();
    if swept.len() >= SWEEPS_KNOWN {
        swept.clear();
    }
    swept.insert(known);
    Ok(())
}

/// Deletes attempts that are older than [`KEPT_FOR`] at `now`. Returns whether there may be more.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn sweep(app: &App, owner: Owner<'_>, now: Timestamp) -> Result<bool, StoreError> {
    let oldest = now.plus_millis(KEPT_FOR.saturating_neg());
    let prefix = layout::attempts(owner.exchange, owner.executor);
    let before = layout::attempts_before(owner.exchange, owner.executor, oldest);
    let query = List::keys(&prefix, Some(&before), SWEPT);
    let page = app.store.list(query).await?;
    let deletes = page.rows.iter().map(|row| app.store.delete(&row.key));
    let outcomes: Vec<_> = stream::iter(deletes).buffered(PARALLEL).collect().await;
    outcomes.into_iter().collect::<Result<(), _>>()?;
    Ok(page.more)
}

/// Ends a streak of failures, if there is one.
pub async fn note_success(app: &App, owner: Owner<'_>, subscription: &str) {
    let key = layout::streak(owner.exchange, owner.executor, subscription);
    if let Err(error) = app.store.delete(&key).await {
        warn("a streak of failures could not be ended", &error);
    }
}

/// Begins a streak of failures, or continues the current one. Returns whether the streak has lasted
/// [`GIVEN_UP_AFTER`].
pub async fn note_failure(app: &App, owner: Owner<'_>, subscription: &str, now: Timestamp) -> bool {
    let key = layout::streak(owner.exchange, owner.executor, subscription);
    let store = app.store.as_ref();
    let look = async {
        let body = encode(&key, &Streak { since: now })?;
        if store.put(&key, body, None, Condition::Absent).await? == Put::ConditionFailed {
            let streak = load::<Streak>(store, &key).await?;
            return Ok::<_, StoreError>(streak.map(|streak| streak.document.since));
        }
        Ok(None)
    };
    match look.await {
        Ok(since) => since.is_some_and(|since| now.since(since) >= GIVEN_UP_AFTER),
        Err(error) => {
            warn("a streak of failures could not be noted", &error);
            false
        }
    }
}

/// Enables a channel or hook.
pub async fn enable(app: &App, owner: Owner<'_>, subscription: &str) {
    set_disabled(app, owner, subscription, None).await;
}

/// Disables a channel or hook, and logs the reason.
pub async fn disable(
    app: &App,
    owner: Owner<'_>,
    subscription: &str,
    reason: &str,
    now: Timestamp,
) {
    let what = format!("{subscription} of {} is disabled", owner.key());
    warn(&what, &reason);
    // Ends its streak, so that a new one begins when it is enabled again.
    note_success(app, owner, subscription).await;
    let disabled = json!({"at": now, "reason": reason});
    set_disabled(app, owner, subscription, Some(&disabled)).await;
}

/// Writes into a record why a channel or hook is disabled, or with `None` that it is enabled.
async fn set_disabled(app: &App, owner: Owner<'_>, subscription: &str, disabled: Option<&Value>) {
    let key = owner.key();
    let store = app.store.as_ref();
    let current = match load::<Executor>(store, &key).await {
        Ok(current) => current,
        Err(error) => return warn("a channel or hook could not be disabled or enabled", &error),
    };
    let target = Target {
        store,
        clock: app.clock.as_ref(),
        key: &key,
        deadline: app.clock.now().plus_millis(WRITE_WINDOW),
    };
    let swapped: Swapped<(), String> = swap(target, current, &|_| None, &mut |executor: Option<
        Executor,
    >| {
        let mut executor = executor.ok_or("it is gone")?;
        executor.name_entries();
        for (entry, _) in executor.entries_mut(FORMS) {
            if entry_id(entry) != subscription {
                continue;
            }
            if let Value::Object(entry) = entry {
                entry.shift_remove(own::DISABLED);
                if let Some(disabled) = disabled {
                    entry.insert(own::DISABLED.to_owned(), disabled.clone());
                }
            }
        }
        let body = encode(&key, &executor).map_err(|error| error.to_string())?;
        Ok(Decision::Put(body, Some(executor.summary()), ()))
    })
    .await;
    if swapped.result.is_err() {
        warn("a channel or hook could not be disabled or enabled", &key);
    }
}

/// Remembers the id that a hook got for a request, or that it gets none. The latter does not
/// overwrite an id.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn remember_external(
    app: &App,
    key: &str,
    external: &External,
) -> Result<(), StoreError> {
    let condition = match external {
        External::ExternalId(_) => Condition::Always,
        External::Never => Condition::Absent,
    };
    let body = encode(key, external)?;
    app.store.put(key, body, None, condition).await?;
    Ok(())
}

/// What is known about the id that the hook `hook` should get for a request.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn find_external(
    app: &App,
    owner: Owner<'_>,
    reference: &Ref,
    hook: &str,
) -> Result<Option<External>, StoreError> {
    let key = layout::external(owner.exchange, reference, owner.executor, hook);
    let loaded = load::<External>(app.store.as_ref(), &key).await?;
    Ok(loaded.map(|loaded| loaded.document))
}
