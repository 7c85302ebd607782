//! An S3 bucket, through S3's HTTP interface.
//!
//! What the answers of S3 mean:
//!
//! | answer | meaning |
//! | --- | --- |
//! | 412; to `If-Match` also 404 | the condition does not hold |
//! | 409 | another conditional put is in progress: try again |
//! | 429 | the request was not let through: try again |
//! | 408, 5xx, no answer | the request may or may not have been done: try again |
//!
//! If an earlier try of a conditional put may have been done, and a later try finds that the
//! condition does not hold, the earlier try may be the cause. If the stored object is what was put,
//! the put was done. Otherwise its outcome is unknown. The outcome of a put without a condition is
//! also unknown if an earlier try may have been done.

use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use roxmltree::{Document, Node};
use url::Url;

use super::sigv4::{Credentials, encode_path, encode_query, sign};
use super::wire::{Incoming, Outgoing, Wire};
use super::{Condition, List, Object, ObjectStore, Operations, Page, Put, Row, StoreError, Tag};
use crate::runtime::clock::Clock;

/// The most tries of one request.
const TRIES: u32 = 8;
/// A try may begin within this many milliseconds after the first one. Even with the time that a try
/// may take, this is well within the time that the tick gives a writer before it counts as dead.
const TRY_WITHIN: i64 = 5_000;
/// The longest wait before the second try. It doubles with each try.
const FIRST_WAIT: Duration = Duration::from_millis(60);
/// How many pages without rows a list passes over.
const EMPTY_PAGES: usize = 100;
/// How many bytes of an error document are looked at.
const ERROR_BYTES: usize = 64 * 1024;

/// Where a bucket is, and the credentials to use it.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The URL of the bucket, which ends in a slash.
    pub bucket: Url,
    /// The keys, and the region.
    pub credentials: Credentials,
}

/// An S3 bucket.
pub struct S3 {
    wire: Rc<dyn Wire>,
    clock: Rc<dyn Clock>,
    settings: Settings,
    operations: Operations,
}

/// A definite answer.
struct Answered {
    answer: Incoming,
    /// Whether an earlier try may have been done too.
    repeated: bool,
}

impl S3 {
    /// The bucket of `settings`, reached over `wire`.
    pub fn new(wire: Rc<dyn Wire>, clock: Rc<dyn Clock>, settings: Settings) -> Self {
        Self {
            wire,
            clock,
            settings,
            operations: Operations::default(),
        }
    }

    /// Sends a request, again and again, until there is a definite answer or the tries are used up.
    async fn send(
        &self,
        key: &str,
        query: &[(&str, &str)],
        request: Outgoing,
    ) -> Result<Answered, String> {
        self.operations.count();
        let mut url = self.settings.bucket.clone();
        let path = format!("{}{}", url.path(), encode_path(key));
        url.set_path(&path);
        let query = encode_query(query);
        url.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));

        let started = self.clock.now();
        let (mut wait, mut repeated) = (FIRST_WAIT, false);
        let mut tries = 0_u32;
        loop {
            tries = tries.saturating_add(1);
            let mut signed = Outgoing {
                url: url.to_string(),
                ..request.clone()
            };
            let now = self.clock.now();
            sign(&mut signed, &url, &self.settings.credentials, now);
            let problem = match self.wire.send(&signed).await {
                Ok(answer) if is_definite(answer.status) => {
                    return Ok(Answered { answer, repeated });
                }
                // With these answers, the request was certainly not done.
                Ok(answer) if matches!(answer.status, 409 | 429) => describe(&answer),
                Ok(answer) => {
                    repeated = true;
                    describe(&answer)
                }
                Err(problem) => {
                    repeated = true;
                    problem
                }
            };
            let age = self.clock.now().since(started);
            let longest = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            if tries >= TRIES || age.saturating_add(longest) > TRY_WITHIN {
                return Err(format!("{problem} ({tries} tries in {age} ms)"));
            }
            self.clock.jitter(wait).await;
            wait = wait.saturating_mul(2);
        }
    }
}

fn is_definite(status: u16) -> bool {
    !matches!(status, 408 | 409 | 429 | 500..)
}

/// What an error says, for the log: its status, and S3's code, message and region.
fn describe(answer: &Incoming) -> String {
    let mut said = format!("the store answered {}", answer.status);
    for name in ["Code", "Message", "Region"] {
        if let Some(text) = error_field(answer, name) {
            said.push_str(": ");
            said.extend(text.chars().filter(|c| !c.is_control()).take(300));
        }
    }
    said
}

/// A field of an error document.
fn error_field(answer: &Incoming, name: &str) -> Option<String> {
    let body = answer.body.get(..answer.body.len().min(ERROR_BYTES))?;
    let text = std::str::from_utf8(body).ok()?;
    let document = Document::parse(text).ok()?;
    Some(child(document.root_element(), name)?.to_owned())
}

fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let child = node
        .children()
        .find(|child| child.tag_name().name() == name)?;
    child.text()
}

/// Whether a 404 means that there is no such object, rather than no such bucket.
fn is_absent(answer: &Incoming) -> bool {
    answer.status == 404 && error_field(answer, "Code").as_deref() != Some("NoSuchBucket")
}

