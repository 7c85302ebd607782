//! What the exchange does: it loads, decides, saves, and sees to what a commit still owes.

pub mod deliveries;
pub mod due;
pub mod import;
pub mod keys;
pub mod members;
pub mod records;
pub mod requests;
pub mod start;
pub mod tick;

#[cfg(test)]
mod tests;

use crate::app::App;
use crate::domain::ids::ExchangeId;
use crate::domain::limits::{THREAD_BYTES, THREAD_VALUES};
use crate::domain::member::access::{AccessRefusal, Useless};
use crate::domain::quota::Exceeded;
use crate::domain::text::Invalid;
use crate::domain::thread::document::Thread;
use crate::domain::thread::state::Version;
use crate::domain::thread::transition::Refusal;
use crate::runtime::background::Dropped;
use crate::runtime::gate::Pass;
use crate::storage::cas::Failure;
use crate::storage::{StoreError, encode};

/// A mutation may start a put for this many milliseconds after it wrote its obligation.
///
/// The tick looks at the obligation only long after this window has closed.
pub const WRITE_WINDOW: i64 = 30_000;

/// Why a service did not do what it was asked.
#[derive(Debug)]
pub enum ServiceError {
    /// There is no such thread.
    NoThread,
    /// There is no such executor.
    NoExecutor,
    /// There is no such exchange.
    NoExchange,
    /// The rules of access forbid it.
    Access(AccessRefusal),
    /// Somebody has taken too much of something.
    Exceeded(Exceeded),
    /// The thread or executor may be in the bucket of another server, which is still being
    /// imported.
    Importing,
    /// The rules of the thread forbid it.
    Refused(Refusal),
    /// The client's condition names another version.
    VersionDiffers {
        /// The current version of the thread.
        version: Version,
    },
    /// The client's condition names another version of the profile.
    ProfileDiffers,
    /// The document would exceed its limit.
    TooLarge {
        /// What would be too large.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// What the limit counts.
        unit: &'static str,
    },
    /// What the client gave is not valid.
    Invalid(Invalid),
    /// The executor id is taken.
    AlreadyRegistered,
    /// Too many others are doing work that takes long. The client should try again.
    Busy,
    /// Too many others are writing the same object. The client should try again.
    Contended,
    /// The store failed, or holds something that cannot be read.
    Store(StoreError),
    /// The runtime dropped the work.
    Dropped(Dropped),
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<AccessRefusal> for ServiceError {
    fn from(refusal: AccessRefusal) -> Self {
        Self::Access(refusal)
    }
}

impl From<Useless> for ServiceError {
    fn from(useless: Useless) -> Self {
        Self::Access(AccessRefusal::Invitation(useless))
    }
}

impl From<Dropped> for ServiceError {
    fn from(error: Dropped) -> Self {
        Self::Dropped(error)
    }
}

impl From<Failure<Self>> for ServiceError {
    fn from(failure: Failure<Self>) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Contended => Self::Contended,
            Failure::Store(error) => Self::Store(error),
        }
    }
}

/// How many calls of an exchange read many rows at once in an isolate. More would not be faster: they
/// share one processor with everybody else.
const ROW_READERS: usize = 4;

/// Waits for its turn to read many rows of an exchange. The work may begin when this returns, and
/// others may begin theirs when the result is dropped.
///
/// # Errors
///
/// Fails if the turn does not come.
pub async fn turn_to_read_rows<'a>(
    app: &'a App,
    exchange: &ExchangeId,
) -> Result<Pass<'a>, ServiceError> {
    let gate = &app.isolate.busy;
    let pass = gate.enter(app.clock.as_ref(), exchange.as_str(), ROW_READERS);
    pass.await.ok_or(ServiceError::Busy)
}

/// Writes a document as JSON. Fails if it is larger than `limit` bytes.
pub fn to_json<D: serde::Serialize>(
    document: &D,
    what: &'static str,
    limit: usize,
) -> Result<Vec<u8>, ServiceError> {
    let body = encode(what, document)?;
    if body.len() > limit {
        return Err(ServiceError::TooLarge {
            what,
            limit,
            unit: "bytes",
        });
    }
    Ok(body)
}

/// Writes a thread document as JSON. Fails if it exceeds the limits of a thread.
pub fn thread_to_json(thread: &Thread) -> Result<Vec<u8>, ServiceError> {
    if thread.values() > THREAD_VALUES {
        return Err(ServiceError::TooLarge {
            what: "the thread",
            limit: THREAD_VALUES,
            unit: "JSON values",
        });
    }
    to_json(thread, "the thread", THREAD_BYTES)
}
