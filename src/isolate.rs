//! What an isolate remembers from one request to the next.
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::config::Config;
use crate::delivery::tokens::Tokens;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::KeyHash;
use crate::domain::time::Timestamp;
use crate::runtime::gate::Gate;
use crate::storage::disk;
use crate::storage::rows::SummaryCache;

thread_local! {
    /// The memory of this isolate, which runs on one thread.
    static ISOLATE: Rc<Isolate> = Rc::default();
}

/// What an isolate remembers. All of it can be lost at any time.
#[derive(Default)]
pub struct Isolate {
    /// The settings.
    pub config: RefCell<Option<Rc<Config>>>,
    /// Keys that were found in the bucket.
    pub keys: RefCell<HashMap<KeyHash, KnownKey>>,
    /// What is known about the directory, if the bucket is one.
    pub disk: Rc<disk::Memory>,
    /// Summaries that the backend does not list.
    pub summaries: SummaryCache,
    /// What executors want to be notified of, where the backend does not list it.
    pub wants: SummaryCache,
    /// Exchanges that are complete, so that nothing is left to import.
    pub imported: RefCell<HashSet<ExchangeId>>,
    /// Exchanges that this isolate is importing, each with the moment when that work counts as
    /// lost.
    pub importing: RefCell<HashMap<ExchangeId, Timestamp>>,
    /// Texts of executors' records, by key and tag.
    pub records: SummaryCache,
    /// Keys of threads whose documents are long.
    pub long: RefCell<HashSet<String>>,
    /// The calls that do work which keeps the processor busy.
    pub busy: Gate,
    /// Whether a newer version has written to the bucket, so that this version must not.
    pub is_outdated: Cell<bool>,
    /// Bytes of bodies that calls are receiving.
    pub body_bytes: Cell<usize>,
    /// Access tokens of providers.
    pub tokens: Tokens,
    /// Executors and days for which the deletion of old attempts has been arranged.
    pub swept: RefCell<HashSet<String>>,
}

impl Isolate {
    /// Returns the memory of the isolate that this runs in.
    pub fn of_this_thread() -> Rc<Self> {
        ISOLATE.with(Rc::clone)
    }
}

/// A key that was found in the bucket.
#[derive(Clone)]
pub struct KnownKey {
    /// The executor that the key belongs to.
    pub executor: ExecutorId,
    /// Until when the isolate trusts this without looking again.
    pub until: Timestamp,
}
