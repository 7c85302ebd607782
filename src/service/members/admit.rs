//! Lets somebody in: a new member, or a member with one more key.

use std::rc::Rc;

use futures::FutureExt as _;
use futures::future::join3;
use uuid::Uuid;

use super::amend::Governing as _;
use super::{audit, exchange, invitations};
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::ApiKey;
use crate::domain::member::access::{AccessRefusal, MemberKey, Role, Useless};
use crate::domain::member::audit::AuditEntry;
use crate::domain::member::executor::Executor;
use crate::domain::member::invitation::{Code, Use};
use crate::domain::thread::event::{Event, log_line};
use crate::runtime::background::{Rest, nothing};
use crate::service::due::obligations::{Obligation, Registration, Subject};
use crate::service::{ServiceError, keys};
use crate::storage::cas::{Decision, Loaded, Target, load, swap};
use crate::storage::index::write_log;
use crate::storage::{Put, StoreError, layout};

/// Who has registered.
#[derive(Debug)]
pub struct Joined {
    /// The executor.
    pub executor: ExecutorId,
    /// Its key.
    pub key: ApiKey,
    /// What it is in the exchange.
    pub role: Role,
}

/// Somebody who may be let in. Nothing was written for it yet.
pub struct Plan {
    /// Its id.
    pub executor: ExecutorId,
    /// Its new key.
    pub key: ApiKey,
    /// What it will be in the exchange.
    pub role: Role,
    /// The code of the invitation that it uses.
    pub code: Option<Code>,
    /// The entry in the audit. Its id is that of the mutation.
    pub entry: AuditEntry,
    /// What is written.
    pub what: What,
}

/// What is written for somebody who is let in.
pub enum What {
    /// A new record, and the event that tells of it.
    Record {
        /// The record.
        record: Box<Executor>,
        /// The event.
        event: Box<Event>,
    },
    /// One more key in the record of a member.
    Key {
        /// The key, as the record knows it.
        key: Box<MemberKey>,
        /// The id of the key that must still be valid: that with which it is made, or with which the
        /// member has invited itself. Otherwise it is refused with this.
        needs: Option<(String, AccessRefusal)>,
        /// Whether it is the only one from then on.
        revoke_others: bool,
        /// The record as it was read.
        current: Box<Loaded<Executor>>,
    },
}

/// Lets somebody in.
///
/// 1. Write the obligation, and use the invitation.
/// 2. Put the object that says whose key it is.
/// 3. Put the record, or the key into the record. This is the commit.
/// 4. Write the event and the audit, and answer.
pub async fn admit(
    app: Rc<App>,
    exchange: ExchangeId,
    plan: Plan,
) -> (Result<Joined, ServiceError>, Rest) {
    let owed = plan.owed(&exchange);
    let obligation = Obligation {
        id: plan.entry.id,
        ..Obligation::new(&app, Subject::Registration(owed.clone()))
    };
    // 1.
    if let Err(error) = obligation.begin(&app).await {
        return (Err(error.into()), obligation.end_after(&app));
    }
    let deadline = obligation.write_deadline();
    if let Some(code) = &plan.code {
        let used = Use {
            id: plan.entry.id,
            at: obligation.begun_at,
            executor_id: plan.executor.clone(),
            key_hash: plan.key.hash(),
        };
        let taken = invitations::take(&app, &exchange, code, used, deadline);
        match taken.await {
            (Ok(()), _) => {}
            (Err(error), true) => return (Err(error), obligation.end_after(&app)),
            (Err(error), false) => return (Err(error), nothing()),
        }
    }
    // 2.
    let now = obligation.begun_at;
    let put = keys::put(&app, &exchange, &plan.key.hash(), &plan.executor, now).await;
    let is_new = match put {
        Ok(Put::Stored(_)) => true,
        // The client drew the token, and asks again, or at the same time for another id.
        Ok(Put::ConditionFailed) => {
            match keys::find(&app, &exchange, &plan.key.hash()).await {
                Ok(Some(executor)) if executor == plan.executor => {}
                Ok(_) => {
                    return (
                        Err(AccessRefusal::TokenUsed.into()),
                        withdraw(&app, obligation, owed),
                    );
                }
                Err(error) => return (Err(error.into()), nothing()),
            }
            false
        }
        // The key may still get stored. The tick deletes it once no write can land any more.
        Err(error) => return (Err(error.into()), nothing()),
    };
    // 3.
    let (committed, definite) = plan.commit(&app, &exchange, &obligation).await;
    let is_ours = match committed {
        Ok(is_ours) => is_ours,
        Err(error) if definite => return (Err(error), withdraw(&app, obligation, owed)),
        Err(error) => return (Err(error), nothing()),
    };
    // 4.
    app.isolate.doubt(&exchange, &plan.executor);
    let rest = if is_ours {
        match complete(&app, obligation.id, &owed).await {
            Ok(true) if is_new => obligation.end_after(&app),
            // An earlier attempt may yet delete the key's object, so the tick looks at it again.
            Ok(_) | Err(_) => nothing(),
        }
    } else {
        withdraw(&app, obligation, owed)
    };
    let joined = Joined {
        executor: plan.executor,
        key: plan.key,
        role: plan.role,
    };
    (Ok(joined), rest)
}

