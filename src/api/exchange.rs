//! `/exchange`: the exchange itself.

use serde_json::json;

use super::call::{Call, Governor};
use super::problem::ApiError;
use super::reply::Reply;
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::member::access::Scope;
use crate::service::ServiceError;
use crate::service::members::exchange;

/// 200 with its name, its time zone and its owners.
pub async fn get(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller_or_operator(Scope::Read).await?;
    let id = call.exchange()?;
    let read = exchange::read(&call.app, &id)
        .await
        .map_err(ServiceError::from)?;
    let document = match read {
        Some(document) => document,
        // Nobody has registered since exchanges have a document.
        None if caller.is_some() => exchange::ensure(&call.app, &id).await?,
        None => return Err(ServiceError::NoExchange.into()),
    };
    Ok(Reply::json(
        200,
        &json!({ "exchange": document.shown(&id) }),
    ))
}

/// 200 with the exchange as it is now.
pub async fn patch(mut call: Call) -> Result<Reply, ApiError> {
    let Governor { exchange, by } = call.governor().await?;
    let mut fields = call.fields(EXECUTOR_BYTES).await?;
    let change = exchange::Change::parse(&call.app, &mut fields)?;
    let document = exchange::change(&call.app, &exchange, by, change).await?;
    Ok(Reply::json(
        200,
        &json!({ "exchange": document.shown(&exchange) }),
    ))
}
