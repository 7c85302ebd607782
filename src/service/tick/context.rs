//! What looking at an obligation needs, and what comes of it.

use std::rc::Rc;

use crate::app::App;
use crate::domain::time::Timestamp;
use crate::service::deliveries::chunk::Kept;
use crate::service::due::obligations::Next;
use crate::storage::{StoreError, layout};

/// A tick at work.
pub struct Tick<'a> {
    /// What services need.
    pub app: &'a Rc<App>,
    /// The moment that it was given as now.
    pub started_at: Timestamp,
}

impl Tick<'_> {
    /// The moment, by the clock that the tick was given.
    pub fn now(&self) -> Timestamp {
        self.started_at.plus_millis(self.app.outbound.age())
    }
}

/// What came of a look at an obligation.
pub struct Seen {
    /// What becomes of the obligation.
    pub next: Next,
    /// The deliveries that were announced meanwhile, put under this tick's hold.
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

/// Fails for a step that did not succeed and has said so in the log: the obligation is put off.
///
/// # Errors
///
/// The step was not done.
pub fn require(done: bool) -> Result<(), StoreError> {
    if done {
        Ok(())
    } else {
        Err(StoreError::new("apply", layout::DUE, &"a step failed"))
    }
}
