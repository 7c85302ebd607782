//! Registers an executor, or gives a member one more key by an invitation.

use std::rc::Rc;

use futures::FutureExt as _;
use futures::future::{join, join3};
use serde_json::{Value, json};

use super::amend::{Amendment, amend};
use super::executors::edit;
use super::keys::about;
use super::{audit, exchange, invitations};
use crate::app::App;
use crate::config::Join;
use crate::domain::exchange::Exchange;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::ApiKey;
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::member::access::{AccessRefusal, Dead, Kind, MemberKey, Role};
use crate::domain::member::audit::{AuditEntry, Deed};
use crate::domain::member::executor::{Executor, REMOVED, Registration};
use crate::domain::member::invitation::{Code, Invitation};
use crate::domain::member::profile::Profile;
use crate::domain::text::Invalid;
use crate::domain::thread::event::{Event, Fact, log_line};
use crate::runtime::background::{Rest, nothing};
use crate::service::due::obligations::{Obligation, Subject};
use crate::service::import::standing::mark_if_new;
use crate::service::records::summarize;
use crate::service::{ServiceError, keys, to_json};
use crate::storage::cas::{Decision, Loaded, Target, load, swap};
use crate::storage::index::write_log;
use crate::storage::rows::read_summaries;
use crate::storage::{List, StoreError, layout};

/// How many ids one operation lists.
const IDS: usize = 1_000;

/// Who wants to register.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The id that it wants, unless an invitation gives or makes one.
    pub id: Option<ExecutorId>,
    /// What it says about itself.
    pub profile: Profile,
    /// What it says it is.
    pub kind: Option<Kind>,
    /// The key that it drew itself, so that it can ask again if the answer gets lost.
    pub drawn: Option<ApiKey>,
    /// The code of an invitation.
    pub code: Option<Code>,
    /// Whether it has the registration token of the deployment.
    pub has_token: bool,
}

impl Joining {
    /// Who registers under an id, and says nothing more.
    pub fn plain(id: ExecutorId, profile: Profile) -> Self {
        Self {
            id: Some(id),
            profile,
            kind: None,
            drawn: None,
            code: None,
            has_token: false,
        }
    }
}

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

/// Registers an executor and returns its key.
///
/// # Errors
///
/// Fails if it may not join, if the id is taken, if the profile is too large, or with the store's error.
pub async fn register(
    app: &Rc<App>,
    exchange: ExchangeId,
    joining: Joining,
) -> Result<Joined, ServiceError> {
    let work = run(app.clone(), exchange, joining);
    app.background.finish(work).await?
}

/// 1. If the client asks again, answer as before. Look at the invitation.
/// 2. Find out whether the client may join, and under which id. Nothing was written for it yet.
/// 3. Write the obligation, and use the invitation.
/// 4. Put the object that says whose key it is.
/// 5. Put the record unless there is one already. This is the commit.
/// 6. Write the event and the audit, and answer.
async fn run(
    app: Rc<App>,
    exchange: ExchangeId,
    joining: Joining,
) -> (Result<Joined, ServiceError>, Rest) {
    let plan = match prepare(&app, &exchange, joining).await {
        Ok(Prepared::Plan(plan)) => *plan,
        Ok(Prepared::Known(joined)) => return (Ok(joined), nothing()),
        Err(error) => return (Err(error), nothing()),
    };
    let obligation = Obligation {
        id: plan.entry.id,
        ..Obligation::new(&app, plan.owed(&exchange))
    };
    // 3.
    if let Err(error) = obligation.begin(&app).await {
        return (Err(error.into()), obligation.end_after(&app));
    }
    let deadline = obligation.write_deadline();
    if let Some(code) = &plan.code {
        let taken = invitations::take(
            &app,
            &exchange,
            code,
            &plan.executor,
            plan.entry.id,
            deadline,
        );
        match taken.await {
            (Ok(()), _) => {}
            (Err(error), true) => return (Err(error), obligation.end_after(&app)),
            (Err(error), false) => return (Err(error), nothing()),
        }
    }
    // 4.
    let now = obligation.begun_at;
    if let Err(error) = keys::put(&app, &exchange, &plan.key.hash(), &plan.executor, now).await {
        // The key may still get stored. The tick deletes it once no write can land any more.
        return (Err(error.into()), nothing());
    }
    // 5.
    let (committed, definite) = plan.commit(&app, &exchange, &obligation).await;
    let is_ours = match committed {
        Ok(is_ours) => is_ours,
        Err(error) if definite => return (Err(error), withdraw(&app, obligation)),
        Err(error) => return (Err(error), nothing()),
    };
    // 6.
    app.isolate.doubt(&exchange, &plan.executor);
    let rest = if is_ours {
        match complete(&app, &obligation).await {
            Ok(true) => obligation.end_after(&app),
            Ok(false) | Err(_) => nothing(),
        }
    } else {
        withdraw(&app, obligation)
    };
    let joined = Joined {
        executor: plan.executor,
        key: plan.key,
        role: plan.role,
    };
    (Ok(joined), rest)
}

