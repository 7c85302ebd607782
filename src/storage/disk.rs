//! A directory, through workerd's disk service. Keys are paths.
//!
//! The service replaces files atomically, but has neither conditions nor tags. This file adds both.
//! That is sound as long as one isolate is the only writer: the start script holds a lock on the
//! directory, and workerd runs a Worker in one isolate on one thread. A tag is a hash of the
//! content.
//!
//! The service lists a folder only as a whole and unsorted. So each folder is listed once and then
//! remembered, see `folders.rs`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::folders::{Folder, Folders};
use super::sigv4::encode_path;
use super::wire::{Incoming, Outgoing, Wire};
use super::{Condition, List, Object, ObjectStore, Operations, Page, Put, Row, StoreError, Tag};
use crate::domain::json::from_bytes;
use crate::domain::key::to_hex;
use crate::domain::time::Timestamp;
use crate::runtime::clock::Clock;

/// The `Content-Type` that the service gives the list of a folder.
const FOLDER: &str = "application/json";
/// How long a writer waits before it checks again whether a key is free. It cannot wait for a
/// promise instead, because the runtime does not let one request wake another.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Milliseconds after which a writer stops waiting.
const WAIT: i64 = 8_000;
/// Milliseconds after which a writer counts as dead, because none works longer.
const DEAD: i64 = 60_000;

/// The bucket in a directory.
pub struct Disk {
    wire: Rc<dyn Wire>,
    clock: Rc<dyn Clock>,
    memory: Rc<Memory>,
    operations: Operations,
}

/// What the isolate knows about the directory, since it is the only writer.
#[derive(Default)]
pub struct Memory {
    folders: Folders,
    /// The keys that are being written, each with the moment since when.
    writing: RefCell<HashMap<String, Timestamp>>,
}

/// An entry of a folder as the service lists it.
#[derive(Deserialize)]
struct Entry {
    name: String,
    r#type: String,
}

impl Disk {
    /// The bucket in the directory behind `wire`.
    pub fn new(wire: Rc<dyn Wire>, clock: Rc<dyn Clock>, memory: Rc<Memory>) -> Self {
        Self {
            wire,
            clock,
            memory,
            operations: Operations::default(),
        }
    }

    async fn send(
        &self,
        method: &'static str,
        key: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Incoming, StoreError> {
        let request = Outgoing {
            method,
            url: format!("http://disk/{}", encode_path(key)),
            headers: Vec::new(),
            body,
        };
        let operation = match method {
            "PUT" => "put",
            "DELETE" => "delete",
            _ => "get",
        };
        let failed = |reason: &dyn std::fmt::Display| StoreError::new(operation, key, reason);
        let answer = self
            .wire
            .send(&request)
            .await
            .map_err(|reason| failed(&reason))?;
        match answer.status {
            200..300 | 404 => Ok(answer),
            status => Err(failed(&format!("the disk service answered {status}"))),
        }
    }

    async fn body(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let answer = self.send("GET", key, None).await?;
        let is_file = answer.status != 404 && answer.content_type.as_deref() != Some(FOLDER);
        // If the power fails, a file that was being written can be left empty.
        let is_object = is_file && !answer.body.is_empty();
        Ok(is_object.then_some(answer.body))
    }

    async fn object(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let changes = self.memory.folders.changes();
        let Some(body) = self.body(key).await? else {
            return Ok(None);
        };
        let tag = tag_of(&body);
        self.memory.folders.saw(key, &tag, changes);
        Ok(Some(Object { body, tag }))
    }

    /// Waits until nobody else is writing `key`. Keeps others from it until the returned value is
    /// dropped.
    async fn take(&self, operation: &'static str, key: &str) -> Result<Taken<'_>, StoreError> {
        let began = self.clock.now();
        loop {
            let now = self.clock.now();
            if let Some(taken) = self.memory.try_take(key, now) {
                return Ok(taken);
            }
            if now.since(began) > WAIT {
                return Err(StoreError::new(
                    operation,
                    key,
                    &"another write takes too long",
                ));
            }
            self.clock.sleep(LOOK_AGAIN).await;
        }
    }

    async fn write(&self, key: &str, body: Vec<u8>) -> Result<Put, StoreError> {
        let tag = tag_of(&body);
        match self.send("PUT", key, Some(body)).await {
            Ok(Incoming { status: 404, .. }) => {
                Err(StoreError::new("put", key, &"the directory is gone"))
            }
            Ok(_) => {
                self.memory.folders.put(key, &tag);
                Ok(Put::Stored(tag))
            }
            Err(error) => {
                self.memory.folders.unclear(key);
                Err(error)
            }
        }
    }

    /// Returns a folder. Its path ends in a slash, and the root's path is empty. A folder that does
    /// not exist is empty.
    async fn folder(&self, path: &str) -> Result<Rc<Folder>, StoreError> {
        if let Some(folder) = self.memory.folders.find(path) {
            return Ok(folder);
        }
        let listing = self.memory.folders.begin_listing(path);
        let folder = self.list_folder(path).await?;
        Ok(self.memory.folders.listed(listing, folder))
    }

    /// Lists a folder, if there is one.
    async fn list_folder(&self, path: &str) -> Result<Option<Folder>, StoreError> {
        let answer = self.send("GET", path, None).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let unreadable = |reason: &dyn std::fmt::Display| StoreError::new("list", path, reason);
        if answer.content_type.as_deref() != Some(FOLDER) {
            return Err(unreadable(&"it is no folder"));
        }
        let entries: Vec<Entry> = from_bytes(&answer.body).map_err(|error| unreadable(&error))?;
        let name = |entry: Entry| match entry.r#type.as_str() {
            "directory" => Some(format!("{}/", entry.name)),
            "file" => Some(entry.name),
            _ => None,
        };
        // The directory may also contain files that are no objects, such as `lost+found`.
        let is_of_key = |c: char| c.is_ascii_alphanumeric() || "_.=/-".contains(c);
        let is_key = |name: &String| !name.starts_with('.') && name.chars().all(is_of_key);
        let names = entries.into_iter().filter_map(name).filter(is_key);
        Ok(Some(Folder::new(names)))
    }
}

impl Memory {
    /// How many names are remembered, counting the folders, how many listings are in progress, and
    /// how many keys are being written.
    #[cfg(test)]
    pub fn remembered(&self) -> (usize, usize, usize) {
        let (names, listings) = self.folders.remembered();
        (names, listings, self.writing.borrow().len())
    }

