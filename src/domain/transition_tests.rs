//! The claim rule, row by row of its table, and as properties over any sequence of commands.

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::domain::event::ThreadCreated;
use crate::domain::ids::Ref;
use crate::domain::status::Priority;
use crate::domain::thread::{Stamp, fold};
use crate::domain::time::Timestamp;

fn id(text: &str) -> ExecutorId {
    ExecutorId::parse(text, "").unwrap()
}

/// A thread with what a test needs to change it.
#[derive(Clone)]
struct Story {
    thread: Thread,
    batches: u128,
}

impl Story {
    fn begin() -> Self {
        let created = ThreadCreated {
            intent: "Check front door".to_owned(),
            context: json!([]),
            priority: Priority::Normal,
            requestor_id: id("agent"),
            response_hint: json!([]),
            extra: serde_json::Map::new(),
        };
        let asked = MessageAdded {
            mess: vec![json!({"request": {"intent": "Check front door"}})],
            extra: serde_json::Map::new(),
        };
        let facts = vec![Fact::ThreadCreated(created), Fact::MessageAdded(asked)];
        let reference = Ref::parse("2025-02-01-XY1Z").unwrap();
        let actor = id("agent");
        let thread = with_stamp(1, 0, |stamp| {
            Thread::create(&reference, facts, &actor, stamp)
        });
        Self {
            thread: thread.unwrap(),
            batches: 1,
        }
    }

    /// The thread after these steps, all of which must be allowed.
    fn after(steps: &[(&str, Status)]) -> Self {
        let mut story = Self::begin();
        for (actor, status) in steps {
            story.apply(actor, set(*status)).unwrap();
        }
        story
    }

