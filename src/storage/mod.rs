//! The bucket: what the exchange asks of it, and the backends that give it.
//!
//! [`ObjectStore`] is the contract; `conformance` holds one function for each of its clauses,
//! and every backend passes all of them.

pub mod cas;
pub mod disk;
mod folders;
pub mod format;
pub mod index;
pub mod layout;
pub mod probe;
pub mod r2;
pub mod rows;
pub mod s3;
pub mod sigv4;
pub mod wire;

#[cfg(any(test, feature = "tools"))]
pub mod conformance;
#[cfg(test)]
pub mod memory;
#[cfg(test)]
mod tests;

use std::cell::Cell;

use async_trait::async_trait;
use serde::Serialize;

use crate::runtime::log::describe;

/// A bucket of objects under string keys.
///
/// **Durability.** When `put` or `delete` answers `Ok`, the change survives the death of the
/// process at that instant.
///
/// **Consistency.** A `get` or `list` that begins after a change was acknowledged shows it.
///
/// **Conditions.** Of any number of concurrent `put`s of one key under [`Condition::Absent`],
/// or under [`Condition::Matches`] of one tag, at most one is stored; the others answer
/// [`Put::ConditionFailed`] and change nothing. A backend whose bucket does not honour
/// conditions refuses to start.
///
/// **Errors.** After an `Err` from `put` or `delete` it is unknown whether the change was made,
/// was not, or still will be. A caller reads before it decides anything.
///
/// **Order.** `list` gives keys in ascending order of their UTF-8 bytes, each at most once.
///
/// **Keys** are at most 1,024 bytes, of `[A-Za-z0-9_.=/-]`, without empty, `.` or `..`
/// segments, and none is a folder of another. They are compared byte by byte: `Home` is not
/// `home`.
///
/// **Bodies** hold at least one byte. A backend may take an empty one for none: that is what a
/// file system leaves of what was being written when the power failed.
///
/// **Summaries.** `put` takes, next to the body, a short text that `list` may give back. A
/// backend that cannot list it, or for which it is too long, leaves it out; the body then holds
/// all that is needed to make it again. A later `put` without a summary clears it.
#[async_trait(?Send)]
pub trait ObjectStore {
    /// What kind of bucket it is, as `/health` names it.
    fn kind(&self) -> &'static str;

    /// How many operations were asked of it so far: an invocation has a limited number.
    fn operations(&self) -> usize;

    /// Reads an object, `None` when there is none.
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError>;

    /// Writes an object, under a condition.
    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        summary: Option<&str>,
        condition: Condition<'_>,
    ) -> Result<Put, StoreError>;

    /// Deletes an object; one that is not there counts as deleted.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Lists keys that begin with `query.prefix` and come after `query.after`.
    ///
    /// A page may hold fewer rows than asked for; it holds at least one if `more` is set.
    async fn list(&self, query: List<'_>) -> Result<Page, StoreError>;
}

/// Counts the operations that were asked of a backend.
#[derive(Default)]
struct Operations(Cell<usize>);

impl Operations {
    fn count(&self) {
        self.0.set(self.0.get().saturating_add(1));
    }

    fn so_far(&self) -> usize {
        self.0.get()
    }
}

/// The version tag of an object's content: equal tags of one key mean equal content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(pub String);

/// An object that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its bytes.
    pub body: Vec<u8>,
    /// The tag of these bytes.
    pub tag: Tag,
}

/// When a `put` is to be made.
#[derive(Clone, Copy, Debug)]
pub enum Condition<'a> {
    /// Only if there is no object under the key.
    Absent,
    /// Only if the object under the key has this tag.
    Matches(&'a Tag),
    /// In any case.
    Always,
}

/// The definite outcome of a `put`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// Stored; the object now has this tag.
    Stored(Tag),
    /// Not stored, since the condition did not hold.
    ConditionFailed,
}

/// What to list.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// Only keys that begin with this.
    pub prefix: &'a str,
    /// Only keys that come after this one.
    pub after: Option<&'a str>,
    /// At most so many rows, 1 to 1,000.
    pub limit: usize,
    /// Whether summaries are wanted (a backend may then give shorter pages).
    pub summaries: bool,
}

impl<'a> List<'a> {
    /// Lists keys alone.
    pub fn keys(prefix: &'a str, after: Option<&'a str>, limit: usize) -> Self {
        Self {
            prefix,
            after,
            limit,
            summaries: false,
        }
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Page {
    /// Its rows, in ascending order of the key.
    pub rows: Vec<Row>,
    /// Whether more keys follow the last row.
    pub more: bool,
}

/// A row of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: String,
    /// The tag, where the backend lists it.
    pub tag: Option<Tag>,
    /// The summary, where the backend lists it.
    pub summary: Option<String>,
}

/// Writes a document of the bucket as JSON.
///
/// # Errors
///
/// It cannot be written as JSON; `key` tells where it was to go.
pub fn encode<D: Serialize>(key: &str, document: &D) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(document).map_err(|error| StoreError::new("write", key, &describe(&error)))
}

/// The bucket did not do what was asked, or it is unknown whether it did.
///
/// The text is for the log: it may name keys, and is never shown to a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} {key}: {reason}")]
pub struct StoreError {
    /// Which operation failed.
    pub operation: &'static str,
    /// On which key or prefix.
    pub key: String,
    /// What the backend said.
    pub reason: String,
}

impl StoreError {
    /// An operation on `key` that failed for `reason`.
    pub fn new(operation: &'static str, key: &str, reason: &dyn std::fmt::Display) -> Self {
        Self {
            operation,
            key: key.to_owned(),
            reason: reason.to_string(),
        }
    }
}
