//! Settles the commit of a batch: its log object, its index entries, its timer and its deliveries.
//!
//! The writer settles its batch partly before and partly after it answers. If the writer dies, the
//! tick does it again. Anyone may repeat every part at any time.

use std::rc::Rc;

use futures::future::{join, join_all};
use serde::Deserialize;
use uuid::Uuid;

use crate::app::App;
use crate::domain::ids::ExchangeId;
use crate::domain::json::from_bytes;
use crate::domain::thread::document::Thread;
use crate::domain::thread::due::owed_timer;
use crate::domain::thread::event::log_line;
use crate::domain::thread::state::ThreadState;
use crate::domain::time::Timestamp;
use crate::runtime::background::{Rest, nothing};
use crate::runtime::log::warn;
use crate::service::ServiceError;
use crate::service::deliveries::announce::{Announcement, announce};
use crate::service::deliveries::chunk::attempt_all;
use crate::service::due::obligations::Obligation;
use crate::service::due::timers;
use crate::storage::index::{delete_all, done, entries, put_entry, write_log};
use crate::storage::{ObjectStore, StoreError, layout};

/// Settles a batch that was just committed. Before the answer, it writes what lists and the log
/// show. After the answer, it removes what is outdated, sets the timer and announces the batch.
///
/// The commit stands whatever happens here. What fails is left to the tick. If the writer's time is
/// over, everything that remains is left to the tick, because the tick may be working on it
/// already.
pub async fn settle(
    app: Rc<App>,
    exchange: ExchangeId,
    thread: Thread,
    obligation: Obligation,
) -> (Result<ThreadState, ServiceError>, Rest) {
    let settlement = match Settlement::of(&exchange, &thread, obligation.id) {
        Ok(Some(settlement)) => settlement,
        Ok(None) => return (Ok(thread.state), nothing()),
        Err(error) => {
            warn("a committed batch is left to the tick", &error);
            return (Ok(thread.state), nothing());
        }
    };
    // Answers with the state that this batch left, even if the thread has changed again since.
    let state = settlement.state.clone();
    if app.clock.now() > obligation.write_deadline() {
        return (Ok(state), nothing());
    }
    let published = settlement.publish(app.store.as_ref()).await;
    let rest = async move {
        let tidied = settlement.tidy(app.store.as_ref()).await && published;
        let timed = settlement.set_timer(&app, &exchange).await;
        let timed = done("a timer is left to the tick", timed);
        if !(tidied && timed) || app.clock.now() > obligation.write_deadline() {
            return;
        }
        let announcement = Announcement {
            thread: &thread,
            exchange: &exchange,
            batch_id: obligation.id,
            begun_at: obligation.begun_at,
            hops: obligation.hops,
        };
        match announce(&app, &announcement, None, None, 0).await {
            // Sends only if the obligation is deleted. Otherwise the tick announces the batch
            // again, and the same deliveries would be sent twice.
            Ok(chunks) if obligation.end(&app).await => {
                attempt_all(&app, chunks).await;
            }
            Ok(_) => {}
            Err(error) => warn("a batch is left to the tick to announce", &error),
        }
    };
    (Ok(state), Box::pin(rest))
}

