//! `GET /health`: is the server there, and does its bucket answer?

use serde_json::json;

use super::call::Call;
use super::problem::ApiError;
use super::reply::Reply;
use crate::service::ServiceError;

/// 200 with what this server is; with `?deep=1` only after one read from the bucket.
pub async fn get(call: Call) -> Result<Reply, ApiError> {
    let query = call.query(&["deep"])?;
    if query.get("deep").is_some_and(|deep| deep == "1") {
        let read = call.app.store.get("health").await;
        read.map_err(ServiceError::from)?;
    }
    let body = json!({
        "status": "ok",
        "service": "mess-exchange",
        "version": env!("CARGO_PKG_VERSION"),
        "commit": env!("MESS_COMMIT"),
        "storage": call.app.store.kind(),
        "exchange_id": call.app.config.default_exchange,
    });
    Ok(Reply::json(200, &body))
}
