//! Timers: obligations to look at a thread at a moment at which something may happen to it by
//! itself.
//!
//! A timer may come early but never late. A batch owes a timer if the next such moment comes before
//! the thread's `timer_at`. The tick reads the thread, applies what is due, and sets a timer for
//! the next moment, unless another timer covers it. Nothing ever searches for threads.

use super::obligations::{Obligation, Subject, WRITERS_TIME};
use crate::app::App;
use crate::domain::ids::{ExchangeId, Ref, derived_id};
use crate::domain::thread::document::Thread;
use crate::domain::thread::state::{ThreadState, next_moment};
use crate::domain::time::Timestamp;
use crate::storage::{StoreError, layout};

/// Sets a timer of a thread for `moment` on behalf of `owner`, which is a batch or whoever looked
/// at the thread. Setting it again changes nothing.
///
/// Each owner's timer has a key of its own. An existing timer could not serve instead, because the
/// tick may have handled it already and be about to delete it.
///
/// # Errors
///
/// Fails with the store's error.
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

/// Sets a timer for the next moment of a thread, unless a timer is set that comes no later.
///
/// # Errors
///
/// Fails with the store's error.
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

/// Sets the timers of a thread again, in case they were lost: those of its batches, and one that
/// comes no later than the next moment and no later than the timer on which the next batches rely.
/// No timer comes sooner than [`WRITERS_TIME`] from now, so that the thread itself has been put by
/// then.
///
/// # Errors
///
/// Fails with the store's error.
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
