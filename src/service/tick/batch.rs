//! Sees to the batch of a thread. A batch that was committed is completed and announced. The
//! obligation of any other batch stays until no write can land any more.

use uuid::Uuid;

use super::context::{Seen, Tick, require};
use super::hold::new_hold;
use crate::app::App;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::thread::document::Thread;
use crate::domain::time::Timestamp;
use crate::service::deliveries::announce::{Announcement, announce};
use crate::service::deliveries::chunk::Kept;
use crate::service::due::obligations::{LAST_LOOK, Next};
use crate::service::due::timers;
use crate::service::requests::settle::Settlement;
use crate::storage::cas::load;
use crate::storage::{StoreError, layout};

/// How many operations an announcement, or the end of a membership, leaves for other obligations.
pub const OPERATIONS_FOR_OTHERS: usize = 400;

/// A batch of a thread that has an obligation.
pub struct Batch<'a> {
    /// The thread's exchange.
    pub exchange: &'a ExchangeId,
    /// The thread.
    pub reference: &'a Ref,
    /// The batch.
    pub id: Uuid,
    /// When its obligation began.
    pub begun_at: Timestamp,
    /// How many deliveries led to it.
    pub hops: u32,
}

impl Batch<'_> {
    /// Reads the current thread, if it exists.
    ///
    /// # Errors
    ///
    /// Fails with the store's error.
    pub async fn load_thread(&self, app: &App) -> Result<Option<Thread>, StoreError> {
        let key = layout::thread(self.exchange, self.reference);
        let loaded = load::<Thread>(app.store.as_ref(), &key).await?;
        Ok(loaded.map(|loaded| loaded.document))
    }

    /// Writes to `due/` what the batch owes to the executors after the key `after`. This tick holds
    /// what is due at once, and returns it.
    ///
    /// # Errors
    ///
    /// Fails with the store's error.
    pub async fn announce(
        &self,
        tick: &Tick<'_>,
        thread: &Thread,
        after: Option<String>,
    ) -> Result<Vec<Kept>, StoreError> {
        let announcement = Announcement {
            thread,
            exchange: self.exchange,
            batch_id: self.id,
            begun_at: self.begun_at,
            hops: self.hops,
        };
        let hold = new_hold(tick.app, tick.now());
        let keep = OPERATIONS_FOR_OTHERS;
        announce(tick.app, &announcement, after, Some(&hold), keep).await
    }
}

/// Completes a batch if it was committed, and announces it unless it `is_announced`. Also returns
/// whether it is announced now.
///
/// # Errors
///
/// Fails with the store's error. In that case everything must be done again.
pub async fn see_to(
    tick: &Tick<'_>,
    batch: &Batch<'_>,
    is_announced: bool,
) -> Result<(Seen, bool), StoreError> {
    let completed = complete(tick, batch, is_announced).await?;
    let is_committed = completed.is_some();
    let seen = Seen {
        next: next_look(tick, batch.begun_at, is_committed),
        announced: completed.unwrap_or_default(),
    };
    Ok((seen, is_announced || is_committed))
}

/// When to look again. The obligation stays until no write can land any more: a batch that is not
/// committed yet may still be committed, and a slow writer may still put an entry that is outdated
/// by then.
pub fn next_look(tick: &Tick<'_>, begun_at: Timestamp, is_committed: bool) -> Next {
    let (now, last_look) = (tick.now(), begun_at.plus_millis(LAST_LOOK));
    if now >= last_look {
        return Next::Done;
    }
    if is_committed {
        return Next::Again(last_look);
    }
    let age = now.since(begun_at);
    Next::Again(now.plus_millis(age).min(last_look))
}

/// Completes a batch, and announces it unless it `is_announced`. Returns what was announced, or
/// `None` if the batch was not committed.
///
/// # Errors
///
/// Fails with the store's error. In that case everything must be done again.
pub async fn complete(
    tick: &Tick<'_>,
    batch: &Batch<'_>,
    is_announced: bool,
) -> Result<Option<Vec<Kept>>, StoreError> {
    let app = tick.app;
    let Some(thread) = batch.load_thread(app).await? else {
        return Ok(None);
    };
    let Some(settlement) = Settlement::of(batch.exchange, &thread, batch.id)? else {
        return Ok(None);
    };
    require(settlement.repeat(app.store.as_ref(), &thread.state).await)?;
    if is_announced {
        return Ok(Some(Vec::new()));
    }
    settlement.set_timer(app, batch.exchange).await?;
    // If the batch landed late, the timer on which it relied may have passed.
    timers::go_on(app, batch.exchange, &thread.state, tick.now()).await?;
    batch.announce(tick, &thread, None).await.map(Some)
}
