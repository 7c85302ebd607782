//! Obligations: what a mutation owes, written to `due/` before the mutation begins.
//!
//! Whatever dies on the way, the tick finds the obligation once it is due, and completes or
//! discards the mutation. There is no other mechanism for recovery.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::app::App;
use crate::delivery::plan::Chunk;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::key::KeyHash;
use crate::domain::member::audit::AuditEntry;
use crate::domain::thread::event::Event;
use crate::domain::time::Timestamp;
use crate::runtime::background::Rest;
use crate::storage::{Condition, Put, StoreError, encode, layout};

/// Milliseconds until the tick first looks at an obligation. Until then, its writer has it to
/// itself.
pub const WRITERS_TIME: i64 = 60_000;

/// The age in milliseconds at which the tick looks at an obligation for the last time.
///
/// A put may still land after the store reported that it failed, or after the runtime that sent it
/// was stopped. After an hour, none does.
pub const LAST_LOOK: i64 = 3_600_000;

/// What is stored under a key in `due/`.
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
    /// How many looks at it have failed.
    #[serde(default)]
    pub failures: u32,
    /// How many deliveries led to the call that it began with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hops: u32,
    /// The tick that holds it, if one does.
    #[serde(default, rename = "claim", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(hops: &u32) -> bool {
    *hops == 0
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
        /// Whether its deliveries have become obligations of their own.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        announced: bool,
    },
    /// Executors that the announcement of a batch has not looked at yet.
    Announcement {
        /// The batch.
        batch_id: Uuid,
        /// The thread's exchange.
        exchange_id: ExchangeId,
        /// The thread.
        #[serde(rename = "ref")]
        reference: Ref,
        /// The key of the last executor that was looked at.
        after: String,
    },
    /// Deliveries that a batch owes to executors.
    Deliveries(Chunk),
    /// An executor's old attempts that must be deleted.
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
    /// The registration of an executor, or a key that an executor gets by an invitation.
    Registration(Registration),
    /// A change of what members may do.
    Amendment {
        /// The exchange.
        exchange_id: ExchangeId,
        /// The key of the document that is changed.
        object: String,
        /// The entry that the change must write in the audit.
        entry: Box<AuditEntry>,
    },
    /// The end of a membership.
    Removal(Removal),
    /// A bucket of another server that is being imported.
    #[serde(rename = "derivation")]
    Import {
        /// The exchange.
        exchange_id: ExchangeId,
    },
}

/// What a registration owes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// The executor's exchange.
    pub exchange_id: ExchangeId,
    /// The executor.
    pub executor_id: ExecutorId,
    /// The hash of the key that the executor gets.
    pub key_hash: KeyHash,
    /// The event that the registration must write. A key more has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<Event>>,
    /// The entry that it must write in the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Box<AuditEntry>>,
    /// The id of the invitation that it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<String>,
    /// Whether the executor becomes an owner.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub makes_owner: bool,
}

/// Who is removed, by whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    /// The exchange.
    pub exchange_id: ExchangeId,
    /// Who is removed.
    pub executor_id: ExecutorId,
    /// Whether its requests go on.
    pub keep_requests: bool,
    /// The entry that the removal must write in the audit. Its id is that of the mutation.
    pub entry: Box<AuditEntry>,
}

/// What becomes of an obligation after a look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Everything is done or undone, so the obligation is deleted.
    Done,
    /// The tick looks at it again at this moment.
    Again(Timestamp),
}

/// A tick's hold on an obligation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// The moment until which others leave the obligation alone.
    pub until: Timestamp,
    /// Distinguishes this hold from that of another tick.
    pub nonce: Uuid,
}

impl Obligation {
    /// A new obligation under a fresh id.
    pub fn new(app: &App, subject: Subject) -> Self {
        Self {
            hops: app.hops,
            ..Self::of(app.clock.new_id(), app.clock.now(), subject)
        }
    }

    /// A new obligation.
    pub fn of(id: Uuid, begun_at: Timestamp, subject: Subject) -> Self {
        Self {
            id,
            begun_at,
            subject,
            failures: 0,
            hops: 0,
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
            Subject::Removal(_) => layout::due_departure(at, self.id),
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

    /// Writes the obligation. This comes before anything that the obligation is about.
    ///
    /// # Errors
    ///
    /// Fails with the store's error. In that case the mutation must not begin.
    pub async fn begin(&self, app: &App) -> Result<(), StoreError> {
        let key = self.first_key();
        app.store
            .put(&key, self.to_json()?, None, Condition::Absent)
            .await?;
        Ok(())
    }

    /// Puts the obligation under `key` unless there is one already. Returns whether it was put.
    ///
    /// # Errors
    ///
    /// Fails with the store's error.
    pub async fn put_new(&self, app: &App, key: &str) -> Result<bool, StoreError> {
        let body = self.to_json()?;
        let put = app.store.put(key, body, None, Condition::Absent).await?;
        Ok(put != Put::ConditionFailed)
    }

    /// Deletes the obligation after everything that it is about is done or undone. Returns whether
    /// it is deleted.
    ///
    /// If the deletion fails, it is left to the tick. If the writer's time is over, nothing is
    /// deleted, because the tick may hold the obligation.
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

    /// If the obligation is done, deletes it from `key`. Otherwise puts it, as it is now, under the
    /// key of its next moment, and then deletes the old key.
    ///
    /// # Errors
    ///
    /// Fails with the store's error. In that case the tick looks at the old key again.
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

    /// Ends the obligation after the answer.
    pub fn end_after(self, app: &Rc<App>) -> Rest {
        let app = app.clone();
        Box::pin(async move {
            self.end(&app).await;
        })
    }
}
