//! Registers an executor.

use std::rc::Rc;

use futures::FutureExt as _;
use futures::future::join;

use super::executors::edit;
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::ApiKey;
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::member::executor::{Executor, Registration};
use crate::domain::member::profile::Profile;
use crate::domain::thread::event::{Event, Fact, log_line};
use crate::runtime::background::{Rest, nothing};
use crate::service::due::obligations::{Obligation, Subject};
use crate::service::import::standing::mark_if_new;
use crate::service::{ServiceError, keys, to_json};
use crate::storage::cas::{Decision, Target, swap};
use crate::storage::index::write_log;
use crate::storage::layout;

/// Registers an executor and returns its key.
///
/// # Errors
///
/// Fails if the id is taken, if the profile is too large, or with the store's error.
pub async fn register(
    app: &Rc<App>,
    exchange: ExchangeId,
    id: ExecutorId,
    profile: Profile,
) -> Result<ApiKey, ServiceError> {
    let work = run(app.clone(), exchange, id, profile);
    app.background.finish(work).await?
}

/// 1. Write the obligation, and check whether the id is taken.
/// 2. Put the key.
/// 3. Put the record unless there is one already. This is the commit.
/// 4. Write the event, and answer.
async fn run(
    app: Rc<App>,
    exchange: ExchangeId,
    id: ExecutorId,
    profile: Profile,
) -> (Result<ApiKey, ServiceError>, Rest) {
    let key = ApiKey::new(&exchange, app.clock.random_bytes());
    let now = app.clock.now();
    let registration = Registration {
        batch_id: app.clock.new_id(),
        ts: now,
        key_hash: key.hash(),
    };
    let mut executor = Executor::register(id.clone(), registration.clone());
    if let Err(error) = edit(&app, &exchange, &mut executor, profile) {
        return (Err(error), nothing());
    }
    let obligation = Obligation {
        id: registration.batch_id,
        ..Obligation::new(&app, owed(&app, &exchange, &executor, &registration))
    };
    // Checks the size before anything is written, since nobody has vouched for this client yet.
    let body = match to_json(&executor, "the profile", EXECUTOR_BYTES) {
        Ok(body) => body,
        Err(error) => return (Err(error), nothing()),
    };
    // Before its first member joins, a new exchange is marked as one that has nothing to import.
    if let Err(error) = mark_if_new(&app, &exchange).await {
        return (Err(error), nothing());
    }
    // 1.
    let store = app.store.as_ref();
    let record_key = layout::executor(&exchange, &id);
    let (existing, opened) = join(store.get(&record_key), obligation.begin(&app)).await;
    let error = match (existing, opened) {
        (Ok(None), Ok(())) => None,
        (Ok(Some(_)), _) => Some(ServiceError::AlreadyRegistered),
        (Err(error), _) | (_, Err(error)) => Some(error.into()),
    };
    if let Some(error) = error {
        return (Err(error), obligation.end_after(&app));
    }
    // 2.
    if let Err(error) = keys::put(&app, &exchange, &key.hash(), &id, now).await {
        // The key may still get stored. The tick deletes it once no write can land any more.
        return (Err(error.into()), nothing());
    }
    // 3.
    let target = Target {
        store,
        clock: app.clock.as_ref(),
        key: &record_key,
        deadline: obligation.write_deadline(),
    };
    let ours = |stored: &Executor| (is_of(stored, &obligation)).then_some(());
    let swapped = swap(target, None, ours, |existing: Option<Executor>| {
        if existing.is_some() {
            return Err(ServiceError::AlreadyRegistered);
        }
        Ok(Decision::Put(body.clone(), Some(executor.summary()), ()))
    })
    .await;
    if let Err(failure) = swapped.result {
        let rest = if swapped.definite {
            withdraw(&app, exchange, obligation)
        } else {
            nothing()
        };
        return (Err(failure.into()), rest);
    }
    // 4.
    let written = write_event(&app, &obligation).await;
    let rest = if written {
        obligation.end_after(&app)
    } else {
        nothing()
    };
    (Ok(key), rest)
}

fn owed(
    app: &App,
    exchange: &ExchangeId,
    executor: &Executor,
    registration: &Registration,
) -> Subject {
    Subject::Registration {
        exchange_id: exchange.clone(),
        executor_id: executor.id.clone(),
        key_hash: registration.key_hash.clone(),
        event: Box::new(Event {
            event_id: app.clock.new_id(),
            batch_id: registration.batch_id,
            ts: registration.ts,
            actor_id: executor.id.clone(),
            fact: Fact::ExecutorRegistered(executor.registered()),
        }),
    }
}

/// Whether the mutation of `obligation` registered `stored`.
pub fn is_of(stored: &Executor, obligation: &Obligation) -> bool {
    stored
        .registration
        .as_ref()
        .is_some_and(|registration| registration.batch_id == obligation.id)
}

/// Writes the event of a registration that was committed. Returns false if that is left to the
/// tick.
pub async fn write_event(app: &App, obligation: &Obligation) -> bool {
    let Subject::Registration {
        exchange_id, event, ..
    } = &obligation.subject
    else {
        return true;
    };
    let key = layout::event_batch(exchange_id, event.ts, event.batch_id);
    match log_line(exchange_id, None, event) {
        Ok(line) => write_log(app.store.as_ref(), &key, &format!("{line}\n")).await,
        Err(error) => {
            crate::runtime::log::warn("an event could not be written", &error);
            false
        }
    }
}

/// Undoes a registration that was not committed: deletes its key, and then its obligation.
fn withdraw(app: &Rc<App>, exchange: ExchangeId, obligation: Obligation) -> Rest {
    let app = app.clone();
    async move {
        if let Subject::Registration { key_hash, .. } = &obligation.subject {
            let key = layout::key(&exchange, key_hash);
            if let Err(error) = app.store.delete(&key).await {
                crate::runtime::log::warn("an unused key is left to the tick", &error);
                return;
            }
        }
        obligation.end(&app).await;
    }
    .boxed_local()
}
