//! The keys of a member: how it lists, adds and revokes them.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::admit::{Plan, What, admit};
use super::amend::{Amendment, amend};
use super::exchange;
use crate::app::App;
use crate::domain::duration::Duration;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::ApiKey;
use crate::domain::limits::{KEY_EXPIRES, NAME_CHARS};
use crate::domain::member::access::{AccessRefusal, Dead, MemberKey, Role, Scope, Scopes};
use crate::domain::member::audit::Deed;
use crate::domain::member::executor::Executor;
use crate::domain::member::invitation::take_duration;
use crate::domain::text::{Fields, Invalid, check_name};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::records::{Owner, read_own};
use crate::storage::cas::load;
use crate::storage::layout;

/// What a member wants of a key.
#[derive(Clone, Debug)]
pub struct Wanted {
    label: String,
    scopes: Option<Scopes>,
    expires_in: Option<Duration>,
}

impl Wanted {
    /// Reads the fields of a body.
    ///
    /// # Errors
    ///
    /// Fails with the field that is wrong.
    pub fn parse(fields: &mut Fields) -> Result<Self, Invalid> {
        let label = fields.require_string("label")?;
        check_name(&label, "label", NAME_CHARS)?;
        Ok(Self {
            label,
            scopes: Scopes::take(fields)?,
            expires_in: take_duration(fields, "expires_in", &KEY_EXPIRES)?,
        })
    }
}

/// Lists the keys of a member, latest last.
///
/// # Errors
///
/// Fails if there is no such member, or with the store's error.
pub async fn list(
    app: &App,
    exchange: &ExchangeId,
    executor: &ExecutorId,
) -> Result<Vec<Value>, ServiceError> {
    let record = read_own(app, Owner { exchange, executor }).await?;
    Ok(record.keys().iter().map(MemberKey::shown).collect())
}

/// Adds a key to the member that calls with the key `with`. The new key can do no more than that one,
/// lives no longer, and is revoked with it.
///
/// # Errors
///
/// Fails if the wish goes beyond the key `with`, if there are too many keys, or with the store's error.
pub async fn add(
    app: &Rc<App>,
    exchange: &ExchangeId,
    executor: &ExecutorId,
    with: &MemberKey,
    wanted: Wanted,
) -> Result<(ApiKey, MemberKey), ServiceError> {
    let now = app.clock.now();
    let new = ApiKey::new(exchange, app.clock.random_bytes());
    let expires_at = wanted.expires_in.map(|time| now.plus_millis(time.millis()));
    let key = MemberKey {
        scopes: scopes_within(wanted.scopes, with)?,
        expires_at: soonest(expires_at, with.expires_at),
        last4: Some(new.last4()),
        parent: Some(with.id().to_owned()),
        ..MemberKey::new(new.hash(), wanted.label, now)
    };
    let object = layout::executor(exchange, executor);
    let current = load::<Executor>(app.store.as_ref(), &object).await?;
    let amendment = Amendment {
        exchange: exchange.clone(),
        object,
        by: Some(executor.clone()),
        deed: Deed::KeyAdded,
        executor: Some(executor.clone()),
        details: about(&key),
    };
    let plan = Plan {
        executor: executor.clone(),
        key: new,
        role: Role::Member,
        code: None,
        entry: amendment.entry(app),
        what: What::Key {
            key: Box::new(key.clone()),
            needs: Some((with.id().to_owned(), AccessRefusal::Dead(Dead::Revoked))),
            revoke_others: false,
            current: Box::new(current.ok_or(ServiceError::NoExecutor)?),
        },
    };
    let work = admit(app.clone(), exchange.clone(), plan);
    let joined = app.background.finish(work).await??;
    Ok((joined.key, key))
}

/// What the audit says about a key.
pub fn about(key: &MemberKey) -> Map<String, Value> {
    let about = [
        ("key_id", json!(key.id())),
        ("label", json!(key.label)),
        ("scopes", json!(key.scopes)),
    ];
    about
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// The scopes that are wanted, or those of the key that asks.
///
/// # Errors
///
/// Fails if that key does not have them all.
fn scopes_within(wanted: Option<Scopes>, with: &MemberKey) -> Result<Scopes, ServiceError> {
    let scopes = wanted.unwrap_or_else(|| with.scopes.clone());
    if scopes.are_within(&with.scopes) {
        return Ok(scopes);
    }
    let problem = "must be within the scopes of the key that asks";
    Err(ServiceError::Invalid(Invalid::new("scopes", problem)))
}

/// The sooner of two ends.
fn soonest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Revokes a key of a member, with all that were made with it.
///
/// # Errors
///
/// Fails if there is no such member or no such key, or with the store's error.
pub async fn revoke(
    app: &Rc<App>,
    exchange: &ExchangeId,
    executor: &ExecutorId,
    by: Option<ExecutorId>,
    key_id: String,
) -> Result<(), ServiceError> {
    let amendment = Amendment {
        exchange: exchange.clone(),
        object: layout::executor(exchange, executor),
        by,
        deed: Deed::KeyRevoked,
        executor: Some(executor.clone()),
        details: [("key_id".to_owned(), json!(key_id))].into_iter().collect(),
    };
    let now = app.clock.now();
    let document = exchange::read(app, exchange).await?;
    let is_last_owner = document.is_some_and(|document| document.owners == [executor.clone()]);
    let done = amend(app, amendment, move |record: &mut Executor| {
        if !record.keys().iter().any(|key| key.id() == key_id) {
            return Err(AccessRefusal::NoKey.into());
        }
        let revoked = record.revoke_key(&key_id, now);
        let governs = |key: &MemberKey| key.standing(now).is_ok() && key.scopes.has(Scope::Manage);
        if revoked && is_last_owner && !record.keys().iter().any(governs) {
            return Err(AccessRefusal::LastKey.into());
        }
        Ok(revoked)
    })
    .await;
    app.isolate.doubt(exchange, executor);
    done.map(drop)
}
