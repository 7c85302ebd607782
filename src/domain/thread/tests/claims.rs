//! The rules for claims, tested row by row of their table.

use serde_json::json;

use super::*;

fn set(status: Status) -> Update {
    Update::set(status)
}

fn taking_over() -> Update {
    parse(json!({"status": "claimed", "takeover": true})).unwrap()
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
                status: Status::Claimed,
                lease_until: None,
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
    // Claiming a free request, or one that the actor holds, is not a takeover.
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
    let done = |text: &str| {
        let mess = json!([{"response": {"content": [text]}}]);
        parse(json!({"status": "completed", "message": "done", "mess": mess})).unwrap()
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
    let remark = |text: &str| parse(json!({"status": "in-progress", "message": text})).unwrap();
    let mut story = Story::after(&[("phone", Status::InProgress)]);
    assert_eq!(story.apply("phone", remark("half way")), Ok(1));
    assert_eq!(story.apply("phone", remark("half way")), Ok(0));
    let (_, change) = story.thread.last_status().unwrap();
    assert_eq!(change.message.as_deref(), Some("half way"));
    assert_eq!(change.old_status, change.new_status);
}
