//! `/audit`: who invited, joined or was removed, and who got or lost a key or a role.

use serde_json::json;

use super::call::{Call, Governor};
use super::problem::ApiError;
use super::reply::Reply;
use crate::service::members::audit;
use crate::service::requests::view::ListQuery;

/// 200 with a page of the audit, newest first.
pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let Governor { exchange, .. } = call.governor().await?;
    let given = call.query(&["limit", "cursor"])?;
    let parameter = |name| given.get(name).map(String::as_str);
    let limit = ListQuery(&parameter).limit()?;
    let cursor = parameter("cursor").map(audit::parse_cursor).transpose()?;
    let page = audit::list(&call.app, &exchange, limit, cursor.as_deref()).await?;
    let mut body = json!({ "entries": page.entries });
    if let (Some(next), Some(body)) = (page.next, body.as_object_mut()) {
        body.insert("next_cursor".to_owned(), next.into());
    }
    Ok(Reply::json(200, &body))
}
