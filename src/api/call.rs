//! A request as a handler sees it. It is parsed step by step, with errors that name what is wrong.

use std::collections::HashMap;
use std::rc::Rc;

use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};
use url::form_urlencoded;
use worker::Request;

use super::body::Sender;
use super::method::{GET, HEAD};
use super::problem::ApiError;
use super::{address, body, json};
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::key::ApiKey;
use crate::domain::member::access::{AccessRefusal, Role, Scope};
use crate::domain::quota::Quota;
use crate::domain::text::{Fields, Invalid};
use crate::domain::thread::state::Version;
use crate::domain::thread::transition::Powers;
use crate::isolate::Grant;
use crate::service::ServiceError;
use crate::service::members::authenticate::{Login, authenticate, is_known};
use crate::service::members::exchange::is_owner;

/// A request with its path parameters.
pub struct Call {
    /// What services need.
    pub app: Rc<App>,
    /// The request.
    pub request: Request,
    /// Its method. It is kept as text, because the runtime's own type turns unknown methods into
    /// GET.
    pub method: String,
    /// The parameters of the path, still percent-encoded.
    pub params: HashMap<&'static str, String>,
}

/// Who makes the call.
pub struct Caller {
    /// The exchange of the path and of the key.
    pub exchange: ExchangeId,
    /// The executor that the key belongs to.
    pub executor: ExecutorId,
    /// What it may do with this key.
    pub grant: Rc<Grant>,
    /// Whether the exchange is complete. It is not while another server's bucket is being imported.
    pub is_imported: bool,
}

impl Caller {
    /// Whether the caller sees only what is addressed to it.
    pub fn is_guest(&self) -> bool {
        self.grant.role == Role::Guest
    }

    /// Checks that the key is good for this.
    ///
    /// # Errors
    ///
    /// Fails if it is not.
    pub fn check(&self, scope: Scope) -> Result<(), ApiError> {
        if self.grant.key.scopes.has(scope) {
            Ok(())
        } else {
            Err(ServiceError::from(AccessRefusal::Scope(scope)).into())
        }
    }

    /// What the caller may do to requests. Whether it stands in for others as an owner is found out
    /// where it matters.
    pub fn powers(&self) -> Powers {
        let scopes = &self.grant.key.scopes;
        Powers {
            asks: scopes.has(Scope::Request),
            executes: scopes.has(Scope::Execute),
            role: self.grant.role,
        }
    }

    /// Corrects the outcome of a call about one thread. While another server's bucket is being
    /// imported, a missing thread may just not be imported yet.
    pub fn found<T>(&self, outcome: Result<T, ServiceError>) -> Result<T, ServiceError> {
        match outcome {
            Err(ServiceError::NoThread) if !self.is_imported => Err(ServiceError::Importing),
            outcome => outcome,
        }
    }
}

/// Who governs an exchange.
pub struct Governor {
    /// The exchange.
    pub exchange: ExchangeId,
    /// The member, or `None` if it is the operator of the deployment.
    pub by: Option<ExecutorId>,
}

/// Compares digests, so that the time that this takes does not tell where two tokens differ.
pub fn is_same(a: &str, b: &str) -> bool {
    Sha256::digest(a.as_bytes()) == Sha256::digest(b.as_bytes())
}

