//! What the tick needs to look at an obligation, and the result of a look.

use std::rc::Rc;

use crate::app::App;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::deliveries::chunk::Kept;
use crate::service::due::obligations::Next;
use crate::storage::{StoreError, layout};

/// A tick that is running.
pub struct Tick<'a> {
    /// What services need.
    pub app: &'a Rc<App>,
    /// The moment at which the tick started, as given by its caller.
    pub started_at: Timestamp,
}

impl Tick<'_> {
    /// The current moment: the moment of the start plus the time that has passed since then.
    pub fn now(&self) -> Timestamp {
        self.started_at.plus_millis(self.app.outbound.age())
    }
}

/// The result of a look at an obligation.
pub struct Seen {
    /// What becomes of the obligation.
    pub next: Next,
    /// The deliveries that this look announced. This tick holds them.
    pub announced: Vec<Kept>,
}

impl From<Next> for Seen {
    fn from(next: Next) -> Self {
        Self {
            next,
            announced: Vec::new(),
        }
    }
}

/// The store's error, or any other error as one of the store, so that the obligation is put off.
pub fn put_off(error: ServiceError) -> StoreError {
    match error {
        ServiceError::Store(error) => error,
        error => StoreError::new("apply", layout::DUE, &format!("{error:?}")),
    }
}

/// Fails if a step did not succeed, so that the obligation is put off. The step has logged the
/// reason.
///
/// # Errors
///
/// Fails if `done` is false.
pub fn require(done: bool) -> Result<(), StoreError> {
    if done {
        Ok(())
    } else {
        Err(StoreError::new("apply", layout::DUE, &"a step failed"))
    }
}
