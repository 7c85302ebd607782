//! Deliveries as obligations: what a committed batch owes to executors, kept in `due/` until it
//! is done.
//!
//! After the commit the executors are looked at, a page at a time; what they are owed is written
//! to `due/` in chunks before any of it is sent. Then the writer attempts what it has time for,
//! and the tick the rest, and again what failed. Every key is derived from the batch, so doing
//! any of it twice writes nothing twice.

use std::collections::BTreeSet;
use std::pin::pin;

use futures::future::join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::attempt::attempt;
use super::record::KEPT;
use crate::app::App;
use crate::delivery::notice::{Names, News, Notice};
use crate::delivery::plan::{CHUNK, Chunk, Moment, Owed, derived_id, is_concerned, plan};
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::member::executor::{Executor, Wants};
use crate::domain::thread::document::Thread;
use crate::domain::time::Timestamp;
use crate::runtime::log::{describe, warn};
use crate::service::due::obligations::{Claim, Obligation, Subject, Verdict, WRITERS_TIME};
use crate::storage::rows::list_summaries;
use crate::storage::{Condition, List, Put, StoreError, layout};

/// Executors that are looked at together: as many as R2 lists with their summaries.
const PAGE: usize = 100;
/// Deliveries after which a page ends.
const MOST_OWED: usize = 300;
/// Operations that must be left to look at a page, and to attempt some of what comes of it: the
/// page takes up to 160.
pub const PAGE_OPERATIONS: usize = 350;
/// Operations that must be left to attempt a chunk.
pub const CHUNK_OPERATIONS: usize = 100;
/// Operations at once.
const PARALLEL: usize = 6;
/// Arranged deletions that an isolate remembers; when there are more it begins anew.
const SWEEPS_KNOWN: usize = 10_000;
const DAY: i64 = 24 * 3_600_000;

/// A batch whose executors are being looked at.
pub struct Announcement<'a> {
    /// The thread that it is part of.
    pub thread: &'a Thread,
    /// The thread's exchange.
    pub exchange: &'a ExchangeId,
    /// The batch.
    pub batch_id: Uuid,
    /// When its obligation was written.
    pub opened_at: Timestamp,
}

/// An obligation and the key under which it lies.
pub type Kept = (String, Obligation);

/// What came of looking at a page of executors.
#[derive(Default)]
struct Looked {
    /// The chunks that are due at once and that nobody else has put.
    chunks: Vec<Kept>,
    /// The key after which the next page begins, if there is one.
    next: Option<String>,
}

/// Looks at the executors after the key `after`, puts what they are owed into `due/`, and for
/// those that this invocation cannot look at any more, if it is to `keep` so many operations, an
/// obligation to go on. Gives the chunks that are due at once, put under `claim`; none of them
/// has been attempted.
///
/// # Errors
///
/// The store's; then all of it is to be done again.
pub async fn announce(
    app: &App,
    announcement: &Announcement<'_>,
    mut after: Option<String>,
    claim: Option<&Claim>,
    keep: usize,
) -> Result<Vec<Kept>, StoreError> {
    let mut chunks = Vec::new();
    loop {
        let looked = look_at_page(app, announcement, after.as_deref(), claim).await?;
        chunks.extend(looked.chunks);
        match looked.next {
            None => return Ok(chunks),
            next if app.operations_left() >= keep.saturating_add(PAGE_OPERATIONS) => after = next,
            Some(after) => {
                let id = derived_id(&[&announcement.batch_id.to_string(), &after]);
                let subject = Subject::Announcement {
                    batch_id: announcement.batch_id,
                    exchange_id: announcement.exchange.clone(),
                    reference: announcement.thread.state.reference.clone(),
                    after,
                };
                let obligation = Obligation::of(id, announcement.opened_at, subject);
                put_new(app, &obligation.first_key(), &obligation).await?;
                return Ok(chunks);
            }
        }
    }
}

