//! Planning: which deliveries a notice owes to an executor, and when.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::notice::{Names, News, Notice, What};
use super::provider::{Provider, uses_external_id};
use super::{CHANNELS, HOOKS};
use crate::domain::ids::{ExchangeId, ExecutorId, Ref, derived_id};
use crate::domain::member::executor::{Executor, Wants, entry_id, is_enabled};
use crate::domain::member::forms::{given, text};
use crate::domain::member::quiet_hours::{QuietHours, Zones};
use crate::domain::member::subscriptions::{HookEvent, own};
use crate::domain::thread::state::ThreadState;
use crate::domain::thread::status::{Priority, Status};
use crate::domain::time::Timestamp;

/// Deliveries that are attempted together: as many as there may be connections at once.
pub const CHUNK: usize = 6;

/// Some deliveries of one batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// The exchange of the request.
    pub exchange_id: ExchangeId,
    /// The request.
    #[serde(rename = "ref")]
    pub reference: Ref,
    /// The batch that they tell of.
    pub batch_id: Uuid,
    /// How people know those who took part.
    pub names: Names,
    /// The deliveries.
    pub owed: Vec<Owed>,
}

/// A delivery that is owed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owed {
    /// To whom.
    pub executor_id: ExecutorId,
    /// By which of its channels or hooks.
    pub subscription: Subscription,
    /// Of which of the batch's steps a hook tells.
    #[serde(default, skip_serializing_if = "is_first")]
    pub step: usize,
    /// Not before this moment.
    pub due_at: Timestamp,
    /// How often it was attempted.
    #[serde(default)]
    pub attempts: u32,
    /// Whether quiet hours put it off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deferred: bool,
    /// The provider has it, under this id, which could not be kept yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unkept_id: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_first(step: &usize) -> bool {
    *step == 0
}

impl Owed {
    /// What it tells; nothing when the batch has no such step.
    pub fn notice<'a>(&self, news: &'a News) -> Option<&'a Notice> {
        match self.subscription {
            Subscription::Channel(_) => Some(&news.whole),
            Subscription::Hook(_) => news.steps.get(self.step),
        }
    }
}

/// A channel or hook, by its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subscription {
    /// A notification channel.
    Channel(String),
    /// A hook of the batch's event.
    Hook(String),
}

/// What planning knows beside the notice.
pub struct Moment<'a> {
    /// The moment.
    pub now: Timestamp,
    /// The zone of executors that name none.
    pub default_zone: &'a str,
    /// The zones.
    pub zones: &'a dyn Zones,
}

/// When a delivery may be made.
#[derive(Debug, PartialEq, Eq)]
pub enum Readiness {
    /// At once.
    Now,
    /// At the end of the quiet hours.
    At(Timestamp),
    /// Not any more: what it would tell is over.
    Never,
}

impl Subscription {
    /// The id of the channel or hook.
    pub fn id(&self) -> &str {
        match self {
            Self::Channel(id) | Self::Hook(id) => id,
        }
    }

    /// The channel or hook in an executor's record, and its provider.
    pub fn find<'a>(
        &self,
        executor: &'a Executor,
        event: Option<HookEvent>,
    ) -> Option<(&'a Map<String, Value>, &'static Provider)> {
        let (list, providers) = match (self, event) {
            (Self::Channel(_), _) => (executor.notifications.as_slice(), CHANNELS),
            (Self::Hook(_), Some(event)) => (executor.hooks(event), HOOKS),
            (Self::Hook(_), None) => return None,
        };
        let entry = list.iter().find(|entry| entry_id(entry) == self.id())?;
        Some((entry.as_object()?, provider_of(entry, providers)?))
    }
}

