//! Holds an obligation, so that two ticks do not work on it at once.

use crate::app::App;
use crate::domain::time::Timestamp;
use crate::service::due::obligations::{Hold, Obligation};
use crate::storage::{Condition, Put, StoreError, Tag};

/// For this many milliseconds, a hold keeps others away.
const HELD_FOR: i64 = 120_000;

/// A hold that begins at `now`.
pub fn new_hold(app: &App, now: Timestamp) -> Hold {
    Hold {
        until: now.plus_millis(HELD_FOR),
        nonce: app.clock.new_id(),
    }
}

/// Holds the obligation that was read from `key` with `tag`. Returns `None` if another tick holds
/// it.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn hold(
    app: &App,
    key: &str,
    mut obligation: Obligation,
    tag: &Tag,
    now: Timestamp,
) -> Result<Option<Obligation>, StoreError> {
    let is_held = |hold: &Hold| hold.until > now;
    if obligation.hold.as_ref().is_some_and(is_held) {
        return Ok(None);
    }
    // The tick that held it before did not finish.
    if obligation.hold.is_some() {
        obligation.failures = obligation.failures.saturating_add(1);
    }
    obligation.hold = Some(new_hold(app, now));
    let body = obligation.to_json()?;
    let put = app
        .store
        .put(key, body, None, Condition::Matches(tag))
        .await?;
    Ok(matches!(put, Put::Stored(_)).then_some(obligation))
}
