//! The one compare-and-swap loop: it reads, decides, writes if nothing has changed, and otherwise
//! starts again.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{Condition, ObjectStore, Put, StoreError, Tag};
use crate::domain::json::from_bytes;
use crate::domain::time::Timestamp;
use crate::runtime::clock::Clock;
use crate::runtime::log::describe;

/// How many puts are tried before the caller is told to try again later.
const TRIES: u32 = 8;
/// The longest wait before the second reload. It doubles with each reload, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(40);
const LONGEST_WAIT: Duration = Duration::from_millis(1_500);

/// A document as it was read, with the tag that a swap needs.
#[derive(Clone, Debug)]
pub struct Loaded<D> {
    /// The document.
    pub document: D,
    /// The tag of the bytes that it was read from.
    pub tag: Tag,
}

/// What a decision wants to do.
pub enum Decision<T> {
    /// Write these bytes with this summary. `T` is the result once they are stored.
    Put(Vec<u8>, Option<String>, T),
    /// Nothing needs to be written.
    Keep(T),
}

/// Why a swap was not made.
#[derive(Debug)]
pub enum Failure<E> {
    /// The decision refused the swap.
    Refused(E),
    /// Too many others are writing the object, or the deadline has passed.
    Contended,
    /// The store failed, and it is unknown what it did.
    Store(StoreError),
}

/// The outcome of a swap.
pub struct Swapped<T, E> {
    /// What the swap returns.
    pub result: Result<T, Failure<E>>,
    /// Whether every put that was sent got a definite answer.
    pub definite: bool,
}

/// The object to swap, and the deadline for its puts.
pub struct Target<'a> {
    /// The bucket.
    pub store: &'a dyn ObjectStore,
    /// The clock.
    pub clock: &'a dyn Clock,
    /// The object's key.
    pub key: &'a str,
    /// No put starts after this moment.
    pub deadline: Timestamp,
}

/// Reads the document under `key`.
///
/// # Errors
///
/// Fails with the store's error, or if the object is not such a document.
pub async fn load<D: DeserializeOwned>(
    store: &dyn ObjectStore,
    key: &str,
) -> Result<Option<Loaded<D>>, StoreError> {
    let Some(object) = store.get(key).await? else {
        return Ok(None);
    };
    match from_bytes(&object.body) {
        Ok(document) => Ok(Some(Loaded {
            document,
            tag: object.tag,
        })),
        Err(error) => Err(StoreError::new("parse", key, &describe(&error))),
    }
}

/// Swaps the document under `target.key`, starting from `current` as the caller read it.
///
/// 1. Let `decide` decide on the current document.
/// 2. Put the result under the condition that nothing has changed.
/// 3. If the put did not definitely succeed, **reload first**. If `ours` finds this mutation in the
///    stored document, an unclear put has won. Otherwise decide again.
///
/// The two functions are passed by reference, so that this is compiled once for each kind of document
/// and not for each caller.
pub async fn swap<D: DeserializeOwned, T, E>(
    target: Target<'_>,
    mut current: Option<Loaded<D>>,
    ours: &dyn Fn(&D) -> Option<T>,
    decide: &mut dyn FnMut(Option<D>) -> Result<Decision<T>, E>,
) -> Swapped<T, E> {
    let Target {
        store,
        clock,
        key,
        deadline,
    } = target;
    let mut definite = true;
    let mut lost = None;
    let mut wait = FIRST_WAIT;
    for attempt in 0..TRIES {
        // 1.
        let (document, tag) = match current.take() {
            Some(loaded) => (Some(loaded.document), Some(loaded.tag)),
            None => (None, None),
        };
        let (body, summary, outcome) = match decide(document) {
            Ok(Decision::Put(body, summary, outcome)) => (body, summary, outcome),
            Ok(Decision::Keep(outcome)) => return Swapped::new(Ok(outcome), definite),
            Err(refusal) => return Swapped::new(Err(Failure::Refused(refusal)), definite),
        };
        // 2.
        if clock.now() > deadline {
            break;
        }
        let condition = tag.as_ref().map_or(Condition::Absent, Condition::Matches);
        match store.put(key, body, summary.as_deref(), condition).await {
            Ok(Put::Stored(_)) => return Swapped::new(Ok(outcome), definite),
            Ok(Put::ConditionFailed) => lost = None,
            Err(error) => {
                definite = false;
                lost = Some(error);
            }
        }
        // 3. The first conflict is looked at without a wait, because it usually ends in a refusal.
        if attempt > 0 || !definite {
            clock.jitter(wait).await;
            wait = wait.saturating_mul(2).min(LONGEST_WAIT);
        }
        current = match reload(store, clock, key).await {
            Ok(current) => current,
            Err(error) => return Swapped::new(Err(Failure::Store(error)), definite),
        };
        if let Some(won) = current.as_ref().and_then(|loaded| ours(&loaded.document)) {
            return Swapped::new(Ok(won), definite);
        }
        // The object has changed since the unclear put, so that put's condition can never hold
        // again.
        if current.as_ref().map(|loaded| &loaded.tag) != tag.as_ref() {
            definite = true;
        }
    }
    let failure = lost.map_or(Failure::Contended, Failure::Store);
    Swapped::new(Err(failure), definite)
}

/// Reads again. If the read fails, tries once more, because nothing can be decided without it.
async fn reload<D: DeserializeOwned>(
    store: &dyn ObjectStore,
    clock: &dyn Clock,
    key: &str,
) -> Result<Option<Loaded<D>>, StoreError> {
    if let Ok(current) = load(store, key).await {
        return Ok(current);
    }
    clock.jitter(LONGEST_WAIT).await;
    load(store, key).await
}

impl<T, E> Swapped<T, E> {
    fn new(result: Result<T, Failure<E>>, definite: bool) -> Self {
        Self { result, definite }
    }
}
