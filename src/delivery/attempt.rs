//! Attempting: works through deliveries that are due, and tells which are left.

use futures::future::join_all;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::FORMS;
use super::notice::Notice;
use super::plan::{
    Chunk, Moment, Owed, Readiness, Subscription, creators, delivery_id, is_bystander, is_meant,
    needs_external_id, readiness, was_there,
};
use super::provider::{Created, Job, Provider, Step, Turn};
use super::record::{
    Attempt, External, Outcome, Owner, find_external, log_attempt, note_failure, note_success,
    remember_external, set_disabled,
};
use super::retry::{Verdict, next_attempt};
use super::send::Outbound;
use crate::app::App;
use crate::domain::executor::{Executor, entry_id, is_enabled};
use crate::domain::sealed::{Seal, SealError};
use crate::domain::subscriptions::{HookEvent, form_of};
use crate::domain::thread::{Thread, ThreadState};
use crate::domain::time::Timestamp;
use crate::log::warn;
use crate::storage::cas::load;
use crate::storage::{StoreError, layout};

/// Milliseconds until what the bucket prevented is tried again.
const STORE_PAUSE: i64 = 60_000;

/// Attempts the deliveries of a chunk that are due at `now`, all at once, and records what came
/// of them. Gives those that are left, each with the moment when it is due next.
///
/// # Errors
///
/// The request cannot be read; nothing was sent.
pub async fn attempt(app: &App, chunk: &Chunk, now: Timestamp) -> Result<Vec<Owed>, StoreError> {
    let key = layout::thread(&chunk.exchange_id, &chunk.reference);
    let Some(thread) = load::<Thread>(app.store.as_ref(), &key).await? else {
        return Ok(Vec::new());
    };
    let thread = thread.document;
    let public_url = app.config.public_url.as_deref();
    let names = chunk.names.clone();
    let Some(notice) = Notice::of(
        &chunk.exchange_id,
        &thread,
        chunk.batch_id,
        names,
        public_url,
    ) else {
        return Ok(Vec::new());
    };
    let one = async |owed: &Owed| {
        if owed.due_at > now {
            return Some(owed.clone());
        }
        let delivery = Delivery {
            app,
            batch_id: chunk.batch_id,
            notice: &notice,
            current: &thread.state,
            owed,
            now,
        };
        delivery.attempt().await.unwrap_or_else(|error| {
            warn("a delivery is put off", &error);
            Some(delivery.due(now.plus_millis(STORE_PAUSE)))
        })
    };
    let left = join_all(chunk.owed.iter().map(one)).await;
    Ok(left.into_iter().flatten().collect())
}

/// A delivery at one attempt.
struct Delivery<'a> {
    app: &'a App,
    batch_id: Uuid,
    notice: &'a Notice,
    /// The request as it is now.
    current: &'a ThreadState,
    owed: &'a Owed,
    now: Timestamp,
}

/// What is known of an id before a hook that may use it.
enum Known {
    /// It is this, or none is needed.
    Is(Option<Created>),
    /// It is still to come.
    Waits,
    /// It will never be.
    Never,
}

