//! Attempts deliveries that are due, and returns those that are left.

use futures::future::join_all;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::record::{
    Attempt, External, Outcome, disable, find_external, log_attempt, note_failure, note_success,
    remember_external,
};
use crate::app::App;
use crate::delivery::notice::{News, Notice};
use crate::delivery::plan::{
    Chunk, Moment, Owed, Readiness, Subscription, creators, delivery_id, is_bystander, is_meant,
    may_hear, needs_external_id, readiness, was_there,
};
use crate::delivery::provider::{Created, Job, Provider, Room};
use crate::delivery::retry::{Verdict, Wait, next_attempt};
use crate::domain::member::executor::{Executor, entry_id, is_enabled};
use crate::domain::member::subscriptions::HookEvent;
use crate::domain::thread::document::Thread;
use crate::domain::thread::state::ThreadState;
use crate::domain::time::Timestamp;
use crate::runtime::log::warn;
use crate::service::members::exchange::default_zone;
use crate::service::records;
use crate::service::records::Owner;
use crate::storage::cas::load;
use crate::storage::{StoreError, layout};

/// If the store prevents a delivery, it is tried again after this many milliseconds.
const STORE_PAUSE: i64 = 60_000;
/// If this invocation may not send a delivery any more, the delivery is due again after this many
/// milliseconds.
const BUSY_PAUSE: i64 = 1_000;

/// Attempts the deliveries of a chunk that are due at `now`, all at once, and records their
/// outcomes. Returns the deliveries that are left, each with the moment when it is due next.
///
/// # Errors
///
/// Fails if the request cannot be read. In that case nothing was sent.
pub async fn attempt(
    app: &App,
    chunk: &Chunk,
    hops: u32,
    now: Timestamp,
) -> Result<Vec<Owed>, StoreError> {
    let key = layout::thread(&chunk.exchange_id, &chunk.reference);
    let Some(thread) = load::<Thread>(app.store.as_ref(), &key).await? else {
        return Ok(Vec::new());
    };
    let thread = thread.document;
    let public_url = app.config.public_url.as_deref();
    let (exchange, batch_id) = (&chunk.exchange_id, chunk.batch_id);
    let news = News::of(exchange, &thread, batch_id, &chunk.names, public_url);
    let Some(news) = news else {
        return Ok(Vec::new());
    };
    // Something may have fallen due that is not stored yet. Notifications that it makes out of date
    // must not go out.
    let current = thread.state.as_of(now);
    let current = current.as_ref().unwrap_or(&thread.state);
    let one = async |owed: &Owed| {
        if owed.due_at > now {
            return Some(owed.clone());
        }
        let notice = owed.notice(&news)?;
        let delivery = Delivery {
            app,
            batch_id,
            notice,
            current,
            owed,
            hops,
            now,
            begun_at: app.clock.now(),
        };
        delivery.attempt().await.unwrap_or_else(|error| {
            warn("a delivery is put off", &error);
            Some(delivery.due(now.plus_millis(STORE_PAUSE)))
        })
    };
    let left = join_all(chunk.owed.iter().map(one)).await;
    Ok(left.into_iter().flatten().collect())
}

/// One attempt of a delivery.
struct Delivery<'a> {
    app: &'a App,
    batch_id: Uuid,
    notice: &'a Notice,
    /// The request as of now.
    current: &'a ThreadState,
    owed: &'a Owed,
    /// How many deliveries led to this one.
    hops: u32,
    now: Timestamp,
    /// The clock's time when the attempt began. It measures how long the attempt took.
    begun_at: Timestamp,
}

/// What is known about the object that a hook may use, before the hook is sent.
enum Known {
    /// The object is known, or none is needed.
    Is(Option<Created>),
    /// The hook itself created it, in an attempt that was not recorded.
    Made(String),
    /// Another hook has yet to create it.
    Waits,
    /// It will never exist.
    Never,
}

