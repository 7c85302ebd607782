//! The audit of an exchange: one object for each change of what its members may do.

use serde_json::Value;
use uuid::Uuid;

use crate::app::App;
use crate::domain::ids::ExchangeId;
use crate::domain::member::audit::AuditEntry;
use crate::domain::text::Invalid;
use crate::runtime::log::warn;
use crate::service::ServiceError;
use crate::storage::rows::{list_summaries, whole_body};
use crate::storage::{Condition, List, encode, layout};

/// How many entries one operation lists.
const PAGE: usize = 100;

/// Writes an entry, unless it is there already. Returns whether it is there now.
pub async fn write(app: &App, exchange: &ExchangeId, entry: &AuditEntry) -> bool {
    let key = layout::audit_entry(exchange, entry.at, entry.id);
    let body = match encode(&key, entry) {
        Ok(body) => body,
        Err(error) => {
            warn("an entry of the audit could not be written", &error);
            return false;
        }
    };
    let summary = whole_body(&body);
    let put = app
        .store
        .put(&key, body, summary.as_deref(), Condition::Absent);
    let put = put.await;
    if let Err(error) = &put {
        warn("an entry of the audit is left to the tick", error);
    }
    put.is_ok()
}

/// A page of the audit.
pub struct Page {
    /// Its entries, newest first.
    pub entries: Vec<Value>,
    /// Where the next page begins, or `None` if this is the last one.
    pub next: Option<String>,
}

/// Reads where a page begins, as [`Page::next`] said it.
///
/// # Errors
///
/// Fails if it was never said.
pub fn parse_cursor(text: &str) -> Result<String, Invalid> {
    let is_ours = text.split_once('-').is_some_and(|(time, id)| {
        time.len() == 13 && time.bytes().all(|b| b.is_ascii_digit()) && Uuid::parse_str(id).is_ok()
    });
    if is_ours {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new(
            "cursor",
            "must be the next_cursor of the audit",
        ))
    }
}

/// Lists up to `limit` entries after `cursor`.
///
/// # Errors
///
/// Fails with the store's error.
pub async fn list(
    app: &App,
    exchange: &ExchangeId,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Page, ServiceError> {
    let prefix = layout::audit(exchange);
    let mut after = cursor.map(|cursor| format!("{prefix}{cursor}.json"));
    let mut entries = Vec::new();
    loop {
        let query = List {
            prefix: &prefix,
            after: after.as_deref(),
            limit: limit.saturating_sub(entries.len()).min(PAGE),
            summaries: true,
        };
        let store = app.store.as_ref();
        let page = list_summaries(store, &app.isolate.summaries, query, whole_body).await?;
        for row in page.rows {
            if let Some(Ok(entry)) = row.summary.as_deref().map(serde_json::from_str) {
                entries.push(entry);
            }
            after = Some(row.key);
        }
        if !page.more || entries.len() >= limit {
            let name = after.as_deref().filter(|_| page.more);
            let name = name.and_then(|key| layout::name_in(&prefix, key));
            let next = name.map(ToOwned::to_owned);
            return Ok(Page { entries, next });
        }
    }
}
