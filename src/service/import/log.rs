//! Sorts the log of another server by thread.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use uuid::Uuid;

use super::progress::{PARALLEL, Progress, STRETCH, Stage, list, read_all};
use crate::app::App;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::thread::event::Event;
use crate::runtime::log::{describe, warn};
use crate::storage::{Condition, StoreError, layout};

/// Sorts a stretch of the log by thread.
pub async fn sort(
    app: &App,
    exchange: &ExchangeId,
    progress: Progress,
) -> Result<Progress, StoreError> {
    let prefix = layout::events(exchange);
    let page = list(app, &prefix, progress.after.as_deref(), STRETCH).await?;
    let last = page.rows.last().map(|row| row.key.clone());
    let mut parts: BTreeMap<Ref, String> = BTreeMap::new();
    let mut skipped: u64 = 0;
    for (key, body) in read_all(app, page.rows).await? {
        let text = String::from_utf8_lossy(&body);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match read_line(&key, line) {
                Line::Event(reference, event) => {
                    let json = serde_json::to_string(&event)
                        .map_err(|error| StoreError::new("write", &key, &describe(&error)))?;
                    let part = parts.entry(reference).or_default();
                    part.push_str(&json);
                    part.push('\n');
                }
                Line::OfNoThread => {}
                Line::Unreadable(reason) => {
                    warn(&format!("a line of {key} is left out"), &reason);
                    skipped = skipped.saturating_add(1);
                }
            }
        }
    }
    stream::iter(parts)
        .map(|(reference, lines)| async move {
            let key = layout::import_part(exchange, &reference, progress.parts);
            let body = lines.into_bytes();
            app.store.put(&key, body, None, Condition::Always).await
        })
        .buffered(PARALLEL)
        .try_collect::<Vec<_>>()
        .await?;
    let progress = Progress {
        parts: progress.parts.saturating_add(1),
        skipped: progress.skipped.saturating_add(skipped),
        ..progress
    };
    if page.more {
        return Ok(Progress {
            after: last,
            ..progress
        });
    }
    Ok(progress.enter(Stage::Threads))
}

/// What a line of another server's log is.
enum Line {
    /// An event of a thread.
    Event(Ref, Box<Event>),
    /// An event that belongs to no thread.
    OfNoThread,
    /// A line that this server cannot read.
    Unreadable(String),
}

/// Reads a line of the log object `key`. Another server writes every event as a batch of its own,
/// so the object's name becomes the event's batch, or the event's id if the name is not a UUID.
fn read_line(key: &str, line: &str) -> Line {
    let unreadable = |reason: &dyn std::fmt::Display| Line::Unreadable(reason.to_string());
    let mut value: Value = match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => return unreadable(&describe(&error)),
    };
    let reference = match value.get("thread_ref") {
        None | Some(Value::Null) => return Line::OfNoThread,
        Some(Value::String(text)) => match Ref::parse(text) {
            Ok(reference) => reference,
            Err(error) => return unreadable(&error),
        },
        Some(_) => return unreadable(&"thread_ref is not a string"),
    };
    let name = key.rsplit('/').next().unwrap_or_default();
    let batch = name
        .strip_suffix(".jsonl")
        .and_then(|stem| Uuid::parse_str(stem).ok());
    if let Some(fields) = value.as_object_mut() {
        let batch = match batch {
            Some(batch) => Value::String(batch.to_string()),
            None => fields.get("event_id").cloned().unwrap_or_default(),
        };
        fields.insert("batch_id".to_owned(), batch);
    }
    match serde_json::from_value::<Event>(value) {
        Ok(event) => Line::Event(reference, Box::new(event)),
        Err(error) => unreadable(&describe(&error)),
    }
}
