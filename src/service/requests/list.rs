//! Lists of threads, read from the index.

use std::collections::HashSet;

use crate::app::App;
use crate::domain::cursor::Cursor;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::limits::{LIST_BYTES, LIST_EXAMINED};
use crate::domain::thread::state::ThreadState;
use crate::domain::thread::status::{Priority, Status};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::storage::rows::{SummaryPage, list_summaries, whole_body};
use crate::storage::{List, layout};

/// Entries asked of the store at once: as many as R2 gives with their summaries.
const PAGE: usize = 100;

/// Which threads are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Only with this status.
    pub status: Option<Status>,
    /// Only with this priority.
    pub priority: Option<Priority>,
    /// Only posted by this one.
    pub requestor: Option<ExecutorId>,
    /// Only held (or ended) by this one.
    pub executor: Option<ExecutorId>,
    /// Only changed at this moment or later.
    pub updated_since: Option<Timestamp>,
}

impl Filter {
    /// Whether the index itself answers, and no row has to be looked at and dropped.
    fn is_indexed(&self) -> bool {
        self.priority.is_none() && self.requestor.is_none() && self.executor.is_none()
    }

    fn admits(&self, state: &ThreadState) -> bool {
        self.status.is_none_or(|status| status == state.status)
            && self
                .priority
                .is_none_or(|priority| priority == state.priority)
            && self
                .requestor
                .as_ref()
                .is_none_or(|id| *id == state.requestor_id)
            && (self.executor.is_none() || self.executor == state.executor_id)
    }
}

/// A page of threads.
#[derive(Debug)]
pub struct Listed {
    /// The threads, newest change first.
    pub threads: Vec<ThreadState>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// Lists up to `limit` threads after `cursor`, examining at most [`LIST_EXAMINED`] entries and
/// gathering about [`LIST_BYTES`].
///
/// # Errors
///
/// The store's.
pub async fn list(
    app: &App,
    exchange: &ExchangeId,
    filter: &Filter,
    limit: usize,
    cursor: Option<&Cursor>,
) -> Result<Listed, ServiceError> {
    let prefix = layout::index(exchange, filter.status);
    let mut after = cursor.map(|cursor| {
        layout::index_entry(
            exchange,
            filter.status,
            cursor.updated_at,
            &cursor.reference,
        )
    });
    let mut threads: Vec<ThreadState> = Vec::new();
    let mut seen = HashSet::new();
    let (mut examined, mut bytes) = (0_usize, 0_usize);
    let now = app.clock.now();
    while examined < LIST_EXAMINED {
        let wanted = limit.saturating_sub(threads.len());
        let query = List {
            prefix: &prefix,
            after: after.as_deref(),
            // The index itself answers, but for rows that something has fallen due to.
            limit: if filter.is_indexed() && examined == 0 {
                wanted.min(PAGE)
            } else {
                PAGE
            },
            summaries: true,
        };
        let store = app.store.as_ref();
        let SummaryPage { rows, more } =
            list_summaries(store, &app.isolate.summaries, query, whole_body).await?;
        let last = rows.len();
        for (at, row) in rows.into_iter().enumerate() {
            examined = examined.saturating_add(1);
            let rest = more || at.saturating_add(1) < last;
            after = Some(row.key);
            let Some(state) = row.summary.as_deref().and_then(parse) else {
                continue;
            };
            if filter
                .updated_since
                .is_some_and(|since| state.updated_at < since)
            {
                return Ok(Listed {
                    threads,
                    next: None,
                });
            }
            // Not as it was written, where something has fallen due since.
            let state = state.as_of(now).unwrap_or(state);
            // Entries of one thread may stand side by side while it changes: the newest is
            // first. Here and below `seen` holds references for this call only.
            if seen.insert(state.reference.clone()) && filter.admits(&state) {
                bytes = bytes.saturating_add(state.intent.len());
                threads.push(state);
            }
            let full = threads.len() >= limit || bytes >= LIST_BYTES;
            if rest && (full || examined >= LIST_EXAMINED) {
                let next = position(after.as_deref());
                return Ok(Listed { threads, next });
            }
        }
        if !more {
            return Ok(Listed {
                threads,
                next: None,
            });
        }
    }
    let next = position(after.as_deref());
    Ok(Listed { threads, next })
}

fn position(key: Option<&str>) -> Option<Cursor> {
    let (updated_at, reference) = layout::index_position(key?)?;
    Some(Cursor {
        updated_at,
        reference,
    })
}

fn parse(summary: &str) -> Option<ThreadState> {
    serde_json::from_str(summary)
        .map_err(|error| crate::runtime::log::warn("an index entry cannot be read", &error))
        .ok()
}
