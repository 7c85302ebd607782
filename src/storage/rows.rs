//! Lists whose rows have a summary, whether the backend lists summaries or not.

use std::cell::RefCell;
use std::collections::HashMap;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::{List, ObjectStore, Row, StoreError, Tag};
use crate::runtime::log::{describe, warn};

/// How many bytes of summaries an isolate keeps. If there are more, it forgets all of them and
/// starts again.
const KEPT_BYTES: usize = 8 * 1024 * 1024;
/// How many bodies are read at once.
const PARALLEL: usize = 6;
/// How many rows are listed at once: as many as R2 returns with their summaries.
const PAGE: usize = 100;

/// Texts made from objects that this isolate has read, by key and tag. Most of them are summaries
/// that the backend does not list.
#[derive(Default)]
pub struct SummaryCache {
    kept: RefCell<Kept>,
}

#[derive(Default)]
struct Kept {
    by_key: HashMap<String, (Tag, String)>,
    bytes: usize,
}

impl SummaryCache {
    /// The text that is kept for the object under `key`, if its tag is `tag`.
    pub fn find(&self, key: &str, tag: &Tag) -> Option<String> {
        let kept = self.kept.borrow();
        let (at, summary) = kept.by_key.get(key)?;
        (at == tag).then(|| summary.clone())
    }

    /// Keeps a text for the object under `key` with the tag `tag`.
    pub fn keep(&self, key: &str, tag: Tag, summary: &str) {
        let mut kept = self.kept.borrow_mut();
        let size = key.len().saturating_add(summary.len());
        if kept.bytes.saturating_add(size) > KEPT_BYTES {
            *kept = Kept::default();
        }
        kept.bytes = kept.bytes.saturating_add(size);
        let replaced = kept
            .by_key
            .insert(key.to_owned(), (tag, summary.to_owned()));
        if let Some((_, old)) = replaced {
            let size = key.len().saturating_add(old.len());
            kept.bytes = kept.bytes.saturating_sub(size);
        }
    }
}

/// Makes a summary from a body.
pub type Summarize = fn(&[u8]) -> Option<String>;

/// A page of keys with their summaries.
pub struct SummaryPage {
    /// Its rows. If an object was deleted in the meantime, its row has no summary.
    pub rows: Vec<Row>,
    /// Whether more keys follow.
    pub more: bool,
}

/// Lists `limit` keys with their summaries. `summarize` makes a summary from a body.
///
/// This takes one list, and one get for each row whose summary the backend did not list and this
/// isolate does not keep for that tag.
pub async fn list_summaries(
    store: &dyn ObjectStore,
    cache: &SummaryCache,
    query: List<'_>,
    summarize: Summarize,
) -> Result<SummaryPage, StoreError> {
    let query = List {
        summaries: true,
        ..query
    };
    let page = store.list(query).await?;
    let rows = stream::iter(page.rows)
        .map(async |mut row: Row| -> Result<_, StoreError> {
            if row.summary.is_none() {
                row.summary = row.tag.as_ref().and_then(|tag| cache.find(&row.key, tag));
            }
            if row.summary.is_none()
                && let Some(object) = store.get(&row.key).await?
            {
                row.summary = summarize(&object.body);
                row.tag = Some(object.tag.clone());
                if let Some(summary) = &row.summary {
                    cache.keep(&row.key, object.tag, summary);
                }
            }
            Ok(row)
        })
        .buffered(PARALLEL)
        .try_collect()
        .await?;
    Ok(SummaryPage {
        rows,
        more: page.more,
    })
}

/// Reads all documents below `prefix` by their summaries, a hundred with each list. Leaves out
/// documents that cannot be read.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn read_summaries(
    store: &dyn ObjectStore,
    cache: &SummaryCache,
    prefix: &str,
    summarize: Summarize,
) -> Result<Vec<Value>, StoreError> {
    let mut documents = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let query = List {
            prefix,
            after: after.as_deref(),
            limit: PAGE,
            summaries: true,
        };
        let page = list_summaries(store, cache, query, summarize).await?;
        after = page.rows.last().map(|row| row.key.clone()).or(after);
        for row in page.rows {
            match serde_json::from_str(row.summary.as_deref().unwrap_or_default()) {
                Ok(document) => documents.push(document),
                Err(error) => warn(&format!("{} cannot be shown", row.key), &describe(&error)),
            }
        }
        if !page.more {
            return Ok(documents);
        }
    }
}

/// The summary of an object whose whole body is its summary.
pub fn whole_body(body: &[u8]) -> Option<String> {
    String::from_utf8(body.to_vec()).ok()
}
