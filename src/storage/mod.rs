//! The bucket: what the exchange requires of it, and the backends that provide it.
//!
//! [`ObjectStore`] is the contract. `conformance` contains one function for each of its clauses,
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
/// **Durability.** When `put` or `delete` returns `Ok`, the change survives even if the process
/// dies at that instant.
///
/// **Consistency.** A `get` or `list` that begins after a change was acknowledged shows the change.
///
/// **Conditions.** Of any number of concurrent `put`s of one key under [`Condition::Absent`], or
/// under [`Condition::Matches`] of one tag, at most one is stored. The others return
/// [`Put::ConditionFailed`] and change nothing. The check before the start refuses a bucket that
/// does not honour conditions.
///
/// **Errors.** After an `Err` from `put` or `delete`, it is unknown whether the change was made,
/// was not made, or will still be made. A caller reads before it decides anything.
///
/// **Order.** `list` returns keys in ascending order of their UTF-8 bytes, each at most once.
///
/// **Keys** have at most 1,024 bytes of `[A-Za-z0-9_.=/-]`. They have no empty, `.` or `..`
/// segments, and no key is a folder of another. They are compared byte by byte: `Home` is not
/// `home`.
///
/// **Bodies** have at least one byte. A backend may treat an empty object as absent, because a file
/// system can leave an empty file if the power fails during a write.
///
/// **Summaries.** `put` takes a short text next to the body, and `list` may return it. A backend
/// leaves the summary out if it cannot list it or if it is too long. The body contains everything
/// that is needed to make it again. A later `put` without a summary removes it.
#[async_trait(?Send)]
pub trait ObjectStore {
    /// The kind of bucket, as `/health` shows it.
    fn kind(&self) -> &'static str;

    /// How many operations it has been asked for so far. An invocation has a limited number.
    fn operations(&self) -> usize;

    /// Reads an object. Returns `None` if there is none.
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError>;

    /// Reads an object that the caller will not swap: its bytes alone.
    async fn read(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.get(key).await?.map(|object| object.body))
    }

    /// Writes an object under a condition.
    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        summary: Option<&str>,
        condition: Condition<'_>,
    ) -> Result<Put, StoreError>;

    /// Deletes an object. Succeeds if there is none.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Lists keys that begin with `query.prefix` and come after `query.after`.
    ///
    /// A page may have fewer rows than the limit. It has at least one row if `more` is set.
    async fn list(&self, query: List<'_>) -> Result<Page, StoreError>;

    /// Lets other calls go on, if operations of this bucket do not.
    async fn give_way(&self) {}
}

/// Counts the operations of a backend.
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

/// The tag of an object's content. Equal tags of one key mean equal content.
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

/// When a `put` may write.
#[derive(Clone, Copy, Debug)]
pub enum Condition<'a> {
    /// Only if there is no object under the key.
    Absent,
    /// Only if the object under the key has this tag.
    Matches(&'a Tag),
    /// Always.
    Always,
}

/// The definite outcome of a `put`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object is stored, and now has this tag.
    Stored(Tag),
    /// The object is not stored, because the condition did not hold.
    ConditionFailed,
}

/// What to list.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// The keys begin with this.
    pub prefix: &'a str,
    /// The keys come after this one.
    pub after: Option<&'a str>,
    /// The most rows to return, from 1 to 1,000.
    pub limit: usize,
    /// Whether to return summaries. A backend may then return shorter pages.
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
    /// Its rows, in ascending order of their keys.
    pub rows: Vec<Row>,
    /// Whether more keys follow the last row.
    pub more: bool,
}

/// A row of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: String,
    /// The tag, if the backend lists it.
    pub tag: Option<Tag>,
    /// The summary, if the backend lists it.
    pub summary: Option<String>,
}

/// Writes a document of the bucket as JSON. `key` is where the document will be stored.
///
/// # Errors
///
/// Fails if the document cannot be written as JSON.
pub fn encode<D: Serialize>(key: &str, document: &D) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(document).map_err(|error| StoreError::new("write", key, &describe(&error)))
}

/// The bucket did not do what it was asked, or it is unknown whether it did.
///
/// The text is for the log. It may name keys and is never shown to a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} {key}: {reason}")]
pub struct StoreError {
    /// The operation that failed.
    pub operation: &'static str,
    /// The key or prefix of the operation.
    pub key: String,
    /// What the backend said.
    pub reason: String,
}

impl StoreError {
    /// An error of an operation on `key`.
    pub fn new(operation: &'static str, key: &str, reason: &dyn std::fmt::Display) -> Self {
        Self {
            operation,
            key: key.to_owned(),
            reason: reason.to_string(),
        }
    }
}