impl Call {
    /// Returns a header, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.request.headers().get(name).ok().flatten()
    }

    /// The exchange of the path.
    pub fn exchange(&self) -> Result<ExchangeId, ApiError> {
        Ok(ExchangeId::parse(
            &self.param("exchange_id")?,
            "exchange_id",
        )?)
    }

    /// The executor of the path. `me` stands for the caller.
    pub fn executor(&self, caller: Option<&ExecutorId>) -> Result<ExecutorId, ApiError> {
        let id = self.param("executor_id")?;
        match caller {
            Some(caller) if id == ExecutorId::ME => Ok(caller.clone()),
            _ => Ok(ExecutorId::parse(&id, "executor_id")?),
        }
    }

    /// Whether the executor of the path is `me`.
    pub fn is_me(&self) -> bool {
        self.params
            .get("executor_id")
            .is_some_and(|id| id == ExecutorId::ME)
    }

    /// The id of a key, an invitation or a channel in the path.
    pub fn item(&self) -> Result<String, ApiError> {
        self.param("item_id")
    }

    /// The capability of the path, which may be any text.
    pub fn capability(&self) -> Result<String, ApiError> {
        self.param("capability_id")
    }

    /// The thread of the path.
    pub fn reference(&self) -> Result<Ref, ApiError> {
        Ok(Ref::parse(&self.param("ref")?)?)
    }

    fn param(&self, name: &'static str) -> Result<String, ApiError> {
        let raw = self
            .params
            .get(name)
            .map(String::as_str)
            .unwrap_or_default();
        match percent_decode_str(raw).decode_utf8() {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(Invalid::new(name, "must be UTF-8").into()),
        }
    }

    /// Authenticates the caller, whose key must be good for `scope`.
    pub async fn caller(&self, scope: Scope) -> Result<Caller, ApiError> {
        let caller = self.caller_of_any_scope().await?;
        caller.check(scope)?;
        Ok(caller)
    }

    /// Authenticates the caller: the executor that the bearer key belongs to, in the exchange of
    /// the path.
    pub async fn caller_of_any_scope(&self) -> Result<Caller, ApiError> {
        let exchange = self.exchange()?;
        let Some(given) = self.bearer() else {
            return Err(ApiError::Unauthenticated);
        };
        let key = ApiKey::parse(&given);
        // A key that is known here is never refused for the address that it comes from.
        let is_known = key.as_ref().is_some_and(|key| is_known(&self.app, key));
        if !is_known {
            self.check_may_fail()?;
        }
        let login = match &key {
            Some(key) if *key.exchange() != exchange => Err(ApiError::OtherExchange),
            Some(key) => match authenticate(&self.app, key).await {
                Ok(login) => login.ok_or(ApiError::Unauthenticated),
                Err(error) => Err(error.into()),
            },
            None => Err(ApiError::Unauthenticated),
        };
        let login = if is_known { login } else { self.noted(login) };
        let Login {
            executor,
            grant,
            is_imported,
        } = login?;
        let caller = Caller {
            exchange,
            executor,
            grant,
            is_imported,
        };
        self.count(&caller)?;
        Ok(caller)
    }

    /// Counts a call with a key.
    fn count(&self, caller: &Caller) -> Result<(), ApiError> {
        let key = caller.grant.key.hash.as_str();
        self.take(Quota::Calls, key)?;
        if ![GET, HEAD].contains(&self.method.as_str()) {
            self.take(Quota::Changes, key)?;
        }
        Ok(())
    }

    /// Takes once from what `who` may take.
    ///
    /// # Errors
    ///
    /// Fails if that is nothing more.
    pub fn take(&self, quota: Quota, who: &str) -> Result<(), ApiError> {
        let (limits, now) = (&self.app.config.limits, self.app.clock.now());
        let taken = self
            .app
            .isolate
            .meter
            .borrow_mut()
            .take(limits, quota, who, now);
        taken.map_err(|exceeded| ServiceError::Exceeded(exceeded).into())
    }

    fn check_quota(&self, quota: Quota, who: &str) -> Result<(), ApiError> {
        let (limits, now) = (&self.app.config.limits, self.app.clock.now());
        let checked = self
            .app
            .isolate
            .meter
            .borrow()
            .check(limits, quota, who, now);
        checked.map_err(|exceeded| ServiceError::Exceeded(exceeded).into())
    }

    /// Checks that the address of the client has not failed too often.
    ///
    /// # Errors
    ///
    /// Fails if it has.
    pub fn check_may_fail(&self) -> Result<(), ApiError> {
        match self.address() {
            Some(address) => self.check_quota(Quota::FailedLogins, &address),
            None => Ok(()),
        }
    }

    /// Notes a failed authentication for the address of the client. It is this call's answer that counts:
    /// the next one is refused.
    pub fn noted<T>(&self, outcome: Result<T, ApiError>) -> Result<T, ApiError> {
        if let Err(error) = &outcome
            && error.is_failed_login()
        {
            let _ = self.take_by_address(Quota::FailedLogins);
        }
        outcome
    }

    /// Takes once from what the address of the client may take, unless it has no limit.
    ///
    /// # Errors
    ///
    /// Fails if that is nothing more.
    pub fn take_by_address(&self, quota: Quota) -> Result<(), ApiError> {
        match self.address() {
            Some(address) => self.take(quota, &address),
            None => Ok(()),
        }
    }

    /// The address of the client, as far as it is limited.
    fn address(&self) -> Option<String> {
        address::of_client(&self.app.config, &self.request)
    }

    fn bearer(&self) -> Option<String> {
        let header = self.header("Authorization")?;
        let given = header.strip_prefix("Bearer ")?.trim();
        Some(given.to_owned())
    }

    /// Whether the operator of the deployment calls.
    fn is_operator(&self) -> bool {
        match (&self.app.config.operator_token, self.bearer()) {
            (Some(token), Some(given)) => is_same(&given, token),
            _ => false,
        }
    }

    /// Authenticates a member, or the operator of the deployment: then it is `None`.
    pub async fn caller_or_operator(&self, scope: Scope) -> Result<Option<Caller>, ApiError> {
        if self.is_operator() {
            return Ok(None);
        }
        self.caller(scope).await.map(Some)
    }

    /// Authenticates who governs the exchange of the path: one of its owners, or the operator of the
    /// deployment.
    pub async fn governor(&self) -> Result<Governor, ApiError> {
        let caller = self.caller_or_operator(Scope::Manage).await?;
        self.governs(caller.map(|caller| caller.executor)).await
    }

    /// Checks that a member, or the operator of the deployment, governs the exchange of the path.
    pub async fn governs(&self, by: Option<ExecutorId>) -> Result<Governor, ApiError> {
        let exchange = self.exchange()?;
        if let Some(by) = &by {
            let owns = is_owner(&self.app, &exchange, by).await;
            if !owns.map_err(ServiceError::from)? {
                return Err(ServiceError::from(AccessRefusal::OwnersOnly).into());
            }
        }
        Ok(Governor { exchange, by })
    }

    /// Authenticates who may change the executor of the path: itself, or who governs the exchange.
    pub async fn itself_or_governor(&self) -> Result<(Governor, ExecutorId), ApiError> {
        let caller = self.caller_or_operator(Scope::Manage).await?;
        let by = caller.map(|caller| caller.executor);
        let id = self.executor(by.as_ref())?;
        if by.as_ref() == Some(&id) {
            let exchange = self.exchange()?;
            return Ok((Governor { exchange, by }, id));
        }
        Ok((self.governs(by).await?, id))
    }

    /// The query's parameters that are among `known`. Others are ignored.
    ///
    /// # Errors
    ///
    /// Fails if one of them is given twice.
    pub fn query(&self, known: &[&'static str]) -> Result<HashMap<&'static str, String>, ApiError> {
        let mut given = HashMap::new();
        let url = self.request.inner().url();
        let query = url.split_once('?').map_or("", |(_, query)| query);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(name) = known.iter().find(|known| **known == name) else {
                continue;
            };
            if given.insert(*name, value.into_owned()).is_some() {
                return Err(Invalid::new(*name, "is given twice").into());
            }
        }
        Ok(given)
    }

    /// The fields of the body, which must be a JSON object of at most `limit` bytes.
    pub async fn fields(&mut self, limit: usize) -> Result<Fields, ApiError> {
        self.check_json()?;
        let body = body::read(&self.app, &mut self.request, limit, Sender::Member).await?;
        parse_fields(&body.bytes)
    }

    /// The same for a call without a key.
    pub async fn strangers_fields(&mut self, limit: usize) -> Result<Fields, ApiError> {
        self.check_json()?;
        let body = body::read(&self.app, &mut self.request, limit, Sender::Stranger).await?;
        parse_fields(&body.bytes)
    }

    /// The same, but a request without a body has no fields.
    pub async fn optional_fields(&mut self, limit: usize) -> Result<Fields, ApiError> {
        let body = body::read(&self.app, &mut self.request, limit, Sender::Member).await?;
        if body.bytes.is_empty() {
            return Ok(Fields::new("", serde_json::Map::new()));
        }
        self.check_json()?;
        parse_fields(&body.bytes)
    }

    fn check_json(&self) -> Result<(), ApiError> {
        let content_type = self.header("Content-Type");
        if content_type.is_some_and(|text| is_json(&text)) {
            Ok(())
        } else {
            Err(ApiError::NotJson)
        }
    }
}

