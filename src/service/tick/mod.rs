//! The maintenance tick: completes what a writer left, discards what was never committed.

mod timer;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use futures::stream::{self, StreamExt as _};
use uuid::Uuid;

use super::deliveries::announce::{Announcement, PAGE_OPERATIONS, announce};
use super::deliveries::chunk::{CHUNK_OPERATIONS, Kept, attempt_chunk, attempt_kept};
use super::deliveries::record::sweep;
use super::due::obligations::{Claim, LAST_LOOK, Obligation, Subject, Verdict};
use super::due::timers;
use super::import::advance::advance;
use super::members::register::{is_of, write_event};
use super::records::Owner;
use super::requests::settle::Settlement;
use crate::app::App;
use crate::delivery::plan::CHUNK;
use crate::domain::ids::{ExchangeId, Ref};
use crate::domain::member::executor::Executor;
use crate::domain::thread::document::Thread;
use crate::domain::time::Timestamp;
use crate::runtime::log::{describe, warn};
use crate::storage::cas::load;
use crate::storage::{Condition, List, Object, Put, StoreError, Tag, layout};

/// Operations that an announcement leaves for others.
const KEPT: usize = 400;
/// Pages of a thousand keys that a tick lists.
const PAGES: usize = 5;
/// How many it works on at once.
const PARALLEL: usize = 2;
/// Milliseconds for which a tick's claim keeps others away.
const CLAIMED: i64 = 120_000;
/// How often one who claimed an obligation may die before it is put off like one that fails.
const DEATHS: u32 = 2;
/// Milliseconds until an obligation at which the look failed is looked at again; it doubles.
const FIRST_RETRY: i64 = 60_000;

/// Looks at the obligations that are due at `now`, oldest first: at those that recover and
/// announce, several at once, then at deliveries, one chunk after the other and in turn for each
/// exchange; as many as an invocation may.
///
/// # Errors
///
/// The store's, when it cannot list them. A failure at one of them only puts that one off.
pub async fn tick(app: &Rc<App>, now: Timestamp) -> Result<(), StoreError> {
    app.outbound.is_of_tick();
    let tick = Tick {
        app,
        started_at: now,
        announced: RefCell::default(),
    };
    let due = list_due(app, layout::DUE, now).await?;
    stream::iter(due)
        .for_each_concurrent(PARALLEL, |key| tick.look_at(key, PAGE_OPERATIONS))
        .await;
    let mut announced: BTreeMap<String, Obligation> = tick.announced.take().into_iter().collect();
    let mut due = list_due(app, layout::DELIVERIES, now).await?;
    // What this tick itself has committed is not due before a minute is over to anyone else.
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
            Some(obligation) => attempt_kept(app, (key, obligation), tick.now()).await,
            None => tick.look_at(key, CHUNK_OPERATIONS).await,
        }
    }
    Ok(())
}

/// The keys directly below `folder` that are due at `now`, of the oldest so many.
async fn list_due(app: &App, folder: &str, now: Timestamp) -> Result<Vec<String>, StoreError> {
    // The keys are in the order of their times, and those of another folder after them.
    let is_here = |key: &String| folder != layout::DUE || !key.starts_with(layout::DELIVERIES);
    let is_due = |key: &String| layout::due_at(key).is_none_or(|at| at <= now);
    let mut due: Vec<String> = Vec::new();
    for _ in 0..PAGES {
        let query = List::keys(folder, due.last().map(String::as_str), 1_000);
        let page = app.store.list(query).await?;
        let listed = page.rows.len();
        let keys = page.rows.into_iter().map(|row| row.key);
        let before = due.len();
        due.extend(keys.take_while(|key| is_here(key) && is_due(key)));
        if !page.more || due.len().saturating_sub(before) < listed {
            break;
        }
    }
    Ok(due)
}

/// The first of each exchange, then the second of each, and so on: nobody's many hold up
/// another's few.
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

/// A tick at work.
struct Tick<'a> {
    app: &'a Rc<App>,
    started_at: Timestamp,
    /// The deliveries that it announced, put under its claim.
    announced: RefCell<Vec<Kept>>,
}

