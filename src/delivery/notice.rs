//! A notice: what happened, in words for people and in variables for templates.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::member::subscriptions::HookEvent;
use crate::domain::thread::document::{Committed, Thread};
use crate::domain::thread::event::Fact;
use crate::domain::thread::row::VersionedRow;
use crate::domain::thread::state::ThreadState;
use crate::domain::thread::status::{Phase, Priority, Status};

/// What happened to a request in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The request was posted.
    Created,
    /// Its status changed, or another executor took it over.
    Moved,
    /// The requestor answered its executor.
    Answered {
        /// Whether the executor should go on, if it asked that.
        confirmed: Option<bool>,
    },
    /// The request is announced again, because nobody has claimed it.
    Nudged,
    /// Someone wrote to it.
    Written,
    /// Nothing: an executor tests its channels.
    Test,
}

/// Display names of the executors that a notice mentions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The actor's name.
    pub actor: String,
    /// The name of the executor that holds the request, that it ended with, or whose claim lapsed.
    pub executor: String,
}

/// What one batch or one of its steps tells.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The exchange where it happened.
    pub exchange: ExchangeId,
    /// What happened.
    pub what: What,
    /// The request after it happened; `None` in a test.
    pub thread: Option<ThreadState>,
    /// The request before it happened; `None` if it was new.
    pub before: Option<ThreadState>,
    /// Who did it.
    pub actor: ExecutorId,
    /// The names to show for the executors involved.
    pub names: Names,
    /// A URL where the request can be read.
    pub link: Option<String>,
}

/// Everything that a batch tells.
#[derive(Clone, Debug)]
pub struct News {
    /// The whole batch as one notice, for channels.
    pub whole: Notice,
    /// The steps that hooks can be set on, in order. Each event occurs once, as its last step.
    pub steps: Vec<Notice>,
}

impl News {
    /// What `batch_id` did to `thread`. Returns `None` if the thread does not contain the batch, or
    /// if the batch concerns nobody.
    pub fn of(
        exchange: &ExchangeId,
        thread: &Thread,
        batch_id: Uuid,
        names: &Names,
        public_url: Option<&str>,
    ) -> Option<Self> {
        let batch = thread.committed(batch_id)?;
        let reference = &batch.after.reference;
        let link =
            public_url.map(|url| format!("{url}/api/v1/exchanges/{exchange}/requests/{reference}"));
        let notice =
            |what, before: Option<ThreadState>, thread: ThreadState, actor: &ExecutorId| Notice {
                exchange: exchange.clone(),
                what,
                before,
                thread: Some(thread),
                actor: actor.clone(),
                names: names.clone(),
                link: link.clone(),
            };
        let (what, actor) = what_happened(&batch)?;
        let whole = notice(what, batch.before.clone(), batch.after.clone(), actor);
        let mut steps: Vec<Notice> = Vec::new();
        if what == What::Created {
            steps.push(whole.clone());
        }
        let mut state = batch.before;
        for event in batch.events {
            let (Some(before), Fact::StatusChanged(change)) = (state.clone(), &event.fact) else {
                continue;
            };
            let mut after = before.clone();
            after.take(&event.fact, &event.actor_id, event.ts);
            after.version = batch.after.version;
            state = Some(after.clone());
            if change.moves() {
                let mut step = notice(What::Moved, Some(before), after, &event.actor_id);
                if step.executor() != whole.executor() {
                    // Nobody has looked up this executor's name.
                    let id = step.executor().map(ToString::to_string);
                    step.names.executor = id.unwrap_or_default();
                }
                steps.retain(|earlier| earlier.hook_event() != step.hook_event());
                steps.push(step);
            }
        }
        steps.retain(|step| step.hook_event().is_some());
        Some(Self { whole, steps })
    }
}