fn parse_fields(body: &[u8]) -> Result<Fields, ApiError> {
    let fields = Fields::of("", json::parse(body)?);
    Ok(fields.map_err(|invalid| Invalid {
        path: "body".to_owned(),
        ..invalid
    })?)
}

/// Whether a media type is JSON: `application/json`, or a type with the suffix `+json`.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The versions that an `If-Match` or `If-None-Match` header names, or `None` for `*`.
///
/// A tag that is not one of this server's matches nothing. `weak` says whether `W/` tags count.
pub fn versions(header: &str, weak: bool) -> Option<Vec<Version>> {
    if header.trim() == "*" {
        return None;
    }
    let parse = |tag: &str| -> Option<Version> {
        let tag = tag.trim();
        let tag = match tag.strip_prefix("W/") {
            Some(tag) if weak => tag,
            Some(_) => return None,
            None => tag,
        };
        let tag = tag.strip_prefix('"')?.strip_suffix('"')?;
        let (digits, is_due) = match tag.strip_suffix("-due") {
            Some(digits) => (digits, true),
            None => (tag, false),
        };
        let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        let number = if canonical { digits.parse().ok() } else { None };
        number.map(|number| Version { number, is_due })
    };
    Some(header.split(',').filter_map(parse).collect())
}

/// The tags that an `If-Match` header names, without their quotes, or `None` for `*`. Weak tags match
/// nothing.
pub fn tags(header: &str) -> Option<Vec<String>> {
    if header.trim() == "*" {
        return None;
    }
    let tag = |tag: &str| -> Option<String> {
        let tag = tag.trim().strip_prefix('"')?.strip_suffix('"')?;
        Some(tag.to_owned())
    };
    Some(header.split(',').filter_map(tag).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/mess+json",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["", "text/plain", "application/jsonx", "text/json", "json"] {
            assert!(!is_json(bad), "{bad}");
        }
    }

    #[test]
    fn entity_versions() {
        let version = |number, is_due| Version { number, is_due };
        assert_eq!(versions("*", false), None);
        assert_eq!(versions("\"3\"", false), Some(vec![version(3, false)]));
        let list = "\"3\", \"12-due\"";
        assert_eq!(
            versions(list, false),
            Some(vec![version(3, false), version(12, true)])
        );
        assert_eq!(versions("W/\"3\"", false), Some(vec![]));
        assert_eq!(versions("W/\"3\"", true), Some(vec![version(3, false)]));
        for bad in [
            "",
            "3",
            "\"x\"",
            "\"03\"",
            "\"+3\"",
            "\"\"",
            "\"3",
            "\"-due\"",
            "\"3-DUE\"",
            "\"3-due-due\"",
        ] {
            assert_eq!(versions(bad, true), Some(vec![]), "{bad}");
        }
    }
}