/// What comes of looking at a registration before anything is written.
enum Prepared {
    /// It may be made.
    Plan(Box<Plan>),
    /// It was made already.
    Known(Joined),
}

/// A registration that may be made.
struct Plan {
    executor: ExecutorId,
    key: ApiKey,
    role: Role,
    code: Option<Code>,
    entry: AuditEntry,
    what: What,
}

/// What a registration writes.
enum What {
    /// A new record, and the event that tells of it.
    Record {
        record: Box<Executor>,
        body: Vec<u8>,
        event: Box<Event>,
    },
    /// A key in the record of a member, which may be the only one from then on.
    Key {
        key: Box<MemberKey>,
        revoke_others: bool,
        current: Box<Loaded<Executor>>,
    },
}

/// 1. and 2.
async fn prepare(
    app: &Rc<App>,
    exchange: &ExchangeId,
    joining: Joining,
) -> Result<Prepared, ServiceError> {
    // 1.
    if let Some(key) = &joining.drawn
        && let Some(joined) = known(app, exchange, key, joining.id.as_ref()).await?
    {
        return Ok(Prepared::Known(joined));
    }
    let invitation = match &joining.code {
        Some(code) => Some(invitations::open(app, exchange, code).await?),
        None => None,
    };
    if let Some(invitation) = &invitation
        && let Some(id) = &invitation.offer.executor_id
    {
        if joining.id.as_ref().is_some_and(|wanted| wanted != id) {
            let problem = format!("must be {id}, for whom the invitation is, or be left out");
            return Err(ServiceError::Invalid(Invalid::new("executor_id", problem)));
        }
        let record = load::<Executor>(app.store.as_ref(), &layout::executor(exchange, id)).await?;
        if let Some(record) = record {
            return one_more_key(app, exchange, joining, invitation, record).await;
        }
    }
    // 2.
    if invitation.is_none() && !joining.has_token && app.config.registration_token.is_some() {
        return Err(AccessRefusal::TokenNeeded.into());
    }
    let (document, ids) = join(exchange::read(app, exchange), list_ids(app, exchange)).await;
    let (document, ids) = (document?, ids?);
    let executor = choose_id(app, &joining, invitation.as_ref(), &ids)?;
    let needs_invitation = invitation.is_none() && app.config.join == Join::Invitation;
    if needs_invitation && !may_be_founded(document.as_ref(), &ids) {
        return Err(AccessRefusal::InvitationNeeded.into());
    }
    mark_if_new(app, exchange).await?;
    let is_free = !ids
        .iter()
        .any(|other| other.eq_ignore_ascii_case(executor.as_str()));
    let founds =
        is_free && exchange::found(app, exchange, &executor, document, ids.is_empty()).await?;
    // Who may not join learns nothing about who has.
    if needs_invitation && !founds {
        return Err(AccessRefusal::InvitationNeeded.into());
    }
    check_is_free(app, exchange, &executor, &ids).await?;
    new_record(
        app,
        exchange,
        joining,
        invitation.as_ref(),
        executor,
        founds,
    )
    .map(Prepared::Plan)
}

/// Whether the exchange is not founded yet, or may have been left by a founder that died.
fn may_be_founded(document: Option<&Exchange>, ids: &[String]) -> bool {
    match document {
        None => ids.is_empty(),
        Some(document) => document.owners.len() == 1,
    }
}

