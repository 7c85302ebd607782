//! Cloudflare R2, through the Worker's binding.

use std::collections::HashMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use worker::{Bucket, Conditional};

use super::{Condition, List, Object, ObjectStore, Operations, Page, Put, Row, StoreError, Tag};
use crate::runtime::js::{self, Binding};

/// The name of the custom metadata that contains the summary.
const SUMMARY: &str = "summary";

/// The longest summary that is stored as metadata. R2 allows 8,192 bytes in all. It counts two
/// bytes for every UTF-16 unit as soon as one character is beyond Latin-1.
const SUMMARY_BYTES: usize = 8_000;

/// The most rows that R2 lists at once together with their metadata.
const SUMMARY_PAGE: usize = 100;

/// An R2 bucket.
pub struct R2 {
    bucket: Bucket,
    /// The same bucket, for lists: a row at a time would cross to JavaScript for every field.
    binding: Binding,
    operations: Operations,
}

/// What R2's `list` takes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Options<'a> {
    prefix: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_after: Option<&'a str>,
    limit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    include: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// What it answers: rows of a key, a tag and a summary.
#[derive(Deserialize)]
struct Listed {
    rows: Vec<(String, String, Option<String>)>,
    truncated: bool,
    cursor: Option<String>,
}

impl R2 {
    /// The bucket behind a binding.
    pub fn new(bucket: Bucket, binding: Binding) -> Self {
        Self {
            bucket,
            binding,
            operations: Operations::default(),
        }
    }
}

#[async_trait(?Send)]
impl ObjectStore for R2 {
    fn kind(&self) -> &'static str {
        "r2"
    }

    fn operations(&self) -> usize {
        self.operations.so_far()
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.operations.count();
        let failed = |error: worker::Error| StoreError::new("get", key, &error);
        let Some(object) = self.bucket.get(key).execute().await.map_err(failed)? else {
            return Ok(None);
        };
        let tag = Tag(object.etag());
        match object.body() {
            Some(body) => {
                let body = body.bytes().await.map_err(failed)?;
                Ok(Some(Object { body, tag }))
            }
            None => Err(StoreError::new("get", key, &"an object without a body")),
        }
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        summary: Option<&str>,
        condition: Condition<'_>,
    ) -> Result<Put, StoreError> {
        self.operations.count();
        let mut put = self.bucket.put(key, body);
        if let Some(summary) = summary.filter(|text| metadata_bytes(text) <= SUMMARY_BYTES) {
            let metadata = HashMap::from([(SUMMARY.to_owned(), summary.to_owned())]);
            put = put.custom_metadata(metadata);
        }
        put = match condition {
            Condition::Absent => put.only_if(Conditional {
                etag_does_not_match: Some("*".to_owned()),
                ..Conditional::default()
            }),
            Condition::Matches(tag) => put.only_if(Conditional {
                etag_matches: Some(tag.0.clone()),
                ..Conditional::default()
            }),
            Condition::Always => put,
        };
        match put.execute().await {
            Ok(Some(object)) => Ok(Put::Stored(Tag(object.etag()))),
            Ok(None) => Ok(Put::ConditionFailed),
            Err(error) => Err(StoreError::new("put", key, &error)),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.operations.count();
        self.bucket
            .delete(key)
            .await
            .map_err(|error| StoreError::new("delete", key, &error))
    }

    async fn list(&self, query: List<'_>) -> Result<Page, StoreError> {
        let failed = |error: &dyn std::fmt::Display| StoreError::new("list", query.prefix, error);
        let most = if query.summaries { SUMMARY_PAGE } else { 1_000 };
        let mut options = Options {
            prefix: query.prefix,
            start_after: query.after,
            limit: query.limit.clamp(1, most),
            include: query.summaries.then_some(["customMetadata"]),
            cursor: None,
        };
        let listed = loop {
            self.operations.count();
            let text = js::list(&self.binding, &options, SUMMARY).await;
            let text = text.map_err(|error| failed(&error))?;
            let listed: Listed = serde_json::from_str(&text).map_err(|error| failed(&error))?;
            // R2 does not promise that a page it cuts short holds anything.
            if !listed.truncated || !listed.rows.is_empty() {
                break listed;
            }
            options.cursor = listed.cursor;
        };
        let row = |(key, tag, summary)| Row {
            key,
            tag: Some(Tag(tag)),
            summary,
        };
        Ok(Page {
            more: listed.truncated,
            rows: listed.rows.into_iter().map(row).collect(),
        })
    }
}

/// How many bytes of metadata R2 counts for `text`.
fn metadata_bytes(text: &str) -> usize {
    let units = text.encode_utf16().count();
    if text.chars().all(|c| c <= '\u{ff}') {
        units
    } else {
        units.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_counted_as_r2_counts_it() {
        assert_eq!(metadata_bytes("abc"), 3);
        assert_eq!(metadata_bytes("é"), 1);
        assert_eq!(metadata_bytes("ab✓"), 6);
        assert_eq!(metadata_bytes("🚪"), 4);
    }
}