impl Plan {
    /// Makes the member the founder of the exchange, and so its owner.
    pub fn found(&mut self) {
        self.role = Role::Owner;
        let role = serde_json::json!(Role::Owner);
        self.entry.details.insert("role".to_owned(), role);
        if let What::Record { record, .. } = &mut self.what {
            record.access.role = Role::Member;
        }
    }

    fn owed(&self, exchange: &ExchangeId) -> Registration {
        let event = match &self.what {
            What::Record { event, .. } => Some(event.clone()),
            What::Key { .. } => None,
        };
        Registration {
            exchange_id: exchange.clone(),
            executor_id: self.executor.clone(),
            key_hash: self.key.hash(),
            // The founder is in the exchange's document already.
            makes_owner: self.role == Role::Owner && event.is_some() && self.code.is_some(),
            event,
            entry: Some(Box::new(self.entry.clone())),
            invitation: self.code.as_ref().map(Code::id),
        }
    }

    /// Commits. Returns whether this registration was committed: if the client has asked twice at once, it
    /// may be the other one. Also returns whether every put got a definite answer.
    async fn commit(
        &self,
        app: &App,
        exchange: &ExchangeId,
        obligation: &Obligation,
    ) -> (Result<bool, ServiceError>, bool) {
        let object = layout::executor(exchange, &self.executor);
        let target = Target {
            store: app.store.as_ref(),
            clock: app.clock.as_ref(),
            key: &object,
            deadline: obligation.write_deadline(),
        };
        let hash = self.key.hash();
        let ours = |stored: &Executor| is_of(stored, obligation.id).then_some(true);
        let (current, now) = (self.current(), obligation.begun_at);
        let swapped = swap(
            target,
            current,
            &ours,
            &mut |stored: Option<Executor>| match &self.what {
                _ if stored
                    .as_ref()
                    .is_some_and(|stored| stored.find_key(&hash).is_some()) =>
                {
                    Ok(Decision::Keep(false))
                }
                What::Record { record, .. } => match stored {
                    None => {
                        let (body, summary) = record.encode()?;
                        Ok(Decision::Put(body, summary, true))
                    }
                    Some(_) => Err(ServiceError::AlreadyRegistered),
                },
                What::Key {
                    key,
                    needs,
                    revoke_others,
                    ..
                } => {
                    let mut stored = stored.ok_or(ServiceError::NoExecutor)?;
                    if stored.access.removed_at.is_some() {
                        return Err(Useless::Revoked.into());
                    }
                    // It may have been revoked meanwhile.
                    if let Some((key, refusal)) = needs
                        && !stored.has_valid_key(key, now)
                    {
                        return Err(refusal.clone().into());
                    }
                    let others: Vec<_> = stored
                        .keys()
                        .iter()
                        .map(|key| key.id().to_owned())
                        .collect();
                    for other in others.iter().filter(|_| *revoke_others) {
                        stored.revoke_key(other, now);
                    }
                    stored.add_key(key.as_ref().clone(), now)?;
                    stored.access.changes.note(obligation.id);
                    let (body, summary) = stored.encode()?;
                    Ok(Decision::Put(body, summary, true))
                }
            },
        )
        .await;
        (swapped.result.map_err(ServiceError::from), swapped.definite)
    }

