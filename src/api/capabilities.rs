//! `/capabilities`: the capabilities of an exchange's members, and what they mean.

use serde_json::json;

use super::call::{Call, Caller};
use super::problem::ApiError;
use super::reply::Reply;
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::member::access::{AccessRefusal, Scope};
use crate::domain::member::capability::Capability;
use crate::service::ServiceError;
use crate::service::members::capabilities;

/// 200 with all capabilities: those in the catalogue and those that executors have.
pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let caller = member(&call, Scope::Read).await?;
    let query = call.query(&["tag"])?;
    let tag = query.get("tag").map(String::as_str);
    let listed = capabilities::list(&call.app, &caller.exchange, tag).await?;
    Ok(Reply::json(200, &json!({ "capabilities": listed })))
}

/// 200 with the capability as it is in the catalogue now.
pub async fn put(mut call: Call) -> Result<Reply, ApiError> {
    let caller = member(&call, Scope::Manage).await?;
    let id = call.capability()?;
    let capability = Capability::parse(id, call.fields(EXECUTOR_BYTES).await?)?;
    capabilities::put(&call.app, &caller.exchange, &capability).await?;
    Ok(Reply::json(200, &capability))
}

/// Returns the caller, unless it is a guest: the catalogue tells who the others are.
async fn member(call: &Call, scope: Scope) -> Result<Caller, ApiError> {
    let caller = call.caller(scope).await?;
    if caller.is_guest() {
        return Err(ServiceError::from(AccessRefusal::NotForGuests).into());
    }
    Ok(caller)
}
