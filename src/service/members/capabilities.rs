//! The catalogue of capabilities, and what executors claim.

use futures::future::join;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::member::capability::{Capability, Listed, union};
use crate::runtime::log::{describe, warn};
use crate::service::ServiceError;
use crate::service::records::summarize;
use crate::storage::rows::{read_summaries, whole_body};
use crate::storage::{Condition, encode, layout};

/// What a row of the list of executors tells.
#[derive(Deserialize)]
struct Claimer {
    id: ExecutorId,
    #[serde(default)]
    capabilities: Vec<Value>,
}

/// Lists what executors claim and what the catalogue knows, by id; with `tag`, only what has it.
///
/// # Errors
///
/// The store's.
pub async fn list(
    app: &App,
    exchange: &ExchangeId,
    tag: Option<&str>,
) -> Result<Vec<Listed>, ServiceError> {
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

/// A document that is one; another is left out.
fn read<D: DeserializeOwned>(value: Value) -> Option<D> {
    serde_json::from_value(value)
        .map_err(|error| warn("a row cannot be shown", &describe(&error)))
        .ok()
}

/// Puts an entry into the catalogue, in the place of the one with its id.
///
/// # Errors
///
/// The store's.
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
