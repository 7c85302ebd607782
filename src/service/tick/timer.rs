//! Sees to a timer: applies what has fallen due to its thread, as a batch of its own.

use super::batch::{Batch, complete};
use super::context::{Seen, Tick};
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::thread::document::Thread;
use crate::domain::thread::transition::decide_due;
use crate::runtime::log::warn;
use crate::service::ServiceError;
use crate::service::due::obligations::{Next, Obligation, Subject};
use crate::service::due::timers::go_on;
use crate::service::requests::commit::{Outcome, commit};
use crate::storage::cas::{Failure, load};
use crate::storage::{StoreError, layout};

/// Milliseconds until the tick looks again at a thread that too many others were writing.
const BUSY_PAUSE: i64 = 1_000;

/// Applies what is due to a thread as a batch of its own, and completes and announces the batch. If
/// nothing is due, sets a timer for the next moment.
///
/// # Errors
///
/// Fails with the store's error. In that case the tick must see to the timer again.
pub async fn see_to(
    tick: &Tick<'_>,
    exchange: &ExchangeId,
    reference: &Ref,
) -> Result<Seen, StoreError> {
    let (app, now) = (tick.app, tick.now());
    let key = layout::thread(exchange, reference);
    let Some(current) = load::<Thread>(app.store.as_ref(), &key).await? else {
        return Ok(Next::Done.into());
    };
    if decide_due(&current.document, now).is_empty() {
        go_on(app, exchange, &current.document.state, now).await?;
        return Ok(Next::Done.into());
    }
    let subject = Subject::Thread {
        exchange_id: exchange.clone(),
        reference: reference.clone(),
        announced: false,
    };
    // The obligation begins by the clock, as that of any writer does, because a tick may run later
    // than its scheduled time.
    let obligation = Obligation::new(app, subject);
    obligation.begin(app).await?;
    let decide = |thread: &Thread, now| Ok(decide_due(thread, now));
    let swapped = commit(app, &key, &obligation, current, &|| now, decide).await;
    match swapped.result {
        Ok(Outcome::Committed(_)) => Ok(see_through(tick, exchange, reference, &obligation).await),
        Ok(Outcome::Unchanged(state)) => {
            go_on(app, exchange, &state, now).await?;
            obligation.end(app).await;
            Ok(Next::Done.into())
        }
        Err(failure) => {
            // A put without a definite answer may still commit, so the batch's own obligation
            // stays.
            if swapped.definite {
                obligation.end(app).await;
            }
            match failure {
                Failure::Store(error) | Failure::Refused(ServiceError::Store(error)) => Err(error),
                Failure::Contended => Ok(Next::Again(now.plus_millis(BUSY_PAUSE)).into()),
                Failure::Refused(_) => Ok(Next::Done.into()),
            }
        }
    }
}

/// Completes and announces the batch that was just committed. What fails is left to a later tick.
async fn see_through(
    tick: &Tick<'_>,
    exchange: &ExchangeId,
    reference: &Ref,
    obligation: &Obligation,
) -> Seen {
    let batch = Batch {
        exchange,
        reference,
        id: obligation.id,
        begun_at: obligation.begun_at,
        hops: obligation.hops,
    };
    let announced = match complete(tick, &batch, false).await {
        Ok(announced) => {
            obligation.end(tick.app).await;
            announced.unwrap_or_default()
        }
        Err(error) => {
            warn("what has fallen due is left to a later tick", &error);
            Vec::new()
        }
    };
    Seen {
        next: Next::Done,
        announced,
    }
}
