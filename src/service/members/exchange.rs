//! The document of an exchange: who founds it, who owns it, and its name.

use std::rc::Rc;

use serde_json::json;
use uuid::Uuid;

use super::amend::{Amendment, amend};
use crate::app::App;
use crate::domain::exchange::{Exchange, FOUNDING};
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::limits::NAME_CHARS;
use crate::domain::member::access::AccessRefusal;
use crate::domain::member::audit::Deed;
use crate::domain::member::executor::Executor;
use crate::domain::member::quiet_hours::QuietHours;
use crate::domain::text::{Fields, Invalid, check_name};
use crate::domain::time::Timestamp;
use crate::isolate::Kept;
use crate::service::{ServiceError, WRITE_WINDOW};
use crate::storage::cas::{Decision, Loaded, Target, load, swap};
use crate::storage::{StoreError, encode, layout};

/// For this many milliseconds, an isolate trusts a time zone that it read without looking again.
const BELIEVED: i64 = 60_000;
/// How many time zones an isolate remembers.
const REMEMBERED: usize = 1_000;

/// Reads the document.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn read(app: &App, exchange: &ExchangeId) -> Result<Option<Exchange>, StoreError> {
    let loaded = load::<Exchange>(app.store.as_ref(), &layout::exchange(exchange)).await?;
    Ok(loaded.map(|loaded| loaded.document))
}

/// Whether `id` owns the exchange now.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn is_owner(
    app: &App,
    exchange: &ExchangeId,
    id: &ExecutorId,
) -> Result<bool, StoreError> {
    let document = read(app, exchange).await?;
    Ok(document.is_some_and(|document| document.is_owned_by(id)))
}

/// Makes the document if there is none: with `founder` as its owner if the exchange `is_empty`, or
/// else without one. Replaces a founder whose registration has not come. Returns whether `founder`
/// founds the exchange.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn found(
    app: &App,
    exchange: &ExchangeId,
    founder: &ExecutorId,
    document: Option<Exchange>,
    is_empty: bool,
) -> Result<bool, ServiceError> {
    let now = app.clock.now();
    let Some(document) = document else {
        let owners = is_empty.then(|| founder.clone()).into_iter().collect();
        let made = make(app, exchange, Exchange::new(exchange, owners, now)).await?;
        return Ok(is_empty && made.is_owned_by(founder));
    };
    // Usually its founder is there, and has been since long.
    let [owner] = document.owners.as_slice() else {
        return Ok(false);
    };
    if app.isolate.founded.borrow().contains(exchange) {
        return Ok(false);
    }
    if is_there(app, exchange, owner).await? {
        app.isolate.founded.borrow_mut().insert(exchange.clone());
        return Ok(false);
    }
    if owner == founder {
        return Ok(true);
    }
    if now.since(document.created_at) < FOUNDING {
        return Ok(false);
    }
    replace_founder(app, exchange, owner, founder, now).await
}

/// Checks that an exchange of this name may be founded here.
///
/// # Errors
///
/// Fails if it may not.
pub fn check_may_be_founded(app: &App, exchange: &ExchangeId) -> Result<(), ServiceError> {
    match &app.config.exchanges {
        Some(exchanges) if !exchanges.contains(exchange) => {
            Err(ServiceError::Access(AccessRefusal::NotFounded))
        }
        _ => Ok(()),
    }
}

async fn is_there(
    app: &App,
    exchange: &ExchangeId,
    member: &ExecutorId,
) -> Result<bool, StoreError> {
    let record = app.store.get(&layout::executor(exchange, member)).await?;
    Ok(record.is_some())
}

/// Puts a new document unless there is one. Returns the one that is there then.
async fn make(
    app: &App,
    exchange: &ExchangeId,
    document: Exchange,
) -> Result<Exchange, ServiceError> {
    let current = load(app.store.as_ref(), &layout::exchange(exchange)).await?;
    swap_document(app, exchange, current, &|stored| match stored {
        Some(stored) => Ok((stored, false)),
        None => Ok((document.clone(), true)),
    })
    .await
}

async fn replace_founder(
    app: &App,
    exchange: &ExchangeId,
    owner: &ExecutorId,
    founder: &ExecutorId,
    now: Timestamp,
) -> Result<bool, ServiceError> {
    let loaded = load(app.store.as_ref(), &layout::exchange(exchange)).await?;
    let decide = |stored: Option<Exchange>| {
        let mut stored = stored.ok_or(ServiceError::NoExchange)?;
        let is_old = now.since(stored.created_at) >= FOUNDING;
        let is_same = stored.owners == [owner.clone()];
        if is_old && is_same {
            stored.owners = vec![founder.clone()];
            stored.created_at = now;
        }
        Ok((stored, is_old && is_same))
    };
    let replaced = swap_document(app, exchange, loaded, &decide).await?;
    Ok(replaced.is_owned_by(founder))
}

/// Swaps the document for what `decide` makes of it, if that is to be written.
async fn swap_document(
    app: &App,
    exchange: &ExchangeId,
    current: Option<Loaded<Exchange>>,
    decide: &dyn Fn(Option<Exchange>) -> Result<(Exchange, bool), ServiceError>,
) -> Result<Exchange, ServiceError> {
    let key = layout::exchange(exchange);
    let target = Target {
        store: app.store.as_ref(),
        clock: app.clock.as_ref(),
        key: &key,
        deadline: app.clock.now().plus_millis(WRITE_WINDOW),
    };
    // Deciding again on one's own put changes nothing.
    let swapped = swap(target, current, &|_| None, &mut |stored| {
        let (document, is_changed) = decide(stored)?;
        if !is_changed {
            return Ok(Decision::Keep(document));
        }
        Ok(Decision::Put(encode(&key, &document)?, None, document))
    })
    .await;
    swapped.result.map_err(ServiceError::from)
}

