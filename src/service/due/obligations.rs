//! Obligations: what a mutation owes, written to `due/` before it begins.
//!
//! Whatever dies on the way, the tick finds the obligation when it is due and completes or
//! discards the mutation. There is no other mechanism for recovery.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::app::App;
use crate::delivery::plan::Chunk;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::key::KeyHash;
use crate::domain::thread::event::Event;
use crate::domain::time::Timestamp;
use crate::runtime::background::Rest;
use crate::storage::{Condition, Put, StoreError, encode, layout};

/// Milliseconds until the tick first looks at an obligation: its writer's own time.
pub const WRITERS_TIME: i64 = 60_000;

/// The age in milliseconds at which an obligation is given its last look.
///
/// A put that a store reported as failed, or that a stopped runtime had sent, may still land;
/// none does after an hour.
pub const LAST_LOOK: i64 = 3_600_000;

/// What lies under a `due/` key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Obligation {
    /// The batch of the mutation, or another unique id.
    pub id: Uuid,
    /// When it was written.
    #[serde(rename = "opened_at")]
    pub begun_at: Timestamp,
    /// What it is about.
    #[serde(flatten)]
    pub subject: Subject,
    /// How often looking at it failed.
    #[serde(default)]
    pub failures: u32,
    /// Which tick works on it.
    #[serde(default, rename = "claim", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// What an obligation is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// A batch of a thread.
    Thread {
        /// The thread's exchange.
        exchange_id: ExchangeId,
        /// The thread.
        #[serde(rename = "ref")]
        reference: Ref,
        /// Whether the deliveries that it owes are obligations of their own by now.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        announced: bool,
    },
    /// Executors who are still to be looked at for what a batch owes them.
    Announcement {
        /// The batch.
        batch_id: Uuid,
        /// The thread's exchange.
        exchange_id: ExchangeId,
        /// The thread.
        #[serde(rename = "ref")]
        reference: Ref,
        /// The key of the last one that was looked at.
        after: String,
    },
    /// Deliveries that a batch owes.
    Deliveries(Chunk),
    /// Old attempts of an executor that are to be deleted.
    Sweep {
        /// The executor's exchange.
        exchange_id: ExchangeId,
        /// The executor.
        executor_id: ExecutorId,
    },
    /// A moment at which something may happen to a thread by itself.
    Timer {
        /// The thread's exchange.
        exchange_id: ExchangeId,
        /// The thread.
        #[serde(rename = "ref")]
        reference: Ref,
    },
    /// The registration of an executor.
    Registration {
        /// The executor's exchange.
        exchange_id: ExchangeId,
        /// The executor.
        executor_id: ExecutorId,
        /// The key that it is to get.
        key_hash: KeyHash,
        /// The event that it owes.
        event: Box<Event>,
    },
    /// A bucket of another server that is being imported.
    #[serde(rename = "derivation")]
    Import {
        /// The exchange.
        exchange_id: ExchangeId,
    },
}

/// What is to become of an obligation after a look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Everything is met or undone: delete it.
    Done,
    /// Look again at this moment.
    Again(Timestamp),
}

/// A tick at work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// Until when others leave the obligation alone.
    pub until: Timestamp,
    /// Tells this tick's claim from another's.
    pub nonce: Uuid,
}

impl Obligation {
    /// A new obligation under a fresh id.
    pub fn new(app: &App, subject: Subject) -> Self {
        Self::of(app.clock.new_id(), app.clock.now(), subject)
    }

    /// A new obligation.
    pub fn of(id: Uuid, begun_at: Timestamp, subject: Subject) -> Self {
        Self {
            id,
            begun_at,
            subject,
            failures: 0,
            hold: None,
        }
    }

    /// The key under which its writer puts it.
    pub fn first_key(&self) -> String {
        self.key_at(self.begun_at.plus_millis(WRITERS_TIME))
    }

    /// The key under which it is due at `at`.
    pub fn key_at(&self, at: Timestamp) -> String {
        match &self.subject {
            Subject::Deliveries(chunk) => layout::due_delivery(at, &chunk.exchange_id, self.id),
            _ => layout::due(at, self.id),
        }
    }

    /// The last moment at which its writer may start a put.
    pub fn write_deadline(&self) -> Timestamp {
        self.begun_at.plus_millis(crate::service::WRITE_WINDOW)
    }

    /// Its JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, StoreError> {
        encode(layout::DUE, self)
    }

    /// Writes it, before anything it is about is written.
    ///
    /// # Errors
    ///
    /// The store's; then the mutation must not begin.
    pub async fn begin(&self, app: &App) -> Result<(), StoreError> {
        let key = self.first_key();
        app.store
            .put(&key, self.to_json()?, None, Condition::Absent)
            .await?;
        Ok(())
    }

    /// Puts it under `key` unless it is there; says whether it was not.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn put_new(&self, app: &App, key: &str) -> Result<bool, StoreError> {
        let body = self.to_json()?;
        let put = app.store.put(key, body, None, Condition::Absent).await?;
        Ok(put != Put::ConditionFailed)
    }

    /// Deletes it, after all it is about is met or undone. A failure is left to the tick, and
    /// so is everything once the writer's time is over: the tick may be at work on it. Says whether
    /// it is closed.
    pub async fn end(&self, app: &App) -> bool {
        if app.clock.now().since(self.begun_at) >= WRITERS_TIME {
            return false;
        }
        let deleted = app.store.delete(&self.first_key()).await;
        if let Err(error) = &deleted {
            crate::runtime::log::warn("an obligation that is met could not be deleted", error);
        }
        deleted.is_ok()
    }

    /// Deletes it from `key` when it is done, or else puts it, as it has become, under the key of
    /// its next moment, and then deletes the old one.
    ///
    /// # Errors
    ///
    /// The store's; then it is looked at again under the old key.
    pub async fn finish(mut self, app: &App, key: &str, next: Next) -> Result<(), StoreError> {
        if let Next::Again(at) = next {
            self.hold = None;
            let later = self.key_at(at);
            let body = self.to_json()?;
            app.store.put(&later, body, None, Condition::Always).await?;
            if later == key {
                return Ok(());
            }
        }
        app.store.delete(key).await
    }

    /// Closes it, as work for after the answer.
    pub fn end_after(self, app: &Rc<App>) -> Rest {
        let app = app.clone();
        Box::pin(async move {
            self.end(&app).await;
        })
    }
}