/// What a batch amounts to, and its actor. Returns `None` if it only renewed a claim.
fn what_happened<'a>(batch: &Committed<'a>) -> Option<(What, &'a ExecutorId)> {
    let actor = &batch.events.last()?.actor_id;
    if batch.before.is_none() {
        return Some((What::Created, actor));
    }
    let changes = || {
        batch.events.iter().filter_map(|event| match &event.fact {
            Fact::StatusChanged(change) => Some((event, change)),
            _ => None,
        })
    };
    let last_move = changes().rfind(|(_, change)| change.moves());
    if let Some((event, change)) = last_move {
        let asked = matches!(
            change.old_status,
            Status::NeedsInput | Status::NeedsConfirmation
        );
        let goes_on = matches!(change.new_status, Status::InProgress | Status::Held);
        let own = change.executor_id.as_ref() == Some(&event.actor_id);
        if asked && goes_on && !own {
            let confirmed = change.confirmed;
            return Some((What::Answered { confirmed }, actor));
        }
        // A message may share the batch with a change that was due; the change counts.
        return Some((What::Moved, &event.actor_id));
    }
    if changes().any(|(_, change)| change.nudge.is_some()) {
        return Some((What::Nudged, actor));
    }
    let only_renews = batch.events.iter().all(|event| match &event.fact {
        Fact::StatusChanged(change) => {
            change.lease.is_some() && change.message.is_none() && change.extra.is_empty()
        }
        _ => false,
    });
    (!only_renews).then_some((What::Written, actor))
}

impl Notice {
    /// A notice of a test by `actor`.
    pub fn test(exchange: &ExchangeId, actor: ExecutorId, name: String) -> Self {
        Self {
            exchange: exchange.clone(),
            what: What::Test,
            thread: None,
            before: None,
            actor,
            names: Names {
                executor: name.clone(),
                actor: name,
            },
            link: None,
        }
    }

    /// The event whose hooks the notice triggers.
    pub fn hook_event(&self) -> Option<HookEvent> {
        match self.what {
            What::Created => Some(HookEvent::Created),
            What::Moved => match self.status()? {
                Status::Claimed => Some(HookEvent::Claimed),
                // The requestor's answer to a question does not start the work.
                Status::InProgress if !self.is_by_executor() => None,
                Status::InProgress => Some(HookEvent::Started),
                Status::Completed => Some(HookEvent::Completed),
                Status::Rejected => Some(HookEvent::Rejected),
                Status::Cancelled => Some(HookEvent::Cancelled),
                _ => None,
            },
            What::Answered { .. } | What::Nudged | What::Written | What::Test => None,
        }
    }

    fn is_by_executor(&self) -> bool {
        let executor = self.thread.as_ref().and_then(|t| t.executor_id.as_ref());
        executor == Some(&self.actor)
    }

