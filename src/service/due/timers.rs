//! Timers: obligations to look at a thread at the moment at which something may happen to it by
//! itself.
//!
//! A timer may come early, never late: a batch after which the next such moment comes before the
//! thread's `timer_at` owes one. The tick reads the thread, does what is due, and sets a timer for
//! the moment that remains, unless another timer covers it. Nothing ever looks for threads.

use super::obligations::{Obligation, Subject, Verdict, WRITERS_TIME};
use crate::app::App;
use crate::delivery::plan::derived_id;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::thread::document::{Thread, ThreadState};
use crate::domain::thread::due::next_moment;
use crate::domain::thread::transition::decide_due;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::deliveries::announce::put_new;
use crate::service::requests::update::{Outcome, commit};
use crate::storage::cas::{Failure, load};
use crate::storage::{StoreError, layout};

/// Milliseconds until a thread at which others were too busy is looked at again.
const BUSY_PAUSE: i64 = 1_000;

/// Sets a timer of a thread for `moment` on behalf of `owner`: a batch, or whoever looked at the
/// thread. It has a key of its own, since one that is there may be about to be deleted by the tick
/// that has seen to it; to set it again changes nothing.
///
/// # Errors
///
/// The store's.
pub async fn set(
    app: &App,
    exchange: &ExchangeId,
    reference: &Ref,
    moment: Timestamp,
    owner: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let thread = layout::thread(exchange, reference);
    let id = derived_id(&["timer", &thread, owner]);
    let subject = Subject::Timer {
        exchange_id: exchange.clone(),
        reference: reference.clone(),
    };
    let timer = Obligation::of(id, now, subject);
    put_new(app, &layout::due(moment, id), &timer).await?;
    Ok(())
}

/// What came of a timer.
pub struct Fired {
    /// What is to become of it.
    pub verdict: Verdict,
    /// The obligation of the batch that it led to.
    pub committed: Option<Obligation>,
}

/// Does what is due to a thread at `now`, as a batch of its own; without any, sets the timer for
/// the moment that remains.
///
/// # Errors
///
/// The store's; then the timer is to be seen to again.
pub async fn fire(
    app: &App,
    exchange: &ExchangeId,
    reference: &Ref,
    now: Timestamp,
) -> Result<Fired, StoreError> {
    let done = |committed| Fired {
        verdict: Verdict::Done,
        committed,
    };
    let key = layout::thread(exchange, reference);
    let Some(current) = load::<Thread>(app.store.as_ref(), &key).await? else {
        return Ok(done(None));
    };
    if decide_due(&current.document, now).is_empty() {
        go_on(app, exchange, &current.document.state, now).await?;
        return Ok(done(None));
    }
    let subject = Subject::Thread {
        exchange_id: exchange.clone(),
        reference: reference.clone(),
        announced: false,
    };
    // By the clock, as any writer's: a tick may come later than its scheduled time.
    let obligation = Obligation::new(app, subject);
    obligation.open(app).await?;
    let decide = |thread: &Thread, now| Ok(decide_due(thread, now));
    let swapped = commit(app, &key, &obligation, current, &|| now, decide).await;
    match swapped.result {
        Ok(Outcome::Committed(_)) => return Ok(done(Some(obligation))),
        Ok(Outcome::Unchanged(state)) => go_on(app, exchange, &state, now).await?,
        Err(failure) => {
            // A put whose fate is unknown may still commit: the batch's own obligation stays.
            if swapped.definite {
                obligation.close(app).await;
            }
            return match failure {
                Failure::Store(error) | Failure::Refused(ServiceError::Store(error)) => Err(error),
                Failure::Contended => Ok(Fired {
                    verdict: Verdict::Again(now.plus_millis(BUSY_PAUSE)),
                    committed: None,
                }),
                Failure::Refused(_) => Ok(done(None)),
            };
        }
    }
    obligation.close(app).await;
    Ok(done(None))
}

/// Sets the timer for the next moment of a thread, unless one is set that comes no later.
///
/// # Errors
///
/// The store's.
pub async fn go_on(
    app: &App,
    exchange: &ExchangeId,
    state: &ThreadState,
    now: Timestamp,
) -> Result<(), StoreError> {
    let is_covered = |at: Timestamp| at > now && next_moment(state).is_some_and(|next| at <= next);
    if state.timer_at.is_some_and(is_covered) {
        return Ok(());
    }
    match next_moment(state) {
        Some(moment) => {
            let owner = moment.to_string();
            set(app, exchange, &state.reference, moment, &owner, now).await
        }
        None => Ok(()),
    }
}

/// Sets the timers of a thread that may be lost: those of its batches; and one that comes no later
/// than what is next, or than the one on which its next batches rely. None comes before the thread
/// itself has been put.
///
/// # Errors
///
/// The store's.
pub async fn restore(app: &App, exchange: &ExchangeId, thread: &Thread) -> Result<(), StoreError> {
    let (state, now) = (&thread.state, app.clock.now());
    let earliest = now.plus_millis(WRITERS_TIME);
    let mut soonest = Timestamp::MAX;
    for (batch, moment) in thread.owed_timers() {
        if moment > earliest {
            let owner = batch.to_string();
            set(app, exchange, &state.reference, moment, &owner, now).await?;
            soonest = soonest.min(moment);
        }
    }
    let relied_on = state.timer_at.filter(|at| *at > now);
    match [relied_on, next_moment(state)].into_iter().flatten().min() {
        Some(moment) if moment < soonest => {
            let owner = moment.to_string();
            let moment = moment.max(earliest);
            set(app, exchange, &state.reference, moment, &owner, now).await
        }
        _ => Ok(()),
    }
}
