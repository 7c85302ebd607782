//! The commit of a batch: the thread is put only if it has not changed since the decision.

use super::read::note_length;
use crate::app::App;
use crate::domain::thread::document::{Deed, Stamp, Thread};
use crate::domain::thread::state::ThreadState;
use crate::domain::time::Timestamp;
use crate::service::due::obligations::Obligation;
use crate::service::{ServiceError, thread_to_json};
use crate::storage::cas::{Decision, Loaded, Swapped, Target, swap};
use crate::storage::encode;

/// How a decision ended.
pub enum Outcome {
    /// A batch was committed.
    Committed(Box<Thread>),
    /// Everything that was asked for holds already.
    Unchanged(Box<ThreadState>),
}

/// Commits what `decide` adds to the thread under `key`, as the batch of `obligation`. If another
/// writer was faster, decides again on the new thread. If `decide` adds nothing, nothing is
/// written.
pub async fn commit(
    app: &App,
    key: &str,
    obligation: &Obligation,
    current: Loaded<Thread>,
    now: &dyn Fn() -> Timestamp,
    decide: impl Fn(&Thread, Timestamp) -> Result<Vec<Deed>, ServiceError>,
) -> Swapped<Outcome, ServiceError> {
    let target = Target {
        store: app.store.as_ref(),
        clock: app.clock.as_ref(),
        key,
        deadline: obligation.write_deadline(),
    };
    let ours = |thread: &Thread| {
        let won = thread.committed(obligation.id).is_some();
        won.then(|| Outcome::Committed(Box::new(thread.clone())))
    };
    swap(target, Some(current), &ours, &mut |thread: Option<
        Thread,
    >| {
        let thread = thread.ok_or(ServiceError::NoThread)?;
        let now = now();
        let deeds = decide(&thread, now)?;
        if deeds.is_empty() {
            return Ok(Decision::Keep(Outcome::Unchanged(Box::new(thread.state))));
        }
        let stamp = Stamp {
            batch_id: obligation.id,
            now,
            new_id: &|| app.clock.new_id(),
        };
        // What the exchange does by itself is small, and a limit must not prevent it.
        let is_bounded = deeds.iter().any(|(actor, _)| !actor.is_exchange());
        let thread = thread.append(deeds, &stamp);
        let body = if is_bounded {
            thread_to_json(&thread)?
        } else {
            encode(key, &thread)?
        };
        note_length(app, key, body.len());
        Ok(Decision::Put(
            body,
            None,
            Outcome::Committed(Box::new(thread)),
        ))
    })
    .await
}
