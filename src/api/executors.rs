//! `/executors`: the members of an exchange.

use serde_json::json;

use super::call::Call;
use super::errors::ApiError;
use super::reply::Reply;
use crate::domain::executor::Profile;
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::text::Invalid;
use crate::service::executors;

/// 200 with all members, sorted by id.
pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller().await?;
    let executors = executors::list(&call.app, &caller.exchange).await?;
    Ok(Reply::json(200, &json!({ "executors": executors })))
}

/// 200 when the caller's own profile is changed.
pub async fn patch(mut call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller().await?;
    let id = call.executor()?;
    if id != caller.executor {
        return Err(ApiError::OtherExecutor);
    }
    let profile = Profile::parse(&mut call.fields(EXECUTOR_BYTES).await?)?;
    if profile.is_empty() {
        return Err(Invalid::new(
            "display_name",
            "or another of capabilities, notifications, hooks and preferences is required",
        )
        .into());
    }
    executors::change_profile(&call.app, caller.exchange, caller.executor, profile).await?;
    Ok(Reply::json(
        200,
        &json!({"executor_id": id, "updated": true}),
    ))
}