/// 1. List a page of executors, and read the records of those who may be owed something.
/// 2. Plan, one record after the other; end the page early when it has become much.
/// 3. Put the chunks.
async fn look_at_page(
    app: &App,
    announcement: &Announcement<'_>,
    after: Option<&str>,
    claim: Option<&Claim>,
) -> Result<Looked, StoreError> {
    let Announcement {
        thread,
        exchange,
        batch_id,
        opened_at,
    } = *announcement;
    let public_url = app.config.public_url.as_deref();
    let unnamed = Names::default();
    let Some(news) = News::of(exchange, thread, batch_id, &unnamed, public_url) else {
        return Ok(Looked::default());
    };
    // 1.
    let prefix = layout::executors(exchange);
    let query = List {
        prefix: &prefix,
        after,
        limit: PAGE,
        summaries: true,
    };
    let store = app.store.as_ref();
    let page = list_summaries(store, &app.isolate.summaries, query, summarize).await?;
    let mut next = page.rows.last().map(|row| row.key.clone());
    let mut more = page.more;
    let concerned = page.rows.into_iter().filter_map(|row| {
        let name = row.key.strip_prefix(&prefix)?.strip_suffix(".json")?;
        let id = ExecutorId::parse(name, "executor").ok()?;
        concerns(&id, row.summary.as_deref(), &news).then_some((id, row))
    });
    // 2.
    let moment = Moment {
        now: opened_at,
        default_zone: &app.config.default_timezone,
        zones: app.zones.as_ref(),
    };
    let planned = stream::iter(concerned).map(async |(id, row)| {
        let executor = app.executor(exchange, &id, row.tag.as_ref()).await?;
        let owed = executor.map(|executor| plan(&news, &executor, &moment));
        Ok::<_, StoreError>((row.key, owed.unwrap_or_default()))
    });
    let mut planned = pin!(planned.buffered(PARALLEL));
    let (mut owed, mut count) = (Vec::new(), 0_usize);
    while let Some((key, of_one)) = planned.try_next().await? {
        count = count.saturating_add(of_one.len());
        owed.push(of_one);
        if count >= MOST_OWED && next.as_ref() != Some(&key) {
            (next, more) = (Some(key), true);
            break;
        }
    }
    // 3.
    let names = match count {
        0 => Names::default(),
        _ => names_of(app, &news.whole).await?,
    };
    let put_chunk = async |owed: Vec<Owed>| -> Result<Option<Kept>, StoreError> {
        let due_at = owed.iter().map(|owed| owed.due_at).min();
        let due_at = due_at.unwrap_or(opened_at);
        let first_due = opened_at.plus_millis(WRITERS_TIME);
        let mut obligation = chunk(announcement, &names, owed);
        let key = obligation.key_at(due_at.max(first_due));
        let at_once = due_at <= opened_at;
        obligation.claim = claim.filter(|_| at_once).cloned();
        let is_new = put_new(app, &key, &obligation).await?;
        Ok((is_new && at_once).then_some((key, obligation)))
    };
    let puts = stream::iter(chunks(owed)).map(put_chunk);
    let put: Vec<_> = puts.buffered(PARALLEL).try_collect().await?;
    Ok(Looked {
        chunks: put.into_iter().flatten().collect(),
        next: next.filter(|_| more),
    })
}

/// Attempts chunks one after the other, as far as this invocation may.
pub async fn attempt_all(app: &App, chunks: Vec<Kept>) {
    for kept in chunks {
        attempt_kept(app, kept, app.clock.now()).await;
    }
}

/// Attempts a chunk that this invocation has put, if it still may.
pub async fn attempt_kept(app: &App, (key, mut obligation): Kept, now: Timestamp) {
    // Past the claim, or the writer's time, another may be at it.
    let is_ours = match &obligation.claim {
        Some(claim) => now < claim.until,
        None => now.since(obligation.opened_at) < crate::service::WRITE_WINDOW,
    };
    let may_begin = app.outbound.may_begin(CHUNK) && app.operations_left() >= CHUNK_OPERATIONS;
    if !is_ours || !may_begin {
        return;
    }
    let work = async {
        let verdict = attempt_chunk(app, &mut obligation, now).await?;
        obligation.finish(app, &key, verdict).await
    };
    if let Err(error) = work.await {
        warn("deliveries are left to the tick", &error);
    }
}

/// Attempts what is due of a chunk, and leaves in it what is still owed.
///
/// # Errors
///
/// The store's; nothing was sent.
pub async fn attempt_chunk(
    app: &App,
    obligation: &mut Obligation,
    now: Timestamp,
) -> Result<Verdict, StoreError> {
    let Subject::Deliveries(chunk) = &mut obligation.subject else {
        return Ok(Verdict::Done);
    };
    let executors: BTreeSet<_> = chunk.owed.iter().map(|owed| &owed.executor_id).collect();
    let sweeps = executors
        .into_iter()
        .map(|executor| arrange_sweep(app, &chunk.exchange_id, executor, now));
    // The next attempt of the day arranges what this one cannot.
    for outcome in join_all(sweeps).await {
        outcome.unwrap_or_else(|error| warn("old attempts may stay", &error));
    }
    chunk.owed = attempt(app, chunk, now).await?;
    obligation.failures = 0;
    let next = chunk.owed.iter().map(|owed| owed.due_at).min();
    Ok(next.map_or(Verdict::Done, Verdict::Again))
}

