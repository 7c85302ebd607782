//! Planning: which deliveries a notice owes to an executor, and when.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::notice::{Names, News, Notice, What};
use super::provider::{Provider, uses_external_id};
use super::{CHANNELS, HOOKS};
use crate::domain::ids::{ExchangeId, ExecutorId, Ref, derived_id};
use crate::domain::member::access::Role;
use crate::domain::member::executor::{Executor, Wants, entry_id};
use crate::domain::member::forms::{given, text};
use crate::domain::member::quiet_hours::{QuietHours, Zones};
use crate::domain::member::subscriptions::{HookEvent, own};
use crate::domain::thread::state::ThreadState;
use crate::domain::thread::status::{Priority, Status};
use crate::domain::time::Timestamp;

/// How many deliveries are attempted together: as many as an invocation may have connections.
pub const CHUNK: usize = 6;

/// Some deliveries of one batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// The exchange of the request.
    pub exchange_id: ExchangeId,
    /// The request.
    #[serde(rename = "ref")]
    pub reference: Ref,
    /// The batch that the deliveries tell.
    pub batch_id: Uuid,
    /// The names to show for the executors involved.
    pub names: Names,
    /// The deliveries.
    pub owed: Vec<Owed>,
}

/// A delivery that is owed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owed {
    /// The executor it goes to.
    pub executor_id: ExecutorId,
    /// The channel or hook it uses.
    pub subscription: Subscription,
    /// The index of the step that a hook tells.
    #[serde(default, skip_serializing_if = "is_first")]
    pub step: usize,
    /// The earliest moment to attempt it.
    pub due_at: Timestamp,
    /// How many attempts there were.
    #[serde(default)]
    pub attempts: u32,
    /// Whether quiet hours deferred it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deferred: bool,
    /// The provider's id, if the provider has the delivery but the id could not be stored yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unkept_id: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_first(step: &usize) -> bool {
    *step == 0
}

impl Owed {
    /// The notice to deliver, or `None` if the batch has no such step.
    pub fn notice<'a>(&self, news: &'a News) -> Option<&'a Notice> {
        match self.subscription {
            Subscription::Channel(_) => Some(&news.whole),
            Subscription::Hook(_) => news.steps.get(self.step),
        }
    }
}

/// A channel or hook, named by its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subscription {
    /// A notification channel.
    Channel(String),
    /// A hook on the event of one of the batch's steps.
    Hook(String),
}

/// What planning needs besides the notice.
pub struct Moment<'a> {
    /// The current moment.
    pub now: Timestamp,
    /// The time zone of executors that name none.
    pub default_zone: &'a str,
    /// The time zones.
    pub zones: &'a dyn Zones,
}

/// When a delivery may be made.
#[derive(Debug, PartialEq, Eq)]
pub enum Readiness {
    /// At once.
    Now,
    /// At the end of the quiet hours.
    At(Timestamp),
    /// Not any more, because what it would tell is out of date.
    Never,
}

impl Subscription {
    /// The id of the channel or hook.
    pub fn id(&self) -> &str {
        match self {
            Self::Channel(id) | Self::Hook(id) => id,
        }
    }

    /// The channel or hook in an executor's record, and its provider. There is none if the executor is
    /// suspended.
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
        let is_ours = |entry: &&Value| executor.access.is_active() && entry_id(entry) == self.id();
        let entry = list.iter().find(is_ours)?;
        Some((entry.as_object()?, provider_of(entry, providers)?))
    }
}

fn provider_of(entry: &Value, providers: &'static [Provider]) -> Option<&'static Provider> {
    let name = entry.get("type")?.as_str()?;
    providers.iter().find(|provider| provider.form.name == name)
}

/// Somebody who may be told, as far as the list of executors shows.
#[derive(Clone, Copy)]
pub struct Hearer<'a> {
    /// Its id.
    pub id: &'a ExecutorId,
    /// The capabilities that it has.
    pub capabilities: &'a [Value],
    /// Whether it is a guest, who hears only of what is addressed to it.
    pub is_guest: bool,
}

impl<'a> Hearer<'a> {
    fn of(executor: &'a Executor) -> Self {
        Self {
            id: &executor.id,
            capabilities: &executor.capabilities,
            is_guest: executor.access.role == Role::Guest,
        }
    }
}

/// Whether an executor may hear of a notice that was meant for it: a guest only of what is addressed to
/// it.
pub fn may_hear(executor: &Executor, notice: &Notice) -> bool {
    let hearer = Hearer::of(executor);
    !hearer.is_guest || addresses(hearer, notice)
}

/// Whether an executor may be owed a delivery, as far as the list of executors shows.
pub fn is_concerned(hearer: Hearer<'_>, wants: &Wants, news: &News) -> bool {
    let by_channel = wants
        .channels
        .is_some_and(|least| notifies(hearer, least, &news.whole));
    let is_wanted = |step: &Notice| {
        let event = step.hook_event();
        event.is_some_and(|event| wants.hooks.iter().any(|name| name == event.as_str()))
            && addresses(hearer, step)
    };
    by_channel || news.steps.iter().any(is_wanted)
}

