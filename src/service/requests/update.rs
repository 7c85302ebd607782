//! Changes a thread: the write path.

use std::rc::Rc;

use futures::future::join;

use super::commit::{Outcome, commit};
use super::read;
use super::settle::settle;
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::member::access::Role;
use crate::domain::thread::document::Thread;
use crate::domain::thread::state::{ThreadState, Version};
use crate::domain::thread::transition::{Actor, Powers, Refusal, Update, decide};
use crate::domain::time::Timestamp;
use crate::runtime::background::{Rest, nothing};
use crate::service::due::obligations::{Obligation, Subject};
use crate::service::members::exchange::is_owner;
use crate::service::records::Owner;
use crate::service::{ServiceError, records};
use crate::storage::layout;

/// An update of one thread by one actor.
pub struct Request {
    /// The thread's exchange.
    pub exchange: ExchangeId,
    /// The thread.
    pub reference: Ref,
    /// The executor that asks.
    pub actor: ExecutorId,
    /// What it asks for.
    pub update: Update,
    /// What the executor may do.
    pub powers: Powers,
    /// The versions that the client accepts, or `None` if it accepts any.
    pub versions: Option<Vec<Version>>,
}

/// Updates a thread. A client that hangs up does not interrupt the update.
///
/// # Errors
///
/// Fails if the rules forbid the update, if the client's condition does not hold, if a limit is
/// exceeded, if there is too much contention, or with the store's error. After contention or a
/// store's error, the thread may have changed. After any other error, it has not.
pub async fn update(app: &Rc<App>, request: Request) -> Result<ThreadState, ServiceError> {
    let work = run(app.clone(), request);
    app.background.finish(work).await?
}

/// 1. Write the obligation and read the thread.
/// 2. Decide.
/// 3. Put the thread if it has not changed since the decision. This is the commit.
/// 4. Write the log and the index, and answer.
/// 5. After the answer, remove what is outdated and end the obligation.
async fn run(app: Rc<App>, request: Request) -> (Result<ThreadState, ServiceError>, Rest) {
    let Request {
        exchange,
        reference,
        actor,
        update,
        powers,
        versions,
    } = request;
    // Changing a long thread keeps the processor busy for long, so one is changed after the other, and
    // others get their turn in between.
    let (waits, key) = (app.clone(), layout::thread(&exchange, &reference));
    let turn = match read::turn_if_long(&waits, &key).await {
        Ok(turn) => turn,
        Err(error) => return (Err(error), nothing()),
    };
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
        if turn.is_some() {
            app.store.give_way().await;
        }
        let thread = &current.document;
        let capabilities = capabilities_of(&app, &exchange, &actor, thread).await?;
        let needs_owner =
            powers.role == Role::Member && update.needs_stand_in(&thread.state, &actor);
        let role = if needs_owner && is_owner(&app, &exchange, &actor).await? {
            Role::Owner
        } else {
            powers.role
        };
        let powers = Powers { role, ..powers };
        Ok((current, capabilities, powers))
    };
    let (current, capabilities, powers) = match known.await {
        Ok(known) => known,
        Err(error) => return (Err(error), obligation.end_after(&app)),
    };
    // 2.
    let actor = Actor {
        id: &actor,
        capabilities: &capabilities,
        powers,
    };
    let decision = |thread: &Thread, now: Timestamp| {
        let version = thread.state.version_as_of(now);
        let accepts = versions.as_ref().is_none_or(|list| list.contains(&version));
        // Repeating a change that has been made is not a change, so any version of the client is
        // fine.
        match decide(thread, actor, update.clone(), now) {
            Ok(deeds) if deeds.is_empty() => Ok(deeds),
            // A guest must not learn the version of what is not for it.
            Err(Refusal::NotAddressed) => Err(ServiceError::Refused(Refusal::NotAddressed)),
            _ if !accepts => Err(ServiceError::VersionDiffers { version }),
            decided => decided.map_err(ServiceError::Refused),
        }
    };
    // 3.
    let now = || app.clock.now();
    let swapped = commit(&app, &key, &obligation, current, &now, decision).await;
    if turn.is_some() {
        app.store.give_way().await;
    }
    match swapped.result {
        Ok(Outcome::Committed(thread)) => settle(app, exchange, *thread, obligation).await,
        Ok(Outcome::Unchanged(state)) => (Ok(*state), obligation.end_after(&app)),
        // A put without a definite answer may still commit, so the obligation stays for the tick.
        Err(failure) if !swapped.definite => (Err(failure.into()), nothing()),
        Err(failure) => (Err(failure.into()), obligation.end_after(&app)),
    }
}

/// The actor's capabilities, or none if the thread does not require any.
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
