//! What an owner says about a member: its role, its kind, and how far it may go.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::amend::{Amendment, amend};
use super::exchange;
use crate::app::App;
use crate::domain::exchange::Exchange;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::member::access::{AccessRefusal, Kind, Role};
use crate::domain::member::audit::Deed;
use crate::domain::member::executor::Executor;
use crate::domain::text::{Fields, Invalid};
use crate::domain::thread::status::Priority;
use crate::service::ServiceError;
use crate::service::records::{Owner, read_own};
use crate::storage::layout;

/// A change of what a member may do. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    role: Option<Role>,
    kind: Option<Kind>,
    /// The highest of all is no limit.
    max_priority: Option<Priority>,
    suspended: Option<bool>,
}

impl Change {
    /// Reads the fields of a body.
    ///
    /// # Errors
    ///
    /// Fails with the field that is wrong.
    pub fn parse(fields: &mut Fields) -> Result<Self, Invalid> {
        let max_priority = fields.take_string("max_priority")?;
        let parse = |text: &str| Priority::parse(text, "max_priority");
        Ok(Self {
            role: Role::take(fields)?,
            kind: Kind::take(fields)?,
            max_priority: max_priority.as_deref().map(parse).transpose()?,
            suspended: fields.take_bool("suspended")?,
        })
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What the audit says about it.
    fn details(&self) -> Map<String, Value> {
        let said = [
            ("role", self.role.map(|role| json!(role))),
            ("kind", self.kind.map(|kind| json!(kind))),
            ("max_priority", self.max_priority.map(|most| json!(most))),
            (
                "suspended",
                self.suspended.map(|suspended| json!(suspended)),
            ),
        ];
        let said = said.into_iter();
        said.filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }

    /// Writes it into a record. Returns whether that changed anything. The record of an owner is that
    /// of a member.
    fn apply(&self, record: &mut Executor) -> bool {
        let before = record.access.clone();
        let access = &mut record.access;
        match self.role {
            Some(Role::Guest) => access.role = Role::Guest,
            Some(Role::Owner | Role::Member) => access.role = Role::Member,
            None => {}
        }
        access.kind = self.kind.or(access.kind);
        if let Some(most) = self.max_priority {
            access.max_priority = Some(most).filter(|most| *most != Priority::Urgent);
        }
        access.suspended = self.suspended.unwrap_or(access.suspended);
        *access != before
    }
}

/// Changes what a member may do. Who owns the exchange is in its document, and all else in the
/// member's record.
///
/// 1. Take the ownership away, if the member is to be something else. The last owner cannot go.
/// 2. Change the record.
/// 3. Give the ownership, if the member is to be an owner.
/// 4. Look whether document and record agree. Somebody else may have changed the other one meanwhile;
///    then an owner is one no longer who is no member, a guest or suspended.
///
/// Each step is a change of its own, told in the audit. So if this dies, what was done holds, and the
/// owner can ask again.
///
/// # Errors
///
/// Fails if there is no such member, if an owner is to be suspended, if the last owner is to go, or with
/// the store's error.
pub async fn change(
    app: &Rc<App>,
    exchange: &ExchangeId,
    executor: &ExecutorId,
    by: Option<ExecutorId>,
    change: Change,
) -> Result<(), ServiceError> {
    let owner = Owner { exchange, executor };
    let record = read_own(app, owner).await?;
    if record.access.removed_at.is_some() {
        return Err(ServiceError::NoExecutor);
    }
    let is_owner = exchange::is_owner(app, exchange, executor).await?;
    let stays_owner = change.role.map_or(is_owner, |role| role == Role::Owner);
    let suspended = change.suspended.unwrap_or(record.access.suspended);
    if suspended && stays_owner {
        return Err(AccessRefusal::IsOwner.into());
    }
    let tell = |object: String| Amendment {
        exchange: exchange.clone(),
        object,
        by: by.clone(),
        deed: Deed::MemberChanged,
        executor: Some(executor.clone()),
        details: change.details(),
    };
    // 1.
    if is_owner && !stays_owner {
        let id = executor.clone();
        let amendment = tell(layout::exchange(exchange));
        amend(app, amendment, move |document: &mut Exchange| {
            Ok(document.remove_owner(&id)?)
        })
        .await?;
    }
    // 2.
    let mut changed = record.clone();
    if change.apply(&mut changed) {
        let asked = change.clone();
        let amendment = tell(owner.key());
        let done = amend(app, amendment, move |record: &mut Executor| {
            if record.access.removed_at.is_some() {
                return Err(ServiceError::NoExecutor);
            }
            Ok(asked.apply(record))
        })
        .await;
        app.isolate.doubt(exchange, executor);
        done?;
    }
    // 3.
    if !is_owner && stays_owner {
        exchange::ensure(app, exchange).await?;
        let id = executor.clone();
        let amendment = tell(layout::exchange(exchange));
        amend(app, amendment, move |document: &mut Exchange| {
            Ok(document.add_owner(&id))
        })
        .await?;
    }
    // 4.
    if change.role.is_none() && change.suspended.is_none() {
        return Ok(());
    }
    let access = read_own(app, owner).await?.access;
    if !access.is_active() || access.role == Role::Guest {
        let id = executor.clone();
        let amendment = Amendment {
            details: Map::from_iter([("role".to_owned(), json!(Role::Member))]),
            ..tell(layout::exchange(exchange))
        };
        let dropped = amend(app, amendment, move |document: &mut Exchange| {
            Ok(document.drop_owner(&id))
        });
        match dropped.await {
            Ok(_) | Err(ServiceError::NoExchange) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
