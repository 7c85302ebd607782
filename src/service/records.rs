//! Executors' records. Services read a record here, unseal its credentials, and make its summary
//! for lists.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::ServiceError;
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::json::from_bytes;
use crate::domain::member::executor::{Executor, WANTS};
use crate::domain::member::forms::Form;
use crate::domain::member::sealed::{Seal, SealError};
use crate::runtime::log::{describe, warn};
use crate::storage::cas::load;
use crate::storage::{StoreError, Tag, layout};

/// How many executors' records are kept for the rest of a request or tick.
const EXECUTORS_KEPT: usize = 50;
/// The longest summary that is remembered whole for announcements.
const WANTS_BYTES: usize = 2_000;

/// The executor that a record belongs to.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    /// The exchange.
    pub exchange: &'a ExchangeId,
    /// The executor.
    pub executor: &'a ExecutorId,
}

impl Owner<'_> {
    /// The key of the record.
    pub fn key(&self) -> String {
        layout::executor(self.exchange, self.executor)
    }

    /// The owner's name, to which the credentials in the record are sealed.
    pub fn sealed_for(&self) -> String {
        format!("{}/{}", self.exchange, self.executor)
    }
}

/// Reads an executor's record and names its entries. Returns `None` if there is no record, or if it
/// cannot be read.
///
/// A request or tick reads each record only once, as long as there are few of them. It reads
/// nothing at all if this isolate remembers the record at `tag`.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn read(
    app: &App,
    owner: Owner<'_>,
    tag: Option<&Tag>,
) -> Result<Option<Rc<Executor>>, StoreError> {
    let known = (owner.exchange.clone(), owner.executor.clone());
    if let Some(executor) = app.executors.borrow().get(&known) {
        return Ok(Some(executor.clone()));
    }
    let key = owner.key();
    let records = &app.isolate.records;
    let kept = tag.and_then(|tag| records.find(&key, tag));
    let text = if let Some(text) = kept {
        text
    } else {
        let Some(object) = app.store.get(&key).await? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&object.body).into_owned();
        records.keep(&key, object.tag, &text);
        text
    };
    let mut executor: Executor = match serde_json::from_str(&text) {
        Ok(executor) => executor,
        // One unreadable record must not keep news from everyone else.
        Err(error) => {
            warn(&format!("{key} cannot be read"), &describe(&error));
            return Ok(None);
        }
    };
    executor.name_entries();
    let executor = Rc::new(executor);
    let mut read = app.executors.borrow_mut();
    if read.len() < EXECUTORS_KEPT {
        read.insert(known, executor.clone());
    }
    Ok(Some(executor))
}

/// Reads an executor's record as it is in the bucket now, and names its entries.
///
/// # Errors
///
/// Fails if there is no record, or with the store's error.
pub async fn read_own(app: &App, owner: Owner<'_>) -> Result<Executor, ServiceError> {
    let loaded = load::<Executor>(app.store.as_ref(), &owner.key()).await?;
    let mut executor = loaded.ok_or(ServiceError::NoExecutor)?.document;
    executor.name_entries();
    Ok(executor)
}

/// The configuration of a channel or hook with its credentials unsealed.
///
/// # Errors
///
/// Fails if one of the credentials cannot be unsealed.
pub fn unseal(
    app: &App,
    owner: Owner<'_>,
    form: &Form,
    config: &Map<String, Value>,
) -> Result<Map<String, Value>, SealError> {
    let seal = Seal {
        keys: &app.config.secrets,
        owner: &owner.sealed_for(),
    };
    let mut config = config.clone();
    seal.unseal(&mut config, form)?;
    Ok(config)
}

/// What an announcement must know of a record. Long capabilities are left out, so that an isolate
/// remembers this of every executor, however much they all can do.
pub fn summarize_wants(body: &[u8]) -> Option<String> {
    let executor = from_bytes::<Executor>(body).ok()?;
    let summary = executor.summary();
    if summary.len() <= WANTS_BYTES {
        return Some(summary);
    }
    Some(json!({ WANTS: executor.wants(), "role": executor.access.role }).to_string())
}

/// The summary of a record that lists show.
pub fn summarize(body: &[u8]) -> Option<String> {
    from_bytes::<Executor>(body)
        .map_err(|error| warn("an executor's record cannot be read", &describe(&error)))
        .ok()
        .map(|executor| executor.summary())
}