    /// The event's type in the log.
    pub fn event_type(&self) -> &'static str {
        match self.what {
            What::Created => "thread_created",
            What::Moved | What::Answered { .. } | What::Nudged => "status_changed",
            What::Written => "message_added",
            What::Test => "test",
        }
    }

    /// A short name: the hook event, or else the event's type.
    pub fn event(&self) -> &'static str {
        match self.hook_event() {
            Some(event) => event.as_str(),
            None => self.event_type(),
        }
    }

    /// The request's priority.
    pub fn priority(&self) -> Priority {
        self.thread
            .as_ref()
            .map_or(Priority::Normal, |thread| thread.priority)
    }

    /// The executor that holds the request, that it ended with, or whose claim lapsed.
    pub fn executor(&self) -> Option<&ExecutorId> {
        let now = self.thread.as_ref().and_then(|t| t.executor_id.as_ref());
        let lapsed = self.before.as_ref().filter(|_| self.actor.is_exchange());
        now.or_else(|| lapsed.and_then(|t| t.executor_id.as_ref()))
    }

    fn status(&self) -> Option<Status> {
        self.thread.as_ref().map(|thread| thread.status)
    }

    /// What happened, in a few words.
    pub fn title(&self) -> String {
        let actor = &self.names.actor;
        match self.what {
            What::Created => "New request".to_owned(),
            What::Nudged => "Still open: nobody has claimed it".to_owned(),
            What::Answered { confirmed } => match confirmed {
                None => format!("Answered by {actor}"),
                Some(true) => format!("Confirmed by {actor}"),
                Some(false) => format!("Not confirmed by {actor}"),
            },
            What::Written => format!("Message from {actor}"),
            What::Test => "Test notification".to_owned(),
            What::Moved => match self.status().unwrap_or(Status::Pending) {
                Status::Pending if self.actor.is_exchange() => {
                    format!(
                        "Open again: the claim of {} has lapsed",
                        self.names.executor
                    )
                }
                Status::Expired if self.actor.is_exchange() => match self.executor() {
                    Some(_) => format!("Expired: {} gave it up too late", self.names.executor),
                    None => "Expired: nobody claimed it in time".to_owned(),
                },
                Status::Pending => format!("Released by {actor}, open again"),
                Status::Claimed => format!("Claimed by {actor}"),
                Status::InProgress => format!("Started by {actor}"),
                Status::NeedsInput => format!("{actor} has a question"),
                Status::NeedsConfirmation => format!("{actor} asks for confirmation"),
                Status::Completed => format!("Completed by {actor}"),
                Status::Partial => format!("Completed in part by {actor}"),
                other => {
                    let words = other.as_str().replace(['-', '_'], " ");
                    let mut letters = words.chars();
                    let first = letters.next().map(|c| c.to_ascii_uppercase());
                    let words: String = first.into_iter().chain(letters).collect();
                    match other.phase() {
                        Phase::Terminal => format!("{words} by {actor}"),
                        Phase::Open | Phase::Claimed | Phase::Working => {
                            format!("{words}: {actor}")
                        }
                    }
                }
            },
        }
    }

    /// What the request asks for, or what the test is.
    pub fn text(&self) -> String {
        match &self.thread {
            Some(thread) => thread.intent.clone(),
            None => format!(
                "This is how the exchange {} reaches {}.",
                self.exchange, self.names.executor
            ),
        }
    }

    /// The ref and priority of the request in one line. Empty in a test.
    pub fn footer(&self) -> String {
        match &self.thread {
            Some(thread) => format!("{} · {}", thread.reference, thread.priority),
            None => String::new(),
        }
    }

    /// The text and the footer in at most `most` bytes. If necessary the text is cut.
    pub fn body(&self, most: usize) -> String {
        let (mut text, footer) = (self.text(), self.footer());
        let room = most.saturating_sub(footer.len()).saturating_sub(4);
        if text.len() > room {
            while text.len() > room {
                text.pop();
            }
            text.push('…');
        }
        if footer.is_empty() {
            text
        } else {
            format!("{text}\n{footer}")
        }
    }

    /// The request as JSON; null in a test.
    pub fn thread_json(&self) -> Value {
        json!(self.thread.as_ref().map(VersionedRow::of))
    }

    /// The value of a template variable, or an empty string if it has none.
    pub fn variable(&self, name: &str) -> String {
        let status = |status: Option<Status>| status.map_or(String::new(), |s| s.to_string());
        match (name, &self.thread) {
            ("event", _) => self.event().to_owned(),
            ("actor_id", _) => self.actor.to_string(),
            ("executor_name", _) => self.names.executor.clone(),
            ("old_status", _) => status(self.before.as_ref().map(|before| before.status)),
            ("ref", Some(thread)) => thread.reference.to_string(),
            ("intent", Some(thread)) => thread.intent.clone(),
            ("status", Some(thread)) => status(Some(thread.status)),
            ("priority", Some(thread)) => thread.priority.to_string(),
            ("requestor_id", Some(thread)) => thread.requestor_id.to_string(),
            ("executor_id", Some(thread)) => thread
                .executor_id
                .as_ref()
                .map_or(String::new(), ToString::to_string),
            ("created_at", Some(thread)) => thread.created_at.to_string(),
            ("updated_at", Some(thread)) => thread.updated_at.to_string(),
            _ => String::new(),
        }
    }
}
