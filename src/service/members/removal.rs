//! The end of a membership.
//!
//! 1. Write the obligation.
//! 2. If the member owns the exchange, take that away. The last owner cannot go.
//! 3. End its record: its keys, channels and hooks go, and its id stays taken. This is the commit.
//!    Somebody may have made it an owner meanwhile, so look at that again.
//! 4. Write the audit, and answer.
//! 5. Release what it holds, and cancel what it asked for. Take back its invitations.
//!
//! Another isolate may trust a key of the member for a minute more, and may commit what was called with
//! it for half a minute after that. So the tick does the last step again when that time is over.

use std::rc::Rc;

use futures::future::join3;
use serde_json::json;

use super::amend::{Amendment, Governing as _};
use super::authenticate::BELIEVED;
use super::{audit, exchange, invitations};
use crate::app::App;
use crate::domain::exchange::Exchange;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::member::access::Role;
use crate::domain::member::audit::Deed;
use crate::domain::member::executor::Executor;
use crate::domain::thread::state::ThreadState;
use crate::domain::thread::status::Status;
use crate::domain::thread::steps::{Change, Step};
use crate::domain::thread::transition::{Powers, Update};
use crate::domain::time::Timestamp;
use crate::runtime::background::{Rest, nothing};
use crate::runtime::log::warn;
use crate::service::due::obligations::{Obligation, Removal, Subject};
use crate::service::requests::list::{Filter, list};
use crate::service::requests::update::{Request, update};
use crate::service::{ServiceError, WRITE_WINDOW};
use crate::storage::cas::{Decision, Loaded, Swapped, Target, load, swap};
use crate::storage::{encode, layout};

/// The age in milliseconds of a removal after which nothing can be committed any more that was called
/// with a key of the member.
pub const SETTLED: i64 = BELIEVED + 2 * WRITE_WINDOW;
/// How many requests are looked at before the list is asked for more.
const PAGE: usize = 500;
/// How many operations the release of a request may take.
const OPERATIONS: usize = 40;

/// Ends a membership.
///
/// # Errors
///
/// Fails if there is no such member, if it is the last owner, or with the store's error.
pub async fn remove(
    app: &Rc<App>,
    exchange: ExchangeId,
    executor: ExecutorId,
    by: Option<ExecutorId>,
    keep_requests: bool,
) -> Result<(), ServiceError> {
    let amendment = Amendment {
        object: layout::executor(&exchange, &executor),
        exchange: exchange.clone(),
        by,
        deed: Deed::MemberRemoved,
        executor: Some(executor.clone()),
        details: [(
            "requests".to_owned(),
            json!(if keep_requests { "kept" } else { "cancelled" }),
        )]
        .into_iter()
        .collect(),
    };
    let removal = Removal {
        entry: Box::new(amendment.entry(app)),
        exchange_id: exchange,
        executor_id: executor,
        keep_requests,
    };
    let work = run(app.clone(), removal);
    app.background.finish(work).await?
}

async fn run(app: Rc<App>, removal: Removal) -> (Result<(), ServiceError>, Rest) {
    let obligation = Obligation {
        id: removal.entry.id,
        ..Obligation::new(&app, Subject::Removal(removal.clone()))
    };
    // 1.
    let (record, exchange) = (
        layout::executor(&removal.exchange_id, &removal.executor_id),
        layout::exchange(&removal.exchange_id),
    );
    let store = app.store.as_ref();
    let read = join3(
        load::<Executor>(store, &record),
        load::<Exchange>(store, &exchange),
        obligation.begin(&app),
    );
    let (record, exchange) = match read.await {
        (Ok(record), Ok(exchange), Ok(())) => (record, exchange),
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => {
            return (Err(error.into()), obligation.end_after(&app));
        }
    };
    let is_gone = |record: &Loaded<Executor>| record.document.access.removed_at.is_some();
    if record.as_ref().is_none_or(is_gone) {
        return (Err(ServiceError::NoExecutor), obligation.end_after(&app));
    }
    // 2.
    let dethroned = take_ownership(&app, &removal, exchange, obligation.write_deadline()).await;
    if let Err(failure) = dethroned.result {
        return failed(&app, obligation, failure.into(), dethroned.definite);
    }
    // 3.
    let ended = end_record(&app, &removal, record, obligation.write_deadline()).await;
    app.isolate
        .doubt(&removal.exchange_id, &removal.executor_id);
    app.isolate.full.borrow_mut().remove(&removal.exchange_id);
    match ended.result {
        Ok(true) => {}
        // Somebody else was faster.
        Ok(false) => return (Err(ServiceError::NoExecutor), obligation.end_after(&app)),
        // If the member was an owner, the tick goes on.
        Err(failure) => return (Err(failure.into()), nothing()),
    }
    if let Err(error) = exchange::drop_owner(&app, &removal.exchange_id, &removal.executor_id).await
    {
        return (Err(error), nothing());
    }
    // 4. The obligation stays, because the tick has to do the last step again.
    audit::write(&app, &removal.exchange_id, &removal.entry).await;
    let rest = async move {
        if let Err(error) = depart(&app, &removal, 0).await {
            let error = format!("{error:?}");
            warn("what a removed member leaves is left to the tick", &error);
        }
    };
    (Ok(()), Box::pin(rest))
}

fn failed(
    app: &Rc<App>,
    obligation: Obligation,
    error: ServiceError,
    definite: bool,
) -> (Result<(), ServiceError>, Rest) {
    let rest = if definite {
        obligation.end_after(app)
    } else {
        nothing()
    };
    (Err(error), rest)
}

