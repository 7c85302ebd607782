//! The rules of a thread's life: who may do what to it, and what follows.
//!
//! | who | may |
//! | --- | --- |
//! | anyone | claim a pending request, or take it straight to a working or terminal status and so become its executor, if they have the capabilities that it requires; add messages |
//! | the holder | set every working and terminal status; release it to `pending`; deliver; renew the claim |
//! | the requestor | cancel before the end; answer what the holder asks |
//! | another executor | change no status, but take over with `{"status": "claimed", "takeover": true}` |
//! | an owner of the exchange | cancel, release and answer in anyone's place |
//! | a guest | all of this, but only with what is addressed to it |
//! | the exchange | what [`due`] says |
//!
//! A thread that is over takes no other status. If a confirmation is required, the request cannot
//! be completed until the requestor has given it to the present holder. Repeating a call that
//! already succeeded changes nothing, so a retry is safe.

use serde_json::{Map, Value};

use super::document::{Deed, Thread};
use super::due;
use super::event::{Fact, MessageAdded, StatusChanged, details};
use super::question::{Answer, Asked, Reply};
use super::state::ThreadState;
use super::status::{Phase, Status};
use super::steps::{Change, Step};
use crate::domain::duration::Duration;
use crate::domain::ids::ExecutorId;
use crate::domain::member::access::{Role, Scope};
use crate::domain::text::Invalid;
use crate::domain::time::Timestamp;

/// What a client asks of a thread: steps in order, and blocks to write to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// The steps, including those that come from `mess`.
    pub steps: Vec<Step>,
    /// Blocks to write to the thread.
    pub mess: Option<Vec<Value>>,
}

/// The executor that makes a call.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    /// Its id.
    pub id: &'a ExecutorId,
    /// The capabilities that it has. They matter only if the thread requires some.
    pub capabilities: &'a [Value],
    /// What it may do.
    pub powers: Powers,
}

/// What the actor of a call may do, by its key and its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Powers {
    /// Whether its key is good for asking: replying, and cancelling its own requests.
    pub asks: bool,
    /// Whether its key is good for claiming and working.
    pub executes: bool,
    /// Its role: an owner stands in for others, and a guest may touch only what is addressed to it.
    pub role: Role,
}

impl Default for Powers {
    /// Those of a member with a key for everything.
    fn default() -> Self {
        Self {
            asks: true,
            executes: true,
            role: Role::Member,
        }
    }
}

impl Powers {
    fn have(self, scope: Scope) -> bool {
        match scope {
            Scope::Request => self.asks,
            _ => self.executes,
        }
    }
}

/// Why the rules refuse an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another executor holds the thread.
    HeldByOther {
        /// The holder.
        holder: ExecutorId,
        /// Its status.
        status: Status,
        /// When the claim lapses, if it does.
        lease_until: Option<Timestamp>,
    },
    /// The actor holds the thread already and is past claiming it.
    AlreadyYours {
        /// The holder, which is the actor.
        holder: ExecutorId,
        /// Its status.
        status: Status,
    },
    /// The thread is over.
    Ended {
        /// The status in which it ended.
        status: Status,
        /// The executor that it ended with, if any.
        holder: Option<ExecutorId>,
    },
    /// The thread is already pending, and this actor did not release it.
    AlreadyPending,
    /// Nobody holds the thread, so there is no claim to renew.
    NotClaimed,
    /// The actor lacks capabilities that the thread requires.
    MissingCapabilities {
        /// The missing capabilities.
        missing: Vec<String>,
    },
    /// The requestor must confirm first.
    Unconfirmed {
        /// The thread's status.
        status: Status,
    },
    /// The key of the actor is not good for this.
    Scope(Scope),
    /// The thread is not addressed to the guest who calls, who is not told that there is one.
    NotAddressed,
    /// Only the requestor may answer questions.
    NotRequestor {
        /// The requestor.
        requestor: ExecutorId,
    },
    /// There is no question to answer.
    NoOpenQuestion {
        /// The thread's status.
        status: Status,
    },
    /// The call does not fit the current state of the thread.
    Invalid(Invalid),
}

impl Update {
    /// Sets a status.
    pub fn set(status: Status) -> Self {
        Self::step(Step::Set(Change::to(status)))
    }

