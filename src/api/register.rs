//! `POST /register`: joins an exchange.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::browser::check_origin;
use super::call::Call;
use super::problem::ApiError;
use super::reply::Reply;
use crate::domain::ids::ExecutorId;
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::text::Invalid;
use crate::service::members::executors::parse_profile;
use crate::service::members::register::register;

/// 201 with the key, which is shown only this once.
pub async fn post(mut call: Call) -> Result<Reply, ApiError> {
    let exchange = call.exchange()?;
    let (url, origin) = (call.request.inner().url(), call.header("Origin"));
    check_origin(&call.app.config, &url, origin.as_deref())?;
    // A token in the header decides before anything of the body is read.
    let in_header = call.header("X-Registration-Token");
    if in_header.is_some() {
        check_token(&call, in_header.as_deref())?;
    }
    let mut fields = call.fields(EXECUTOR_BYTES).await?;
    let in_body = fields.take_string("registration_token")?;
    if in_header.is_none() {
        check_token(&call, in_body.as_deref())?;
    }
    let id = ExecutorId::parse(&fields.require_string("executor_id")?, "executor_id")?;
    if id.as_str() == ExecutorId::EXCHANGE {
        let problem = "must not be exchange: that is the server itself";
        return Err(Invalid::new("executor_id", problem).into());
    }
    let profile = parse_profile(&call.app, &mut fields)?;
    let key = register(&call.app, exchange, id.clone(), profile).await?;
    let body = json!({
        "executor_id": id,
        "api_key": key.reveal(),
        "message": "Keep this API key: it is not shown again.",
    });
    Ok(Reply::json(201, &body))
}

fn check_token(call: &Call, given: Option<&str>) -> Result<(), ApiError> {
    match &call.app.config.registration_token {
        Some(expected) if !given.is_some_and(|token| is_same(token, expected)) => {
            Err(ApiError::RegistrationToken)
        }
        _ => Ok(()),
    }
}

/// Compares digests, so that the time that this takes does not tell where two tokens differ.
fn is_same(a: &str, b: &str) -> bool {
    Sha256::digest(a.as_bytes()) == Sha256::digest(b.as_bytes())
}
