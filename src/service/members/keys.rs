//! The keys of a member: how it lists, adds and revokes them.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::amend::{Amendment, amend};
use crate::app::App;
use crate::domain::duration::Duration;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::ApiKey;
use crate::domain::limits::{KEY_EXPIRES, NAME_CHARS};
use crate::domain::member::access::{AccessRefusal, MemberKey, Scopes};
use crate::domain::member::audit::Deed;
use crate::domain::member::executor::Executor;
use crate::domain::member::invitation::take_duration;
use crate::domain::text::{Fields, Invalid, check_name};
use crate::domain::time::Timestamp;
use crate::service::records::{Owner, read_own};
use crate::service::{ServiceError, keys};
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
/// 1. Put the object that says whose key it is. Nobody has the key yet.
/// 2. Add the key to the record. This is the commit.
///
/// If this dies in between, the object remains, and the record does not know the key.
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
    let key = MemberKey {
        scopes: scopes_within(wanted.scopes, with)?,
        expires_at: soonest(
            wanted.expires_in.map(|time| now.plus_millis(time.millis())),
            with.expires_at,
        ),
        last4: Some(new.last4()),
        parent: Some(with.id().to_owned()),
        ..MemberKey::new(new.hash(), wanted.label, now)
    };
    // 1.
    keys::put(app, exchange, &key.hash, executor, now).await?;
    // 2.
    let amendment = Amendment {
        exchange: exchange.clone(),
        object: layout::executor(exchange, executor),
        by: Some(executor.clone()),
        deed: Deed::KeyAdded,
        executor: Some(executor.clone()),
        details: about(&key),
    };
    let (added, parent) = (key.clone(), with.hash.clone());
    amend(app, amendment, move |record: &mut Executor| {
        // The key that asks may have been revoked meanwhile.
        let parent = record.find_key(&parent).ok_or(AccessRefusal::NoKey)?;
        parent.standing(now).map_err(AccessRefusal::Dead)?;
        if !record.access.is_active() {
            return Err(AccessRefusal::Suspended.into());
        }
        record.add_key(added.clone(), now)?;
        Ok(true)
    })
    .await?;
    Ok((new, key))
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
    let done = amend(app, amendment, move |record: &mut Executor| {
        if !record.keys().iter().any(|key| key.id() == key_id) {
            return Err(AccessRefusal::NoKey.into());
        }
        Ok(record.revoke_key(&key_id, now))
    })
    .await;
    app.isolate.doubt(exchange, executor);
    done.map(drop)
}
