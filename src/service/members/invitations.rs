//! Invitations: how they are made, looked up, used and taken back.

use std::rc::Rc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::amend::{Amendment, Governing, amend};
use super::exchange;
use crate::app::App;
use crate::domain::duration::Duration;
use crate::domain::exchange::Exchange;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::KeyHash;
use crate::domain::limits::{INVITATIONS, OWN_INVITATION_EXPIRES, OWN_INVITATIONS};
use crate::domain::member::access::{AccessRefusal, Changes, Role, Useless};
use crate::domain::member::audit::Deed;
use crate::domain::member::executor::Executor;
use crate::domain::member::invitation::{Code, Invitation, Offer, Use};
use crate::domain::text::Invalid;
use crate::domain::time::Timestamp;
use crate::isolate::Grant;
use crate::service::{ServiceError, WRITE_WINDOW};
use crate::storage::cas::{Decision, Target, load, swap};
use crate::storage::rows::{list_summaries, whole_body};
use crate::storage::{Condition, List, Put, StoreError, layout};

/// How many invitations one operation lists.
const PAGE: usize = 100;
/// How many objects are deleted at once.
const PARALLEL: usize = 6;
/// How many objects one call deletes.
const DELETED: usize = 50;

/// Who invites.
pub struct Inviter {
    /// The member, or `None` if it is the operator.
    pub by: Option<ExecutorId>,
    /// The member's key with what it is good for.
    pub key: Option<Rc<Grant>>,
    /// Whether it governs the exchange. Others may invite only themselves.
    pub governs: bool,
}

/// An invitation that was made.
pub struct Made {
    /// Its id.
    pub id: String,
    /// Its code, which is shown only this once.
    pub code: Code,
    /// Until when it can be used.
    pub expires_at: Timestamp,
}

/// Makes an invitation.
///
/// # Errors
///
/// Fails if a member invites somebody else or for too long, if there are too many invitations, or with
/// the store's error.
pub async fn make(
    app: &Rc<App>,
    exchange: &ExchangeId,
    inviter: Inviter,
    offer: Offer,
    expires_in: Duration,
) -> Result<Made, ServiceError> {
    let now = app.clock.now();
    let (mut offer, mut expires_in, mut key_expires_at) = (offer, expires_in, None);
    let is_itself = inviter.by.is_some() && offer.executor_id == inviter.by;
    if !inviter.governs && !is_itself {
        return Err(AccessRefusal::OwnersOnly.into());
    }
    offer.adds_key = check_target(app, exchange, &offer).await?;
    if let Some(grant) = &inviter.key {
        // What lasts, and what opens more than the key that asks, needs a key that can do everything.
        let is_much =
            offer.role == Role::Owner || offer.revoke_others || (offer.adds_key && !is_itself);
        if is_much && !grant.key.is_full() {
            return Err(AccessRefusal::FullKeyNeeded.into());
        }
        if is_itself {
            key_expires_at = grant.key.expires_at;
            expires_in = expires_in.min(OWN_INVITATION_EXPIRES);
        }
    }
    if offer.adds_key {
        // The member stays what it is.
        offer.role = Role::Member;
        (offer.kind, offer.display_name) = (None, None);
    }
    make_room(app, exchange, inviter.by.as_ref(), is_itself, now).await?;
    let code = Code::new(app.clock.random_bytes());
    let id = code.id();
    let invitation = Invitation {
        code_hash: code.hash(),
        offer,
        created_by: inviter.by.clone(),
        made_with: inviter.key.as_ref().map(|grant| grant.key.id().to_owned()),
        created_at: now,
        expires_at: now.plus_millis(expires_in.millis()),
        key_expires_at,
        revoked_at: None,
        uses: Vec::new(),
        changes: Changes::default(),
    };
    put_new(app, exchange, &id, inviter.by, &invitation).await?;
    Ok(Made {
        id,
        code,
        expires_at: invitation.expires_at,
    })
}

