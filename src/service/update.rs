//! Changing a thread: the write path.

use std::rc::Rc;

use futures::future::join;

use super::obligations::{Obligation, Subject};
use super::settle::settle;
use super::{ServiceError, thread_to_json, threads};
use crate::app::App;
use crate::background::{Rest, nothing};
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::thread::{Stamp, Thread, ThreadState};
use crate::domain::transition::{Update, decide};
use crate::storage::cas::{Step, Target, swap};
use crate::storage::layout;

/// An update of one thread by one actor.
pub struct Request {
    /// The thread's exchange.
    pub exchange: ExchangeId,
    /// The thread.
    pub reference: Ref,
    /// Who asks.
    pub actor: ExecutorId,
    /// What is asked for.
    pub update: Update,
    /// The versions that the client accepts; any when it does not say.
    pub versions: Option<Vec<u64>>,
}

/// How a decision ended.
enum Outcome {
    /// A batch was committed.
    Committed(Box<Thread>),
    /// Everything asked for was so already.
    Unchanged(ThreadState),
}

/// Updates a thread. What it does is not cut short by a client that hangs up.
///
/// # Errors
///
/// The rules', the client's condition, the limits, or the store's. Unless it is contention or
/// the store, nothing has changed.
pub async fn update(app: &Rc<App>, request: Request) -> Result<ThreadState, ServiceError> {
    let work = run(app.clone(), request);
    app.background.finish(work).await?
}

/// 1. Write the obligation and read the thread.
/// 2. Decide.
/// 3. Put the thread if it is still the one decided on: the commit.
/// 4. Write the log and the index, and answer.
/// 5. After the answer: remove what is outdated, close the obligation.
async fn run(app: Rc<App>, request: Request) -> (Result<ThreadState, ServiceError>, Rest) {
    let Request {
        exchange,
        reference,
        actor,
        update,
        versions,
    } = request;
    let key = layout::thread(&exchange, &reference);
    let obligation = Obligation::new(
        &app,
        Subject::Thread {
            exchange_id: exchange.clone(),
            reference: reference.clone(),
            announced: false,
        },
    );
    // 1.
    let store = app.store.as_ref();
    let (loaded, opened) = join(
        threads::get(&app, &exchange, &reference),
        obligation.open(&app),
    )
    .await;
    if let Err(error) = opened {
        return (Err(error.into()), obligation.close_after(&app));
    }
    let current = match loaded {
        Ok(current) => current,
        Err(error) => return (Err(error), obligation.close_after(&app)),
    };
    // 2.
    let decision = |thread: Option<Thread>| {
        let thread = thread.ok_or(ServiceError::NoThread)?;
        let version = thread.state.version;
        let accepts = versions.as_ref().is_none_or(|list| list.contains(&version));
        // A retry of what has been reached is no change, whatever version the client knew.
        let facts = match decide(&thread, &actor, update.clone()) {
            Ok(facts) if facts.is_empty() => {
                return Ok(Step::Keep(Outcome::Unchanged(thread.state)));
            }
            _ if !accepts => return Err(ServiceError::VersionDiffers { version }),
            Ok(facts) => facts,
            Err(refusal) => return Err(ServiceError::Refused(refusal)),
        };
        let stamp = Stamp {
            batch_id: obligation.id,
            now: app.clock.now(),
            new_id: &|| app.clock.new_id(),
        };
        let thread = thread.append(facts, &actor, &stamp);
        let body = thread_to_json(&thread)?;
        Ok(Step::Put(body, None, Outcome::Committed(Box::new(thread))))
    };
    let ours = |thread: &Thread| {
        let won = thread.committed(obligation.id).is_some();
        won.then(|| Outcome::Committed(Box::new(thread.clone())))
    };
    // 3.
    let target = Target {
        store,
        clock: app.clock.as_ref(),
        key: &key,
        deadline: obligation.write_deadline(),
    };
    let swapped = swap(target, Some(current), ours, decision).await;
    match swapped.result {
        Ok(Outcome::Committed(thread)) => settle(app, exchange, *thread, obligation).await,
        Ok(Outcome::Unchanged(state)) => (Ok(state), obligation.close_after(&app)),
        // A put whose fate is unknown may still commit: the tick will see.
        Err(failure) if !swapped.definite => (Err(failure.into()), nothing()),
        Err(failure) => (Err(failure.into()), obligation.close_after(&app)),
    }
}
