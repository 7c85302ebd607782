//! Reads one thread.

use crate::app::App;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::thread::document::Thread;
use crate::domain::thread::glance::Glance;
use crate::runtime::gate::Pass;
use crate::runtime::log::describe;
use crate::service::ServiceError;
use crate::storage::cas::{Loaded, load};
use crate::storage::{StoreError, layout};

/// The name under which calls read long documents, in the gate of the isolate. One after the other:
/// they would only take turns on the one processor, and hold all documents in memory meanwhile.
pub const LONG: &str = "long documents";
/// A document of more bytes is long.
const LONG_BYTES: usize = 256 * 1024;
/// How many long documents an isolate remembers to be long.
const REMEMBERED: usize = 1_000;

/// Reads a thread, together with the tag that a swap needs.
///
/// # Errors
///
/// Fails if there is no such thread, or with the store's error.
pub async fn get(
    app: &App,
    exchange: &ExchangeId,
    reference: &Ref,
) -> Result<Loaded<Thread>, ServiceError> {
    let key = layout::thread(exchange, reference);
    let loaded = load(app.store.as_ref(), &key).await?;
    loaded.ok_or(ServiceError::NoThread)
}

/// The document of a thread as it is in the bucket.
pub struct Document<'a> {
    key: String,
    body: Vec<u8>,
    _turn: Option<Pass<'a>>,
}

/// Reads the document of a thread to show it. If it is long, this call is the only one in this
/// isolate that has one, until it drops the result.
///
/// # Errors
///
/// Fails if there is no such thread, with the store's error, or if the turn of this call does not
/// come.
pub async fn document<'a>(
    app: &'a App,
    exchange: &ExchangeId,
    reference: &Ref,
) -> Result<Document<'a>, ServiceError> {
    let key = layout::thread(exchange, reference);
    let store = app.store.as_ref();
    let mut turn = turn_if_long(app, &key).await?;
    let mut body = store.read(&key).await?.ok_or(ServiceError::NoThread)?;
    if note_length(app, &key, body.len()) {
        if turn.is_none() {
            turn = app.isolate.busy.try_enter(app.clock.as_ref(), LONG, 1);
        }
        if turn.is_none() {
            // Does not keep it while it waits, as many others may be waiting.
            drop(body);
            turn = turn_if_long(app, &key).await?;
            body = store.read(&key).await?.ok_or(ServiceError::NoThread)?;
        }
        // The next one has its turn after others had theirs.
        store.give_way().await;
    }
    Ok(Document {
        key,
        body,
        _turn: turn,
    })
}

/// If the isolate knows that the document under `key` is long, waits until no other call has a long
/// one.
///
/// # Errors
///
/// Fails if the turn of this call does not come.
pub async fn turn_if_long<'a>(app: &'a App, key: &str) -> Result<Option<Pass<'a>>, ServiceError> {
    if !app.isolate.long.borrow().contains(key) {
        return Ok(None);
    }
    let turn = app.isolate.busy.enter(app.clock.as_ref(), LONG, 1);
    turn.await.map(Some).ok_or(ServiceError::Busy)
}

/// Whether a document of so many bytes is long. Remembers those that are.
pub fn note_length(app: &App, key: &str, bytes: usize) -> bool {
    let is_long = bytes > LONG_BYTES;
    if is_long {
        let mut long = app.isolate.long.borrow_mut();
        if long.len() >= REMEMBERED {
            long.clear();
        }
        long.insert(key.to_owned());
    }
    is_long
}

impl Document<'_> {
    /// The thread at a glance.
    ///
    /// # Errors
    ///
    /// Fails if the document is none of a thread.
    pub fn glance(&self) -> Result<Glance<'_>, ServiceError> {
        Glance::of(&self.body).map_err(|error| self.unreadable(&error))
    }

    /// The error of a document that cannot be read.
    pub fn unreadable(&self, error: &serde_json::Error) -> ServiceError {
        StoreError::new("parse", &self.key, &describe(error)).into()
    }
}