impl Delivery<'_> {
    /// 1. Find the executor and its channel or hook. They may be gone.
    /// 2. Check whether the delivery may go out now.
    /// 3. Unseal its credentials, and find the id that it needs.
    /// 4. Send.
    /// 5. Record.
    async fn attempt(&self) -> Result<Option<Owed>, StoreError> {
        let (app, owed, notice) = (self.app, self.owed, self.notice);
        // 1.
        let id = &owed.executor_id;
        let Some(executor) = records::read(app, self.owner(), None).await? else {
            return Ok(None);
        };
        let found = owed.subscription.find(&executor, notice.hook_event());
        let Some((config, provider)) = found else {
            return Ok(None);
        };
        // Its key may have ended, or its owner may have become a guest meanwhile.
        let is_on = executor.is_on(&Value::Object(config.clone()), self.now);
        if !is_on || !may_hear(&executor, notice) {
            return Ok(None);
        }
        // 2.
        if let Subscription::Channel(_) = owed.subscription {
            let moment = Moment {
                now: self.now,
                default_zone: &default_zone(app, self.owner().exchange, &executor).await?,
                zones: app.zones.as_ref(),
            };
            let (deferred, current) = (owed.deferred, self.current);
            match readiness(provider, notice, &executor, deferred, current, &moment) {
                Readiness::Now => {}
                Readiness::At(at) => {
                    return Ok(Some(Owed {
                        deferred: true,
                        ..self.due(at)
                    }));
                }
                Readiness::Never => {
                    self.drop_for(provider, "it was not needed any more").await;
                    return Ok(None);
                }
            }
        }
        // 3.
        let config = match records::unseal(app, self.owner(), &provider.form, config) {
            Ok(config) => config,
            Err(error) => {
                let verdict = Verdict::failed(error.to_string());
                return Ok(self.record(provider, verdict, None).await);
            }
        };
        let created = match self.find_created(provider, &executor, &config).await? {
            Known::Is(created) => created,
            Known::Made(id) => {
                let external_id = Some(id);
                let verdict = Verdict::Delivered { external_id };
                return Ok(self.record(provider, verdict, None).await);
            }
            Known::Waits => return Ok(self.wait(provider).await),
            Known::Never => {
                let reason = "no hook on on_request_created gave an id";
                self.drop_for(provider, reason).await;
                return Ok(None);
            }
        };
        // 4.
        let job = Job {
            config: &config,
            notice,
            id: self.id(),
            hops: self.hops,
            now: self.now,
            is_bystander: is_bystander(notice, id),
            created: created.as_ref(),
            tokens: &app.isolate.tokens,
            room: Room::default(),
        };
        let Some((verdict, status)) = app.outbound.converse(provider, &job).await else {
            return Ok(Some(self.due(self.now.plus_millis(BUSY_PAUSE))));
        };
        // 5.
        Ok(self.record(provider, verdict, status).await)
    }

    /// Finds what an earlier hook created. If the executor takes no part in the request, a hook on
    /// its start or its end is sent only if an earlier hook created something.
    async fn find_created(
        &self,
        provider: &Provider,
        executor: &Executor,
        hook: &Map<String, Value>,
    ) -> Result<Known, StoreError> {
        let none = Ok(Known::Is(None));
        let (Subscription::Hook(own_id), Some(event), Some(thread)) = (
            &self.owed.subscription,
            self.notice.hook_event(),
            &self.notice.thread,
        ) else {
            return none;
        };
        let find =
            async |id: &str| find_external(self.app, self.owner(), &thread.reference, id).await;
        if event == HookEvent::Created {
            // An attempt that could not be recorded may have created it already.
            let made = match &self.owed.unkept_id {
                Some(id) => Some(id.clone()),
                None if provider.gives_ids => match find(own_id).await? {
                    Some(External::ExternalId(id)) => Some(id),
                    Some(External::Never) | None => None,
                },
                None => None,
            };
            return made.map_or(none, |id| Ok(Known::Made(id)));
        }
        if is_meant(self.notice, event, executor) && !needs_external_id(hook) {
            return none;
        }
        let mut waits = false;
        for creator in creators(executor, hook) {
            match find(&entry_id(creator)).await? {
                Some(External::ExternalId(id)) => {
                    let by = creator.as_object().cloned().unwrap_or_default();
                    return Ok(Known::Is(Some(Created { id, by })));
                }
                Some(External::Never) => {}
                None => {
                    let enabled = creator.as_object().is_some_and(is_enabled);
                    waits |= enabled && was_there(executor, creator, thread);
                }
            }
        }
        Ok(if waits { Known::Waits } else { Known::Never })
    }

    /// Puts off a hook that needs the answer to another hook. Drops it when the schedule of
    /// attempts ends.
    async fn wait(&self, provider: &Provider) -> Option<Owed> {
        let number = self.owed.attempts.saturating_add(1);
        let next = next_attempt(
            number,
            self.now,
            Wait::Schedule,
            self.app.clock.random_share(),
        );
        let outcome = match next {
            Some(_) => Outcome::Retrying,
            None => Outcome::Dropped,
        };
        let reason = "waits for the id that a hook on on_request_created gets";
        self.log(provider, outcome, None, Some(reason), next).await;
        next.map(|at| Owed {
            attempts: number,
            ..self.due(at)
        })
    }

    /// Records the outcome of an attempt. Returns the delivery if it is to be tried again.
    async fn record(
        &self,
        provider: &Provider,
        verdict: Verdict,
        status: Option<u16>,
    ) -> Option<Owed> {
        let (app, owner) = (self.app, self.owner());
        let subscription = self.owed.subscription.id();
        let number = self.owed.attempts.saturating_add(1);
        let next = match &verdict {
            Verdict::Retry { wait, .. } => {
                // The wait begins when the answer arrives.
                let took = app.clock.now().since(self.begun_at);
                let now = self.now.plus_millis(took);
                next_attempt(number, now, *wait, app.clock.random_share())
            }
            _ => None,
        };
        // If a creating hook is done, records what it created, because the hooks that use its id
        // wait to know that.
        if let (Subscription::Hook(hook), Some(HookEvent::Created), None, Some(thread)) = (
            &self.owed.subscription,
            self.notice.hook_event().filter(|_| provider.gives_ids),
            next,
            &self.notice.thread,
        ) {
            let external = match &verdict {
                Verdict::Delivered {
                    external_id: Some(id),
                } => External::ExternalId(id.clone()),
                _ => External::Never,
            };
            let (exchange, executor) = (owner.exchange, owner.executor);
            let key = layout::external(exchange, &thread.reference, executor, hook);
            if let Err(error) = remember_external(app, &key, &external).await {
                warn("an external id could not be kept and is put off", &error);
                if let External::ExternalId(id) = external {
                    return Some(Owed {
                        unkept_id: Some(id),
                        ..self.due(self.now.plus_millis(STORE_PAUSE))
                    });
                }
            }
        }
        let (outcome, reason) = match &verdict {
            Verdict::Delivered { .. } => (Outcome::Delivered, None),
            Verdict::Retry { reason, .. } if next.is_some() => (Outcome::Retrying, Some(reason)),
            Verdict::Retry { reason, .. }
            | Verdict::Failed { reason }
            | Verdict::Gone { reason } => (Outcome::Failed, Some(reason)),
        };
        let reason = reason.map(String::as_str);
        self.log(provider, outcome, status, reason, next).await;
        let given_up = if outcome == Outcome::Delivered {
            note_success(app, owner, subscription).await;
            None
        } else if matches!(verdict, Verdict::Gone { .. }) {
            Some("the receiver answered 410: it wants nothing more")
        } else if note_failure(app, owner, subscription, self.now).await {
            Some("nothing but failures for 5 days")
        } else {
            None
        };
        if let Some(reason) = given_up {
            disable(app, owner, subscription, reason, self.now).await;
        }
        next.map(|at| Owed {
            attempts: number,
            ..self.due(at)
        })
    }

    async fn drop_for(&self, provider: &Provider, reason: &str) {
        self.log(provider, Outcome::Dropped, None, Some(reason), None)
            .await;
    }

    async fn log(
        &self,
        provider: &Provider,
        outcome: Outcome,
        status: Option<u16>,
        error: Option<&str>,
        next_attempt_at: Option<Timestamp>,
    ) {
        let attempt = Attempt {
            at: self.now,
            delivery_id: self.id(),
            event: self.notice.event().to_owned(),
            reference: self.notice.thread.as_ref().map(|t| t.reference.clone()),
            kind: provider.form.name.to_owned(),
            subscription: self.owed.subscription.id().to_owned(),
            attempt: self.owed.attempts.saturating_add(1),
            outcome,
            status,
            error: error.map(str::to_owned),
            next_attempt_at,
        };
        log_attempt(self.app, self.owner(), &attempt).await;
    }

    fn due(&self, at: Timestamp) -> Owed {
        Owed {
            due_at: at,
            ..self.owed.clone()
        }
    }

    fn id(&self) -> Uuid {
        let owed = self.owed;
        delivery_id(self.batch_id, &owed.executor_id, &owed.subscription)
    }

    fn owner(&self) -> Owner<'_> {
        Owner {
            exchange: &self.notice.exchange,
            executor: &self.owed.executor_id,
        }
    }
}
