//! Lists whose rows have a summary, whether the backend lists summaries or not.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::{List, ObjectStore, Row, StoreError, Tag};
use crate::runtime::log::{describe, warn};

/// How many bytes of summaries an isolate keeps. If there are more, it forgets the oldest ones.
const KEPT_BYTES: usize = 8 * 1024 * 1024;
/// What keeping a summary takes besides its texts, in bytes, about.
const KEPT_EACH: usize = 200;
/// How many bodies are read at once.
const PARALLEL: usize = 6;
/// How many bytes of rows are worked through before others get their turn: a few milliseconds.
const STRETCH: usize = 256 * 1024;
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
    by_key: HashMap<Rc<str>, Summary>,
    /// The keys by the turns in which their summaries were kept, so the oldest comes first.
    turns: BTreeMap<u64, Rc<str>>,
    last_turn: u64,
    bytes: usize,
}

struct Summary {
    tag: Tag,
    text: String,
    turn: u64,
}

impl SummaryCache {
    /// The text that is kept for the object under `key`, if its tag is `tag`.
    pub fn find(&self, key: &str, tag: &Tag) -> Option<String> {
        let kept = self.kept.borrow();
        let summary = kept.by_key.get(key)?;
        (summary.tag == *tag).then(|| summary.text.clone())
    }

    /// Keeps a text for the object under `key` with the tag `tag`.
    pub fn keep(&self, key: &str, tag: Tag, text: &str) {
        let mut kept = self.kept.borrow_mut();
        kept.forget(key);
        kept.last_turn = kept.last_turn.saturating_add(1);
        let summary = Summary {
            tag,
            text: text.to_owned(),
            turn: kept.last_turn,
        };
        let size = size_of(key, &summary);
        if size > KEPT_BYTES {
            return;
        }
        kept.bytes = kept.bytes.saturating_add(size);
        let key: Rc<str> = key.into();
        kept.turns.insert(summary.turn, key.clone());
        kept.by_key.insert(key, summary);
        while kept.bytes > KEPT_BYTES
            && let Some((_, oldest)) = kept.turns.first_key_value()
        {
            let oldest = oldest.clone();
            kept.forget(&oldest);
        }
    }
}

impl Kept {
    fn forget(&mut self, key: &str) {
        if let Some(summary) = self.by_key.remove(key) {
            self.turns.remove(&summary.turn);
            self.bytes = self.bytes.saturating_sub(size_of(key, &summary));
        }
    }
}

fn size_of(key: &str, summary: &Summary) -> usize {
    let texts = [key.len(), summary.tag.0.len(), summary.text.len()];
    texts.into_iter().fold(KEPT_EACH, usize::saturating_add)
}

/// Keeps work over many rows from holding up everybody else: it gives way again and again.
pub struct Pace<'a> {
    store: &'a dyn ObjectStore,
    bytes: Cell<usize>,
}

impl<'a> Pace<'a> {
    /// The pace of work over rows of `store`.
    pub fn new(store: &'a dyn ObjectStore) -> Self {
        Self {
            store,
            bytes: Cell::new(0),
        }
    }

    /// Must be called with the size of each text that was read or is about to be.
    pub async fn did(&self, bytes: usize) {
        let bytes = self.bytes.get().saturating_add(bytes);
        let bytes = bytes.saturating_add(KEPT_EACH);
        if bytes < STRETCH {
            self.bytes.set(bytes);
        } else {
            self.bytes.set(0);
            self.store.give_way().await;
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
    let pacer = &Pace::new(store);
    let rows = stream::iter(page.rows)
        .map(async |mut row: Row| -> Result<_, StoreError> {
            if row.summary.is_none() {
                row.summary = row.tag.as_ref().and_then(|tag| cache.find(&row.key, tag));
            }
            if row.summary.is_none()
                && let Some(object) = store.get(&row.key).await?
            {
                pacer.did(object.body.len()).await;
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
    let pacer = Pace::new(store);
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
            pacer.did(row.summary.as_ref().map_or(0, String::len)).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        Tag(text.to_owned())
    }

    #[test]
    fn the_oldest_summaries_are_forgotten_one_by_one() {
        let cache = SummaryCache::default();
        let text = "x".repeat(1_000_000);
        let finds = |key: usize| cache.find(&key.to_string(), &tag("a")).is_some();
        for key in 0..8 {
            cache.keep(&key.to_string(), tag("a"), &text);
        }
        // Kept again, the first one is the youngest.
        cache.keep("0", tag("a"), &text);
        for key in 8..11 {
            cache.keep(&key.to_string(), tag("a"), &text);
        }
        let found: Vec<_> = (0..11).filter(|key| finds(*key)).collect();
        assert_eq!(found, [0, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn what_is_kept_is_counted() {
        let cache = SummaryCache::default();
        let long = "x".repeat(KEPT_BYTES);
        for turn in 0..1_000 {
            cache.keep("a", tag(&turn.to_string()), "short");
            cache.keep("b", tag("b"), "short");
            // It is too long to be kept. It drives out nothing but what was there before it.
            cache.keep("c", tag("c"), "short");
            cache.keep("c", tag("c"), &long);
        }
        assert_eq!(cache.find("a", &tag("998")), None);
        assert!(cache.find("a", &tag("999")).is_some() && cache.find("b", &tag("b")).is_some());
        assert_eq!(cache.find("c", &tag("c")), None);
        let kept = cache.kept.borrow();
        let sum: usize = kept.by_key.iter().map(|(key, of)| size_of(key, of)).sum();
        assert_eq!(kept.bytes, sum);
        assert_eq!((kept.turns.len(), kept.by_key.len()), (2, 2));
    }
}
