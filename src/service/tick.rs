//! The maintenance tick: completes what a writer left, discards what was never committed.

use std::rc::Rc;

use futures::stream::{self, StreamExt as _};

use super::derive;
use super::obligations::{Claim, LAST_LOOK, Obligation, Subject};
use super::register::{announce, is_of};
use super::settle::Settlement;
use crate::app::App;
use crate::domain::executor::Executor;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::thread::Thread;
use crate::domain::time::Timestamp;
use crate::log::{describe, warn};
use crate::storage::cas::load;
use crate::storage::{Condition, List, Object, Put, StoreError, Tag, layout};

/// Obligations that one tick looks at; the rest is for the next one. Each takes up to a dozen
/// operations, of which Cloudflare's free plan allows 1,000 an invocation.
const BOUND: usize = 50;
/// How many it works on at once.
const PARALLEL: usize = 4;
/// Milliseconds for which a tick's claim keeps others away.
const CLAIMED: i64 = 120_000;
/// Milliseconds until an obligation at which the look failed is looked at again; it doubles.
const FIRST_RETRY: i64 = 60_000;

/// What is to become of an obligation after a look at it.
enum Verdict {
    /// Everything is met or undone: delete it.
    Done,
    /// Look again at this moment.
    Again(Timestamp),
}

/// Looks at the obligations that are due at `now`, oldest first.
///
/// # Errors
///
/// The store's, when it cannot list them. A failure at one of them only puts that one off.
pub async fn tick(app: &Rc<App>, now: Timestamp) -> Result<(), StoreError> {
    let query = List {
        prefix: layout::DUE,
        after: None,
        limit: BOUND,
        summaries: false,
    };
    let page = app.store.list(query).await?;
    let due = page
        .rows
        .into_iter()
        .map(|row| row.key)
        // The keys are in the order of their times.
        .take_while(|key| layout::due_at(key).is_none_or(|at| at <= now));
    stream::iter(due)
        .for_each_concurrent(PARALLEL, |key| async move {
            if let Err(error) = look_at(app, &key, now).await {
                warn("an obligation was not seen to", &error);
            }
        })
        .await;
    Ok(())
}

/// 1. Claim the obligation; whoever loses leaves it alone.
/// 2. See to it.
/// 3. Delete it, or put it under a later key and delete the old one.
async fn look_at(app: &Rc<App>, key: &str, now: Timestamp) -> Result<(), StoreError> {
    // 1.
    let Some(Object { body, tag }) = app.store.get(key).await? else {
        return Ok(());
    };
    let document = match serde_json::from_slice(&body) {
        Ok(document) => document,
        Err(error) => return put_off_unreadable(app, key, body, now, &error).await,
    };
    let Some(mut obligation) = claim(app, key, document, &tag, now).await? else {
        return Ok(());
    };
    // 2.
    let verdict = match see_to(app, &obligation, now).await {
        Ok(verdict) => verdict,
        Err(error) => {
            warn("an obligation could not be met and is put off", &error);
            let doubled = FIRST_RETRY.saturating_mul(1 << obligation.failures.min(6));
            obligation.failures = obligation.failures.saturating_add(1);
            Verdict::Again(now.plus_millis(doubled.min(LAST_LOOK)))
        }
    };
    // 3.
    if let Verdict::Again(at) = verdict {
        obligation.claim = None;
        let later = layout::due(at, obligation.id);
        let body = obligation.to_json()?;
        app.store.put(&later, body, None, Condition::Always).await?;
        if later == key {
            return Ok(());
        }
    }
    app.store.delete(key).await
}

/// Moves an obligation that this version of the server cannot read, so that it stands in
/// nobody's way until one comes that can.
async fn put_off_unreadable(
    app: &App,
    key: &str,
    body: Vec<u8>,
    now: Timestamp,
    error: &serde_json::Error,
) -> Result<(), StoreError> {
    warn(
        &format!("{key} cannot be read and is put off"),
        &describe(error),
    );
    let Some(later) = layout::due_moved(key, now.plus_millis(LAST_LOOK)) else {
        return Ok(());
    };
    app.store.put(&later, body, None, Condition::Always).await?;
    app.store.delete(key).await
}

async fn claim(
    app: &App,
    key: &str,
    mut obligation: Obligation,
    tag: &Tag,
    now: Timestamp,
) -> Result<Option<Obligation>, StoreError> {
    if obligation
        .claim
        .as_ref()
        .is_some_and(|claim| claim.until > now)
    {
        return Ok(None);
    }
    obligation.claim = Some(Claim {
        until: now.plus_millis(CLAIMED),
        nonce: app.clock.new_id(),
    });
    let body = obligation.to_json()?;
    let put = app
        .store
        .put(key, body, None, Condition::Matches(tag))
        .await?;
    Ok(matches!(put, Put::Stored(_)).then_some(obligation))
}

async fn see_to(
    app: &Rc<App>,
    obligation: &Obligation,
    now: Timestamp,
) -> Result<Verdict, StoreError> {
    let last_look = obligation.opened_at.plus_millis(LAST_LOOK);
    let committed = match &obligation.subject {
        Subject::Thread {
            exchange_id,
            reference,
        } => see_to_batch(app, exchange_id, reference, obligation).await?,
        Subject::Registration {
            exchange_id,
            executor_id,
            key_hash,
            ..
        } => {
            let key = layout::executor(exchange_id, executor_id);
            let stored = load::<Executor>(app.store.as_ref(), &key).await?;
            let committed = stored.is_some_and(|stored| is_of(&stored.document, obligation));
            if committed {
                met(announce(app, obligation).await)?;
            } else if now >= last_look {
                app.store
                    .delete(&layout::key(exchange_id, key_hash))
                    .await?;
            }
            committed
        }
        Subject::Derivation { exchange_id } => {
            return Ok(if derive::advance(app, exchange_id).await? {
                Verdict::Done
            } else {
                Verdict::Again(now)
            });
        }
    };
    // Until nothing can land any more the obligation stays: a batch that is not committed may
    // yet be, and a slow writer may yet put an entry that was overtaken.
    if now >= last_look {
        return Ok(Verdict::Done);
    }
    let next = if committed {
        last_look
    } else {
        let age = now.since(obligation.opened_at);
        now.plus_millis(age).min(last_look)
    };
    Ok(Verdict::Again(next))
}

/// Completes a batch if it was committed; says whether it was.
async fn see_to_batch(
    app: &App,
    exchange: &ExchangeId,
    reference: &Ref,
    obligation: &Obligation,
) -> Result<bool, StoreError> {
    let store = app.store.as_ref();
    let Some(loaded) = load::<Thread>(store, &layout::thread(exchange, reference)).await? else {
        return Ok(false);
    };
    let thread = loaded.document;
    let Some(settlement) = Settlement::of(exchange, &thread, obligation.id)? else {
        return Ok(false);
    };
    met(settlement.repeat(store, &thread.state).await)?;
    Ok(true)
}

/// A step that failed has said so in the log; the obligation is put off.
fn met(done: bool) -> Result<(), StoreError> {
    if done {
        Ok(())
    } else {
        Err(StoreError::new("settle", layout::DUE, &"a step failed"))
    }
}
