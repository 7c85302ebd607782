//! `GET /health`: whether the server is there, and whether its bucket answers.

use serde::Serialize;

use super::call::Call;
use super::problem::ApiError;
use super::reply::Reply;
use crate::domain::ids::ExchangeId;
use crate::service::ServiceError;

/// What `/health` says about this server.
#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    service: &'static str,
    version: &'static str,
    commit: &'static str,
    storage: &'static str,
    /// Who may register.
    join: &'static str,
    /// The exchange for clients that do not know one.
    exchange_id: &'a ExchangeId,
}

/// 200 with what this server is. With `?deep=1`, it reads from the bucket first.
pub async fn get(call: Call) -> Result<Reply, ApiError> {
    let query = call.query(&["deep"])?;
    if query.get("deep").is_some_and(|deep| deep == "1") {
        let read = call.app.store.get("health").await;
        read.map_err(ServiceError::from)?;
    }
    let health = Health {
        status: "ok",
        service: "mess-exchange",
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("MESS_COMMIT"),
        storage: call.app.store.kind(),
        join: call.app.config.join.as_str(),
        exchange_id: &call.app.config.default_exchange,
    };
    Ok(Reply::json(200, &health))
}
