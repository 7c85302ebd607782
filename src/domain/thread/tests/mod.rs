//! The rules of a thread's life, tested as stories: who does what, and what follows.

mod claims;
mod conversations;
mod model;
mod moments;
mod states;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::document::{Deed, Stamp, Thread};
use super::event::Fact;
use super::posted::NewRequest;
use super::status::Status;
use super::transition::{Actor, Powers, Refusal, Update, decide, decide_due};
use crate::domain::ids::{ExecutorId, Ref};
use crate::domain::text::{Fields, Invalid};
use crate::domain::time::Timestamp;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn id(text: &str) -> ExecutorId {
    ExecutorId::parse(text, "").unwrap()
}

/// A thread, with what a test needs to change it.
#[derive(Clone)]
struct Story {
    thread: Thread,
    batches: u128,
    now: Timestamp,
    capabilities: BTreeMap<String, Vec<Value>>,
}

impl Story {
    /// A plain request posted by `agent`.
    fn begin() -> Self {
        Self::asking(json!({}))
    }

    /// A request posted by `agent` with fields besides an intent.
    fn asking(more: Value) -> Self {
        let mut fields = json!({"intent": "Check front door"});
        let (Value::Object(all), Value::Object(more)) = (&mut fields, more) else {
            panic!("no fields")
        };
        all.extend(more);
        let now = Timestamp::parse("2025-02-01T12:00:00Z").unwrap();
        let fields = Fields::of("", fields).unwrap();
        let nudge_after = |priority| crate::config::Nudges::default().after(&home(), priority);
        let request = NewRequest::parse(fields, now, nudge_after).unwrap();
        let reference = Ref::parse("2025-02-01-XY1Z").unwrap();
        let deeds = request.into_deeds(&id("agent"));
        let thread = with_stamp(1, now, |stamp| Thread::create(&reference, deeds, stamp));
        Self {
            thread: thread.unwrap(),
            batches: 1,
            now,
            capabilities: BTreeMap::new(),
        }
    }

    /// The thread after these steps, all of which must be allowed.
    fn after(steps: &[(&str, Status)]) -> Self {
        let mut story = Self::begin();
        for (actor, status) in steps {
            story.apply(actor, Update::set(*status)).unwrap();
        }
        story
    }

    fn decide(&self, actor: &str, update: Update) -> Result<Vec<Deed>, Refusal> {
        let none = Vec::new();
        let actor = Actor {
            powers: Powers::default(),
            id: &id(actor),
            capabilities: self.capabilities.get(actor).unwrap_or(&none),
        };
        decide(&self.thread, actor, update, self.now)
    }

    /// Decides on an update and records the facts, if any. Returns how many there are.
    fn apply(&mut self, actor: &str, update: Update) -> Result<usize, Refusal> {
        let deeds = self.decide(actor, update)?;
        Ok(self.record(deeds))
    }

    /// The same for the body of a call, which must be well-formed.
    fn call(&mut self, actor: &str, body: Value) -> Result<usize, Refusal> {
        self.apply(actor, parse(body).unwrap())
    }

    fn record(&mut self, deeds: Vec<Deed>) -> usize {
        let count = deeds.len();
        if count > 0 {
            self.batches += 1;
            let thread = self.thread.clone();
            self.thread = with_stamp(self.batches, self.now, |stamp| thread.append(deeds, stamp));
            // The clock may stand still, but batches still have different moments.
            self.now = self.thread.state.updated_at;
        }
        count
    }

    /// Lets time pass and then runs a tick.
    fn pass(&mut self, millis: i64) -> usize {
        self.wait(millis);
        let deeds = decide_due(&self.thread, self.now);
        self.record(deeds)
    }

    /// Lets time pass without a tick.
    fn wait(&mut self, millis: i64) {
        self.now = self.now.plus_millis(millis);
    }

    fn status(&self) -> Status {
        self.thread.state.status
    }

    fn holder(&self) -> Option<&str> {
        self.thread
            .state
            .executor_id
            .as_ref()
            .map(ExecutorId::as_str)
    }

    /// The payload of the last change of status.
    fn last_change(&self) -> Value {
        let (event, change) = self.thread.changes().next_back().unwrap();
        let mut payload = serde_json::to_value(change).unwrap();
        payload["actor"] = json!(event.actor_id);
        payload
    }

    /// The statuses that the thread went through in its last batch.
    fn last_steps(&self) -> Vec<Status> {
        let batch = Uuid::from_u128(self.batches);
        let committed = self.thread.committed(batch).unwrap();
        let changes = committed
            .events
            .iter()
            .filter_map(|event| match &event.fact {
                Fact::StatusChanged(change) => Some(change.new_status),
                _ => None,
            });
        changes.collect()
    }
}

fn home() -> crate::domain::ids::ExchangeId {
    crate::domain::ids::ExchangeId::parse("home", "").unwrap()
}

fn parse(body: Value) -> Result<Update, Invalid> {
    Update::parse(Fields::of("", body).unwrap())
}

fn with_stamp<T>(batch: u128, now: Timestamp, work: impl FnOnce(&Stamp) -> T) -> T {
    let next = std::cell::Cell::new(batch << 64);
    let new_id = || {
        next.set(next.get() + 1);
        Uuid::from_u128(next.get())
    };
    work(&Stamp {
        batch_id: Uuid::from_u128(batch),
        now,
        new_id: &new_id,
    })
}