impl Delivery<'_> {
    /// 1. Find the executor and its channel or hook: they may be gone.
    /// 2. See whether it may go out now.
    /// 3. Find the id that it needs.
    /// 4. Send.
    /// 5. Record.
    async fn attempt(&self) -> Result<Option<Owed>, StoreError> {
        let (app, owed, notice) = (self.app, self.owed, self.notice);
        // 1.
        let Some(executor) = app
            .executor(&notice.exchange, &owed.executor_id, None)
            .await?
        else {
            return Ok(None);
        };
        let found = owed.subscription.find(&executor, notice.hook_event());
        let Some((config, provider)) = found else {
            return Ok(None);
        };
        if !is_enabled(&Value::Object(config.clone())) {
            return Ok(None);
        }
        // 2.
        if let Subscription::Channel(_) = owed.subscription {
            let moment = Moment {
                now: self.now,
                default_zone: &app.config.default_timezone,
                zones: app.zones.as_ref(),
            };
            match readiness(provider, notice, &executor, self.current, &moment) {
                Readiness::Now => {}
                Readiness::At(at) => return Ok(Some(self.due(at))),
                Readiness::Never => {
                    let reason = "it was not needed any more";
                    self.log(provider, Outcome::Dropped, None, Some(reason), None)
                        .await;
                    return Ok(None);
                }
            }
        }
        // 3.
        let known = self.known_id(&executor, config).await?;
        // 4.
        let (verdict, status) = match known {
            Known::Is(created) => self.send(provider, config, created.as_ref()).await,
            Known::Waits => return Ok(self.wait(provider).await),
            Known::Never => {
                let reason = "no hook on on_request_created gave an id";
                self.log(provider, Outcome::Dropped, None, Some(reason), None)
                    .await;
                return Ok(None);
            }
        };
        // 5.
        Ok(self.record(provider, verdict, status).await)
    }

    /// The id that a hook's provider gave earlier. Who has no part in the request is meant by
    /// its start and end only if there is one.
    async fn known_id(
        &self,
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
        if is_meant(self.notice, event, executor) && !needs_external_id(hook) {
            return none;
        }
        let mut waits = false;
        for creator in creators(executor, hook) {
            let id = entry_id(creator);
            if id == *own_id {
                return none;
            }
            let owner = self.owner();
            match find_external(self.app, owner, &thread.reference, &id).await? {
                Some(External::ExternalId(id)) => {
                    let by = creator.as_object().cloned().unwrap_or_default();
                    return Ok(Known::Is(Some(Created { id, by })));
                }
                Some(External::Never(_)) => {}
                None => waits |= is_enabled(creator) && was_there(executor, creator, thread),
            }
        }
        Ok(if waits { Known::Waits } else { Known::Never })
    }

    /// Puts off what cannot be sent before another hook has its answer.
    async fn wait(&self, provider: &Provider) -> Option<Owed> {
        let number = self.owed.attempts.saturating_add(1);
        let next = next_attempt(number, self.now, None, self.app.clock.random_share());
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

    /// Opens the credentials and has the conversation with the provider.
    async fn send(
        &self,
        provider: &Provider,
        config: &Map<String, Value>,
        created: Option<&Created>,
    ) -> (Verdict, Option<u16>) {
        let app = self.app;
        let config = match open(app, self.owner(), config) {
            Ok(config) => config,
            Err(error) => return (Verdict::failed(error.to_string()), None),
        };
        let job = Job {
            config: &config,
            notice: self.notice,
            id: self.id(),
            now: self.now,
            is_bystander: is_bystander(self.notice, &self.owed.executor_id),
            created,
            tokens: &app.isolate.tokens,
        };
        converse(&app.outbound, provider, &job).await
    }

    /// Writes down what came of an attempt; gives the delivery back when it is left for later.
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
            Verdict::Retry { after, .. } => {
                next_attempt(number, self.now, *after, app.clock.random_share())
            }
            _ => None,
        };
        // What comes of a creating hook, for those that use its id: they wait until they know.
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
                _ => External::Never(true),
            };
            let (exchange, executor) = (owner.exchange, owner.executor);
            let key = layout::external(exchange, &thread.reference, executor, hook);
            remember_external(app, &key, &external).await;
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
        if given_up.is_some() {
            set_disabled(app, owner, subscription, given_up, self.now).await;
        }
        next.map(|at| Owed {
            attempts: number,
            ..self.due(at)
        })
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

/// Has the conversation that makes one delivery; also gives the last status that was answered.
pub async fn converse(
    outbound: &Outbound,
    provider: &Provider,
    job: &Job<'_>,
) -> (Verdict, Option<u16>) {
    let mut turns: Vec<Turn> = Vec::new();
    let status = |turns: &[Turn]| {
        let last = turns.last()?.answer.as_ref().ok()?;
        Some(last.status)
    };
    while turns.len() < Outbound::turns() {
        match (provider.step)(job, &turns) {
            Step::Send(request) => {
                let answer = outbound.send(&request).await;
                turns.push(Turn { request, answer });
            }
            Step::End(verdict) => return (verdict, status(&turns)),
        }
    }
    (Verdict::failed("it did not come to an end"), status(&turns))
}

/// The configuration of a channel or hook with its credentials opened.
///
/// # Errors
///
/// One of them does not open.
pub fn open(
    app: &App,
    owner: Owner<'_>,
    config: &Map<String, Value>,
) -> Result<Map<String, Value>, SealError> {
    let mut config = config.clone();
    let form = form_of(&config, FORMS.channels).into_iter();
    for form in form.chain(form_of(&config, FORMS.hooks)) {
        let seal = Seal {
            keys: &app.config.secrets,
            owner: &seal_owner(owner),
        };
        seal.open(&mut config, form)?;
    }
    Ok(config)
}

/// Whose credentials a sealed text holds.
pub fn seal_owner(owner: Owner<'_>) -> String {
    format!("{}/{}", owner.exchange, owner.executor)
}