/// Whether an invitation adds a key to a member. Checks that it can be used.
async fn check_target(
    app: &App,
    exchange: &ExchangeId,
    offer: &Offer,
) -> Result<bool, ServiceError> {
    let record = match &offer.executor_id {
        Some(id) => {
            let record = layout::executor(exchange, id);
            load::<Executor>(app.store.as_ref(), &record).await?
        }
        None => None,
    };
    match (record, &offer.executor_id) {
        (Some(record), _) if record.document.access.removed_at.is_some() => {
            Err(ServiceError::AlreadyRegistered)
        }
        (Some(_), _) => Ok(true),
        (None, _) if offer.revoke_others => {
            let problem = "goes with the executor_id of a member";
            Err(ServiceError::Invalid(Invalid::new(
                "revoke_others",
                problem,
            )))
        }
        (None, Some(id)) => ExecutorId::parse_new(id.as_str(), "executor_id")
            .map(|_| false)
            .map_err(ServiceError::Invalid),
        (None, None) => Ok(false),
    }
}

/// Puts a new invitation, with its entry in the audit.
async fn put_new(
    app: &Rc<App>,
    exchange: &ExchangeId,
    id: &str,
    by: Option<ExecutorId>,
    invitation: &Invitation,
) -> Result<(), ServiceError> {
    let key = layout::invitation(exchange, id);
    let (body, summary) = invitation.encode()?;
    // It cannot be used before it is put, and its code is not known before the audit tells of it.
    let put = app
        .store
        .put(&key, body, summary.as_deref(), Condition::Absent);
    if put.await? == Put::ConditionFailed {
        // Of a million million ids, this one is taken.
        return Err(ServiceError::Contended);
    }
    let amendment = Amendment {
        exchange: exchange.clone(),
        object: key,
        by,
        deed: Deed::InvitationMade,
        executor: invitation.offer.executor_id.clone(),
        details: about(id, invitation),
    };
    amend(app, amendment, |_: &mut Invitation| Ok(true)).await?;
    Ok(())
}

fn about(id: &str, invitation: &Invitation) -> Map<String, Value> {
    let offer = &invitation.offer;
    let about = [
        ("invitation_id", json!(id)),
        ("label", json!(offer.label)),
        ("role", json!(offer.role)),
        ("scopes", json!(offer.scopes)),
        ("max_uses", json!(offer.max_uses)),
    ];
    about
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// Checks that there may be one more invitation: of a member for itself, or of owners for others. So
/// members cannot keep owners from inviting. Deletes invitations that are over if there are many.
async fn make_room(
    app: &App,
    exchange: &ExchangeId,
    by: Option<&ExecutorId>,
    is_itself: bool,
    now: Timestamp,
) -> Result<(), ServiceError> {
    let all = read_all(app, exchange).await?;
    let is_own = |invitation: &Invitation| {
        invitation.offer.adds_key && invitation.offer.executor_id == invitation.created_by
    };
    let counts = |invitation: &Invitation| {
        is_own(invitation) == is_itself && (!is_itself || invitation.created_by.as_ref() == by)
    };
    let open = all.iter().map(|(_, invitation)| invitation);
    let open = open
        .filter(|invitation| counts(invitation) && !invitation.is_over(now))
        .count();
    let limit = if is_itself {
        OWN_INVITATIONS
    } else {
        INVITATIONS
    };
    if open >= limit {
        return Err(AccessRefusal::TooMany {
            what: "invitations",
            limit,
        }
        .into());
    }
    if all.len() < INVITATIONS {
        return Ok(());
    }
    let over = all.iter().filter(|(_, invitation)| invitation.is_over(now));
    let over = over
        .map(|(id, _)| layout::invitation(exchange, id))
        .take(DELETED);
    stream::iter(over)
        .map(async |key| app.store.delete(&key).await)
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    Ok(())
}

async fn read_all(
    app: &App,
    exchange: &ExchangeId,
) -> Result<Vec<(String, Invitation)>, StoreError> {
    let prefix = layout::invitations(exchange);
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let query = List {
            prefix: &prefix,
            after: after.as_deref(),
            limit: PAGE,
            summaries: true,
        };
        let store = app.store.as_ref();
        let page = list_summaries(store, &app.isolate.summaries, query, whole_body).await?;
        for row in page.rows {
            let id = layout::name_in(&prefix, &row.key);
            let invitation = row.summary.as_deref().map(serde_json::from_str);
            if let (Some(id), Some(Ok(invitation))) = (id, invitation) {
                found.push((id.to_owned(), invitation));
            }
            after = Some(row.key);
        }
        if !page.more {
            return Ok(found);
        }
    }
}