    /// Renews a claim.
    pub fn renew(lease: Option<Duration>) -> Self {
        Self::step(Step::Renew(lease))
    }

    fn step(step: Step) -> Self {
        Self {
            steps: vec![step],
            mess: None,
        }
    }

    /// Whether only an owner can do this to a thread, in the place of its holder or requestor.
    pub fn needs_stand_in(&self, state: &ThreadState, actor: &ExecutorId) -> bool {
        let (holder, is_requestor) = (state.holder(), state.requestor_id == *actor);
        let is_others = holder.is_some_and(|holder| holder != actor);
        self.steps.iter().any(|step| match step {
            Step::Set(change) => match change.status {
                Status::Cancelled => {
                    let is_bound = holder.is_none() && !state.terms.requires.is_empty();
                    !is_requestor && (is_others || is_bound)
                }
                Status::Pending => is_others,
                _ => false,
            },
            Step::Reply(_) => !is_requestor,
            Step::Deliver { .. } | Step::Renew(_) => false,
        })
    }
}

/// Decides on an update at `now`. Returns the facts to record, each with its actor, or nothing if
/// everything that was asked for holds already. What is due is applied first.
///
/// # Errors
///
/// Fails with the rule that forbids the update.
pub fn decide(
    thread: &Thread,
    actor: Actor<'_>,
    update: Update,
    now: Timestamp,
) -> Result<Vec<Deed>, Refusal> {
    if actor.powers.role == Role::Guest && !thread.state.is_addressed_to(actor.id) {
        return Err(Refusal::NotAddressed);
    }
    let mut draft = Draft {
        thread,
        state: thread.state.clone(),
        deeds: Vec::new(),
        actor,
        now,
    };
    draft.apply_due();
    let due = draft.deeds.len();
    if due == 0 && is_repeated(thread, actor.id, &update) {
        return Ok(Vec::new());
    }
    let mut repeats = !update.steps.is_empty();
    for step in update.steps {
        // At the beginning of a call, skips statuses that were reached already.
        let is_reached = draft.deeds.is_empty()
            && matches!(&step, Step::Set(change) if reached_by(thread, actor.id, change));
        if !is_reached {
            repeats = false;
            draft.take(step)?;
            // A request that was released after its deadline expires at once, so it cannot be
            // claimed again.
            draft.apply_due();
        }
    }
    if let Some(mess) = update.mess
        && !(repeats && has_written_since_reached(thread, actor.id, &mess))
    {
        if !actor.powers.asks && !actor.powers.executes {
            return Err(Refusal::Scope(Scope::Execute));
        }
        draft.record(Fact::MessageAdded(MessageAdded {
            mess,
            extra: Map::new(),
        }));
    }
    if draft.deeds.len() == due {
        return Ok(Vec::new());
    }
    Ok(numbered(draft.deeds))
}

/// What the exchange itself does to a thread at `now`: everything that is due, or else a reminder.
pub fn decide_due(thread: &Thread, now: Timestamp) -> Vec<Deed> {
    let mut state = thread.state.clone();
    let mut facts = due::apply(&mut state, now);
    if facts.is_empty() {
        facts.extend(due::nudge(&state, now).map(Fact::StatusChanged));
    }
    let by_exchange = facts.into_iter().map(|fact| (ExecutorId::exchange(), fact));
    numbered(by_exchange.collect())
}

/// Numbers the status changes if there are several. Otherwise the log would not keep the order of
/// what happened at the same moment.
fn numbered(mut deeds: Vec<Deed>) -> Vec<Deed> {
    let changes = deeds.iter_mut().filter_map(|(_, fact)| match fact {
        Fact::StatusChanged(change) => Some(change),
        _ => None,
    });
    let changes: Vec<_> = changes.collect();
    if changes.len() > 1 {
        for (number, change) in (1..).zip(changes) {
            change.step = Some(number);
        }
    }
    deeds
}