/// Sees to it that an executor's attempts of this day are deleted when they are old: an
/// obligation for each executor and day, spread over a day so that they do not all come at
/// midnight.
///
/// # Errors
///
/// The store's.
pub async fn arrange_sweep(
    app: &App,
    exchange: &ExchangeId,
    executor: &ExecutorId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let day = now.millis().div_euclid(DAY);
    let parts = ["sweep", exchange.as_str(), executor.as_str()];
    let id = derived_id(&[&parts.join(" "), &day.to_string()]);
    let known = id.to_string();
    if app.isolate.swept.borrow().contains(&known) {
        return Ok(());
    }
    let spread = i64::from(id.as_fields().0).rem_euclid(DAY);
    let subject = Subject::Sweep {
        exchange_id: exchange.clone(),
        executor_id: executor.clone(),
    };
    let obligation = Obligation::of(id, now, subject);
    let day_is_over = Timestamp::from_millis(day.saturating_add(1).saturating_mul(DAY));
    let due_at = day_is_over.plus_millis(KEPT.saturating_add(spread));
    put_new(app, &layout::due(due_at, id), &obligation).await?;
    let mut swept = app.isolate.swept.borrow_mut();
    if swept.len() >= SWEEPS_KNOWN {
        swept.clear();
    }
    swept.insert(known);
    Ok(())
}

/// Puts an obligation unless it is there; says whether it was not.
///
/// # Errors
///
/// The store's.
pub async fn put_new(app: &App, key: &str, obligation: &Obligation) -> Result<bool, StoreError> {
    let body = obligation.to_json()?;
    let put = app.store.put(key, body, None, Condition::Absent).await?;
    Ok(put != Put::ConditionFailed)
}

/// What is due at one moment, in chunks: the first delivery of each executor before the second of
/// any, so that nobody's many hold up another's only one.
fn chunks(of_each: Vec<Vec<Owed>>) -> Vec<Vec<Owed>> {
    let mut turns: Vec<_> = of_each
        .into_iter()
        .flat_map(|owed| owed.into_iter().enumerate())
        .collect();
    turns.sort_by_key(|(turn, owed)| (owed.due_at, *turn));
    let owed: Vec<Owed> = turns.into_iter().map(|(_, owed)| owed).collect();
    owed.chunk_by(|a, b| a.due_at == b.due_at)
        .flat_map(|same| same.chunks(CHUNK))
        .map(<[Owed]>::to_vec)
        .collect()
}

/// A chunk under an id that tells what is in it.
fn chunk(announcement: &Announcement, names: &Names, owed: Vec<Owed>) -> Obligation {
    let batch_id = announcement.batch_id.to_string();
    let mut parts = vec![batch_id.as_str()];
    for owed in &owed {
        parts.extend([owed.executor_id.as_str(), owed.subscription.id()]);
    }
    let id = derived_id(&parts);
    let subject = Subject::Deliveries(Chunk {
        exchange_id: announcement.exchange.clone(),
        reference: announcement.thread.state.reference.clone(),
        batch_id: announcement.batch_id,
        names: names.clone(),
        owed,
    });
    Obligation::of(id, announcement.opened_at, subject)
}

/// The names that people know; an id where there is no record.
async fn names_of(app: &App, notice: &Notice) -> Result<Names, StoreError> {
    let name = async |id: &ExecutorId| -> Result<String, StoreError> {
        if id.is_exchange() {
            return Ok("the exchange".to_owned());
        }
        let executor = app.executor(&notice.exchange, id, None).await?;
        let name = executor.map(|executor| executor.display_name.clone());
        Ok(name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| id.to_string()))
    };
    Ok(Names {
        actor: name(&notice.actor).await?,
        executor: match notice.executor() {
            Some(id) => name(id).await?,
            None => String::new(),
        },
    })
}

/// Whether an executor may be owed something: by its summary, or if that does not tell.
fn concerns(id: &ExecutorId, summary: Option<&str>, news: &News) -> bool {
    #[derive(Deserialize)]
    struct Told {
        wants: Wants,
        #[serde(default)]
        capabilities: Vec<Value>,
    }
    let told = summary.and_then(|summary| serde_json::from_str::<Told>(summary).ok());
    told.is_none_or(|told| is_concerned(id, &told.wants, &told.capabilities, news))
}

/// The summary of a record.
pub fn summarize(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Executor>(body)
        .map_err(|error| warn("an executor's record cannot be read", &describe(&error)))
        .ok()
        .map(|executor| executor.summary())
}
