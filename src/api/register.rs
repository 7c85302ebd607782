//! `POST /register`: joins an exchange.

use serde_json::json;

use super::browser::check_origin;
use super::call::{Call, is_same};
use super::problem::ApiError;
use super::reply::Reply;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::ApiKey;
use crate::domain::limits::EXECUTOR_BYTES;
use crate::domain::member::access::{Kind, Useless};
use crate::domain::member::invitation::Code;
use crate::domain::quota::Quota;
use crate::domain::text::{Fields, Invalid};
use crate::service::ServiceError;
use crate::service::members::admit::Joined;
use crate::service::members::executors::parse_profile;
use crate::service::members::register::{Joining, register};

/// 201 with the key, which is shown only this once.
pub async fn post(mut call: Call) -> Result<Reply, ApiError> {
    call.check_may_fail()?;
    let joined = join(&mut call).await;
    let joined = call.noted(joined)?;
    let body = json!({
        "executor_id": joined.executor,
        "api_key": joined.key.reveal(),
        "role": joined.role,
        "message": "Keep this API key: it is not shown again.",
    });
    Ok(Reply::json(201, &body))
}

async fn join(call: &mut Call) -> Result<Joined, ApiError> {
    let exchange = call.exchange()?;
    let (url, origin) = (call.request.inner().url(), call.header("Origin"));
    check_origin(&call.app.config, &url, origin.as_deref())?;
    // A token in the header decides before anything of the body is read.
    let in_header = call.header("X-Registration-Token");
    if in_header
        .as_deref()
        .is_some_and(|given| !opens(call, given))
    {
        return Err(ApiError::RegistrationToken);
    }
    let mut fields = call.strangers_fields(EXECUTOR_BYTES).await?;
    let in_body = fields.take_string("registration_token")?;
    let has_token = in_header
        .or(in_body)
        .is_some_and(|given| opens(call, &given));
    let joining = parse(call, &exchange, &mut fields, has_token)?;
    let quota = match joining.code {
        Some(_) => Quota::Joins,
        None => Quota::Registrations,
    };
    call.take_by_address(quota)?;
    Ok(register(&call.app, exchange, joining).await?)
}

fn parse(
    call: &Call,
    exchange: &ExchangeId,
    fields: &mut Fields,
    has_token: bool,
) -> Result<Joining, ApiError> {
    let code = fields.take_string("invitation")?;
    let code = code.map(|text| Code::parse(&text).ok_or(ServiceError::from(Useless::Unknown)));
    let code = code.transpose()?;
    let id = fields.take_string("executor_id")?;
    let id = match id {
        Some(id) => Some(ExecutorId::parse_new(&id, "executor_id")?),
        None if code.is_some() => None,
        None => return Err(Invalid::new("executor_id", "is required").into()),
    };
    let drawn = fields.take_string("token")?;
    let drawn = drawn.map(|token| {
        let problem = "must be 40 lower-case hex digits that were drawn at random";
        ApiKey::from_token(exchange, &token).ok_or_else(|| Invalid::new("token", problem))
    });
    Ok(Joining {
        id,
        drawn: drawn.transpose()?,
        code,
        kind: Kind::take(fields)?,
        profile: parse_profile(&call.app, fields)?,
        has_token,
    })
}

/// Whether a registration token is the right one, or none is needed.
fn opens(call: &Call, given: &str) -> bool {
    match &call.app.config.registration_token {
        Some(expected) => is_same(given, expected),
        None => true,
    }
}