/// Whether the call repeats an earlier one: `actor` brought the thread to its current status, and
/// has written exactly the blocks of this call then or since.
fn is_repeated(thread: &Thread, actor: &ExecutorId, update: &Update) -> bool {
    let is_there = |status| has_reached(thread, actor, status).is_some();
    let target = update.steps.iter().rev().find_map(|step| match step {
        Step::Set(change) => Some(reached_by(thread, actor, change)),
        Step::Reply(reply) if is_there(reply.leads_to()) => Some(true),
        Step::Deliver { completes: true } if is_there(Status::Completed) => Some(true),
        // A reply that accepts a suggestion, or a delivery after the end, was only a message.
        Step::Reply(Reply {
            answer: Answer::Accept(_),
            ..
        })
        | Step::Deliver { .. }
        | Step::Renew(_) => None,
        Step::Reply(_) => Some(false),
    });
    let mess = update.mess.as_ref();
    target == Some(true) && mess.is_some_and(|m| has_written_since_reached(thread, actor, m))
}

/// The change by which `actor` itself brought the thread to `status`, if it is still there.
fn has_reached<'a>(
    thread: &'a Thread,
    actor: &ExecutorId,
    status: Status,
) -> Option<&'a StatusChanged> {
    let (event, change) = thread.last_status()?;
    let is_so = status == thread.state.status && change.new_status == status;
    (is_so && event.actor_id == *actor).then_some(change)
}

/// Whether `actor` set that status and said then what `asked` says now.
fn reached_by(thread: &Thread, actor: &ExecutorId, asked: &Change) -> bool {
    has_reached(thread, actor, asked.status).is_some_and(|change| {
        let says = asked.message.is_none() || asked.message == change.message;
        let holds = asked.lease.is_none() || asked.lease == thread.state.lease;
        let tells = |(name, value)| change.extra.get(name) == Some(value);
        says && holds && asked.details.iter().all(tells)
    })
}

/// Whether `actor` has written exactly these blocks since the thread reached its current status.
fn has_written_since_reached(thread: &Thread, actor: &ExecutorId, mess: &[Value]) -> bool {
    let Some((reached, _)) = thread.last_status() else {
        return false;
    };
    thread.messages().any(|(event, written)| {
        event.ts >= reached.ts && event.actor_id == *actor && written == mess
    })
}

/// A draft of the thread on which the steps of a call are tried in turn.
struct Draft<'a> {
    thread: &'a Thread,
    /// The state after what has been recorded so far.
    state: ThreadState,
    deeds: Vec<Deed>,
    actor: Actor<'a>,
    now: Timestamp,
}

