//! `/invitations`: who may join.

use serde_json::json;

use super::call::{Call, Governor};
use super::problem::ApiError;
use super::reply::Reply;
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::member::access::{AccessRefusal, Scope, Useless};
use crate::domain::member::invitation::{Code, Offer, is_id};
use crate::service::ServiceError;
use crate::service::members::exchange::is_owner;
use crate::service::members::invitations::{self, Inviter};

/// 201 with the code of a new invitation, which is shown only this once.
pub async fn post(mut call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller_or_operator(Scope::Manage).await?;
    let exchange = call.exchange()?;
    let by = caller.as_ref().map(|caller| caller.executor.clone());
    let governs = match &by {
        Some(by) => is_owner(&call.app, &exchange, by)
            .await
            .map_err(ServiceError::from)?,
        None => true,
    };
    let fields = call.fields(EXECUTOR_BYTES).await?;
    let key = caller.map(|caller| caller.grant.clone());
    // Nobody gives away more than the key can do that asks.
    let most = key.as_ref().map(|grant| grant.key.scopes.clone());
    let (offer, expires_in) = Offer::parse(fields, by.as_ref(), &most.unwrap_or_default())?;
    let inviter = Inviter { by, key, governs };
    let made = invitations::make(&call.app, &exchange, inviter, offer, expires_in).await?;
    let code = made.code.reveal();
    let mut body = json!({"id": made.id, "code": code, "expires_at": made.expires_at});
    if let (Some(public), Some(body)) = (&call.app.config.public_url, body.as_object_mut()) {
        let url = format!("{public}/#/join/{exchange}/{code}");
        body.insert("url".to_owned(), url.into());
    }
    Ok(Reply::json(201, &body))
}

/// 200 with the invitations, newest first.
pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let Governor { exchange, .. } = call.governor().await?;
    let list = invitations::list(&call.app, &exchange).await?;
    Ok(Reply::json(200, &json!({ "invitations": list })))
}

/// 200 after an invitation was taken back.
pub async fn delete(call: Call) -> Result<Reply, ApiError> {
    let Governor { exchange, by } = call.governor().await?;
    let id = call.item()?;
    if !is_id(&id) {
        return Err(ServiceError::from(AccessRefusal::NoInvitation).into());
    }
    invitations::revoke(&call.app, &exchange, by, &id).await?;
    Ok(Reply::json(200, &json!({"id": id, "revoked": true})))
}

/// 200 with what an invitation offers. This does not use it up, and needs no key.
pub async fn look_up(mut call: Call) -> Result<Reply, ApiError> {
    let exchange = call.exchange()?;
    call.check_may_fail()?;
    let mut fields = call.strangers_fields(EXECUTOR_BYTES).await?;
    let code = Code::parse(&fields.require_string("code")?);
    let found = match &code {
        Some(code) => invitations::look_up(&call.app, &exchange, code).await,
        None => Err(Useless::Unknown.into()),
    };
    let found = call.noted(found.map_err(ApiError::from))?;
    Ok(Reply::json(200, &found))
}
