//! Posting a request: a new thread.

use std::rc::Rc;

use super::settle::settle;
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::thread::document::{Deed, Stamp, Thread};
use crate::domain::thread::posted::NewRequest;
use crate::domain::thread::state::ThreadState;
use crate::runtime::background::{Rest, nothing};
use crate::service::due::obligations::{Obligation, Subject};
use crate::service::{ServiceError, thread_to_json};
use crate::storage::cas::{Decision, Failure, Target, swap};
use crate::storage::layout;

/// How many refs are tried before the call gives up. A day has 33 million refs.
const DRAWS: usize = 5;

/// Why a thread was not put under a ref.
enum NotCreated {
    /// Another thread has the ref.
    Taken,
    /// There was another reason.
    Because(ServiceError),
}

/// Posts a request.
///
/// # Errors
///
/// Fails if the thread would exceed a limit, or with the store's error.
pub async fn create(
    app: &Rc<App>,
    exchange: ExchangeId,
    requestor: ExecutorId,
    request: NewRequest,
) -> Result<ThreadState, ServiceError> {
    let work = run(app.clone(), exchange, requestor, request);
    app.background.finish(work).await?
}

async fn run(
    app: Rc<App>,
    exchange: ExchangeId,
    requestor: ExecutorId,
    request: NewRequest,
) -> (Result<ThreadState, ServiceError>, Rest) {
    let deeds = request.into_deeds(&requestor);
    for _ in 0..DRAWS {
        let reference = Ref::new(app.clock.now(), app.clock.random_bytes());
        let subject = Subject::Thread {
            exchange_id: exchange.clone(),
            reference: reference.clone(),
            announced: false,
        };
        let obligation = Obligation::new(&app, subject);
        if let Err(error) = obligation.begin(&app).await {
            return (Err(error.into()), obligation.end_after(&app));
        }
        let put = put(&app, &exchange, reference, &deeds, &obligation).await;
        match put {
            (Ok(thread), _) => return settle(app, exchange, thread, obligation).await,
            (Err(Failure::Refused(NotCreated::Taken)), _) => {
                obligation.end(&app).await;
            }
            (Err(failure), definite) => {
                let error = match failure {
                    Failure::Refused(NotCreated::Because(error)) => error,
                    Failure::Refused(NotCreated::Taken) | Failure::Contended => {
                        ServiceError::Contended
                    }
                    Failure::Store(error) => ServiceError::Store(error),
                };
                let rest = if definite {
                    obligation.end_after(&app)
                } else {
                    nothing()
                };
                return (Err(error), rest);
            }
        }
    }
    (Err(ServiceError::Contended), nothing())
}

/// Puts a new thread under `reference`, which commits it. Also returns whether every put got a
/// definite answer.
async fn put(
    app: &App,
    exchange: &ExchangeId,
    reference: Ref,
    deeds: &[Deed],
    obligation: &Obligation,
) -> (Result<Thread, Failure<NotCreated>>, bool) {
    let key = layout::thread(exchange, &reference);
    let target = Target {
        store: app.store.as_ref(),
        clock: app.clock.as_ref(),
        key: &key,
        deadline: obligation.write_deadline(),
    };
    let ours = |thread: &Thread| {
        let won = thread.committed(obligation.id).is_some();
        won.then(|| thread.clone())
    };
    let swapped = swap(target, None, &ours, &mut |existing: Option<Thread>| {
        let stamp = Stamp {
            batch_id: obligation.id,
            now: obligation.begun_at,
            new_id: &|| app.clock.new_id(),
        };
        let made = Thread::create(&reference, deeds.to_vec(), &stamp);
        let (None, Some(thread)) = (existing, made) else {
            return Err(NotCreated::Taken);
        };
        let body = thread_to_json(&thread).map_err(NotCreated::Because)?;
        Ok(Decision::Put(body, None, thread))
    })
    .await;
    (swapped.result, swapped.definite)
}
