//! `/executors`: the members of an exchange.

use serde_json::json;

use super::call::{Call, Caller};
use super::problem::ApiError;
use super::reply::Reply;
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::text::Invalid;
use crate::service::members::{executors, owner};

/// 200 with all members, sorted by id.
pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller().await?;
    let executors = executors::list(&call.app, &caller.exchange).await?;
    Ok(Reply::json(200, &json!({ "executors": executors })))
}

/// 200 after the caller's own profile was changed.
pub async fn patch(mut call: Call) -> Result<Reply, ApiError> {
    let caller = owner(&call).await?;
    let mut fields = call.fields(EXECUTOR_BYTES).await?;
    let profile = executors::parse_profile(&call.app, &mut fields)?;
    if profile.is_empty() {
        return Err(Invalid::new(
            "display_name",
            "or another of capabilities, notifications, hooks and preferences is required",
        )
        .into());
    }
    let id = caller.executor.clone();
    executors::change_profile(&call.app, caller.exchange, caller.executor, profile).await?;
    let body = json!({"executor_id": id, "updated": true});
    Ok(Reply::json(200, &body))
}

/// 200 with the caller's own profile, in which credentials are masked.
pub async fn get(call: Call) -> Result<Reply, ApiError> {
    let caller = owner(&call).await?;
    let profile = owner::profile(&call.app, &caller.exchange, &caller.executor).await?;
    Ok(Reply::json(200, &json!({ "executor": profile })))
}

/// 200 with the last attempts at deliveries to the caller, newest first.
pub async fn deliveries(call: Call) -> Result<Reply, ApiError> {
    let caller = owner(&call).await?;
    let list = owner::deliveries(&call.app, &caller.exchange, &caller.executor).await?;
    Ok(Reply::json(200, &json!({ "deliveries": list })))
}

/// 200 with the outcome of a test notification through each of the caller's channels.
pub async fn test(call: Call) -> Result<Reply, ApiError> {
    let caller = owner(&call).await?;
    let results = owner::test(&call.app, &caller.exchange, &caller.executor).await?;
    Ok(Reply::json(200, &json!({ "results": results })))
}

/// Returns the caller, if the executor in the path is the caller itself.
async fn owner(call: &Call) -> Result<Caller, ApiError> {
    let caller = call.caller().await?;
    if call.executor()? == caller.executor {
        Ok(caller)
    } else {
        Err(ApiError::OtherExecutor)
    }
}