impl Tick<'_> {
    /// The moment, by the clock that the tick was given.
    fn now(&self) -> Timestamp {
        self.started_at.plus_millis(self.app.outbound.age())
    }

    /// Looks at one obligation if so many operations are left.
    async fn look_at(&self, key: String, operations: usize) {
        if self.app.operations_left() < operations {
            return;
        }
        if let Err(error) = self.try_look_at(&key).await {
            warn("an obligation was not seen to", &error);
        }
    }

    /// 1. Claim the obligation; whoever loses leaves it alone.
    /// 2. See to it, unless those who did so before died of it again and again.
    /// 3. Delete it, or put it under a later key and delete the old one.
    async fn try_look_at(&self, key: &str) -> Result<(), StoreError> {
        let (app, now) = (self.app, self.now());
        // 1.
        let Some(Object { body, tag }) = app.store.get(key).await? else {
            return Ok(());
        };
        let document: Obligation = match serde_json::from_slice(&body) {
            Ok(document) => document,
            Err(error) => return put_off_unreadable(app, key, body, now, &error).await,
        };
        let has_killed = document.claim.is_some() && document.failures >= DEATHS;
        let Some(mut obligation) = claim(app, key, document, &tag, now).await? else {
            return Ok(());
        };
        // 2.
        let mut announced = Vec::new();
        let seen = if has_killed {
            Err(StoreError::new(
                "see to",
                key,
                &"it may be too much to see to",
            ))
        } else {
            self.see_to(&mut obligation, &mut announced).await
        };
        let verdict = seen.unwrap_or_else(|error| {
            warn("an obligation could not be met and is put off", &error);
            let doubled = FIRST_RETRY.saturating_mul(1 << obligation.failures.min(6));
            obligation.failures = obligation.failures.saturating_add(1);
            Verdict::Again(now.plus_millis(doubled.min(LAST_LOOK)))
        });
        // 3.
        obligation.finish(app, key, verdict).await?;
        // Only now: before, another tick could announce them again.
        self.announced.borrow_mut().append(&mut announced);
        Ok(())
    }

    async fn see_to(
        &self,
        obligation: &mut Obligation,
        deliveries: &mut Vec<Kept>,
    ) -> Result<Verdict, StoreError> {
        let (app, now, id) = (self.app, self.now(), obligation.id);
        let opened_at = obligation.opened_at;
        let last_look = opened_at.plus_millis(LAST_LOOK);
        let committed = match &mut obligation.subject {
            Subject::Thread {
                exchange_id,
                reference,
                announced,
            } => {
                let batch = Batch {
                    exchange: exchange_id,
                    reference,
                    id,
                    opened_at,
                };
                self.see_to_batch(&batch, announced, deliveries).await?
            }
            Subject::Announcement {
                batch_id,
                exchange_id,
                reference,
                after,
            } => {
                let batch = Batch {
                    exchange: exchange_id,
                    reference,
                    id: *batch_id,
                    opened_at,
                };
                if let Some(thread) = batch.load_thread(app).await? {
                    let after = Some(after.clone());
                    *deliveries = self.announce(&batch, &thread, after).await?;
                }
                return Ok(Verdict::Done);
            }
            Subject::Deliveries(_) => return attempt_chunk(app, obligation, now).await,
            Subject::Sweep {
                exchange_id,
                executor_id,
            } => {
                let owner = Owner {
                    exchange: exchange_id,
                    executor: executor_id,
                };
                let more = sweep(app, owner, now).await?;
                return Ok(if more {
                    Verdict::Again(now.plus_millis(1))
                } else {
                    Verdict::Done
                });
            }
            Subject::Timer {
                exchange_id,
                reference,
            } => {
                let fired = timer::fire(app, exchange_id, reference, now).await?;
                if let Some(batch) = fired.committed {
                    self.complete(exchange_id, reference, &batch, deliveries)
                        .await;
                }
                return Ok(fired.verdict);
            }
            Subject::Registration { .. } => see_to_registration(app, obligation, now).await?,
            Subject::Derivation { exchange_id } => {
                return Ok(if advance(app, exchange_id).await? {
                    Verdict::Done
                } else {
                    Verdict::Again(now)
                });
            }
        };
        // Until nothing can land any more the obligation stays: a batch that is not committed may
        // yet be, and a slow writer may yet put an entry that was overtaken.
        if now >= last_look {
            return Ok(Verdict::Done);
        }
        let next = if committed {
            last_look
        } else {
            let age = now.since(opened_at);
            now.plus_millis(age).min(last_look)
        };
        Ok(Verdict::Again(next))
    }

    /// Completes a batch if it was committed, and announces it once; says whether it was.
    async fn see_to_batch(
        &self,
        batch: &Batch<'_>,
        announced: &mut bool,
        deliveries: &mut Vec<Kept>,
    ) -> Result<bool, StoreError> {
        let store = self.app.store.as_ref();
        let Some(thread) = batch.load_thread(self.app).await? else {
            return Ok(false);
        };
        let Some(settlement) = Settlement::of(batch.exchange, &thread, batch.id)? else {
            return Ok(false);
        };
        met(settlement.repeat(store, &thread.state).await)?;
        if !*announced {
            settlement.set_timer(self.app, batch.exchange).await?;
            // One on which it relied may be over, if it landed late.
            timers::go_on(self.app, batch.exchange, &thread.state, self.now()).await?;
            *deliveries = self.announce(batch, &thread, None).await?;
            *announced = true;
        }
        Ok(true)
    }

    /// Sees to a batch that this tick has just committed. What fails is left to a later one.
    async fn complete(
        &self,
        exchange: &ExchangeId,
        reference: &Ref,
        obligation: &Obligation,
        deliveries: &mut Vec<Kept>,
    ) {
        let batch = Batch {
            exchange,
            reference,
            id: obligation.id,
            opened_at: obligation.opened_at,
        };
        match self.see_to_batch(&batch, &mut false, deliveries).await {
            Ok(_) => {
                obligation.close(self.app).await;
            }
            Err(error) => warn("what has fallen due is left to a later tick", &error),
        }
    }

    async fn announce(
        &self,
        batch: &Batch<'_>,
        thread: &Thread,
        after: Option<String>,
    ) -> Result<Vec<Kept>, StoreError> {
        let announcement = Announcement {
            thread,
            exchange: batch.exchange,
            batch_id: batch.id,
            opened_at: batch.opened_at,
        };
        let claim = new_claim(self.app, self.now());
        announce(self.app, &announcement, after, Some(&claim), KEPT).await
    }
}