    /// The record as it was read, if there is one.
    fn current(&self) -> Option<Loaded<Executor>> {
        match &self.what {
            What::Record { .. } => None,
            What::Key { current, .. } => Some(current.as_ref().clone()),
        }
    }
}

/// What became of a registration that its writer left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was committed.
    Committed,
    /// It was not committed, but another with the same key was.
    Other,
    /// It was not committed.
    Uncommitted,
}

/// Whether `stored` has what the mutation `id` was to write into it.
fn is_of(stored: &Executor, id: Uuid) -> bool {
    let registration = stored.registration.as_ref();
    registration.is_some_and(|registration| registration.batch_id == id)
        || stored.access.changes.have(id)
}

/// Finds out what became of a registration.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn fate(app: &App, id: Uuid, registration: &Registration) -> Result<Fate, StoreError> {
    let key = layout::executor(&registration.exchange_id, &registration.executor_id);
    let stored = load::<Executor>(app.store.as_ref(), &key).await?;
    Ok(match stored {
        Some(stored) if is_of(&stored.document, id) => Fate::Committed,
        Some(stored) if stored.document.find_key(&registration.key_hash).is_some() => Fate::Other,
        _ => Fate::Uncommitted,
    })
}

/// Does what a registration that was committed owes: writes its event and its entry in the audit, and
/// makes the member an owner if it was invited as one. Returns false if something is left to the tick.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn complete(
    app: &Rc<App>,
    id: Uuid,
    registration: &Registration,
) -> Result<bool, ServiceError> {
    let exchange = &registration.exchange_id;
    let event = async {
        match &registration.event {
            Some(event) => write_event(app, exchange, event).await,
            None => true,
        }
    };
    let entry = async {
        match &registration.entry {
            Some(entry) => audit::write(app, exchange, entry).await,
            None => true,
        }
    };
    let owner = async {
        if !registration.makes_owner {
            return Ok(());
        }
        exchange::promote(app, exchange, &registration.executor_id, id).await
    };
    let (told, noted, promoted) = join3(event, entry, owner).await;
    promoted?;
    Ok(told && noted)
}

async fn write_event(app: &App, exchange: &ExchangeId, event: &Event) -> bool {
    let key = layout::event_batch(exchange, event.ts, event.batch_id);
    match log_line(exchange, None, event) {
        Ok(line) => write_log(app.store.as_ref(), &key, &format!("{line}\n")).await,
        Err(error) => {
            crate::runtime::log::warn("an event could not be written", &error);
            false
        }
    }
}

/// Undoes a registration that was not committed: gives the invitation back, and deletes the object that
/// says whose key it is, unless another registration has that key.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn undo(
    app: &App,
    id: Uuid,
    registration: &Registration,
    fate: Fate,
) -> Result<(), ServiceError> {
    let Registration {
        exchange_id,
        executor_id,
        key_hash,
        invitation,
        ..
    } = registration;
    if fate == Fate::Committed {
        return Ok(());
    }
    if let Some(invitation) = invitation {
        invitations::give_back(app, exchange_id, invitation, id).await?;
    }
    if fate == Fate::Uncommitted
        && keys::find(app, exchange_id, key_hash).await?.as_ref() == Some(executor_id)
    {
        app.store
            .delete(&layout::key(exchange_id, key_hash))
            .await?;
    }
    Ok(())
}

/// Undoes a registration of which it is certain that it will not be committed any more.
fn withdraw(app: &Rc<App>, obligation: Obligation, owed: Registration) -> Rest {
    let app = app.clone();
    async move {
        let undone = async {
            let fate = fate(&app, obligation.id, &owed).await?;
            undo(&app, obligation.id, &owed, fate).await
        };
        if undone.await.is_ok() {
            obligation.end(&app).await;
        } else {
            crate::runtime::log::warn("a registration is left to the tick", &obligation.id);
        }
    }
    .boxed_local()
}