fn provider_of(entry: &Value, providers: &'static [Provider]) -> Option<&'static Provider> {
    let name = entry.get("type")?.as_str()?;
    providers.iter().find(|provider| provider.form.name == name)
}

/// Whether an executor may be owed anything, as far as a list of executors tells.
pub fn is_concerned(id: &ExecutorId, wants: &Wants, capabilities: &[Value], news: &News) -> bool {
    let by_channel = wants
        .channels
        .is_some_and(|least| notifies(id, least, capabilities, &news.whole));
    let is_wanted = |step: &Notice| {
        let event = step.hook_event();
        event.is_some_and(|event| wants.hooks.iter().any(|name| name == event.as_str()))
            && addresses(id, capabilities, step)
    };
    by_channel || news.steps.iter().any(is_wanted)
}

/// Whether an executor who takes notice from priority `least` on is notified.
fn notifies(id: &ExecutorId, least: Priority, capabilities: &[Value], notice: &Notice) -> bool {
    let thread = notice.thread.as_ref();
    let is_for = |test: fn(&ThreadState, &ExecutorId) -> bool| thread.is_some_and(|t| test(t, id));
    // Whom the request was never announced to, it is not announced to again.
    let is_own = notice.what == What::Nudged && is_for(|thread, id| thread.requestor_id == *id);
    // Who has asked waits for the answer, however little the request presses.
    let has_asked = matches!(notice.what, What::Answered { .. })
        && is_for(|thread, id| thread.executor_id.as_ref() == Some(id));
    notice.actor != *id
        && !is_own
        && addresses(id, capabilities, notice)
        && (notice.priority() >= least || has_asked || is_for(is_escalated))
}

/// Whether a request is for an executor at all: it claims what is required, takes part, or is
/// the one to turn to.
fn addresses(id: &ExecutorId, capabilities: &[Value], notice: &Notice) -> bool {
    let Some(thread) = &notice.thread else {
        return true;
    };
    thread.terms.missing_from(capabilities).is_empty()
        || takes_part(thread, id)
        || notice
            .before
            .as_ref()
            .is_some_and(|before| takes_part(before, id))
        || is_escalated(thread, id)
}

/// Whether a request that nobody claimed was brought before an executor.
fn is_escalated(thread: &ThreadState, id: &ExecutorId) -> bool {
    thread.nudges > 0 && thread.terms.escalate_to.contains(id)
}

/// The deliveries that `news` owe to `executor`.
pub fn plan(news: &News, executor: &Executor, moment: &Moment) -> Vec<Owed> {
    let mut owed = Vec::new();
    let mut owe = |subscription, step, quiet_end: Option<Timestamp>| {
        owed.push(Owed {
            executor_id: executor.id.clone(),
            subscription,
            step,
            due_at: quiet_end.unwrap_or(moment.now),
            attempts: 0,
            deferred: quiet_end.is_some(),
            unkept_id: None,
        });
    };
    let (whole, capabilities) = (&news.whole, &executor.capabilities);
    if notifies(&executor.id, executor.min_priority(), capabilities, whole) {
        for entry in executor.notifications.iter().filter(|entry| is_on(entry)) {
            if let Some(provider) = provider_of(entry, CHANNELS)
                && !has_been_cleared(provider, whole, &executor.id)
            {
                let quiet_end = quiet_end(provider, whole, executor, moment);
                owe(Subscription::Channel(entry_id(entry)), 0, quiet_end);
            }
        }
    }
    for (step, notice) in news.steps.iter().enumerate() {
        let Some(event) = notice.hook_event() else {
            continue;
        };
        if !addresses(&executor.id, capabilities, notice) {
            continue;
        }
        for entry in executor.hooks(event).iter().filter(|entry| is_on(entry)) {
            let known = provider_of(entry, HOOKS).is_some();
            if known && (is_meant(notice, event, executor) || has_creator(executor, entry)) {
                owe(Subscription::Hook(entry_id(entry)), step, None);
            }
        }
    }
    owed
}

fn is_on(entry: &Value) -> bool {
    entry.as_object().is_some_and(is_enabled)
}

/// The end of the quiet hours that hold a notification back.
fn quiet_end(
    provider: &Provider,
    notice: &Notice,
    executor: &Executor,
    moment: &Moment,
) -> Option<Timestamp> {
    if notice.priority() == Priority::Urgent || only_clears(provider, notice, &executor.id) {
        return None;
    }
    QuietHours::of(&executor.preferences, moment.default_zone)?.end_after(moment.now, moment.zones)
}

/// Whether a notification that is due may go out, the request being in state `current`.
///
/// What quiet hours put off goes out only if it is still so; and what can be cleared always, or
/// a late one would stay when the clearing is through.
pub fn readiness(
    provider: &Provider,
    notice: &Notice,
    executor: &Executor,
    deferred: bool,
    current: &ThreadState,
    moment: &Moment,
) -> Readiness {
    if let Some(told) = &notice.thread
        && (deferred || provider.clears)
    {
        let is_needed = if only_clears(provider, notice, &executor.id) {
            current.status != Status::Pending
        } else {
            is_still_so(notice, told, current, &executor.id)
        };
        if !is_needed {
            return Readiness::Never;
        }
    }
    match quiet_end(provider, notice, executor, moment) {
        Some(end) => Readiness::At(end),
        None => Readiness::Now,
    }
}

/// News of a status are over with the status, messages with the request.
fn is_still_so(
    notice: &Notice,
    told: &ThreadState,
    current: &ThreadState,
    executor: &ExecutorId,
) -> bool {
    match notice.what {
        // Only the last of several announcements, of which the requestor is told but the first.
        What::Created | What::Nudged | What::Moved | What::Answered { .. } => {
            current.status == told.status
                && current.executor_id == told.executor_id
                && (current.nudges == told.nudges || told.requestor_id == *executor)
        }
        What::Written => !current.status.is_terminal() || told.status.is_terminal(),
        What::Test => true,
    }
}

/// Whether the request is in other hands: taken or over, and not this executor's in any way, nor
/// was it right before.
pub fn is_bystander(notice: &Notice, executor: &ExecutorId) -> bool {
    let takes_part = |state: &Option<ThreadState>| {
        state
            .as_ref()
            .is_some_and(|thread| takes_part(thread, executor))
    };
    notice
        .thread
        .as_ref()
        .is_some_and(|thread| thread.status != Status::Pending)
        && !takes_part(&notice.thread)
        && !takes_part(&notice.before)
}

/// Whether a channel has nothing to clear any more: it did so when the request was taken.
fn has_been_cleared(provider: &Provider, notice: &Notice, executor: &ExecutorId) -> bool {
    let was_open = notice
        .before
        .as_ref()
        .is_none_or(|before| before.status == Status::Pending);
    only_clears(provider, notice, executor) && !was_open
}

/// Whether a delivery rings nobody, but clears what rang before.
fn only_clears(provider: &Provider, notice: &Notice, executor: &ExecutorId) -> bool {
    provider.clears && is_bystander(notice, executor)
}

fn takes_part(thread: &ThreadState, executor: &ExecutorId) -> bool {
    thread.executor_id.as_ref() == Some(executor) || thread.requestor_id == *executor
}

/// Whether an executor's hooks of `event` are triggered whatever came before.
pub fn is_meant(notice: &Notice, event: HookEvent, executor: &Executor) -> bool {
    match event {
        HookEvent::Created | HookEvent::Claimed | HookEvent::Rejected | HookEvent::Cancelled => {
            true
        }
        HookEvent::Started | HookEvent::Completed => notice
            .thread
            .as_ref()
            .is_some_and(|thread| takes_part(thread, &executor.id)),
    }
}

/// Whether a hook means what an earlier hook created, and cannot do without its id.
pub fn needs_external_id(hook: &Map<String, Value>) -> bool {
    let completes = text(hook, "action") == Some("complete");
    let names_it = ["task_id", "issue_id"]
        .iter()
        .any(|name| given(hook, name).is_some());
    (completes && !names_it) || hook.values().any(uses_external_id)
}

/// The hooks that may have created what `hook` is about: those on `created` that give ids, of
/// the same type if it needs one, and of the same list if there are several.
pub fn creators<'a>(executor: &'a Executor, hook: &Map<String, Value>) -> Vec<&'a Value> {
    let needs = needs_external_id(hook);
    let gives = |entry: &&Value| {
        provider_of(entry, HOOKS).is_some_and(|provider| provider.gives_ids)
            && entry.get("action").and_then(Value::as_str) != Some("complete")
            && (!needs || entry.get("type") == hook.get("type"))
    };
    let found: Vec<&Value> = executor
        .hooks(HookEvent::Created)
        .iter()
        .filter(gives)
        .collect();
    let lists = ["tasklist", "project_id", "team_id"];
    let is_of_same_list =
        |entry: &&Value| lists.iter().all(|name| hook.get(*name) == entry.get(*name));
    if needs && found.iter().any(is_of_same_list) {
        return found.into_iter().filter(is_of_same_list).collect();
    }
    found
}

fn has_creator(executor: &Executor, entry: &Value) -> bool {
    entry
        .as_object()
        .is_some_and(|hook| !creators(executor, hook).is_empty())
}

/// Whether a hook was there when the request was posted, so that it was told of it.
pub fn was_there(executor: &Executor, creator: &Value, thread: &ThreadState) -> bool {
    let since = creator
        .get(own::CREATED_AT)
        .and_then(Value::as_str)
        .and_then(Timestamp::parse)
        .unwrap_or(executor.created_at);
    since <= thread.created_at
}

/// The id of a delivery, the same whoever computes it and whenever: that of a random UUID's form.
pub fn delivery_id(batch: Uuid, executor: &ExecutorId, subscription: &Subscription) -> Uuid {
    derived_id(&[&batch.to_string(), executor.as_str(), subscription.id()])
}
