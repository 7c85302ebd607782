//! A timer is due: what has fallen due to its thread is done, as a batch of its own.

use crate::app::App;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::thread::document::Thread;
use crate::domain::thread::transition::decide_due;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::due::obligations::{Obligation, Subject, Verdict};
use crate::service::due::timers::go_on;
use crate::service::requests::commit::{Outcome, commit};
use crate::storage::cas::{Failure, load};
use crate::storage::{StoreError, layout};

/// Milliseconds until a thread at which others were too busy is looked at again.
const BUSY_PAUSE: i64 = 1_000;

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