/// Whether to notify an executor that wants notices from priority `least` up.
fn notifies(hearer: Hearer<'_>, least: Priority, notice: &Notice) -> bool {
    let id = hearer.id;
    let thread = notice.thread.as_ref();
    let is_for = |test: fn(&ThreadState, &ExecutorId) -> bool| thread.is_some_and(|t| test(t, id));
    // A reminder goes to the same people as a new request: everyone but the requestor.
    let is_own = notice.what == What::Nudged && is_for(|thread, id| thread.requestor_id == *id);
    // The executor that asked is waiting for the answer, however low the priority is.
    let has_asked = matches!(notice.what, What::Answered { .. })
        && is_for(|thread, id| thread.executor_id.as_ref() == Some(id));
    notice.actor != *id
        && !is_own
        && addresses(hearer, notice)
        && (notice.priority() >= least || has_asked || is_for(ThreadState::is_escalated_to))
}

/// Whether a request concerns an executor at all: the executor has the required capabilities (and is
/// no guest), takes part in it, or is the one that it was escalated to.
fn addresses(hearer: Hearer<'_>, notice: &Notice) -> bool {
    let Some(thread) = &notice.thread else {
        return true;
    };
    let id = hearer.id;
    (!hearer.is_guest && thread.terms.missing_from(hearer.capabilities).is_empty())
        || takes_part(thread, id)
        || notice
            .before
            .as_ref()
            .is_some_and(|before| takes_part(before, id))
        || thread.is_escalated_to(id)
}

/// The deliveries that `news` owes to `executor`.
pub fn plan(news: &News, executor: &Executor, moment: &Moment) -> Vec<Owed> {
    let mut owed = Vec::new();
    if !executor.access.is_active() {
        return owed;
    }
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
    let (whole, hearer) = (&news.whole, Hearer::of(executor));
    if notifies(hearer, executor.min_priority(), whole) {
        for entry in executor
            .notifications
            .iter()
            .filter(|entry| executor.is_on(entry, moment.now))
        {
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
        if !addresses(hearer, notice) {
            continue;
        }
        for entry in executor
            .hooks(event)
            .iter()
            .filter(|entry| executor.is_on(entry, moment.now))
        {
            let known = provider_of(entry, HOOKS).is_some();
            if known && (is_meant(notice, event, executor) || has_creator(executor, entry)) {
                owe(Subscription::Hook(entry_id(entry)), step, None);
            }
        }
    }
    owed
}

/// The end of the quiet hours that delay a notification.
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

/// Whether a notification that is due may go out while the request is in state `current`.
///
/// A notification that quiet hours deferred goes out only if it is still true. So does every
/// notification of a provider that clears: otherwise a late one could arrive after the clearing and
/// stay.
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

/// Whether a notice is still true. News of a status is out of date once the status changes, and a
/// message once the request is over.
fn is_still_so(
    notice: &Notice,
    told: &ThreadState,
    current: &ThreadState,
    executor: &ExecutorId,
) -> bool {
    match notice.what {
        // Of several reminders only the last one is still true. The requestor gets no reminders, so
        // their number does not matter to it.
        What::Created | What::Nudged | What::Moved | What::Answered { .. } => {
            current.status == told.status
                && current.executor_id == told.executor_id
                && (current.nudges == told.nudges || told.requestor_id == *executor)
        }
        What::Written => !current.status.is_terminal() || told.status.is_terminal(),
        What::Test => true,
    }
}

/// Whether the executor is a bystander: the request is no longer pending, and the executor takes no
/// part in it now and took none right before.
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

/// Whether a channel has nothing left to clear, because it did so when the request was claimed.
fn has_been_cleared(provider: &Provider, notice: &Notice, executor: &ExecutorId) -> bool {
    let was_open = notice
        .before
        .as_ref()
        .is_none_or(|before| before.status == Status::Pending);
    only_clears(provider, notice, executor) && !was_open
}

/// Whether a delivery disturbs nobody and only clears an earlier notification.
fn only_clears(provider: &Provider, notice: &Notice, executor: &ExecutorId) -> bool {
    provider.clears && is_bystander(notice, executor)
}

fn takes_part(thread: &ThreadState, executor: &ExecutorId) -> bool {
    thread.executor_id.as_ref() == Some(executor) || thread.requestor_id == *executor
}

/// Whether a notice triggers an executor's hooks for `event` no matter what earlier hooks created.
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

/// Whether a hook acts on what an earlier hook created and so needs its id.
pub fn needs_external_id(hook: &Map<String, Value>) -> bool {
    let completes = text(hook, "action") == Some("complete");
    let names_it = ["task_id", "issue_id"]
        .iter()
        .any(|name| given(hook, name).is_some());
    (completes && !names_it) || hook.values().any(uses_external_id)
}

/// The hooks that may have created what `hook` acts on: hooks for `created` that return ids. If
/// `hook` needs an id, they have its type, and also its list if any of them has.
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

/// Whether a hook existed when the request was posted, so that it was triggered then.
pub fn was_there(executor: &Executor, creator: &Value, thread: &ThreadState) -> bool {
    let since = creator
        .get(own::CREATED_AT)
        .and_then(Value::as_str)
        .and_then(Timestamp::parse)
        .unwrap_or(executor.created_at);
    since <= thread.created_at
}

/// The id of a delivery. It is the same whoever computes it and whenever, and it has the form of a
/// random UUID.
pub fn delivery_id(batch: Uuid, executor: &ExecutorId, subscription: &Subscription) -> Uuid {
    derived_id(&[&batch.to_string(), executor.as_str(), subscription.id()])
}
