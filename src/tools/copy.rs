//! Copies one bucket into another, one stretch at a time, and makes the digests that show that it
//! worked.
//!
//! If a copy is interrupted, start it again. It does not write again what is there already.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::domain::key::to_hex;
use crate::storage::{Condition, List, Object, ObjectStore, Page, StoreError};

/// How many objects are in a stretch.
const STRETCH: usize = 200;
/// How many objects are read or written at once.
const PARALLEL: usize = 8;

/// The progress of a walk through a bucket.
#[derive(Debug, Serialize)]
pub struct Walked {
    /// How many objects this stretch has.
    objects: usize,
    /// Where the next stretch begins, or `None` at the end.
    next: Option<String>,
    /// How many objects of this stretch were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    copied: Option<usize>,
    /// The hash of all keys and bodies up to here.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

impl Walked {
    fn over(page: &Page) -> Self {
        let last = page.rows.last().map(|row| row.key.clone());
        Self {
            objects: page.rows.len(),
            next: last.filter(|_| page.more),
            copied: None,
            digest: None,
        }
    }
}

/// Counts a stretch of objects.
pub async fn count(store: &dyn ObjectStore, after: Option<&str>) -> Result<Walked, StoreError> {
    Ok(Walked::over(
        &store.list(List::keys("", after, 1_000)).await?,
    ))
}

/// Copies a stretch of `from` to `to`.
pub async fn copy(
    from: &dyn ObjectStore,
    to: &dyn ObjectStore,
    after: Option<&str>,
) -> Result<Walked, StoreError> {
    let page = from.list(List::keys("", after, STRETCH)).await?;
    let copied: Vec<bool> = stream::iter(&page.rows)
        .map(async |row| {
            let Some(Object { body, .. }) = from.get(&row.key).await? else {
                return Ok(false);
            };
            let there = to.get(&row.key).await?;
            if there.is_some_and(|object| object.body == body) {
                return Ok(false);
            }
            to.put(&row.key, body, None, Condition::Always).await?;
            Ok(true)
        })
        .buffered(PARALLEL)
        .try_collect()
        .await?;
    Ok(Walked {
        copied: Some(copied.into_iter().filter(|copied| *copied).count()),
        ..Walked::over(&page)
    })
}

/// Hashes a stretch on top of the digest of everything before it. It hashes key by key, so the
/// digest does not depend on how the store cuts its pages. An object that is listed but cannot be
/// read, such as an empty file, does not count.
pub async fn digest(
    store: &dyn ObjectStore,
    after: Option<&str>,
    before: Option<&str>,
) -> Result<Walked, StoreError> {
    let page = store.list(List::keys("", after, STRETCH)).await?;
    let hashes: Vec<_> = stream::iter(&page.rows)
        .map(async |row| {
            let object = store.get(&row.key).await?;
            Ok(object.map(|object| Sha256::digest(object.body)))
        })
        .buffered(PARALLEL)
        .try_collect()
        .await?;
    let mut digest = before.unwrap_or_default().to_owned();
    let mut objects: usize = 0;
    for (row, hash) in page.rows.iter().zip(hashes) {
        if let Some(hash) = hash {
            let chained = Sha256::new_with_prefix(digest)
                .chain_update(&row.key)
                .chain_update(hash);
            digest = to_hex(&chained.finalize());
            objects = objects.saturating_add(1);
        }
    }
    Ok(Walked {
        objects,
        digest: Some(digest),
        ..Walked::over(&page)
    })
}
