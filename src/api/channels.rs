//! `/executors/{id}/channels`: the channels of a member one by one.

use serde_json::json;

use super::call::{Call, Caller};
use super::executors::itself;
use super::problem::ApiError;
use super::reply::Reply;
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::member::access::Scope;
use crate::service::members::channels;

/// 201 with a new channel, in which credentials are masked.
pub async fn post(mut call: Call) -> Result<Reply, ApiError> {
    let Caller {
        exchange,
        executor,
        grant,
        ..
    } = itself(&call, Scope::Manage).await?;
    let fields = call.fields(EXECUTOR_BYTES).await?;
    let channel = channels::parse(&call.app, fields)?;
    let added = channels::add(&call.app, exchange, executor, &grant.key, channel).await?;
    Ok(Reply::json(201, &json!({ "channel": added })))
}

/// 200 after a channel was taken away.
pub async fn delete(call: Call) -> Result<Reply, ApiError> {
    let caller = itself(&call, Scope::Manage).await?;
    let id = call.item()?;
    let (exchange, executor) = (caller.exchange, caller.executor);
    channels::remove(&call.app, exchange, executor, id.clone()).await?;
    Ok(Reply::json(200, &json!({"id": id, "removed": true})))
}