/// Who registered with this key before.
async fn known(
    app: &App,
    exchange: &ExchangeId,
    key: &ApiKey,
    wanted: Option<&ExecutorId>,
) -> Result<Option<Joined>, ServiceError> {
    let Some(executor) = keys::find(app, exchange, &key.hash()).await? else {
        return Ok(None);
    };
    let record = layout::executor(exchange, &executor);
    let record = load::<Executor>(app.store.as_ref(), &record).await?;
    let record = record.map(|record| record.document);
    let found = record
        .as_ref()
        .and_then(|record| record.find_key(&key.hash()));
    let is_other = wanted.is_some_and(|wanted| *wanted != executor);
    match found {
        // It was begun and not committed.
        None if !is_other => Ok(None),
        Some(found) if !is_other => {
            found
                .standing(app.clock.now())
                .map_err(AccessRefusal::Dead)?;
            let role = role_of(app, exchange, record.as_ref(), &executor).await?;
            Ok(Some(Joined {
                executor,
                key: key.clone(),
                role,
            }))
        }
        _ => Err(AccessRefusal::TokenUsed.into()),
    }
}

/// What a member is in its exchange.
async fn role_of(
    app: &App,
    exchange: &ExchangeId,
    record: Option<&Executor>,
    id: &ExecutorId,
) -> Result<Role, StoreError> {
    if exchange::is_owner(app, exchange, id).await? {
        return Ok(Role::Owner);
    }
    Ok(record.map_or(Role::Member, |record| record.access.role))
}

/// The ids of all who are or were members.
async fn list_ids(app: &App, exchange: &ExchangeId) -> Result<Vec<String>, StoreError> {
    let prefix = layout::executors(exchange);
    let mut ids = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = app
            .store
            .list(List::keys(&prefix, after.as_deref(), IDS))
            .await?;
        after = page.rows.last().map(|row| row.key.clone());
        let names = page.rows.iter();
        let names = names.filter_map(|row| row.key.strip_prefix(&prefix)?.strip_suffix(".json"));
        ids.extend(names.map(ToOwned::to_owned));
        if !page.more {
            return Ok(ids);
        }
    }
}

fn choose_id(
    app: &App,
    joining: &Joining,
    invitation: Option<&Invitation>,
    ids: &[String],
) -> Result<ExecutorId, ServiceError> {
    let offered = invitation.and_then(|invitation| invitation.offer.executor_id.clone());
    if let Some(id) = offered.or_else(|| joining.id.clone()) {
        return Ok(id);
    }
    let missing = || Invalid::new("executor_id", "is required");
    let invitation = invitation
        .ok_or_else(missing)
        .map_err(ServiceError::Invalid)?;
    let name = joining.profile.display_name();
    let name = name
        .or(invitation.offer.display_name.as_deref())
        .unwrap_or_default();
    let is_taken = |id: &str| ids.iter().any(|other| other.eq_ignore_ascii_case(id));
    Ok(ExecutorId::from_name(
        name,
        app.clock.random_bytes(),
        is_taken,
    ))
}

/// Checks that nobody has the id, or one that differs in case only, and that there is room for one more.
async fn check_is_free(
    app: &App,
    exchange: &ExchangeId,
    executor: &ExecutorId,
    ids: &[String],
) -> Result<(), ServiceError> {
    let same = ids
        .iter()
        .find(|other| other.eq_ignore_ascii_case(executor.as_str()));
    if let Some(other) = same {
        let other = ExecutorId::parse(other, "executor_id").map_err(ServiceError::Invalid)?;
        return Err(if other == *executor {
            ServiceError::AlreadyRegistered
        } else {
            AccessRefusal::SameButForCase { other }.into()
        });
    }
    let Some(limit) = app.config.limits.members else {
        return Ok(());
    };
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    if ids.len() < most {
        return Ok(());
    }
    // Those who are gone do not count, which only their rows tell.
    let (store, cache) = (app.store.as_ref(), &app.isolate.summaries);
    let rows = read_summaries(store, cache, &layout::executors(exchange), summarize).await?;
    let members = rows
        .iter()
        .filter(|row: &&Value| row.get(REMOVED).is_none());
    if members.count() < most {
        return Ok(());
    }
    Err(AccessRefusal::Full { limit }.into())
}

