//! `/executors`: the members of an exchange.

use serde_json::{Value, json};

use super::call::{Call, Caller, tags};
use super::problem::ApiError;
use super::reply::Reply;
use crate::domain::ids::ExecutorId;
use crate::domain::limits::{EXECUTOR_BYTES, PAGE_MAX};
use crate::domain::member::access::Scope;
use crate::domain::quota::Quota;
use crate::domain::text::Invalid;
use crate::service::members::roles::Change;
use crate::service::members::{executors, owner, removal, roles};
use crate::service::requests::view::parse_limit;

/// 200 with a page of members, sorted by id. A guest sees only itself.
pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller_or_operator(Scope::Read).await?;
    let query = call.query(&["limit", "cursor"])?;
    let limit = query.get("limit").map(|text| parse_limit(text, "limit"));
    let limit = limit.transpose()?.unwrap_or(PAGE_MAX);
    let cursor = query.get("cursor").map(String::as_str);
    let guest = caller.as_ref().filter(|caller| caller.is_guest());
    let exchange = call.exchange()?;
    let page = match guest {
        Some(guest) => executors::only(&call.app, &exchange, &guest.executor).await?,
        None => {
            executors::list(
                &call.app,
                &exchange,
                limit,
                executors::parse_cursor(cursor)?,
            )
            .await?
        }
    };
    let mut body = json!({ "executors": page.executors });
    if let (Some(next), Some(body)) = (page.next, body.as_object_mut()) {
        body.insert("next_cursor".to_owned(), next.into());
    }
    Ok(Reply::json(200, &body))
}

/// 200 after the caller's own profile was changed, or after an owner has changed what a member may do.
pub async fn patch(mut call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller_or_operator(Scope::Manage).await?;
    let id = call.executor(caller.as_ref().map(|caller| &caller.executor))?;
    let exchange = call.exchange()?;
    let versions = call.header("If-Match").and_then(|header| tags(&header));
    let mut fields = call.fields(EXECUTOR_BYTES).await?;
    let profile = executors::parse_profile(&call.app, &mut fields)?;
    let change = Change::parse(&mut fields)?;
    if profile.is_empty() && change.is_empty() {
        return Err(Invalid::new(
            "display_name",
            "or another of capabilities, notifications, hooks and preferences is required, or of an owner one of role, kind, max_priority and suspended",
        )
        .into());
    }
    let by = caller.map(|caller| caller.executor);
    if !profile.is_empty() && by.as_ref() != Some(&id) {
        return Err(ApiError::OtherExecutor);
    }
    if !change.is_empty() {
        call.governs(by.clone()).await?;
    }
    // The profile first, because it may be at another version.
    if !profile.is_empty() {
        let named = exchange.clone();
        executors::change_profile(&call.app, named, id.clone(), profile, versions).await?;
    }
    if !change.is_empty() {
        roles::change(&call.app, &exchange, &id, by, change).await?;
    }
    let body = json!({"executor_id": id, "updated": true});
    Ok(Reply::json(200, &body))
}

/// 200 with the caller's own profile, in which credentials are masked. Who asks for `me` also learns
/// its role and what its key is good for.
pub async fn get(call: Call) -> Result<Reply, ApiError> {
    let caller = itself(&call, Scope::Read).await?;
    let (exchange, id) = (&caller.exchange, &caller.executor);
    let (mut profile, version) = owner::profile(&call.app, exchange, id).await?;
    if call.is_me()
        && let Some(shown) = profile.as_object_mut()
        && let Value::Object(standing) =
            owner::standing(&call.app, exchange, id, &caller.grant).await?
    {
        shown.extend(standing);
    }
    let body = json!({ "executor": profile });
    Ok(Reply::json(200, &body).header("ETag", format!("\"{version}\"")))
}

/// 200 after a membership was ended.
pub async fn delete(call: Call) -> Result<Reply, ApiError> {
    let (governor, id) = call.itself_or_governor().await?;
    let query = call.query(&["requests"])?;
    let keeps = match query.get("requests").map(String::as_str) {
        None | Some("cancel") => false,
        Some("keep") => true,
        Some(_) => return Err(Invalid::new("requests", "must be keep or cancel").into()),
    };
    let removed = removal::remove(&call.app, governor.exchange, id.clone(), governor.by, keeps);
    removed.await?;
    Ok(Reply::json(
        200,
        &json!({"executor_id": id, "removed": true}),
    ))
}

/// 200 with the last attempts at deliveries to the caller, newest first.
pub async fn deliveries(call: Call) -> Result<Reply, ApiError> {
    let caller = itself(&call, Scope::Read).await?;
    let list = owner::deliveries(&call.app, &caller.exchange, &caller.executor).await?;
    Ok(Reply::json(200, &json!({ "deliveries": list })))
}

/// 200 with the outcome of a test notification through each of the caller's channels.
pub async fn test(call: Call) -> Result<Reply, ApiError> {
    let caller = itself(&call, Scope::Manage).await?;
    let (exchange, executor) = (&caller.exchange, &caller.executor);
    call.take(Quota::Tests, &format!("{exchange}/{executor}"))?;
    let results = owner::test(&call.app, exchange, executor).await?;
    Ok(Reply::json(200, &json!({ "results": results })))
}

/// Returns the caller, if the executor in the path is the caller itself.
pub async fn itself(call: &Call, scope: Scope) -> Result<Caller, ApiError> {
    let caller = call.caller(scope).await?;
    let id: ExecutorId = call.executor(Some(&caller.executor))?;
    if id == caller.executor {
        Ok(caller)
    } else {
        Err(ApiError::OtherExecutor)
    }
}