/// Lists the invitations of an exchange, newest first.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn list(app: &App, exchange: &ExchangeId) -> Result<Vec<Value>, ServiceError> {
    let mut all = read_all(app, exchange).await?;
    all.sort_by_key(|(_, invitation)| std::cmp::Reverse(invitation.created_at));
    Ok(all
        .iter()
        .map(|(id, invitation)| invitation.shown(id))
        .collect())
}

/// Takes an invitation back.
///
/// # Errors
///
/// Fails if there is no such invitation, or with the store's error.
pub async fn revoke(
    app: &Rc<App>,
    exchange: &ExchangeId,
    by: Option<ExecutorId>,
    id: &str,
) -> Result<(), ServiceError> {
    let amendment = Amendment {
        exchange: exchange.clone(),
        object: layout::invitation(exchange, id),
        by,
        deed: Deed::InvitationRevoked,
        executor: None,
        details: [("invitation_id".to_owned(), json!(id))]
            .into_iter()
            .collect(),
    };
    let now = app.clock.now();
    amend(app, amendment, move |invitation: &mut Invitation| {
        let is_live = invitation.revoked_at.is_none();
        invitation.revoked_at.get_or_insert(now);
        Ok(is_live)
    })
    .await
    .map(drop)
}

/// Takes back all invitations that a member has made, or that are for it, as long as it `may_go_on`. It
/// is no member any more. Returns whether all are taken back.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn revoke_of(
    app: &Rc<App>,
    exchange: &ExchangeId,
    member: &ExecutorId,
    by: Option<&ExecutorId>,
    may_go_on: &dyn Fn() -> bool,
) -> Result<bool, ServiceError> {
    let now = app.clock.now();
    for (id, invitation) in read_all(app, exchange).await? {
        let is_of = invitation.created_by.as_ref() == Some(member)
            || invitation.offer.executor_id.as_ref() == Some(member);
        if is_of && !invitation.is_over(now) {
            if !may_go_on() {
                return Ok(false);
            }
            revoke(app, exchange, by.cloned(), &id).await?;
        }
    }
    Ok(true)
}

/// Finds the invitation that a code opens, or that was used for this key. Who invites must still be
/// allowed to, and the key with which it was made must still be valid.
///
/// # Errors
///
/// Fails with the reason if the code is of no use, or with the store's error.
pub async fn open(
    app: &App,
    exchange: &ExchangeId,
    code: &Code,
    key: Option<&KeyHash>,
) -> Result<Invitation, ServiceError> {
    let (store, now) = (app.store.as_ref(), app.clock.now());
    let object = layout::invitation(exchange, &code.id());
    let loaded = load::<Invitation>(store, &object).await?;
    let invitation = loaded.ok_or(Useless::Unknown)?.document;
    invitation.check(code, key, now)?;
    let Some(by) = &invitation.created_by else {
        return Ok(invitation);
    };
    let record = load::<Executor>(store, &layout::executor(exchange, by)).await?;
    let record = record.ok_or(Useless::Revoked)?.document;
    let made_with = invitation.made_with.as_ref();
    let is_valid = made_with.is_none_or(|key| record.has_valid_key(key, now));
    let is_itself = invitation.offer.executor_id.as_ref() == Some(by);
    let may_invite = is_itself || exchange::is_owner(app, exchange, by).await?;
    if record.access.is_active() && is_valid && may_invite {
        Ok(invitation)
    } else {
        Err(Useless::Revoked.into())
    }
}