/// Plans a new record.
fn new_record(
    app: &Rc<App>,
    exchange: &ExchangeId,
    joining: Joining,
    invitation: Option<&Invitation>,
    executor: ExecutorId,
    founds: bool,
) -> Result<Box<Plan>, ServiceError> {
    let draw = || ApiKey::new(exchange, app.clock.random_bytes());
    let key = joining.drawn.unwrap_or_else(draw);
    let now = app.clock.now();
    let offer = invitation.map(|invitation| &invitation.offer);
    let invited_as = offer.map_or(Role::Member, |offer| offer.role);
    let role = if founds { Role::Owner } else { invited_as };
    let member_key = MemberKey {
        scopes: offer.map(|offer| offer.scopes.clone()).unwrap_or_default(),
        last4: Some(key.last4()),
        last_used_at: Some(now),
        ..MemberKey::new(key.hash(), "registration", now)
    };
    let amendment = Amendment {
        exchange: exchange.clone(),
        object: layout::executor(exchange, &executor),
        by: Some(executor.clone()),
        deed: Deed::MemberJoined,
        executor: Some(executor.clone()),
        details: [
            ("role", json!(role)),
            ("key_id", json!(key.hash().id())),
            ("invitation_id", json!(joining.code.as_ref().map(Code::id))),
            (
                "invited_by",
                json!(invitation.map(|invitation| &invitation.created_by)),
            ),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), value))
        .collect(),
    };
    let entry = amendment.entry(app);
    let registration = Registration {
        batch_id: entry.id,
        ts: now,
        key_hash: key.hash(),
    };
    let mut record = Executor::register(executor.clone(), registration.clone());
    if let Some(name) = offer.and_then(|offer| offer.display_name.clone()) {
        record.display_name = name;
    }
    record.access.keys = Some(vec![member_key]);
    record.access.changes.note(entry.id);
    record.access.kind = offer.and_then(|offer| offer.kind).or(joining.kind);
    if role == Role::Guest {
        record.access.role = Role::Guest;
    }
    edit(app, exchange, &mut record, joining.profile)?;
    // Checks the size before anything is written, since nobody has vouched for this client yet.
    let body = to_json(&record, "the profile", EXECUTOR_BYTES)?;
    let event = Event {
        event_id: app.clock.new_id(),
        batch_id: registration.batch_id,
        ts: registration.ts,
        actor_id: executor.clone(),
        fact: Fact::ExecutorRegistered(record.registered()),
    };
    Ok(Box::new(Plan {
        executor,
        key,
        role,
        code: joining.code,
        entry,
        what: What::Record {
            record: Box::new(record),
            body,
            event: Box::new(event),
        },
    }))
}

/// Plans one more key for a member.
async fn one_more_key(
    app: &Rc<App>,
    exchange: &ExchangeId,
    joining: Joining,
    invitation: &Invitation,
    record: Loaded<Executor>,
) -> Result<Prepared, ServiceError> {
    let executor = record.document.id.clone();
    let draw = || ApiKey::new(exchange, app.clock.random_bytes());
    let new = joining.drawn.unwrap_or_else(draw);
    let now = app.clock.now();
    let label = invitation.offer.label.clone();
    let key = MemberKey {
        scopes: invitation.offer.scopes.clone(),
        expires_at: invitation.key_expires_at,
        last4: Some(new.last4()),
        ..MemberKey::new(
            new.hash(),
            label.unwrap_or_else(|| "invitation".to_owned()),
            now,
        )
    };
    let mut details = about(&key);
    details.insert(
        "invitation_id".to_owned(),
        json!(joining.code.as_ref().map(Code::id)),
    );
    details.insert("invited_by".to_owned(), json!(invitation.created_by));
    let amendment = Amendment {
        exchange: exchange.clone(),
        object: layout::executor(exchange, &executor),
        by: Some(executor.clone()),
        deed: Deed::KeyAdded,
        executor: Some(executor.clone()),
        details,
    };
    Ok(Prepared::Plan(Box::new(Plan {
        role: role_of(app, exchange, Some(&record.document), &executor).await?,
        executor,
        key: new,
        code: joining.code,
        entry: amendment.entry(app),
        what: What::Key {
            key: Box::new(key),
            revoke_others: invitation.offer.revoke_others,
            current: Box::new(record),
        },
    })))
}