/// The tag in an `ETag` header, without its quotes.
fn tag_of(etag: &str) -> Tag {
    let bare = etag.strip_prefix("W/").unwrap_or(etag);
    Tag(bare.trim_matches('"').to_owned())
}

#[async_trait(?Send)]
impl ObjectStore for S3 {
    fn kind(&self) -> &'static str {
        "s3"
    }

    fn operations(&self) -> usize {
        self.operations.so_far()
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let failed = |reason: &str| StoreError::new("get", key, &reason);
        let request = Outgoing {
            method: "GET",
            ..Outgoing::default()
        };
        let Answered { answer, .. } = self
            .send(key, &[], request)
            .await
            .map_err(|reason| failed(&reason))?;
        if is_absent(&answer) {
            return Ok(None);
        }
        if answer.status != 200 {
            return Err(failed(&describe(&answer)));
        }
        let etag = answer.etag.ok_or_else(|| failed("no ETag"))?;
        Ok(Some(Object {
            tag: tag_of(&etag),
            body: answer.body,
        }))
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        _summary: Option<&str>,
        condition: Condition<'_>,
    ) -> Result<Put, StoreError> {
        let failed = |reason: &str| StoreError::new("put", key, &reason);
        let headers = match condition {
            Condition::Absent => vec![("if-none-match", "*".to_owned())],
            Condition::Matches(tag) => vec![("if-match", format!("\"{}\"", tag.0))],
            Condition::Always => vec![],
        };
        let request = Outgoing {
            method: "PUT",
            headers,
            body: Some(body.clone()),
            ..Outgoing::default()
        };
        let Answered { answer, repeated } = self
            .send(key, &[], request)
            .await
            .map_err(|reason| failed(&reason))?;
        let is_match = matches!(condition, Condition::Matches(_));
        if answer.status == 412 || (is_match && is_absent(&answer)) {
            if !repeated {
                return Ok(Put::ConditionFailed);
            }
            return match self.get(key).await? {
                Some(object) if object.body == body => Ok(Put::Stored(object.tag)),
                _ => Err(failed("a try without an answer may have been done")),
            };
        }
        if !(200..300).contains(&answer.status) {
            return Err(failed(&describe(&answer)));
        }
        // Without a condition, the earlier try may still replace whatever is stored by then.
        if repeated && matches!(condition, Condition::Always) {
            return Err(failed("a try without an answer may still be done"));
        }
        let etag = answer.etag.ok_or_else(|| failed("no ETag"))?;
        Ok(Put::Stored(tag_of(&etag)))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let failed = |reason: &str| StoreError::new("delete", key, &reason);
        let request = Outgoing {
            method: "DELETE",
            ..Outgoing::default()
        };
        let Answered { answer, .. } = self
            .send(key, &[], request)
            .await
            .map_err(|reason| failed(&reason))?;
        if (200..300).contains(&answer.status) || is_absent(&answer) {
            Ok(())
        } else {
            Err(failed(&describe(&answer)))
        }
    }

    async fn list(&self, query: List<'_>) -> Result<Page, StoreError> {
        let failed = |reason: &str| StoreError::new("list", query.prefix, &reason);
        let limit = query.limit.clamp(1, 1_000).to_string();
        let mut token: Option<String> = None;
        for _ in 0..EMPTY_PAGES {
            let mut parameters = vec![
                ("list-type", "2"),
                ("prefix", query.prefix),
                ("max-keys", limit.as_str()),
            ];
            match &token {
                Some(token) => parameters.push(("continuation-token", token)),
                None => parameters.extend(query.after.map(|after| ("start-after", after))),
            }
            let request = Outgoing {
                method: "GET",
                ..Outgoing::default()
            };
            let Answered { answer, .. } = self
                .send("", &parameters, request)
                .await
                .map_err(|reason| failed(&reason))?;
            if answer.status != 200 {
                return Err(failed(&describe(&answer)));
            }
            let (page, next) = read_page(&answer.body).map_err(|reason| failed(&reason))?;
            // S3 does not promise that a truncated page contains any rows.
            if !page.more || !page.rows.is_empty() {
                return Ok(page);
            }
            token = Some(next.ok_or_else(|| failed("a page without rows or token"))?);
        }
        Err(failed("too many empty pages"))
    }
}

/// Reads a page of `ListObjectsV2`, and the token of the next page.
fn read_page(body: &[u8]) -> Result<(Page, Option<String>), String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let document = Document::parse(text).map_err(|error| error.to_string())?;
    let root = document.root_element();
    if root.tag_name().name() != "ListBucketResult" {
        return Err(format!("an unexpected {}", root.tag_name().name()));
    }
    let mut page = Page {
        more: child(root, "IsTruncated") == Some("true"),
        ..Page::default()
    };
    for node in root
        .children()
        .filter(|node| node.tag_name().name() == "Contents")
    {
        page.rows.push(Row {
            key: child(node, "Key").ok_or("a row without a key")?.to_owned(),
            tag: child(node, "ETag").map(tag_of),
            summary: None,
        });
    }
    let token = child(root, "NextContinuationToken").map(str::to_owned);
    Ok((page, token))
}
