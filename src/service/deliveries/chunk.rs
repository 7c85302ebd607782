//! Chunks of deliveries: attempts those that this invocation has put or has found due.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::attempt::attempt;
use super::record::arrange_sweep;
use crate::app::App;
use crate::delivery::plan::CHUNK;
use crate::domain::time::Timestamp;
use crate::runtime::log::warn;
use crate::service::due::obligations::{Next, Obligation, Subject};
use crate::storage::StoreError;

/// How many operations must be left to attempt a chunk.
pub const CHUNK_OPERATIONS: usize = 100;

/// An obligation, and the key under which it is stored.
pub type Kept = (String, Obligation);

/// Attempts chunks one after the other, as many as this invocation may.
pub async fn attempt_all(app: &App, chunks: Vec<Kept>) {
    for kept in chunks {
        attempt_kept(app, kept, app.clock.now()).await;
    }
}

/// Attempts a chunk that this invocation has put, if it still may.
pub async fn attempt_kept(app: &App, (key, mut obligation): Kept, now: Timestamp) {
    // Once the hold or the writer's time is over, another may be working on it.
    let is_ours = match &obligation.hold {
        Some(hold) => now < hold.until,
        None => now.since(obligation.begun_at) < crate::service::WRITE_WINDOW,
    };
    let may_begin = app.outbound.may_begin(CHUNK) && app.operations_left() >= CHUNK_OPERATIONS;
    if !is_ours || !may_begin {
        return;
    }
    let work = async {
        let next = attempt_chunk(app, &mut obligation, now).await?;
        obligation.finish(app, &key, next).await
    };
    if let Err(error) = work.await {
        warn("deliveries are left to the tick", &error);
    }
}

/// Attempts the deliveries of a chunk that are due, and leaves in it what is still owed.
///
/// # Errors
///
/// Fails with the store's error. In that case nothing was sent.
pub async fn attempt_chunk(
    app: &App,
    obligation: &mut Obligation,
    now: Timestamp,
) -> Result<Next, StoreError> {
    let hops = obligation.hops;
    let Subject::Deliveries(chunk) = &mut obligation.subject else {
        return Ok(Next::Done);
    };
    let executors: BTreeSet<_> = chunk.owed.iter().map(|owed| &owed.executor_id).collect();
    let sweeps = executors
        .into_iter()
        .map(|executor| arrange_sweep(app, &chunk.exchange_id, executor, now));
    // If this fails, the executor's next attempt on the same day arranges it.
    for outcome in join_all(sweeps).await {
        outcome.unwrap_or_else(|error| warn("old attempts may stay", &error));
    }
    chunk.owed = attempt(app, chunk, hops, now).await?;
    obligation.failures = 0;
    let next = chunk.owed.iter().map(|owed| owed.due_at).min();
    Ok(next.map_or(Next::Done, Next::Again))
}
