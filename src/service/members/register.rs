//! Registers an executor, or gives a member one more key by an invitation.

use std::rc::Rc;

use futures::future::join;
use serde_json::{Value, json};

use super::admit::{Joined, Plan, What, admit};
use super::amend::Amendment;
use super::executors::edit;
use super::invitations::role_of;
use super::keys::about;
use super::{exchange, invitations};
use crate::app::App;
use crate::config::Join;
use crate::domain::exchange::Exchange;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::ApiKey;
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::member::access::{AccessRefusal, Kind, MemberKey, Role, Useless};
use crate::domain::member::audit::Deed;
use crate::domain::member::executor::{Executor, REMOVED, Registration};
use crate::domain::member::invitation::{Code, Invitation};
use crate::domain::member::profile::Profile;
use crate::domain::text::Invalid;
use crate::domain::thread::event::{Event, Fact};
use crate::runtime::background::{Rest, nothing};
use crate::service::import::standing::mark_if_new;
use crate::service::records::summarize;
use crate::service::{ServiceError, keys, to_json};
use crate::storage::cas::{Loaded, load};
use crate::storage::rows::read_summaries;
use crate::storage::{List, StoreError, layout};

/// For this many milliseconds, an isolate trusts that an exchange has no room for one more member.
const COUNTED: i64 = 60_000;
/// How many ids are made for somebody who names none, until one is free.
const DRAWS: usize = 5;
/// How many ids there may be in an exchange for each member that it may have. Those of members who are
/// gone are never given again.
const IDS_FOR_EACH: usize = 10;
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
    /// Whether it says under which id it wants to register, or drew its key, so that trying again with
    /// another id would be another registration.
    fn is_named(&self) -> bool {
        self.id.is_some() || self.drawn.is_some()
    }

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
/// 3. Let it in.
async fn run(
    app: Rc<App>,
    exchange: ExchangeId,
    joining: Joining,
) -> (Result<Joined, ServiceError>, Rest) {
    let mut draws = if joining.is_named() { 1 } else { DRAWS };
    loop {
        let plan = match prepare(&app, &exchange, joining.clone()).await {
            Ok(Prepared::Plan(plan)) => *plan,
            Ok(Prepared::Known(joined)) => return (Ok(joined), nothing()),
            Err(error) => return (Err(error), nothing()),
        };
        // 3.
        let (joined, rest) = admit(app.clone(), exchange.clone(), plan).await;
        draws = draws.saturating_sub(1);
        match joined {
            // Somebody else was faster with the id that was made for it.
            Err(ServiceError::AlreadyRegistered) if draws > 0 => rest.await,
            joined => return (joined, rest),
        }
    }
}

/// What comes of looking at a registration before anything is written.
enum Prepared {
    /// It may be made.
    Plan(Box<Plan>),
    /// It was made already.
    Known(Joined),
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
        Some(code) => {
            let key = joining.drawn.as_ref().map(ApiKey::hash);
            Some(invitations::open(app, exchange, code, key.as_ref()).await?)
        }
        None => None,
    };
    if let Some(invitation) = &invitation
        && let Some(id) = &invitation.offer.executor_id
    {
        if joining.id.as_ref().is_some_and(|wanted| wanted != id) {
            let problem = format!("must be {id}, for whom the invitation is, or be left out");
            return Err(ServiceError::Invalid(Invalid::new("executor_id", problem)));
        }
        if invitation.offer.adds_key {
            return one_more_key(app, exchange, joining, invitation, id).await;
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
    // Everything that can be refused is, before anything is written for the client.
    let is_free = !ids
        .iter()
        .any(|other| other.eq_ignore_ascii_case(executor.as_str()));
    let mut plan = new_record(app, exchange, joining, invitation.as_ref(), executor)?;
    if ids.is_empty() && document.is_none() {
        exchange::check_may_be_founded(app, exchange)?;
    }
    mark_if_new(app, exchange).await?;
    let executor = plan.executor.clone();
    if is_free && exchange::found(app, exchange, &executor, document, ids.is_empty()).await? {
        plan.found();
    } else if needs_invitation {
        // Who may not join learns nothing about who has.
        return Err(AccessRefusal::InvitationNeeded.into());
    }
    check_is_free(app, exchange, &executor, &ids).await?;
    Ok(Prepared::Plan(plan))
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
                .map_err(AccessRefusal::KeyIsDead)?;
            let role = role_of(app, exchange, &executor).await?;
            Ok(Some(Joined {
                executor,
                key: key.clone(),
                role,
            }))
        }
        _ => Err(AccessRefusal::TokenUsed.into()),
    }
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
        let names = names.filter_map(|row| layout::name_in(&prefix, &row.key));
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
    let full = || AccessRefusal::Full { limit }.into();
    if ids.len() >= most.saturating_mul(IDS_FOR_EACH) {
        return Err(full());
    }
    let now = app.clock.now();
    let until = app.isolate.full.borrow().get(exchange).copied();
    if until.is_some_and(|until| until > now) {
        return Err(full());
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
    // To count them takes long, so strangers cannot make the exchange do it again and again.
    let again = now.plus_millis(COUNTED);
    app.isolate
        .full
        .borrow_mut()
        .insert(exchange.clone(), again);
    Err(full())
}

/// Plans a new record.
fn new_record(
    app: &Rc<App>,
    exchange: &ExchangeId,
    joining: Joining,
    invitation: Option<&Invitation>,
    executor: ExecutorId,
) -> Result<Box<Plan>, ServiceError> {
    let draw = || ApiKey::new(exchange, app.clock.random_bytes());
    let key = joining.drawn.unwrap_or_else(draw);
    let now = app.clock.now();
    let offer = invitation.map(|invitation| &invitation.offer);
    let role = offer.map_or(Role::Member, |offer| offer.role);
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
    to_json(&record, "the profile", EXECUTOR_BYTES)?;
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
    executor: &ExecutorId,
) -> Result<Prepared, ServiceError> {
    let object = layout::executor(exchange, executor);
    let record = load::<Executor>(app.store.as_ref(), &object).await?;
    let is_member = |record: &Loaded<Executor>| record.document.access.removed_at.is_none();
    let record = record.filter(is_member).ok_or(Useless::Revoked)?;
    let executor = executor.clone();
    let is_itself = invitation.created_by.as_ref() == Some(&executor);
    let made_with = invitation.made_with.clone().filter(|_| is_itself);
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
        role: role_of(app, exchange, &executor).await?,
        executor,
        key: new,
        code: joining.code,
        entry: amendment.entry(app),
        what: What::Key {
            key: Box::new(key),
            needs: made_with.map(|key| (key, Useless::Revoked.into())),
            revoke_others: invitation.offer.revoke_others,
            current: Box::new(record),
        },
    })))
}