    /// Decides and, if there is anything to record, records it; says how many facts.
    fn apply(&mut self, actor: &str, update: Update) -> Result<usize, Refusal> {
        let facts = decide(&self.thread, &id(actor), update)?;
        let count = facts.len();
        if count > 0 {
            self.batches += 1;
            let thread = self.thread.clone();
            // The clock stands still: batches must be told apart all the same.
            self.thread = with_stamp(self.batches, 0, |stamp| {
                thread.append(facts, &id(actor), stamp)
            });
        }
        Ok(count)
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
}

fn with_stamp<T>(batch: u128, millis: i64, work: impl FnOnce(&Stamp) -> T) -> T {
    let next = std::cell::Cell::new(batch << 64);
    let new_id = || {
        next.set(next.get() + 1);
        Uuid::from_u128(next.get())
    };
    work(&Stamp {
        batch_id: Uuid::from_u128(batch),
        now: Timestamp::from_millis(1_738_411_200_000 + millis),
        new_id: &new_id,
    })
}

fn set(status: Status) -> Update {
    Update {
        status: Some(status),
        ..Update::default()
    }
}

fn taking_over() -> Update {
    Update {
        takeover: true,
        ..set(Status::Claimed)
    }
}

#[test]
fn anyone_claims_a_pending_thread_or_takes_it_straight_on() {
    for status in Status::ALL
        .iter()
        .filter(|status| **status != Status::Pending)
    {
        let mut story = Story::begin();
        assert_eq!(story.apply("phone", set(*status)), Ok(1), "{status}");
        assert_eq!((story.status(), story.holder()), (*status, Some("phone")));
    }
}

#[test]
fn the_holder_sets_every_working_and_terminal_status_and_releases() {
    for status in Status::ALL {
        let mut story = Story::after(&[("phone", Status::Claimed), ("phone", Status::Waiting)]);
        let outcome = story.apply("phone", set(*status));
        match status {
            Status::Claimed => assert_eq!(
                outcome,
                Err(Refusal::AlreadyYours {
                    holder: id("phone"),
                    status: Status::Waiting
                })
            ),
            Status::Waiting => assert_eq!(outcome, Ok(0)),
            _ => assert_eq!(outcome, Ok(1), "{status}"),
        }
        let holder = if *status == Status::Pending {
            None
        } else {
            Some("phone")
        };
        assert_eq!(story.holder(), holder, "{status}");
    }
}

#[test]
fn another_executor_changes_no_status() {
    for status in Status::ALL {
        let mut story = Story::after(&[("phone", Status::Claimed)]);
        assert_eq!(
            story.apply("tablet", set(*status)),
            Err(Refusal::HeldByOther {
                holder: id("phone"),
                status: Status::Claimed
            }),
            "{status}"
        );
    }
}

#[test]
fn another_executor_takes_over_when_it_says_so() {
    let mut story = Story::after(&[("phone", Status::Claimed), ("phone", Status::InProgress)]);
    assert_eq!(story.apply("tablet", taking_over()), Ok(1));
    assert_eq!(
        (story.status(), story.holder()),
        (Status::Claimed, Some("tablet"))
    );
    let (_, change) = story.thread.last_status().unwrap();
    assert!(change.takeover);
    // To claim what is free, or what one holds, is no takeover.
    let mut story = Story::begin();
    story.apply("tablet", taking_over()).unwrap();
    assert!(!story.thread.last_status().unwrap().1.takeover);
}

#[test]
fn the_requestor_cancels_before_the_end_and_nothing_else() {
    for steps in [
        vec![],
        vec![("phone", Status::Claimed)],
        vec![("phone", Status::NeedsInput)],
    ] {
        let mut story = Story::after(&steps);
        let holder = story.holder().map(str::to_owned);
        assert_eq!(story.apply("agent", set(Status::Cancelled)), Ok(1));
        assert_eq!(
            story.holder().map(str::to_owned),
            holder,
            "cancelling claims nothing"
        );
    }
    let mut story = Story::after(&[("phone", Status::Claimed)]);
    let refused = story.apply("agent", set(Status::Completed));
    assert!(matches!(refused, Err(Refusal::HeldByOther { .. })));
}

#[test]
fn what_is_over_takes_no_status_but_messages() {
    for end in Status::ALL.iter().filter(|status| status.is_terminal()) {
        for status in Status::ALL {
            for actor in ["phone", "agent", "tablet"] {
                let mut story = Story::after(&[("phone", *end)]);
                let outcome = story.apply(actor, set(*status));
                if actor == "phone" && status == end {
                    assert_eq!(outcome, Ok(0));
                } else {
                    let holder = Some(id("phone"));
                    assert_eq!(
                        outcome,
                        Err(Refusal::Ended {
                            status: *end,
                            holder
                        })
                    );
                }
            }
        }
        let mut story = Story::after(&[("phone", *end)]);
        let mess = Some(vec![json!({"note": "thanks"})]);
        let message = Update {
            mess,
            ..Update::default()
        };
        assert_eq!(story.apply("agent", message), Ok(1));
    }
}

#[test]
fn a_pending_thread_is_not_released_again() {
    let mut story = Story::begin();
    assert_eq!(
        story.apply("phone", set(Status::Pending)),
        Err(Refusal::AlreadyPending)
    );
    let mut story = Story::after(&[("phone", Status::Claimed), ("phone", Status::Pending)]);
    assert_eq!(
        story.apply("phone", set(Status::Pending)),
        Ok(0),
        "a retry is safe"
    );
    assert_eq!(
        story.apply("tablet", set(Status::Pending)),
        Err(Refusal::AlreadyPending)
    );
}

#[test]
fn a_retry_writes_nothing_and_a_new_message_does() {
    let done = |text: &str| Update {
        mess: Some(vec![json!({"response": {"content": [text]}})]),
        message: Some("done".to_owned()),
        ..set(Status::Completed)
    };
    let mut story = Story::after(&[("phone", Status::Claimed)]);
    assert_eq!(story.apply("phone", done("locked")), Ok(2));
    assert_eq!(story.apply("phone", done("locked")), Ok(0));
    let mess = Some(vec![json!({"note": 1})]);
    story
        .apply(
            "agent",
            Update {
                mess,
                ..Update::default()
            },
        )
        .unwrap();
    assert_eq!(story.apply("phone", done("locked")), Ok(0), "also later");
    assert_eq!(
        story.apply("phone", done("open")),
        Ok(1),
        "another message is added"
    );
    assert!(
        story.apply("tablet", done("locked")).is_err(),
        "another's call is no retry"
    );
}

#[test]
fn a_remark_on_the_same_status_is_kept() {
    let remark = |text: &str| Update {
        message: Some(text.to_owned()),
        ..set(Status::InProgress)
    };
    let mut story = Story::after(&[("phone", Status::InProgress)]);
    assert_eq!(story.apply("phone", remark("half way")), Ok(1));
    assert_eq!(story.apply("phone", remark("half way")), Ok(0));
    let (_, change) = story.thread.last_status().unwrap();
    assert_eq!(change.message.as_deref(), Some("half way"));
    assert_eq!(change.old_status, change.new_status);
}

fn any_update() -> impl Strategy<Value = Update> {
    let status = proptest::option::of(proptest::sample::select(Status::ALL));
    let message = proptest::option::of("[a-c]{1,2}");
    let mess = proptest::option::of(proptest::collection::vec(
        (0..3_u8).prop_map(|n| json!({ "note": n })),
        1..3,
    ));
    (status, message, any::<bool>(), mess).prop_map(|(status, message, takeover, mess)| Update {
        message: message.filter(|_| status.is_some()),
        takeover: takeover && status == Some(Status::Claimed),
        status,
        mess,
    })
}

proptest! {
    /// Whatever is asked by whomever: the events fold into the thread, every batch can be read
    /// off it, its times rise, and the rules of the table hold for each step.
    #[test]
    fn the_events_of_any_commands_fold_into_the_thread(
        commands in proptest::collection::vec(
            (proptest::sample::select(&["agent", "phone", "tablet"][..]), any_update()), 0..40),
    ) {
        let mut story = Story::begin();
        for (actor, update) in commands {
            let before = story.thread.clone();
            let outcome = story.apply(actor, update.clone());
            let (then, now) = (&before.state, &story.thread.state);
            match outcome {
                Err(_) | Ok(0) => prop_assert_eq!(&before, &story.thread),
                Ok(_) => {
                    prop_assert_eq!(now.version, then.version + 1);
                    prop_assert!(now.updated_at > then.updated_at);
                }
            }
            if then.status.is_terminal() {
                prop_assert_eq!(then.status, now.status);
            }
            let changed = (then.status, &then.executor_id) != (now.status, &now.executor_id);
            if changed && then.holder().is_some_and(|holder| holder.as_str() != actor) {
                let cancelled = actor == "agent" && now.status == Status::Cancelled;
                prop_assert!(cancelled || update.takeover, "{} changed what another holds", actor);
            }
            if let Ok(1..) = outcome {
                // To ask for the same again is safe.
                let again = decide(&story.thread, &id(actor), update.clone());
                if update.status.is_some() {
                    prop_assert_eq!(again, Ok(Vec::new()));
                }
            }
        }
        let thread = &story.thread;
        let folded = fold(&thread.state.reference, &thread.events);
        prop_assert_eq!(folded.as_ref(), Some(&thread.state));
        let mut last = None;
        for batch in 1..=story.batches {
            let committed = thread.committed(Uuid::from_u128(batch)).unwrap();
            prop_assert_eq!(&committed.before, &last);
            prop_assert_eq!(u128::from(committed.after.version), batch);
            last = Some(committed.after);
        }
        prop_assert_eq!(last.as_ref(), Some(&thread.state));
        let written = serde_json::to_vec(thread).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<Thread>(&written).unwrap(), thread);
    }
}
