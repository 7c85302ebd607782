//! What lists and the log show of a thread: its index entries and its log objects.
//!
//! A write that fails here is logged by the server and left to the tick.

use futures::future::join_all;

use super::{Condition, ObjectStore, StoreError, layout};
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::thread::state::ThreadState;
use crate::runtime::log::warn;

/// The index entries of one version of a thread: one in the list of all threads, and one in the
/// list of its status.
pub fn entries(exchange: &ExchangeId, state: &ThreadState) -> [String; 2] {
    let entry = |status| {
        let reference: &Ref = &state.reference;
        layout::index_entry(exchange, status, state.updated_at, reference)
    };
    [entry(None), entry(Some(state.status))]
}

/// Puts a log object, unless it exists already. Returns whether it succeeded.
pub async fn write_log(store: &dyn ObjectStore, key: &str, lines: &str) -> bool {
    let body = lines.as_bytes().to_vec();
    done(
        "a log object could not be written",
        store.put(key, body, None, Condition::Absent).await,
    )
}

/// Puts an index entry. Returns whether it succeeded.
pub async fn put_entry(store: &dyn ObjectStore, key: &str, summary: &str) -> bool {
    let body = summary.as_bytes().to_vec();
    let put = store.put(key, body, Some(summary), Condition::Always);
    done("an index entry could not be written", put.await)
}

/// Deletes keys, all at once. Returns whether all of them succeeded.
pub async fn delete_all(store: &dyn ObjectStore, keys: &[String]) -> bool {
    let deletes = keys.iter().map(|key| store.delete(key));
    join_all(deletes)
        .await
        .into_iter()
        .all(|outcome| done("an object could not be deleted", outcome))
}

/// Whether a write succeeded. Logs a failure.
pub fn done<T>(failure: &str, outcome: Result<T, StoreError>) -> bool {
    outcome.map_err(|error| warn(failure, &error)).is_ok()
}
