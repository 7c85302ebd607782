//! Finds out whose key it is, and what it is good for.

use std::rc::Rc;

use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::{ApiKey, KeyHash};
use crate::domain::member::access::{AccessRefusal, Dead, Role};
use crate::domain::member::executor::Executor;
use crate::domain::time::Timestamp;
use crate::isolate::{Grant, Kept, KnownKey};
use crate::service::import::standing::{find_older_key, is_imported};
use crate::service::members::executors;
use crate::service::{ServiceError, keys};
use crate::storage::cas::{Loaded, load};
use crate::storage::layout;

/// For this many milliseconds, an isolate trusts a key that it found without looking again.
pub const BELIEVED: i64 = 60_000;
/// How many keys an isolate remembers. If there are more, it forgets all of them and starts again.
const REMEMBERED: usize = 10_000;

/// The executor that a key belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    /// The executor.
    pub executor: ExecutorId,
    /// What it may do with this key.
    pub grant: Rc<Grant>,
    /// Whether its exchange is complete. It is not while another server's bucket is being imported.
    /// This is determined here only.
    pub is_imported: bool,
}

/// Finds the executor that `key` belongs to, in the exchange that the key names. Returns `None` if
/// the key belongs to nobody.
///
/// # Errors
///
/// Fails if the key is no longer valid, or if its owner is suspended; with the store's error; or if too
/// little of another server's bucket is imported to tell.
pub async fn authenticate(app: &Rc<App>, key: &ApiKey) -> Result<Option<Login>, ServiceError> {
    let Some((executor, grant)) = grant_of(app, key).await? else {
        return Ok(None);
    };
    grant
        .key
        .standing(app.clock.now())
        .map_err(AccessRefusal::Dead)?;
    let is_imported = is_imported(app, key.exchange()).await?;
    Ok(Some(Login {
        executor,
        grant,
        is_imported,
    }))
}

/// Whether this isolate knows the key as one that is valid.
pub fn is_known(app: &App, key: &ApiKey) -> bool {
    let keys = app.isolate.keys.borrow();
    let grant = keys.get(&key.hash()).map(|known| &known.grant.value);
    grant.is_some_and(Result::is_ok)
}

/// 1. The object under the key's hash says whose key it is. That never changes, so the isolate asks
///    only once.
/// 2. The owner's record says what the key is good for. The isolate looks again after a minute.
async fn grant_of(
    app: &Rc<App>,
    key: &ApiKey,
) -> Result<Option<(ExecutorId, Rc<Grant>)>, ServiceError> {
    let (hash, exchange, now) = (key.hash(), key.exchange(), app.clock.now());
    let known = app.isolate.keys.borrow().get(&hash).cloned();
    if let Some(known) = &known
        && known.grant.until > now
    {
        let grant = known.grant.value.clone()?;
        return Ok(Some((known.executor.clone(), grant)));
    }
    // 1.
    let executor = match known {
        Some(known) => Some(known.executor),
        None => match keys::find(app, exchange, &hash).await? {
            None if key.is_older_form() => find_older_key(app, exchange, &hash).await?,
            found => found,
        },
    };
    let Some(executor) = executor else {
        return Ok(None);
    };
    // 2.
    let record_key = layout::executor(exchange, &executor);
    let loaded = load::<Executor>(app.store.as_ref(), &record_key).await?;
    let Some(record) = loaded else {
        return Ok(None);
    };
    let grant = match grant(&record.document, &hash) {
        Ok(grant) => Ok(Rc::new(grant)),
        Err(None) => return Ok(None),
        Err(Some(refusal)) => Err(refusal),
    };
    remember(app, exchange, &executor, hash.clone(), grant.clone());
    let grant = grant?;
    see(app, exchange.clone(), record, hash, now);
    Ok(Some((executor, grant)))
}

/// What a key is good for by its owner's record.
///
/// # Errors
///
/// Fails with the reason if it is good for nothing, or with `None` if the record does not know it.
fn grant(record: &Executor, hash: &KeyHash) -> Result<Grant, Option<AccessRefusal>> {
    let key = record.find_key(hash).ok_or(None)?;
    if key.revoked_at.is_some() || record.access.removed_at.is_some() {
        return Err(Some(AccessRefusal::Dead(Dead::Revoked)));
    }
    if record.access.suspended {
        return Err(Some(AccessRefusal::Suspended));
    }
    Ok(Grant {
        key,
        // Only the exchange's document makes owners.
        role: match record.access.role {
            Role::Guest => Role::Guest,
            Role::Owner | Role::Member => Role::Member,
        },
        max_priority: record.access.max_priority,
    })
}

fn remember(
    app: &App,
    exchange: &ExchangeId,
    executor: &ExecutorId,
    hash: KeyHash,
    grant: Result<Rc<Grant>, AccessRefusal>,
) {
    let mut keys = app.isolate.keys.borrow_mut();
    if keys.len() >= REMEMBERED {
        keys.clear();
    }
    let known = KnownKey {
        exchange: exchange.clone(),
        executor: executor.clone(),
        grant: Kept {
            value: grant,
            until: app.clock.now().plus_millis(BELIEVED),
        },
    };
    keys.insert(hash, known);
}

/// Records after the answer that the executor was seen with this key.
fn see(
    app: &Rc<App>,
    exchange: ExchangeId,
    record: Loaded<Executor>,
    hash: KeyHash,
    now: Timestamp,
) {
    if !executors::is_unseen(&record.document, &hash, now) {
        return;
    }
    let seen = app.clone();
    app.background.run(async move {
        if let Err(error) = executors::touch(&seen, &exchange, record, &hash).await {
            crate::runtime::log::warn("last_seen was not moved", &error);
        }
    });
}
