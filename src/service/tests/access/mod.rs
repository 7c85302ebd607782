//! Who may join, what members may do, and how they go.

mod auditor;
mod crashes;
mod joining;
mod keys;
mod leaving;

use super::*;
use crate::domain::exchange::Exchange;
use crate::domain::key::ApiKey;
use crate::domain::member::access::{AccessRefusal, Dead, MemberKey, Role, Scopes, Useless};
use crate::domain::member::executor::Executor;
use crate::domain::member::invitation::{Code, Offer};
use crate::service::members::admit::Joined;
use crate::service::members::authenticate::{Login, authenticate};
use crate::service::members::invitations::{self, Inviter, Made};
use crate::service::members::keys::Wanted;
use crate::service::members::roles::Change;
use crate::service::members::{exchange, keys as members_keys, removal, roles};

fn fields(value: Value) -> Fields {
    Fields::of("", value).unwrap()
}

/// Somebody who registers under an id, or under what an invitation says.
fn joining(executor: Option<&str>, code: Option<&Code>) -> Joining {
    Joining {
        id: executor.map(id),
        code: code.cloned(),
        ..Joining::plain(id("nobody"), Profile::default())
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, ServiceError>) -> AccessRefusal {
    match outcome {
        Err(ServiceError::Access(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

impl World {
    fn enter(&mut self, joining: Joining) -> Result<Joined, ServiceError> {
        // The audit is in the order of time.
        self.pass(1);
        let app = self.invoke();
        self.run(async move { register(&app, home(), joining).await })
    }

    /// Registers somebody, and returns its key.
    fn key_of(&mut self, executor: &str) -> ApiKey {
        self.enter(joining(Some(executor), None)).unwrap().key
    }

    fn log_in(&mut self, key: &ApiKey) -> Result<Option<Login>, ServiceError> {
        let (app, key) = (self.invoke(), key.clone());
        self.run(async move { authenticate(&app, &key).await })
    }

    /// What `key` is good for, as its owner calls.
    fn member_key(&mut self, key: &ApiKey) -> MemberKey {
        let login = self.log_in(key).unwrap().unwrap();
        login.grant.key.clone()
    }

    fn invite(&mut self, by: &str, what: Value) -> Result<Made, ServiceError> {
        let inviter = Inviter {
            by: Some(id(by)),
            key: None,
            governs: true,
        };
        let most = Scopes::default();
        let (offer, expires_in) = Offer::parse(fields(what), Some(&id(by)), &most).unwrap();
        self.pass(1);
        let app = self.invoke();
        self.run(async move { invitations::make(&app, &home(), inviter, offer, expires_in).await })
    }

    /// Makes an invitation with a key.
    fn invite_with(
        &mut self,
        key: &ApiKey,
        governs: bool,
        what: Value,
    ) -> Result<Made, ServiceError> {
        let Login {
            executor, grant, ..
        } = self.log_in(key)?.unwrap();
        let parsed = Offer::parse(fields(what), Some(&executor), &grant.key.scopes);
        let (offer, expires_in) = parsed.map_err(ServiceError::Invalid)?;
        let inviter = Inviter {
            by: Some(executor),
            key: Some(grant),
            governs,
        };
        self.pass(1);
        let app = self.invoke();
        self.run(async move { invitations::make(&app, &home(), inviter, offer, expires_in).await })
    }

    /// The code of an invitation.
    fn code(&mut self, by: &str, what: Value) -> Code {
        self.invite(by, what).unwrap().code
    }

    fn remove(&mut self, executor: &str, by: &str) -> Result<(), ServiceError> {
        let app = self.invoke();
        let (executor, by) = (id(executor), Some(id(by)));
        self.run(async move { removal::remove(&app, home(), executor, by, false).await })
    }

    fn change(&mut self, executor: &str, by: &str, change: Value) -> Result<(), ServiceError> {
        let change = Change::parse(&mut fields(change)).unwrap();
        let (app, executor, by) = (self.invoke(), id(executor), Some(id(by)));
        self.run(async move { roles::change(&app, &home(), &executor, by, change).await })
    }

    fn add_key(
        &mut self,
        executor: &str,
        with: &MemberKey,
        wanted: Value,
    ) -> Result<(ApiKey, MemberKey), ServiceError> {
        let wanted = Wanted::parse(&mut fields(wanted)).unwrap();
        let (app, executor, with) = (self.invoke(), id(executor), with.clone());
        self.run(async move { members_keys::add(&app, &home(), &executor, &with, wanted).await })
    }

    fn revoke_key(&mut self, executor: &str, key: &str) -> Result<(), ServiceError> {
        let (app, executor, key) = (self.invoke(), id(executor), key.to_owned());
        self.run(async move {
            members_keys::revoke(&app, &home(), &executor, Some(executor.clone()), key).await
        })
    }

    fn exchange(&self) -> Exchange {
        serde_json::from_str(&self.store.text("exchanges/exchange=home.json")).unwrap()
    }

    fn owners(&self) -> Vec<String> {
        let owners = self.exchange().owners;
        owners.iter().map(ToString::to_string).collect()
    }

    fn record(&self, executor: &str) -> Executor {
        let key = format!("executors/exchange=home/{executor}.json");
        serde_json::from_str(&self.store.text(&key)).unwrap()
    }

    /// What the audit tells, oldest first: what was done, to whom, and by whom.
    fn audit(&self) -> Vec<[String; 3]> {
        let mut entries: Vec<Value> = self
            .store
            .keys("audit/")
            .iter()
            .map(|key| serde_json::from_str(&self.store.text(key)).unwrap())
            .collect();
        entries.reverse();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let told = |entry: &Value| ["event", "executor_id", "by"].map(|name| text(&entry[name]));
        entries.iter().map(told).collect()
    }
}