    fn try_take(&self, key: &str, now: Timestamp) -> Option<Taken<'_>> {
        let mut writing = self.writing.borrow_mut();
        if writing
            .get(key)
            .is_some_and(|since| now.since(*since) <= DEAD)
        {
            return None;
        }
        writing.insert(key.to_owned(), now);
        Some(Taken {
            memory: self,
            key: key.to_owned(),
            since: now,
        })
    }
}

/// The right to write a key.
struct Taken<'a> {
    memory: &'a Memory,
    key: String,
    since: Timestamp,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut writing = self.memory.writing.borrow_mut();
        if writing.get(&self.key) == Some(&self.since) {
            writing.remove(&self.key);
        }
    }
}

/// Half of the content's SHA-256.
fn tag_of(body: &[u8]) -> Tag {
    let hash = Sha256::digest(body);
    Tag(to_hex(hash.get(..16).unwrap_or_default()))
}

#[async_trait(?Send)]
impl ObjectStore for Disk {
    fn kind(&self) -> &'static str {
        "filesystem"
    }

    fn operations(&self) -> usize {
        self.operations.so_far()
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.operations.count();
        self.object(key).await
    }

    /// The tag of a long object takes longer to make than to read it.
    async fn read(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.operations.count();
        self.body(key).await
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        _summary: Option<&str>,
        condition: Condition<'_>,
    ) -> Result<Put, StoreError> {
        self.operations.count();
        let _taken = self.take("put", key).await?;
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => self.body(key).await?.is_none(),
            Condition::Matches(tag) => {
                let current = self.object(key).await?;
                current.is_some_and(|object| object.tag == *tag)
            }
        };
        if holds {
            self.write(key, body).await
        } else {
            Ok(Put::ConditionFailed)
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.operations.count();
        let _taken = self.take("delete", key).await?;
        // The service would delete a folder with everything in it.
        let found = self.send("HEAD", key, None).await?;
        if found.status != 404 {
            if found.content_type.as_deref() == Some(FOLDER) {
                return Err(StoreError::new("delete", key, &"it is a folder"));
            }
            if let Err(error) = self.send("DELETE", key, None).await {
                self.memory.folders.unclear(key);
                return Err(error);
            }
        }
        self.memory.folders.deleted(key);
        Ok(())
    }

    /// The runtime reads and writes files without looking at anything else in between. It does so
    /// when a timer fires.
    async fn give_way(&self) {
        self.clock.sleep(Duration::ZERO).await;
    }

    /// Walks the folders below the prefix in the order of their keys.
    async fn list(&self, query: List<'_>) -> Result<Page, StoreError> {
        self.operations.count();
        let List { prefix, limit, .. } = query;
        let after = query.after.unwrap_or_default();
        let limit = limit.clamp(1, 1_000);
        let top = prefix.rfind('/').map_or(0, |at| at.saturating_add(1));
        let top = prefix.get(..top).unwrap_or_default().to_owned();
        let mut page = Page::default();
        // The folders that the walk is in, each with the name that it has reached.
        let first = start_of(&top, prefix, after);
        let mut walk = vec![(
            top.clone(),
            self.folder(&top).await?,
            Bound::Included(first),
        )];
        while let Some((path, folder, bound)) = walk.last_mut() {
            let next = folder.next(bound.as_ref().map(String::as_str));
            let Some((name, tag)) = next else {
                walk.pop();
                continue;
            };
            let key = format!("{path}{name}");
            // This key is past the prefix, and so are all that follow.
            if key.as_str() > prefix && !key.starts_with(prefix) {
                break;
            }
            *bound = Bound::Excluded(name);
            if key.ends_with('/') {
                let has_rows = key.starts_with(prefix) || prefix.starts_with(&key);
                if has_rows && (key.as_str() > after || after.starts_with(&key)) {
                    let first = start_of(&key, prefix, after);
                    let folder = self.folder(&key).await?;
                    walk.push((key, folder, Bound::Included(first)));
                }
                continue;
            }
            if !key.starts_with(prefix) || key.as_str() <= after {
                continue;
            }
            if page.rows.len() == limit {
                page.more = true;
                break;
            }
            page.rows.push(Row {
                key,
                tag,
                summary: None,
            });
        }
        Ok(page)
    }
}

/// The first name in `folder` that can be relevant for keys that begin with `prefix` and come after
/// `after`.
fn start_of(folder: &str, prefix: &str, after: &str) -> String {
    let from = |key: &str| {
        let rest = key.strip_prefix(folder).unwrap_or_default();
        let end = rest.find('/').map_or(rest.len(), |at| at.saturating_add(1));
        rest.get(..end).unwrap_or_default().to_owned()
    };
    from(prefix).max(from(after))
}
