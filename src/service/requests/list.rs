//! Lists of threads, read from the index.

use std::collections::HashSet;

use crate::app::App;
use crate::domain::cursor::Cursor;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::limits::{GUEST_EXAMINED, LIST_BYTES, LIST_EXAMINED, ROW_INTENT_CHARS};
use crate::domain::thread::state::ThreadState;
use crate::domain::thread::status::{Priority, Status};
use crate::domain::time::Timestamp;
use crate::service::{ServiceError, turn_to_read_rows};
use crate::storage::rows::{Pace, SummaryPage, list_summaries, whole_body};
use crate::storage::{List, layout};

/// How many entries one operation lists: as many as R2 returns with their summaries.
const PAGE: usize = 100;

/// The filters of a list. A filter that is `None` admits every thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// The status that the threads have.
    pub status: Option<Status>,
    /// The priority that the threads have.
    pub priority: Option<Priority>,
    /// The executor that posted the threads.
    pub requestor: Option<ExecutorId>,
    /// The executor that holds the threads, or that they ended with.
    pub executor: Option<ExecutorId>,
    /// The moment since which the threads changed, inclusive.
    pub updated_since: Option<Timestamp>,
    /// The guest who lists, to whom the threads must be addressed.
    pub guest: Option<ExecutorId>,
}

impl Filter {
    /// Whether the index answers by itself, so that no row has to be read and then dropped.
    fn is_indexed(&self) -> bool {
        self.priority.is_none()
            && self.requestor.is_none()
            && self.executor.is_none()
            && self.guest.is_none()
    }

    /// How many entries one call examines.
    fn most_examined(&self) -> usize {
        match self.guest {
            Some(_) => GUEST_EXAMINED,
            None => LIST_EXAMINED,
        }
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
            && self
                .guest
                .as_ref()
                .is_none_or(|guest| state.is_addressed_to(guest))
    }
}

/// A page of threads.
#[derive(Debug)]
pub struct Listed {
    /// The threads, newest change first.
    pub threads: Vec<ThreadState>,
    /// Where the next page begins, or `None` if this is the last page.
    pub next: Option<Cursor>,
}

/// Lists up to `limit` threads after `cursor`. Examines at most [`LIST_EXAMINED`] entries and stops
/// at about [`LIST_BYTES`].
///
/// # Errors
///
/// Fails with the store's error.
pub async fn list(
    app: &App,
    exchange: &ExchangeId,
    filter: &Filter,
    limit: usize,
    cursor: Option<&Cursor>,
) -> Result<Listed, ServiceError> {
    let _turn = turn_to_read_rows(app, exchange).await?;
    let pacer = Pace::new(app.store.as_ref());
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
    let most = filter.most_examined();
    while examined < most {
        let wanted = limit.saturating_sub(threads.len());
        let query = List {
            prefix: &prefix,
            after: after.as_deref(),
            // The index answers by itself, except for rows for which something has fallen due.
            limit: if filter.is_indexed() && examined == 0 {
                wanted.min(PAGE)
            } else {
                PAGE
            },
            summaries: true,
        };
        let store = app.store.as_ref();
        let SummaryPage { rows, more } =
            list_summaries(store, &app.isolate.summaries, query, summarize).await?;
        let last = rows.len();
        for (at, row) in rows.into_iter().enumerate() {
            examined = examined.saturating_add(1);
            let rest = more || at.saturating_add(1) < last;
            after = Some(row.key);
            pacer.did(row.summary.as_ref().map_or(0, String::len)).await;
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
            // If something has fallen due since the entry was written, shows the thread as of now.
            let state = state.as_of(now).unwrap_or(state);
            // While a thread changes, several of its entries may be in the list. The newest comes
            // first. `seen` holds the refs of this call only.
            if seen.insert(state.reference.clone()) && filter.admits(&state) {
                bytes = bytes.saturating_add(state.intent.len());
                threads.push(state);
            }
            let full = threads.len() >= limit || bytes >= LIST_BYTES;
            if rest && (full || examined >= most) {
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

/// The summary of an entry, without what rows leave out of it. Entries of older versions have all of
/// a long intent.
fn summarize(body: &[u8]) -> Option<String> {
    let text = whole_body(body)?;
    if text.len() <= ROW_INTENT_CHARS {
        return Some(text);
    }
    let short = ThreadState::from_entry(&text).and_then(|state| state.entry());
    Some(short.unwrap_or(text))
}

fn parse(summary: &str) -> Option<ThreadState> {
    ThreadState::from_entry(summary)
        .map_err(|error| crate::runtime::log::warn("an index entry cannot be read", &error))
        .ok()
}
