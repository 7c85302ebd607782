//! The catalogue of capabilities, and the capabilities that executors have.

use futures::future::join;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::member::capability::{Capability, Listed, union};
use crate::runtime::log::{describe, warn};
use crate::service::records::summarize;
use crate::service::{ServiceError, turn_to_read_rows};
use crate::storage::rows::{read_summaries, whole_body};
use crate::storage::{Condition, encode, layout};

/// What a row of the list of executors contains.
#[derive(Deserialize)]
struct Claimer {
    id: ExecutorId,
    #[serde(default)]
    capabilities: Vec<Value>,
}

/// Lists the capabilities that executors have and those in the catalogue, by id. With `tag`, lists
/// only those that have this tag.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn list(
    app: &App,
    exchange: &ExchangeId,
    tag: Option<&str>,
) -> Result<Vec<Listed>, ServiceError> {
    let _turn = turn_to_read_rows(app, exchange).await?;
    let (store, cache) = (app.store.as_ref(), &app.isolate.summaries);
    let (entries, members) = (layout::capabilities(exchange), layout::executors(exchange));
    let (catalogue, claimers) = join(
        read_summaries(store, cache, &entries, whole_body),
        read_summaries(store, cache, &members, summarize),
    )
    .await;
    let catalogue = catalogue?.into_iter().filter_map(read::<Capability>);
    let mut executors: Vec<_> = claimers?
        .into_iter()
        .filter_map(read::<Claimer>)
        .map(|claimer| (claimer.id, claimer.capabilities))
        .collect();
    executors.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(union(catalogue, &executors, tag))
}

/// Parses a document, or leaves it out if it is not one.
fn read<D: DeserializeOwned>(value: Value) -> Option<D> {
    serde_json::from_value(value)
        .map_err(|error| warn("a row cannot be shown", &describe(&error)))
        .ok()
}

/// Puts a capability into the catalogue. It replaces the one with the same id.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn put(
    app: &App,
    exchange: &ExchangeId,
    capability: &Capability,
) -> Result<(), ServiceError> {
    let key = layout::capability(exchange, &capability.id);
    let body = encode(&key, capability)?;
    let summary = whole_body(&body);
    let put = app
        .store
        .put(&key, body, summary.as_deref(), Condition::Always);
    put.await?;
    Ok(())
}