/// What an invitation says to who has its code, without using it up.
///
/// # Errors
///
/// Fails with the reason if the code is of no use, or with the store's error.
pub async fn look_up(app: &App, exchange: &ExchangeId, code: &Code) -> Result<Value, ServiceError> {
    let invitation = open(app, exchange, code, None).await?;
    let document = exchange::read(app, exchange).await?;
    let name = document.map_or_else(
        || exchange.as_str().to_owned(),
        |document: Exchange| document.name,
    );
    let offer = &invitation.offer;
    let role = match &offer.executor_id {
        Some(id) if offer.adds_key => role_of(app, exchange, id).await?,
        _ => offer.role,
    };
    Ok(json!({
        "exchange": exchange,
        "name": name,
        "invited_by": invitation.created_by,
        "label": offer.label,
        "role": role,
        "kind": offer.kind,
        "scopes": offer.scopes,
        "executor_id": offer.executor_id,
        "display_name": offer.display_name,
        "expires_at": invitation.expires_at,
    }))
}

/// What a member is in its exchange.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn role_of(
    app: &App,
    exchange: &ExchangeId,
    id: &ExecutorId,
) -> Result<Role, StoreError> {
    if exchange::is_owner(app, exchange, id).await? {
        return Ok(Role::Owner);
    }
    let record = load::<Executor>(app.store.as_ref(), &layout::executor(exchange, id)).await?;
    Ok(record.map_or(Role::Member, |record| record.document.access.role))
}

/// Uses an invitation for the mutation `id`, which gives a key. If it was used for the same key before,
/// that use counts for this mutation. Also returns whether every put got a definite answer.
pub async fn take(
    app: &App,
    exchange: &ExchangeId,
    code: &Code,
    new: Use,
    deadline: Timestamp,
) -> (Result<(), ServiceError>, bool) {
    let decide = |invitation: Option<Invitation>| {
        let mut invitation = invitation.ok_or(Useless::Unknown)?;
        if invitation.uses.contains(&new) {
            return Ok(None);
        }
        invitation.check(code, Some(&new.key_hash), new.at)?;
        invitation.uses.retain(|used| used.key_hash != new.key_hash);
        invitation.uses.push(new.clone());
        Ok(Some(invitation))
    };
    swap_invitation(app, exchange, &code.id(), deadline, &decide).await
}

/// Gives back the use of an invitation by the mutation `id`, which was not committed.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn give_back(
    app: &App,
    exchange: &ExchangeId,
    invitation: &str,
    id: Uuid,
) -> Result<(), ServiceError> {
    let deadline = app.clock.now().plus_millis(WRITE_WINDOW);
    let decide = |stored: Option<Invitation>| {
        Ok(stored.and_then(|mut stored| {
            let before = stored.uses.len();
            stored.uses.retain(|used| used.id != id);
            (stored.uses.len() < before).then_some(stored)
        }))
    };
    swap_invitation(app, exchange, invitation, deadline, &decide)
        .await
        .0
}

/// Swaps an invitation for what `decide` makes of it, if it makes anything.
async fn swap_invitation(
    app: &App,
    exchange: &ExchangeId,
    id: &str,
    deadline: Timestamp,
    decide: &dyn Fn(Option<Invitation>) -> Result<Option<Invitation>, ServiceError>,
) -> (Result<(), ServiceError>, bool) {
    let key = layout::invitation(exchange, id);
    let store = app.store.as_ref();
    let current = match load::<Invitation>(store, &key).await {
        Ok(current) => current,
        Err(error) => return (Err(error.into()), true),
    };
    let target = Target {
        store,
        clock: app.clock.as_ref(),
        key: &key,
        deadline,
    };
    let swapped = swap(
        target,
        current,
        &|_| None,
        &mut |stored| match decide(stored)? {
            None => Ok(Decision::Keep(())),
            Some(invitation) => {
                let (body, summary) = invitation.encode()?;
                Ok(Decision::Put(body, summary, ()))
            }
        },
    )
    .await;
    (swapped.result.map_err(ServiceError::from), swapped.definite)
}
