//! The maintenance tick. It completes what a writer left behind, and discards what was never
//! committed.

mod amendment;
mod announcement;
mod batch;
mod context;
mod hold;
mod import;
mod registration;
mod removal;
mod sweep;
mod timer;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use futures::stream::{self, StreamExt as _};

use super::deliveries::announce::PAGE_OPERATIONS;
use super::deliveries::chunk::{CHUNK_OPERATIONS, Kept, attempt_chunk, attempt_kept};
use super::due::obligations::{LAST_LOOK, Next, Obligation, Subject};
use super::records::Owner;
use crate::app::App;
use crate::delivery::plan::CHUNK;
use crate::domain::json::from_bytes;
use crate::domain::time::Timestamp;
use crate::runtime::log::{describe, warn};
use crate::storage::format::{self, FormatError};
use crate::storage::{Condition, List, Object, StoreError, layout};
use batch::Batch;
use context::{Seen, Tick};
use hold::hold;

/// How many pages of a thousand keys a tick lists.
const PAGES: usize = 5;
/// How many obligations the tick works on at once.
const PARALLEL: usize = 2;
/// How many ticks may die while they hold an obligation before it is put off like one that failed.
const DEATHS: u32 = 2;
/// Milliseconds until the tick looks again at an obligation after a failed look. The time doubles
/// with each failure.
const FIRST_RETRY: i64 = 60_000;

/// Looks at the obligations that are due at `now`, oldest first. It looks first at those that
/// recover and announce, several at once. Then it attempts deliveries, one chunk after the other,
/// taking turns between exchanges. Last come memberships that have ended. It does as much as one
/// invocation may.
///
/// # Errors
///
/// Fails with the store's error if the obligations cannot be listed. Also fails if a newer version
/// has written to the bucket. Then this isolate answers no requests, except about its health, until
/// a later tick finds that it may write the bucket again. If a look at one obligation fails, only
/// that obligation is put off.
pub async fn tick(app: &Rc<App>, now: Timestamp) -> Result<(), FormatError> {
    app.outbound.allow_tick_time();
    match format::ensure(app.store.as_ref()).await {
        Ok(()) => app.isolate.is_outdated.set(false),
        Err(outdated @ FormatError::Outdated { .. }) => {
            app.isolate.is_outdated.set(true);
            return Err(outdated);
        }
        // What the last tick found out still holds.
        Err(FormatError::Store(error)) => warn("the bucket's format could not be read", &error),
    }
    let work = Work {
        tick: Tick {
            app,
            started_at: now,
        },
        announced: RefCell::default(),
    };
    let Due { due, more } = list_due(app, layout::DUE, now).await?;
    stream::iter(due)
        .for_each_concurrent(PARALLEL, |key| work.look_at(key, PAGE_OPERATIONS))
        .await;
    let mut announced: BTreeMap<String, Obligation> = work.announced.take().into_iter().collect();
    let mut due = list_due(app, layout::DELIVERIES, now).await?.due;
    // For any other tick, the deliveries of a batch that this tick has committed are due only in a
    // minute.
    let listed: HashSet<_> = due.iter().cloned().collect();
    due.extend(
        announced
            .keys()
            .filter(|key| !listed.contains(*key))
            .cloned(),
    );
    for key in in_turn(due) {
        if !app.outbound.may_begin(CHUNK) {
            break;
        }
        match announced.remove(&key) {
            Some(obligation) => attempt_kept(app, (key, obligation), work.tick.now()).await,
            None => work.look_at(key, CHUNK_OPERATIONS).await,
        }
    }
    if more {
        for key in list_due(app, layout::DEPARTURES, now).await?.due {
            work.look_at(key, PAGE_OPERATIONS).await;
        }
    }
    Ok(())
}

/// Obligations that are due.
struct Due {
    /// Their keys.
    due: Vec<String>,
    /// Whether there may be departures, as far as the list shows. A tick lists them only then.
    more: bool,
}

/// The keys directly in `folder` that are due at `now`. Lists only a limited number, the oldest
/// ones.
async fn list_due(app: &App, folder: &str, now: Timestamp) -> Result<Due, StoreError> {
    // Keys are ordered by time, and the keys of the other folders come after them.
    let is_other =
        |key: &str| key.starts_with(layout::DELIVERIES) || key.starts_with(layout::DEPARTURES);
    let is_here = |key: &String| folder != layout::DUE || !is_other(key);
    let mut more = false;
    let is_due = |key: &String| layout::due_at(key).is_none_or(|at| at <= now);
    let mut due: Vec<String> = Vec::new();
    for _ in 0..PAGES {
        let query = List::keys(folder, due.last().map(String::as_str), 1_000);
        let page = app.store.list(query).await?;
        let listed = page.rows.len();
        let last = page.rows.last().map(|row| row.key.as_str());
        more = page.more || last.is_some_and(|key| key.starts_with(layout::DEPARTURES));
        let keys = page.rows.into_iter().map(|row| row.key);
        let before = due.len();
        due.extend(keys.take_while(|key| is_here(key) && is_due(key)));
        if !page.more || due.len().saturating_sub(before) < listed {
            break;
        }
    }
    Ok(Due { due, more })
}