/// A batch of a thread that something is owed for.
struct Batch<'a> {
    exchange: &'a ExchangeId,
    reference: &'a Ref,
    id: Uuid,
    opened_at: Timestamp,
}

impl Batch<'_> {
    async fn load_thread(&self, app: &App) -> Result<Option<Thread>, StoreError> {
        let key = layout::thread(self.exchange, self.reference);
        let loaded = load::<Thread>(app.store.as_ref(), &key).await?;
        Ok(loaded.map(|loaded| loaded.document))
    }
}

/// Moves an obligation that this version of the server cannot read, so that it stands in
/// nobody's way until one comes that can.
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

fn new_claim(app: &App, now: Timestamp) -> Claim {
    Claim {
        until: now.plus_millis(CLAIMED),
        nonce: app.clock.new_id(),
    }
}

async fn claim(
    app: &App,
    key: &str,
    mut obligation: Obligation,
    tag: &Tag,
    now: Timestamp,
) -> Result<Option<Obligation>, StoreError> {
    if obligation
        .claim
        .as_ref()
        .is_some_and(|claim| claim.until > now)
    {
        return Ok(None);
    }
    // Whoever claimed it before did not come to the end.
    if obligation.claim.is_some() {
        obligation.failures = obligation.failures.saturating_add(1);
    }
    obligation.claim = Some(new_claim(app, now));
    let body = obligation.to_json()?;
    let put = app
        .store
        .put(key, body, None, Condition::Matches(tag))
        .await?;
    Ok(matches!(put, Put::Stored(_)).then_some(obligation))
}

/// Completes a registration that was committed, or deletes the key of one that will not be any
/// more; says whether it was.
async fn see_to_registration(
    app: &App,
    obligation: &Obligation,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Subject::Registration {
        exchange_id,
        executor_id,
        key_hash,
        ..
    } = &obligation.subject
    else {
        return Ok(false);
    };
    let key = layout::executor(exchange_id, executor_id);
    let stored = load::<Executor>(app.store.as_ref(), &key).await?;
    let committed = stored.is_some_and(|stored| is_of(&stored.document, obligation));
    if committed {
        met(write_event(app, obligation).await)?;
    } else if now.since(obligation.opened_at) >= LAST_LOOK {
        app.store
            .delete(&layout::key(exchange_id, key_hash))
            .await?;
    }
    Ok(committed)
}

/// A step that failed has said so in the log; the obligation is put off.
fn met(done: bool) -> Result<(), StoreError> {
    if done {
        Ok(())
    } else {
        Err(StoreError::new("settle", layout::DUE, &"a step failed"))
    }
}