/// The writes that one committed batch of a thread requires.
#[derive(Debug)]
pub struct Settlement {
    batch_id: Uuid,
    thread_key: String,
    /// The thread as the batch left it.
    state: ThreadState,
    log_key: String,
    log: String,
    entries: [String; 2],
    summary: String,
    /// Entries of the previous version in lists that the thread has left.
    left: Vec<String>,
    /// Entries of the previous version in lists that have a newer entry of the thread.
    outdated: Vec<String>,
    /// The moment of the timer to set, if the batch owes one.
    timer: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl Settlement {
    /// The writes that `batch_id` requires, if `thread` contains that batch.
    ///
    /// # Errors
    ///
    /// Fails if the events cannot be written as JSON.
    pub fn of(
        exchange: &ExchangeId,
        thread: &Thread,
        batch_id: Uuid,
    ) -> Result<Option<Self>, StoreError> {
        let Some(batch) = thread.committed(batch_id) else {
            return Ok(None);
        };
        let reference = &thread.state.reference;
        let thread_key = layout::thread(exchange, reference);
        let unwritable = |error| StoreError::new("write", &thread_key, &error);
        let mut log = String::new();
        for event in batch.events {
            log.push_str(&log_line(exchange, Some(reference), event).map_err(unwritable)?);
            log.push('\n');
        }
        let (mut left, mut outdated) = (Vec::new(), Vec::new());
        if let Some(before) = &batch.before {
            let [all, by_status] = entries(exchange, before);
            outdated.push(all);
            if before.status == batch.after.status {
                outdated.push(by_status);
            } else {
                left.push(by_status);
            }
        }
        Ok(Some(Self {
            log_key: layout::event_batch(exchange, batch.after.updated_at, batch_id),
            log,
            entries: entries(exchange, &batch.after),
            summary: batch.after.entry().map_err(unwritable)?,
            left,
            outdated,
            timer: owed_timer(batch.before.as_ref(), &batch.after),
            batch_id,
            thread_key,
            state: batch.after,
        }))
    }

    /// Before the answer and all at once: writes the log object and the new index entries, and
    /// removes the thread from the list of its old status. Returns false if something failed and is
    /// left to the tick.
    pub async fn publish(&self, store: &dyn ObjectStore) -> bool {
        let log = self.publish_log(store);
        let entries = join_all(
            self.entries
                .iter()
                .map(|key| put_entry(store, key, &self.summary)),
        );
        let left = delete_all(store, &self.left);
        let (log, (entries, left)) = join(log, join(entries, left)).await;
        log && left && entries.into_iter().all(|done| done)
    }

    /// Writes the log object only.
    pub async fn publish_log(&self, store: &dyn ObjectStore) -> bool {
        write_log(store, &self.log_key, &self.log).await
    }

    /// After the answer: removes the entries of the previous version. If the thread has changed
    /// again in the meantime, also removes the entries of this version. Returns false if something
    /// is left to the tick.
    pub async fn tidy(&self, store: &dyn ObjectStore) -> bool {
        let overtaken = match self.is_overtaken(store).await {
            Ok(overtaken) => overtaken,
            Err(error) => {
                warn("a thread could not be read again", &error);
                return false;
            }
        };
        let outdated = delete_all(store, &self.outdated);
        let taken_back = async { !overtaken || delete_all(store, &self.entries).await };
        let (outdated, taken_back) = join(outdated, taken_back).await;
        outdated && taken_back
    }

    /// After the answer: sets the timer that the batch owes, if it owes one.
    ///
    /// # Errors
    ///
    /// Fails with the store's error.
    pub async fn set_timer(&self, app: &App, exchange: &ExchangeId) -> Result<(), StoreError> {
        let Some(moment) = self.timer else {
            return Ok(());
        };
        let (state, owner) = (&self.state, self.batch_id.to_string());
        let (reference, now) = (&state.reference, state.updated_at);
        timers::set(app, exchange, reference, moment, &owner, now).await
    }

    /// Publishes and tidies a batch whose writer did not finish. Returns false if something failed.
    /// If the thread has changed since the batch, its index entries are not written again.
    pub async fn repeat(&self, store: &dyn ObjectStore, current: &ThreadState) -> bool {
        if current.version == self.state.version {
            return self.publish(store).await && self.tidy(store).await;
        }
        let log = self.publish_log(store);
        let left = delete_all(store, &self.left);
        let (log, left) = join(log, left).await;
        log && left && self.tidy(store).await
    }

    async fn is_overtaken(&self, store: &dyn ObjectStore) -> Result<bool, StoreError> {
        let key = &self.thread_key;
        let Some(object) = store.get(key).await? else {
            return Ok(false);
        };
        let now: Version =
            from_bytes(&object.body).map_err(|error| StoreError::new("parse", key, &error))?;
        Ok(now.version > self.state.version)
    }
}
