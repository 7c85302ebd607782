//! What an isolate remembers from one request to the next.
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::config::Config;
use crate::delivery::tokens::Tokens;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::KeyHash;
use crate::domain::member::access::{AccessRefusal, MemberKey, Role};
use crate::domain::quota::Meter;
use crate::domain::thread::status::Priority;
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
    /// Exchanges whose founder has registered.
    pub founded: RefCell<HashSet<ExchangeId>>,
    /// The time zones of exchanges.
    pub zones: RefCell<HashMap<ExchangeId, Kept<Option<String>>>>,
    /// Exchanges that had no room for one more member, each with the moment when to look again.
    pub full: RefCell<HashMap<ExchangeId, Timestamp>>,
    /// How much callers have taken.
    pub meter: RefCell<Meter>,
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
    /// Those of them that come from callers without a key.
    pub strangers_bytes: Cell<usize>,
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

/// Something that the isolate trusts for a while without looking again.
#[derive(Clone)]
pub struct Kept<T> {
    /// What was found.
    pub value: T,
    /// Until when.
    pub until: Timestamp,
}

/// A key that was found in the bucket.
#[derive(Clone)]
pub struct KnownKey {
    /// The exchange of its owner.
    pub exchange: ExchangeId,
    /// Whose key it is. This never changes.
    pub executor: ExecutorId,
    /// What it is good for, or why it is good for nothing.
    pub grant: Kept<Result<Rc<Grant>, AccessRefusal>>,
}

/// What a key is good for, with what its owner may do.
#[derive(Debug, PartialEq)]
pub struct Grant {
    /// The key.
    pub key: MemberKey,
    /// The role of its owner, unless it owns the exchange.
    pub role: Role,
    /// The highest priority that its owner's requests may have, if there is a limit.
    pub max_priority: Option<Priority>,
}

impl Isolate {
    /// Looks again at the keys of a member at their next use.
    pub fn doubt(&self, exchange: &ExchangeId, executor: &ExecutorId) {
        for known in self.keys.borrow_mut().values_mut() {
            if known.executor == *executor && known.exchange == *exchange {
                known.grant.until = Timestamp::default();
            }
        }
    }
}