impl Plan {
    fn owed(&self, exchange: &ExchangeId) -> Subject {
        let event = match &self.what {
            What::Record { event, .. } => Some(event.clone()),
            What::Key { .. } => None,
        };
        Subject::Registration {
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

    /// 5. Returns whether this registration was committed: if the client has asked twice at once, it
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
        let ours = |stored: &Executor| is_of(stored, obligation).then_some(true);
        let (current, now) = (self.current(), obligation.begun_at);
        let swapped = swap(
            target,
            current,
            ours,
            |stored: Option<Executor>| match &self.what {
                _ if stored
                    .as_ref()
                    .is_some_and(|stored| stored.find_key(&hash).is_some()) =>
                {
                    Ok(Decision::Keep(false))
                }
                What::Record { record, body, .. } => match stored {
                    None => Ok(Decision::Put(body.clone(), Some(record.summary()), true)),
                    Some(_) => Err(ServiceError::AlreadyRegistered),
                },
                What::Key {
                    key, revoke_others, ..
                } => {
                    let mut stored = stored.ok_or(ServiceError::NoExecutor)?;
                    if stored.access.removed_at.is_some() {
                        return Err(AccessRefusal::Dead(Dead::Revoked).into());
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
                    let body = to_json(&stored, "the profile", EXECUTOR_BYTES)?;
                    Ok(Decision::Put(body, Some(stored.summary()), true))
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
            What::Key { current, .. } => Some(Loaded {
                document: current.document.clone(),
                tag: current.tag.clone(),
            }),
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

/// Whether `stored` has what the mutation of `obligation` was to write into it.
fn is_of(stored: &Executor, obligation: &Obligation) -> bool {
    let registration = stored.registration.as_ref();
    registration.is_some_and(|registration| registration.batch_id == obligation.id)
        || stored.access.changes.have(obligation.id)
}

/// Finds out what became of a registration.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn fate(app: &App, obligation: &Obligation) -> Result<Fate, StoreError> {
    let Subject::Registration {
        exchange_id,
        executor_id,
        key_hash,
        ..
    } = &obligation.subject
    else {
        return Ok(Fate::Uncommitted);
    };
    let key = layout::executor(exchange_id, executor_id);
    let stored = load::<Executor>(app.store.as_ref(), &key).await?;
    Ok(match stored {
        Some(stored) if is_of(&stored.document, obligation) => Fate::Committed,
        Some(stored) if stored.document.find_key(key_hash).is_some() => Fate::Other,
        _ => Fate::Uncommitted,
    })
}

/// Does what a registration that was committed owes: writes its event and its entry in the audit, and
/// makes the member an owner if it was invited as one. Returns false if something is left to the tick.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn complete(app: &Rc<App>, obligation: &Obligation) -> Result<bool, ServiceError> {
    let Subject::Registration {
        exchange_id,
        executor_id,
        event,
        entry,
        makes_owner,
        ..
    } = &obligation.subject
    else {
        return Ok(true);
    };
    let event = async {
        match event {
            Some(event) => write_event(app, exchange_id, event).await,
            None => true,
        }
    };
    let entry = async {
        match entry {
            Some(entry) => audit::write(app, exchange_id, entry).await,
            None => true,
        }
    };
    let owner = async {
        if !makes_owner {
            return Ok(());
        }
        let amendment = Amendment {
            exchange: exchange_id.clone(),
            object: layout::exchange(exchange_id),
            by: Some(executor_id.clone()),
            deed: Deed::MemberChanged,
            executor: Some(executor_id.clone()),
            details: [("role".to_owned(), json!(Role::Owner))]
                .into_iter()
                .collect(),
        };
        let id = executor_id.clone();
        amend(app, amendment, move |document: &mut Exchange| {
            Ok(document.add_owner(&id))
        })
        .await
        .map(drop)
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
pub async fn undo(app: &App, obligation: &Obligation, fate: Fate) -> Result<(), ServiceError> {
    let Subject::Registration {
        exchange_id,
        key_hash,
        invitation,
        ..
    } = &obligation.subject
    else {
        return Ok(());
    };
    if fate == Fate::Committed {
        return Ok(());
    }
    if let Some(invitation) = invitation {
        invitations::give_back(app, exchange_id, invitation, obligation.id).await?;
    }
    if fate == Fate::Uncommitted {
        app.store
            .delete(&layout::key(exchange_id, key_hash))
            .await?;
    }
    Ok(())
}

/// Undoes a registration of which it is certain that it will not be committed any more.
fn withdraw(app: &Rc<App>, obligation: Obligation) -> Rest {
    let app = app.clone();
    async move {
        let undone = async {
            let fate = fate(&app, &obligation).await?;
            undo(&app, &obligation, fate).await
        };
        if undone.await.is_ok() {
            obligation.end(&app).await;
        } else {
            crate::runtime::log::warn("a registration is left to the tick", &obligation.id);
        }
    }
    .boxed_local()
}