/// Makes the document without owners if there is none. An exchange that is older than its document
/// gets it so.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn ensure(app: &App, exchange: &ExchangeId) -> Result<Exchange, ServiceError> {
    let made = Exchange::new(exchange, Vec::new(), app.clock.now());
    make(app, exchange, made).await
}

/// Makes a member an owner who was invited as one by the mutation `id`, once. Whoever changes that later
/// has the last word.
///
/// # Errors
///
/// Fails if there is no such exchange, or with the store's error.
pub async fn promote(
    app: &App,
    exchange: &ExchangeId,
    member: &ExecutorId,
    id: Uuid,
) -> Result<(), ServiceError> {
    let decide = |stored: Option<Exchange>| {
        let mut stored = stored.ok_or(ServiceError::NoExchange)?;
        let is_new = !stored.changes.have(id) && stored.add_owner(member);
        if is_new {
            stored.changes.note(id);
        }
        Ok((stored, is_new))
    };
    let current = load(app.store.as_ref(), &layout::exchange(exchange)).await?;
    swap_document(app, exchange, current, &decide)
        .await
        .map(drop)
}

/// Makes sure that who is no member owns nothing, whoever made it an owner meanwhile.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn drop_owner(
    app: &App,
    exchange: &ExchangeId,
    former: &ExecutorId,
) -> Result<(), ServiceError> {
    let current = load::<Exchange>(app.store.as_ref(), &layout::exchange(exchange)).await?;
    if !current
        .as_ref()
        .is_some_and(|current| current.document.is_owned_by(former))
    {
        return Ok(());
    }
    let decide = |stored: Option<Exchange>| {
        let mut stored = stored.ok_or(ServiceError::NoExchange)?;
        let is_dropped = stored.drop_owner(former);
        Ok((stored, is_dropped))
    };
    swap_document(app, exchange, current, &decide)
        .await
        .map(drop)
}

/// What an owner changes about an exchange.
#[derive(Clone, Debug)]
pub struct Change {
    name: Option<String>,
    timezone: Option<String>,
}

impl Change {
    /// Reads the fields of a body.
    ///
    /// # Errors
    ///
    /// Fails with the field that is wrong, or if there is none.
    pub fn parse(app: &App, fields: &mut Fields) -> Result<Self, Invalid> {
        let name = fields.take_string("name")?;
        if let Some(name) = &name {
            check_name(name, "name", NAME_CHARS)?;
        }
        let timezone = fields.take_string("timezone")?;
        let is_zone = |zone: &String| app.zones.offset(zone, app.clock.now()).is_some();
        if timezone.as_ref().is_some_and(|zone| !is_zone(zone)) {
            let problem = "must be an IANA time zone like Europe/Berlin";
            return Err(Invalid::new("timezone", problem));
        }
        if name.is_none() && timezone.is_none() {
            return Err(Invalid::new("name", "or timezone is required"));
        }
        Ok(Self { name, timezone })
    }
}

/// Changes the name or the time zone.
///
/// # Errors
///
/// Fails if there is no such exchange, or with the store's error.
pub async fn change(
    app: &Rc<App>,
    exchange: &ExchangeId,
    by: Option<ExecutorId>,
    change: Change,
) -> Result<Exchange, ServiceError> {
    let given = [("name", &change.name), ("timezone", &change.timezone)];
    let given = given.into_iter();
    let amendment = Amendment {
        exchange: exchange.clone(),
        object: layout::exchange(exchange),
        by,
        deed: Deed::ExchangeChanged,
        executor: None,
        details: given
            .filter_map(|(field, value)| Some((field.to_owned(), json!(value.as_ref()?))))
            .collect(),
    };
    let document = amend(app, amendment, move |document: &mut Exchange| {
        let before = (document.name.clone(), document.timezone.clone());
        if let Some(name) = &change.name {
            document.name.clone_from(name);
        }
        if change.timezone.is_some() {
            document.timezone.clone_from(&change.timezone);
        }
        Ok(before != (document.name.clone(), document.timezone.clone()))
    });
    let document = document.await?;
    app.isolate.zones.borrow_mut().remove(exchange);
    Ok(document)
}

/// The time zone of an executor's quiet hours if they name none: that of the exchange, or else that of
/// the deployment. It is read only where it matters, and then at most once a minute.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn default_zone(
    app: &App,
    exchange: &ExchangeId,
    executor: &Executor,
) -> Result<String, StoreError> {
    let fallback = &app.config.default_timezone;
    if !QuietHours::need_zone(&executor.preferences) {
        return Ok(fallback.clone());
    }
    let now = app.clock.now();
    if let Some(kept) = app.isolate.zones.borrow().get(exchange)
        && kept.until > now
    {
        return Ok(kept.value.clone().unwrap_or_else(|| fallback.clone()));
    }
    let zone = read(app, exchange)
        .await?
        .and_then(|document| document.timezone);
    let mut zones = app.isolate.zones.borrow_mut();
    if zones.len() >= REMEMBERED {
        zones.clear();
    }
    let kept = Kept {
        value: zone.clone(),
        until: now.plus_millis(BELIEVED),
    };
    zones.insert(exchange.clone(), kept);
    Ok(zone.unwrap_or_else(|| fallback.clone()))
}
