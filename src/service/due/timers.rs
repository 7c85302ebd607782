//! Timers: obligations to look at a thread at the moment at which something may happen to it by
//! itself.
//!
//! A timer may come early, never late: a batch after which the next such moment comes before the
//! thread's `timer_at` owes one. The tick reads the thread, does what is due, and sets a timer for
//! the moment that remains, unless another timer covers it. Nothing ever looks for threads.

use super::obligations::{Obligation, Subject, WRITERS_TIME};
use crate::app::App;
use crate::domain::ids::{ExchangeId, Ref, derived_id};
use crate::domain::thread::document::Thread;
use crate::domain::thread::state::{ThreadState, next_moment};
use crate::domain::time::Timestamp;
use crate::storage::{StoreError, layout};

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
    timer.put_new(app, &layout::due(moment, id)).await?;
    Ok(())
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
