//! Announces a committed batch: what it owes to executors becomes obligations in `due/` that stay
//! until they are met.
//!
//! After the commit, the announcement looks at the executors page by page. It writes what they are
//! owed to `due/` in chunks before anything is sent. Then the writer attempts as many chunks as it
//! has time for. The tick attempts the rest, and retries what failed. Every key is derived from the
//! batch, so doing any of this twice writes nothing twice.

use std::pin::pin;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::chunk::Kept;
use crate::app::App;
use crate::delivery::notice::{Names, News, Notice};
use crate::delivery::plan::{CHUNK, Chunk, Hearer, Moment, Owed, is_concerned, plan};
use crate::domain::ids::{ExchangeId, ExecutorId, derived_id};
use crate::domain::member::access::Role;
use crate::domain::member::executor::Wants;
use crate::domain::thread::document::Thread;
use crate::domain::time::Timestamp;
use crate::service::due::obligations::{Hold, Obligation, Subject, WRITERS_TIME};
use crate::service::members::exchange::default_zone;
use crate::service::records;
use crate::service::records::{Owner, summarize_wants};
use crate::storage::rows::{Pace, list_summaries};
use crate::storage::{List, StoreError, layout};

/// How many executors one page has: as many as R2 lists with their summaries.
const PAGE: usize = 100;
/// A page ends early when it has planned this many deliveries.
const MOST_OWED: usize = 300;
/// How many operations must be left to look at a page, which takes up to 160, and to attempt some
/// of the deliveries that it finds.
pub const PAGE_OPERATIONS: usize = 350;
/// How many operations run at once.
const PARALLEL: usize = 6;

/// A batch that is being announced.
pub struct Announcement<'a> {
    /// The thread that the batch belongs to.
    pub thread: &'a Thread,
    /// The thread's exchange.
    pub exchange: &'a ExchangeId,
    /// The batch.
    pub batch_id: Uuid,
    /// When the batch's obligation was written.
    pub begun_at: Timestamp,
    /// How many deliveries led to it.
    pub hops: u32,
}

/// The result of looking at a page of executors.
#[derive(Default)]
struct Looked {
    /// The chunks that are due at once and that nobody else had put.
    chunks: Vec<Kept>,
    /// The key after which the next page begins, if there is one.
    next: Option<String>,
}

/// Looks at the executors after the key `after`, and writes what they are owed to `due/`. If this
/// invocation cannot look at all of them and still keep `keep` operations for other work, it writes
/// an obligation to continue. Returns the chunks that are due at once, put under `hold`. None of
/// them has been attempted.
///
/// # Errors
///
/// Fails with the store's error. In that case everything must be done again.
pub async fn announce(
    app: &App,
    announcement: &Announcement<'_>,
    mut after: Option<String>,
    hold: Option<&Hold>,
    keep: usize,
) -> Result<Vec<Kept>, StoreError> {
    let mut chunks = Vec::new();
    loop {
        let looked = look_at_page(app, announcement, after.as_deref(), hold).await?;
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
                let obligation = Obligation {
                    hops: announcement.hops,
                    ..Obligation::of(id, announcement.begun_at, subject)
                };
                obligation.put_new(app, &obligation.first_key()).await?;
                return Ok(chunks);
            }
        }
    }
}

/// 1. List a page of executors, and read the records of those that may be owed something.
/// 2. Plan one record after the other. End the page early if it owes many deliveries.
/// 3. Put the chunks.
async fn look_at_page(
    app: &App,
    announcement: &Announcement<'_>,
    after: Option<&str>,
    hold: Option<&Hold>,
) -> Result<Looked, StoreError> {
    let Announcement {
        thread,
        exchange,
        batch_id,
        begun_at,
        ..
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
    let page = list_summaries(store, &app.isolate.wants, query, summarize_wants).await?;
    let mut next = page.rows.last().map(|row| row.key.clone());
    let mut more = page.more;
    let (mut concerned, pacer) = (Vec::new(), Pace::new(store));
    for row in page.rows {
        pacer.did(row.summary.as_ref().map_or(0, String::len)).await;
        let name = layout::name_in(&prefix, &row.key);
        if let Some(id) = name.and_then(|name| ExecutorId::parse(name, "executor").ok())
            && concerns(&id, row.summary.as_deref(), &news)
        {
            concerned.push((id, row));
        }
    }
    // 2.
    let planned = stream::iter(concerned).map(async |(id, row)| {
        let owner = Owner {
            exchange,
            executor: &id,
        };
        let Some(executor) = records::read(app, owner, row.tag.as_ref()).await? else {
            return Ok((row.key, Vec::new()));
        };
        let moment = Moment {
            now: begun_at,
            default_zone: &default_zone(app, exchange, &executor).await?,
            zones: app.zones.as_ref(),
        };
        Ok::<_, StoreError>((row.key, plan(&news, &executor, &moment)))
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
        let due_at = due_at.unwrap_or(begun_at);
        let first_due = begun_at.plus_millis(WRITERS_TIME);
        let mut obligation = chunk(announcement, &names, owed);
        let key = obligation.key_at(due_at.max(first_due));
        let at_once = due_at <= begun_at;
        obligation.hold = hold.filter(|_| at_once).cloned();
        let is_new = obligation.put_new(app, &key).await?;
        Ok((is_new && at_once).then_some((key, obligation)))
    };
    let puts = stream::iter(chunks(owed)).map(put_chunk);
    let put: Vec<_> = puts.buffered(PARALLEL).try_collect().await?;
    Ok(Looked {
        chunks: put.into_iter().flatten().collect(),
        next: next.filter(|_| more),
    })
}

/// Groups the deliveries that are due at the same moment into chunks. The first delivery of each
/// executor comes before the second of any, so that an executor with many deliveries does not hold
/// up one with a single delivery.
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

/// A chunk whose id is derived from what it contains.
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
    Obligation {
        hops: announcement.hops,
        ..Obligation::of(id, announcement.begun_at, subject)
    }
}

/// The display names to show. An executor without one is shown by its id.
async fn names_of(app: &App, notice: &Notice) -> Result<Names, StoreError> {
    let name = async |id: &ExecutorId| -> Result<String, StoreError> {
        if id.is_exchange() {
            return Ok("the exchange".to_owned());
        }
        let owner = Owner {
            exchange: &notice.exchange,
            executor: id,
        };
        let executor = records::read(app, owner, None).await?;
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

/// Whether an executor may be owed something. If its summary cannot tell, it may. If its capabilities
/// are not in the summary, it may have all that the request requires.
fn concerns(id: &ExecutorId, summary: Option<&str>, news: &News) -> bool {
    #[derive(Deserialize)]
    struct Told {
        wants: Wants,
        capabilities: Option<Vec<Value>>,
        #[serde(default)]
        role: Role,
    }
    let told = summary.and_then(|summary| serde_json::from_str::<Told>(summary).ok());
    told.is_none_or(|told| {
        let capabilities = told.capabilities.unwrap_or_else(|| required(news));
        let hearer = Hearer {
            id,
            capabilities: &capabilities,
            is_guest: told.role == Role::Guest,
        };
        is_concerned(hearer, &told.wants, news)
    })
}

/// The capabilities that the request requires.
fn required(news: &News) -> Vec<Value> {
    let thread = news.whole.thread.iter();
    let ids = thread.flat_map(|thread| &thread.terms.requires);
    ids.map(|id| Value::from(id.as_str())).collect()
}
