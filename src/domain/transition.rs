//! The claim rule: who may take a thread from which status to which.
//!
//! | who | may |
//! | --- | --- |
//! | anyone | claim a pending thread, or take it straight to a working or terminal status and so become its executor; add messages |
//! | the holder | set every working and terminal status; release it to `pending` |
//! | the requestor | cancel before the end |
//! | another executor | change no status, but take over with `{"status": "claimed", "takeover": true}` |
//!
//! A thread that is over takes no other status. A call that repeats what its actor already
//! reached changes nothing, so that a retry is safe.

use serde_json::Value;

use super::event::{Fact, MessageAdded, StatusChanged};
use super::ids::ExecutorId;
use super::status::{Phase, Status};
use super::thread::Thread;

/// What a client asks of a thread; at least one of `status` and `mess` is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// The status to set.
    pub status: Option<Status>,
    /// A remark on the status.
    pub message: Option<String>,
    /// Take a thread that another executor holds.
    pub takeover: bool,
    /// Blocks to write to the thread.
    pub mess: Option<Vec<Value>>,
}

/// Why the rules refuse an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another executor holds the thread.
    HeldByOther {
        /// Who holds it.
        holder: ExecutorId,
        /// Its status.
        status: Status,
    },
    /// The actor holds the thread and is past claiming it.
    AlreadyYours {
        /// Who holds it: the actor.
        holder: ExecutorId,
        /// Its status.
        status: Status,
    },
    /// The thread is over.
    Ended {
        /// How it ended.
        status: Status,
        /// Who ended up with it.
        holder: Option<ExecutorId>,
    },
    /// The thread is pending already, and not by this actor's release.
    AlreadyPending,
}

/// Decides on an update: the facts to record, none when everything asked for is so already.
///
/// # Errors
///
/// The rule that is against it.
pub fn decide(thread: &Thread, actor: &ExecutorId, update: Update) -> Result<Vec<Fact>, Refusal> {
    let Update {
        status,
        message,
        takeover,
        mess,
    } = update;
    let mut facts = Vec::new();
    let mut repeated = false;
    if let Some(status) = status {
        repeated = reached_by(thread, actor, status, message.as_deref());
        if !repeated {
            let change = change_status(thread, actor, status, message, takeover)?;
            facts.push(Fact::StatusChanged(change));
        }
    }
    if let Some(mess) = mess
        && !(repeated && has_written_since(thread, actor, &mess))
    {
        facts.push(Fact::MessageAdded(MessageAdded {
            mess,
            extra: serde_json::Map::new(),
        }));
    }
    Ok(facts)
}

/// Whether `actor` itself brought the thread to `status`, and made this remark if any.
fn reached_by(thread: &Thread, actor: &ExecutorId, status: Status, message: Option<&str>) -> bool {
    status == thread.state.status
        && thread.last_status().is_some_and(|(event, change)| {
            event.actor_id == *actor
                && change.new_status == status
                && (message.is_none() || message == change.message.as_deref())
        })
}

/// Whether `actor` has written just this since the thread reached its present status.
fn has_written_since(thread: &Thread, actor: &ExecutorId, mess: &[Value]) -> bool {
    let Some((reached, _)) = thread.last_status() else {
        return false;
    };
    thread.messages().any(|(event, written)| {
        event.ts >= reached.ts && event.actor_id == *actor && written == mess
    })
}

/// Applies the table above to one change of status.
fn change_status(
    thread: &Thread,
    actor: &ExecutorId,
    status: Status,
    message: Option<String>,
    takeover: bool,
) -> Result<StatusChanged, Refusal> {
    let state = &thread.state;
    let holder = state.holder();
    let mine = holder == Some(actor);
    if state.status.is_terminal() {
        return Err(Refusal::Ended {
            status: state.status,
            holder: state.executor_id.clone(),
        });
    }
    let held_by_other = |holder: &ExecutorId| Refusal::HeldByOther {
        holder: holder.clone(),
        status: state.status,
    };
    let withdrawn = status == Status::Cancelled && state.requestor_id == *actor && !mine;
    let executor_id = match (status.phase(), holder) {
        _ if withdrawn => state.executor_id.clone(),
        (Phase::Open, None) if state.status == Status::Pending => {
            return Err(Refusal::AlreadyPending);
        }
        (Phase::Open, None) => None,
        (Phase::Open, Some(_)) if mine => None,
        (Phase::Claimed, Some(_)) if mine && state.status != status => {
            return Err(Refusal::AlreadyYours {
                holder: actor.clone(),
                status: state.status,
            });
        }
        (Phase::Claimed, Some(_)) if takeover => Some(actor.clone()),
        (Phase::Claimed | Phase::Working | Phase::Terminal, None) => Some(actor.clone()),
        (Phase::Claimed | Phase::Working | Phase::Terminal, Some(_)) if mine => Some(actor.clone()),
        (_, Some(other)) => return Err(held_by_other(other)),
    };
    Ok(StatusChanged {
        old_status: state.status,
        new_status: status,
        takeover: takeover && holder.is_some_and(|holder| holder != actor),
        executor_id,
        message,
        extra: serde_json::Map::new(),
    })
}

#[cfg(test)]
#[path = "transition_tests.rs"]
mod tests;
