//! Changing a thread: the write path.

use std::rc::Rc;

use futures::future::join;

use super::commit::{Outcome, commit};
use super::read;
use super::settle::settle;
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::thread::document::Thread;
use crate::domain::thread::state::{ThreadState, Version};
use crate::domain::thread::transition::{Actor, Update, decide};
use crate::domain::time::Timestamp;
use crate::runtime::background::{Rest, nothing};
use crate::service::due::obligations::{Obligation, Subject};
use crate::service::records::Owner;
use crate::service::{ServiceError, records};
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
    pub versions: Option<Vec<Version>>,
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
    let obligation = Obligation::new(
        &app,
        Subject::Thread {
            exchange_id: exchange.clone(),
            reference: reference.clone(),
            announced: false,
        },
    );
    // 1.
    let (loaded, opened) = join(
        read::get(&app, &exchange, &reference),
        obligation.begin(&app),
    )
    .await;
    if let Err(error) = opened {
        return (Err(error.into()), obligation.end_after(&app));
    }
    let known = async {
        let current = loaded?;
        let capabilities = capabilities_of(&app, &exchange, &actor, &current.document).await?;
        Ok((current, capabilities))
    };
    let (current, capabilities) = match known.await {
        Ok(known) => known,
        Err(error) => return (Err(error), obligation.end_after(&app)),
    };
    // 2.
    let actor = Actor {
        id: &actor,
        capabilities: &capabilities,
    };
    let decision = |thread: &Thread, now: Timestamp| {
        let version = thread.state.version_as_of(now);
        let accepts = versions.as_ref().is_none_or(|list| list.contains(&version));
        // A retry of what has been reached is no change, whatever version the client knew.
        match decide(thread, actor, update.clone(), now) {
            Ok(deeds) if deeds.is_empty() => Ok(deeds),
            _ if !accepts => Err(ServiceError::VersionDiffers { version }),
            decided => decided.map_err(ServiceError::Refused),
        }
    };
    // 3.
    let key = layout::thread(&exchange, &reference);
    let now = || app.clock.now();
    let swapped = commit(&app, &key, &obligation, current, &now, decision).await;
    match swapped.result {
        Ok(Outcome::Committed(thread)) => settle(app, exchange, *thread, obligation).await,
        Ok(Outcome::Unchanged(state)) => (Ok(*state), obligation.end_after(&app)),
        // A put whose fate is unknown may still commit: the tick will see.
        Err(failure) if !swapped.definite => (Err(failure.into()), nothing()),
        Err(failure) => (Err(failure.into()), obligation.end_after(&app)),
    }
}

/// What the actor claims to be able to do, where the thread asks for that.
async fn capabilities_of(
    app: &App,
    exchange: &ExchangeId,
    actor: &ExecutorId,
    thread: &Thread,
) -> Result<Vec<serde_json::Value>, ServiceError> {
    if thread.state.terms.requires.is_empty() {
        return Ok(Vec::new());
    }
    let owner = Owner {
        exchange,
        executor: actor,
    };
    let executor = records::read(app, owner, None).await?;
    Ok(executor.map_or_else(Vec::new, |executor| executor.capabilities.clone()))
}