impl Draft<'_> {
    fn apply_due(&mut self) {
        let facts = due::apply(&mut self.state, self.now);
        let by_exchange = facts.into_iter().map(|fact| (ExecutorId::exchange(), fact));
        self.deeds.extend(by_exchange);
    }

    fn record(&mut self, fact: Fact) {
        self.state.take(&fact, self.actor.id, self.now);
        self.deeds.push((self.actor.id.clone(), fact));
    }

    fn take(&mut self, step: Step) -> Result<(), Refusal> {
        match step {
            Step::Set(change) => self.set(change),
            Step::Reply(reply) => self.reply(reply),
            Step::Deliver { .. } | Step::Renew(_) if !self.actor.powers.executes => {
                Err(Refusal::Scope(Scope::Execute))
            }
            // A delivery after the end is only a message.
            Step::Deliver { .. } if self.state.status.is_terminal() => Ok(()),
            Step::Deliver { completes: true } => self.set(Change::to(Status::Completed)),
            Step::Deliver { completes: false } => self.check_confirmed(),
            Step::Renew(lease) => self.renew(lease),
        }
    }

    /// Applies the table at the top of this file to one change of status.
    fn set(&mut self, change: Change) -> Result<(), Refusal> {
        let Change {
            status,
            message,
            takeover,
            lease,
            details,
        } = change;
        let (state, actor) = (&self.state, self.actor.id);
        let holder = state.holder();
        let mine = holder == Some(actor);
        let powers = self.actor.powers;
        let is_requestor = state.requestor_id == *actor;
        let stands_in = powers.role == Role::Owner && !mine;
        let missing = state.terms.missing_from(self.actor.capabilities);
        let lacks = !missing.is_empty();
        let withdrawn = status == Status::Cancelled
            && !mine
            && (is_requestor || (stands_in && (holder.is_some() || lacks)));
        let needed = if withdrawn {
            Scope::Request
        } else {
            Scope::Execute
        };
        if !powers.have(needed) {
            return Err(Refusal::Scope(needed));
        }
        if state.status.is_terminal() {
            return Err(self.ended());
        }
        let executor_id = match (status.phase(), holder) {
            _ if withdrawn => state.executor_id.clone(),
            (Phase::Open, Some(_)) if stands_in => None,
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
            (Phase::Claimed | Phase::Working | Phase::Terminal, Some(_)) if mine => {
                Some(actor.clone())
            }
            (_, Some(other)) => return Err(self.held_by(other)),
        };
        if !mine && executor_id.as_ref() == Some(actor) && lacks {
            return Err(Refusal::MissingCapabilities { missing });
        }
        if matches!(status, Status::Completed | Status::Partial) {
            self.check_confirmed()?;
        }
        let mut changed = StatusChanged::new(state.status, status, executor_id);
        changed.takeover = takeover && holder.is_some_and(|holder| holder != actor);
        changed.message = message;
        changed.lease = lease;
        changed.extra = details;
        self.record(Fact::StatusChanged(changed));
        Ok(())
    }

    /// Answers what was asked. The holder then goes on, unless the requestor refuses to confirm:
    /// then the status becomes `held`.
    fn reply(&mut self, reply: Reply) -> Result<(), Refusal> {
        let (state, powers) = (&self.state, self.actor.powers);
        if !powers.asks {
            return Err(Refusal::Scope(Scope::Request));
        }
        if state.requestor_id != *self.actor.id && powers.role != Role::Owner {
            let requestor = state.requestor_id.clone();
            return Err(Refusal::NotRequestor { requestor });
        }
        let Some(asked) = Asked::of(state.status, &self.details()) else {
            // A suggestion can be accepted or declined in any status.
            return match reply.answer {
                Answer::Accept(_) if self.has_suggestion() => Ok(()),
                _ => Err(Refusal::NoOpenQuestion {
                    status: state.status,
                }),
            };
        };
        let confirmed = reply.check(&asked).map_err(Refusal::Invalid)?;
        let (status, holder) = (reply.leads_to(), state.executor_id.clone());
        let mut changed = StatusChanged::new(state.status, status, holder);
        changed.confirmed = confirmed;
        let reason = reply.reason.map(|reason| ("reason".to_owned(), reason));
        changed.extra.extend(reason);
        self.record(Fact::StatusChanged(changed));
        Ok(())
    }

    fn renew(&mut self, lease: Option<Duration>) -> Result<(), Refusal> {
        let state = &self.state;
        if state.status.is_terminal() {
            return Err(self.ended());
        }
        match state.holder() {
            None => return Err(Refusal::NotClaimed),
            Some(holder) if holder != self.actor.id => return Err(self.held_by(holder)),
            Some(_) => {}
        }
        let Some(lease) = lease.or(state.lease) else {
            let problem = "is required: the claim has none to renew";
            return Err(Refusal::Invalid(Invalid::new("lease", problem)));
        };
        let holder = state.executor_id.clone();
        let mut changed = StatusChanged::new(state.status, state.status, holder);
        changed.lease = Some(lease);
        self.record(Fact::StatusChanged(changed));
        Ok(())
    }

    fn check_confirmed(&self) -> Result<(), Refusal> {
        let state = &self.state;
        if state.terms.confirm_before && !state.confirmed {
            return Err(Refusal::Unconfirmed {
                status: state.status,
            });
        }
        Ok(())
    }

    /// What was said about the current status.
    fn details(&self) -> Map<String, Value> {
        let drafted = self.deeds.iter().filter_map(|(_, fact)| match fact {
            Fact::StatusChanged(change) => Some(change),
            _ => None,
        });
        let written = self.thread.changes().map(|(_, change)| change);
        details(written.chain(drafted))
    }

    /// Whether somebody else has made a suggestion.
    fn has_suggestion(&self) -> bool {
        self.thread.messages().any(|(event, mess)| {
            let suggests = |block: &Value| block.get("suggestion").is_some();
            event.actor_id != *self.actor.id && mess.iter().any(suggests)
        })
    }

    fn held_by(&self, holder: &ExecutorId) -> Refusal {
        Refusal::HeldByOther {
            holder: holder.clone(),
            status: self.state.status,
            lease_until: self.state.lease_until,
        }
    }

    fn ended(&self) -> Refusal {
        Refusal::Ended {
            status: self.state.status,
            holder: self.state.executor_id.clone(),
        }
    }
}