/// 2.
async fn take_ownership(
    app: &App,
    removal: &Removal,
    current: Option<Loaded<Exchange>>,
    deadline: Timestamp,
) -> Swapped<(), ServiceError> {
    let (key, id) = (layout::exchange(&removal.exchange_id), removal.entry.id);
    let target = Target {
        store: app.store.as_ref(),
        clock: app.clock.as_ref(),
        key: &key,
        deadline,
    };
    let ours = |stored: &Exchange| stored.changes.have(id).then_some(());
    swap(target, current, &ours, &mut |stored: Option<Exchange>| {
        let Some(mut stored) = stored else {
            return Ok(Decision::Keep(()));
        };
        if !stored.remove_owner(&removal.executor_id)? {
            return Ok(Decision::Keep(()));
        }
        stored.changes.note(id);
        Ok(Decision::Put(encode(&key, &stored)?, None, ()))
    })
    .await
}

/// 3.
async fn end_record(
    app: &App,
    removal: &Removal,
    current: Option<Loaded<Executor>>,
    deadline: Timestamp,
) -> Swapped<bool, ServiceError> {
    let (key, id) = (
        layout::executor(&removal.exchange_id, &removal.executor_id),
        removal.entry.id,
    );
    let target = Target {
        store: app.store.as_ref(),
        clock: app.clock.as_ref(),
        key: &key,
        deadline,
    };
    let ours = |stored: &Executor| stored.access.changes.have(id).then_some(true);
    swap(target, current, &ours, &mut |stored: Option<Executor>| {
        let mut stored = stored.ok_or(ServiceError::NoExecutor)?;
        if stored.access.removed_at.is_some() {
            return Ok(Decision::Keep(false));
        }
        stored.remove(removal.entry.at);
        stored.changes().note(id);
        let (body, summary) = stored.encode()?;
        Ok(Decision::Put(body, summary, true))
    })
    .await
}

/// Goes on with a removal whose writer may have died: ends the record if only the ownership was taken.
/// Returns whether the removal was committed.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn complete(app: &App, removal: &Removal) -> Result<bool, ServiceError> {
    let store = app.store.as_ref();
    let key = layout::executor(&removal.exchange_id, &removal.executor_id);
    let Some(record) = load::<Executor>(store, &key).await? else {
        return Ok(false);
    };
    if record.document.access.changes.have(removal.entry.id) {
        exchange::drop_owner(app, &removal.exchange_id, &removal.executor_id).await?;
        return Ok(true);
    }
    let exchange = load::<Exchange>(store, &layout::exchange(&removal.exchange_id)).await?;
    let has_begun = exchange.is_some_and(|loaded| loaded.document.changes.have(removal.entry.id));
    if !has_begun || record.document.access.removed_at.is_some() {
        return Ok(false);
    }
    let deadline = app.clock.now().plus_millis(WRITE_WINDOW);
    let ended = end_record(app, removal, Some(record), deadline).await;
    Ok(ended.result?)
}

/// 5. Returns whether everything is done. Otherwise no more operations may be taken, because `keep` are
///    for others.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn depart(app: &Rc<App>, removal: &Removal, keep: usize) -> Result<bool, ServiceError> {
    let (exchange, member) = (&removal.exchange_id, &removal.executor_id);
    let has_room = || app.operations_left() >= keep.saturating_add(OPERATIONS);
    let by = removal.entry.by.as_ref();
    if !invitations::revoke_of(app, exchange, member, by, &has_room).await? {
        return Ok(false);
    }
    let mut failed = None;
    let open = Status::ALL.iter().filter(|status| !status.is_terminal());
    for status in open {
        let filter = Filter {
            status: Some(*status),
            ..Filter::default()
        };
        let mut cursor = None;
        loop {
            let page = list(app, exchange, &filter, PAGE, cursor.as_ref()).await?;
            for state in &page.threads {
                let Some(update) = farewell(state, removal) else {
                    continue;
                };
                if !has_room() {
                    return Ok(false);
                }
                // One that cannot be left must not keep the others.
                if let Err(error) = leave(app, removal, state, update).await {
                    failed = Some(error);
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
            if !has_room() {
                return Ok(false);
            }
        }
    }
    failed.map_or(Ok(true), Err)
}

/// What is done to a request of the member, if anything.
fn farewell(state: &ThreadState, removal: &Removal) -> Option<Update> {
    let member = &removal.executor_id;
    let (status, message) = if state.requestor_id == *member && !removal.keep_requests {
        (
            Status::Cancelled,
            "who asked for this is no longer a member",
        )
    } else if state.holder() == Some(member) {
        (Status::Pending, "who held this is no longer a member")
    } else {
        return None;
    };
    let change = Change {
        message: Some(message.to_owned()),
        ..Change::to(status)
    };
    Some(Update {
        steps: vec![Step::Set(change)],
        mess: None,
    })
}

async fn leave(
    app: &Rc<App>,
    removal: &Removal,
    state: &ThreadState,
    change: Update,
) -> Result<(), ServiceError> {
    let request = |actor: ExecutorId| Request {
        exchange: removal.exchange_id.clone(),
        reference: state.reference.clone(),
        actor,
        update: change.clone(),
        versions: None,
        powers: Powers {
            role: Role::Owner,
            ..Powers::default()
        },
    };
    let by = removal.entry.by.clone();
    let left = match update(app, request(by.unwrap_or_else(ExecutorId::exchange))).await {
        // What the exchange does by itself has no limit.
        Err(ServiceError::TooLarge { .. }) => update(app, request(ExecutorId::exchange())).await,
        left => left,
    };
    match left {
        // Somebody else was faster, and it is not the member's any more.
        Ok(_) | Err(ServiceError::Refused(_) | ServiceError::NoThread) => Ok(()),
        Err(error) => Err(error),
    }
}
