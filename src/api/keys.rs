//! `/executors/{id}/keys`: the keys of a member.

use serde_json::json;

use super::call::{Call, Governor};
use super::executors::itself;
use super::problem::ApiError;
use super::reply::Reply;
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::member::access::Scope;
use crate::service::members::keys::{self, Wanted};

/// 200 with the keys of a member, latest last.
pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let (Governor { exchange, .. }, id) = call.itself_or_governor().await?;
    let list = keys::list(&call.app, &exchange, &id).await?;
    Ok(Reply::json(200, &json!({ "keys": list })))
}

/// 201 with a new key, which is shown only this once.
pub async fn post(mut call: Call) -> Result<Reply, ApiError> {
    let caller = itself(&call, Scope::Manage).await?;
    let wanted = Wanted::parse(&mut call.fields(EXECUTOR_BYTES).await?)?;
    let (exchange, executor) = (&caller.exchange, &caller.executor);
    let added = keys::add(&call.app, exchange, executor, &caller.grant.key, wanted).await?;
    let (key, known) = added;
    let body = json!({
        "id": known.id(),
        "api_key": key.reveal(),
        "label": known.label,
        "scopes": known.scopes,
        "expires_at": known.expires_at,
    });
    Ok(Reply::json(201, &body))
}

/// 200 after a key was revoked, with those that were made with it.
pub async fn delete(call: Call) -> Result<Reply, ApiError> {
    let (Governor { exchange, by }, id) = call.itself_or_governor().await?;
    let key = call.item()?;
    keys::revoke(&call.app, &exchange, &id, by, key.clone()).await?;
    Ok(Reply::json(200, &json!({"id": key, "revoked": true})))
}