/// Orders keys by turns: the first key of each exchange, then the second of each, and so on. So an
/// exchange with many deliveries does not hold up one with few.
fn in_turn(keys: Vec<String>) -> Vec<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut turns: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let exchange = layout::delivery_exchange(&key).unwrap_or_default();
            let count = counts.entry(exchange.to_owned()).or_default();
            let turn = *count;
            *count = count.saturating_add(1);
            (turn, key)
        })
        .collect();
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, key)| key).collect()
}

/// The work of a tick, with the deliveries that it has announced so far.
struct Work<'a> {
    tick: Tick<'a>,
    announced: RefCell<Vec<Kept>>,
}

impl Work<'_> {
    /// Looks at one obligation, if at least this many operations are left.
    async fn look_at(&self, key: String, operations: usize) {
        if self.tick.app.operations_left() < operations {
            return;
        }
        if let Err(error) = self.try_look_at(&key).await {
            warn("an obligation was not seen to", &error);
        }
    }

    /// 1. Hold the obligation. Whoever fails to hold it leaves it alone.
    /// 2. See to it, unless several ticks have died while they held it.
    /// 3. Delete it, or put it under a later key and delete the old one.
    async fn try_look_at(&self, key: &str) -> Result<(), StoreError> {
        let (app, now) = (self.tick.app, self.tick.now());
        // 1.
        let Some(Object { body, tag }) = app.store.get(key).await? else {
            return Ok(());
        };
        let document: Obligation = match from_bytes(&body) {
            Ok(document) => document,
            Err(error) => return put_off_unreadable(app, key, body, now, &error).await,
        };
        let has_killed = document.hold.is_some() && document.failures >= DEATHS;
        let Some(mut obligation) = hold(app, key, document, &tag, now).await? else {
            return Ok(());
        };
        // 2.
        let seen = if has_killed {
            let reason = &"it may be too much to see to";
            Err(StoreError::new("see to", key, reason))
        } else {
            see_to(&self.tick, &mut obligation).await
        };
        let mut seen = seen.unwrap_or_else(|error| {
            warn("an obligation could not be met and is put off", &error);
            let doubled = FIRST_RETRY.saturating_mul(1 << obligation.failures.min(6));
            obligation.failures = obligation.failures.saturating_add(1);
            Next::Again(now.plus_millis(doubled.min(LAST_LOOK))).into()
        });
        // 3.
        obligation.finish(app, key, seen.next).await?;
        // Adds them only now, because before this another tick could have announced them again.
        self.announced.borrow_mut().append(&mut seen.announced);
        Ok(())
    }
}

/// Sees to what an obligation is about. What remains to be done stays in the obligation.
async fn see_to(tick: &Tick<'_>, obligation: &mut Obligation) -> Result<Seen, StoreError> {
    let (id, begun_at, hops) = (obligation.id, obligation.begun_at, obligation.hops);
    match &mut obligation.subject {
        Subject::Thread {
            exchange_id: exchange,
            reference,
            announced,
        } => {
            let batch = Batch {
                exchange,
                reference,
                id,
                begun_at,
                hops,
            };
            let (seen, is_announced) = batch::see_to(tick, &batch, *announced).await?;
            *announced = is_announced;
            Ok(seen)
        }
        Subject::Announcement {
            batch_id,
            exchange_id: exchange,
            reference,
            after,
        } => {
            let batch = Batch {
                exchange,
                reference,
                id: *batch_id,
                begun_at,
                hops,
            };
            announcement::see_to(tick, &batch, after).await
        }
        Subject::Deliveries(_) => {
            let next = attempt_chunk(tick.app, obligation, tick.now()).await?;
            Ok(next.into())
        }
        Subject::Sweep {
            exchange_id: exchange,
            executor_id: executor,
        } => sweep::see_to(tick, Owner { exchange, executor }).await,
        Subject::Timer {
            exchange_id,
            reference,
        } => timer::see_to(tick, exchange_id, reference).await,
        Subject::Registration(registration) => {
            registration::see_to(tick, id, begun_at, registration).await
        }
        Subject::Amendment {
            exchange_id,
            object,
            entry,
        } => amendment::see_to(tick, exchange_id, object, entry, begun_at).await,
        Subject::Removal(removal) => removal::see_to(tick, removal, begun_at).await,
        Subject::Import { exchange_id } => import::see_to(tick, exchange_id).await,
    }
}

/// Moves an obligation that this version of the server cannot read. So it does not get in the way
/// of others until a version runs that can read it.
async fn put_off_unreadable(
    app: &App,
    key: &str,
    body: Vec<u8>,
    now: Timestamp,
    error: &serde_json::Error,
) -> Result<(), StoreError> {
    warn(
        &format!("{key} cannot be read and is put off"),
        &describe(error),
    );
    let Some(later) = layout::due_moved(key, now.plus_millis(LAST_LOOK)) else {
        return Ok(());
    };
    app.store.put(&later, body, None, Condition::Always).await?;
    app.store.delete(key).await
}
