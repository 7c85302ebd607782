//! Questions and replies, confirmations, several steps in one call, and capabilities.

use serde_json::json;

use super::*;

/// A request with these terms, claimed by `phone`.
fn claimed(terms: Value) -> Story {
    let mut story = Story::asking(terms);
    story.call("phone", json!({"status": "claimed"})).unwrap();
    story
}

fn ask() -> Value {
    json!({"mess": [{"status": {"code": "needs_input", "questions":
        [{"field": "area", "question": "Which?", "options": ["sink", "stove"]}]}}]})
}

fn ask_to_confirm() -> Value {
    json!({"mess": [{"status": {"code": "needs_confirmation", "action": "close the valve",
        "consequences": "no water", "reversible": true}}]})
}

fn answer(area: &str) -> Value {
    json!({"mess": [{"reply": {"re": "last", "answers": {"area": area}}}]})
}

fn confirm(goes_on: bool) -> Value {
    json!({"mess": [{"reply": {"confirm": goes_on}}]})
}

fn deliver() -> Value {
    json!({"mess": [{"response": {"content": ["done"]}}]})
}

fn path(refused: Result<usize, Refusal>) -> String {
    match refused {
        Err(Refusal::Invalid(invalid)) => invalid.path,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_status_block_sets_the_status_and_its_details_are_in_the_event() {
    let mut story = Story::begin();
    let block = json!({"status": {"code": "claimed", "estimate": "PT45M", "message": "coming"}});
    assert_eq!(story.call("phone", json!({"mess": [block]})), Ok(2));
    assert_eq!(
        story.last_change(),
        json!({"actor": "phone", "old_status": "pending", "new_status": "claimed",
            "executor_id": "phone", "message": "coming", "estimate": "PT45M"})
    );
    let messages: Vec<_> = story.thread.messages().map(|(_, mess)| mess).collect();
    assert_eq!(messages[1], [block]);
}

#[test]
fn several_steps_are_one_batch_with_an_event_each() {
    let mut story = Story::begin();
    let body = json!({"status": "completed", "mess": [{"status": {"code": "claimed"}},
        {"status": {"code": "in_progress", "progress_pct": 50}}, {"response": {"content": ["shut"]}}]});
    assert_eq!(story.call("phone", body.clone()), Ok(4));
    assert_eq!(
        story.last_steps(),
        [Status::Claimed, Status::InProgress, Status::Completed]
    );
    assert_eq!(story.thread.state.version, 2);
    assert_eq!(story.last_change()["step"], 3);
    assert_eq!(story.last_change()["old_status"], "in-progress");
    assert_eq!(story.call("phone", body), Ok(0), "a retry is safe");
}

#[test]
fn nothing_of_a_call_happens_if_one_step_is_refused() {
    let mut story = Story::begin();
    let before = story.thread.clone();
    let body = json!({"mess": [{"status": {"code": "completed"}}, {"status": {"code": "held"}}]});
    let refused = story.call("phone", body);
    assert!(matches!(
        refused,
        Err(Refusal::Ended {
            status: Status::Completed,
            ..
        })
    ));
    assert_eq!(story.thread, before);
}

#[test]
fn a_response_delivers() {
    let mut story = claimed(json!({}));
    assert_eq!(story.call("phone", deliver()), Ok(2));
    assert_eq!(story.status(), Status::Completed);
    assert_eq!(story.call("phone", deliver()), Ok(0), "a retry is safe");
    let late = json!({"mess": [{"response": {"content": ["and a photo"]}}]});
    assert_eq!(
        story.call("phone", late),
        Ok(1),
        "after the end it is a message"
    );
    // No other executor can deliver it. A delivery to a pending request also claims it.
    let refused = claimed(json!({})).call("tablet", deliver());
    assert!(matches!(refused, Err(Refusal::HeldByOther { .. })));
    let mut story = Story::begin();
    story.call("tablet", deliver()).unwrap();
    assert_eq!(
        (story.status(), story.holder()),
        (Status::Completed, Some("tablet"))
    );
}

#[test]
fn a_response_with_a_status_stands_as_the_status_says() {
    for status in ["partial", "failed", "in-progress"] {
        let mut story = claimed(json!({}));
        let mut body = deliver();
        body["status"] = json!(status);
        assert_eq!(story.call("phone", body), Ok(2));
        assert_eq!(story.status().as_str(), status);
    }
}

#[test]
fn a_cancel_block_cancels() {
    let cancel = json!({"mess": [{"cancel": {"reason": "found it myself"}}]});
    let mut story = claimed(json!({}));
    assert_eq!(story.call("agent", cancel.clone()), Ok(2));
    assert_eq!(story.status(), Status::Cancelled);
    assert_eq!(story.last_change()["reason"], "found it myself");
    assert_eq!(story.call("agent", cancel.clone()), Ok(0));
    let refused = claimed(json!({})).call("tablet", cancel);
    assert!(matches!(refused, Err(Refusal::HeldByOther { .. })));
}

#[test]
fn the_requestors_answer_lets_the_executor_go_on() {
    let mut story = claimed(json!({}));
    story.call("phone", ask()).unwrap();
    assert_eq!(story.status(), Status::NeedsInput);
    assert_eq!(
        path(story.call("agent", answer("roof"))),
        "mess[0].reply.answers.area"
    );
    assert_eq!(
        path(story.call("agent", confirm(true))),
        "mess[0].reply.answers"
    );
    for other in ["phone", "tablet"] {
        let refused = story.call(other, answer("sink"));
        let requestor = id("agent");
        assert_eq!(refused, Err(Refusal::NotRequestor { requestor }));
    }
    assert_eq!(story.call("agent", answer("sink")), Ok(2));
    assert_eq!(
        (story.status(), story.holder()),
        (Status::InProgress, Some("phone"))
    );
    assert_eq!(
        story.call("agent", answer("sink")),
        Ok(0),
        "a retry is safe"
    );
    let second = story.call("agent", answer("stove"));
    let status = Status::InProgress;
    assert_eq!(second, Err(Refusal::NoOpenQuestion { status }));
    // A question that is asked again can be answered again.
    story.call("phone", ask()).unwrap();
    assert_eq!(story.call("agent", answer("sink")), Ok(2));
}

#[test]
fn a_question_stands_while_its_executor_says_more() {
    let mut story = claimed(json!({}));
    story.call("phone", ask()).unwrap();
    let hour = crate::domain::duration::Duration::parse("PT1H");
    story.apply("phone", Update::renew(hour)).unwrap();
    let more = json!({"mess": [{"status": {"code": "needs_input", "message": "please hurry"}}]});
    story.call("phone", more).unwrap();
    story.apply("phone", Update::renew(None)).unwrap();
    assert_eq!(
        path(story.call("agent", answer("roof"))),
        "mess[0].reply.answers.area"
    );
    assert!(story.thread.details().contains_key("questions"));
    assert_eq!(story.call("agent", answer("sink")), Ok(2));
    assert!(story.thread.details().is_empty());
    // After a renewal, a retry of an earlier call still counts as a retry.
    assert_eq!(story.call("agent", answer("sink")), Ok(0));
    let started = json!({"status": "held", "message": "at the door"});
    story.call("phone", started.clone()).unwrap();
    story.apply("phone", Update::renew(None)).unwrap();
    assert_eq!(story.call("phone", started), Ok(0));
}

#[test]
fn there_must_be_a_question_to_be_answered() {
    for steps in [
        vec![],
        vec![("phone", Status::Claimed)],
        vec![("phone", Status::Waiting)],
        vec![("phone", Status::Completed)],
    ] {
        let mut story = Story::after(&steps);
        let status = story.status();
        for reply in [
            answer("sink"),
            confirm(true),
            json!({"mess": [{"reply": {"accept": true}}]}),
        ] {
            assert_eq!(
                story.call("agent", reply),
                Err(Refusal::NoOpenQuestion { status })
            );
        }
    }
}

#[test]
fn the_holder_may_go_on_without_an_answer() {
    let mut story = claimed(json!({}));
    story.call("phone", ask()).unwrap();
    story
        .call("phone", json!({"status": "in-progress"}))
        .unwrap();
    let status = Status::InProgress;
    let late = story.call("agent", answer("sink"));
    assert_eq!(late, Err(Refusal::NoOpenQuestion { status }));
}

#[test]
fn a_suggestion_is_accepted_without_a_change_of_status() {
    let mut story = claimed(json!({}));
    let suggest = json!({"mess": [{"suggestion": {"type": "defer", "proposed": "tomorrow"}}]});
    story.call("phone", suggest).unwrap();
    let accept = json!({"mess": [{"reply": {"accept": true}}]});
    assert_eq!(story.call("agent", accept), Ok(1));
    assert_eq!(story.status(), Status::Claimed);
}

#[test]
fn what_must_be_confirmed_first_is_not_done_before() {
    let refused = |status| Err(Refusal::Unconfirmed { status });
    let terms = json!({"confirm_before": true});
    let mut story = claimed(terms.clone());
    for body in [
        deliver(),
        json!({"status": "completed"}),
        json!({"status": "partial"}),
        json!({"mess": [{"status": {"code": "completed"}}]}),
        json!({"status": "held", "mess": [{"response": {"content": []}}]}),
    ] {
        assert_eq!(
            story.call("phone", body.clone()),
            refused(Status::Claimed),
            "{body}"
        );
    }
    story.call("phone", ask_to_confirm()).unwrap();
    assert_eq!(
        story.call("phone", deliver()),
        refused(Status::NeedsConfirmation)
    );
    story.call("agent", confirm(true)).unwrap();
    assert_eq!(story.status(), Status::InProgress);
    assert_eq!(story.last_change()["confirmed"], true);
    assert_eq!(story.call("phone", deliver()), Ok(2));
    // Delivering straight from pending does not avoid the confirmation. Giving up needs none.
    let mut story = Story::asking(terms.clone());
    assert_eq!(story.call("phone", deliver()), refused(Status::Pending));
    for status in ["failed", "declined", "cancelled", "rejected"] {
        let mut story = claimed(terms.clone());
        assert_eq!(
            story.call("phone", json!({"status": status})),
            Ok(1),
            "{status}"
        );
    }
}

#[test]
fn what_is_not_confirmed_is_held() {
    let mut story = claimed(json!({"confirm_before": true}));
    story.call("phone", ask_to_confirm()).unwrap();
    assert_eq!(
        path(story.call("agent", answer("sink"))),
        "mess[0].reply.confirm"
    );
    let refuse = json!({"mess": [{"reply": {"confirm": false, "reason": "let me look first"}}]});
    story.call("agent", refuse).unwrap();
    assert_eq!(
        (story.status(), story.holder()),
        (Status::Held, Some("phone"))
    );
    assert_eq!(story.last_change()["confirmed"], false);
    assert_eq!(story.last_change()["reason"], "let me look first");
    let status = Status::Held;
    assert_eq!(
        story.call("phone", deliver()),
        Err(Refusal::Unconfirmed { status })
    );
}

#[test]
fn a_confirmation_is_good_for_its_executor_and_its_question_only() {
    let confirmed = || {
        let mut story = claimed(json!({"confirm_before": true}));
        story.call("phone", ask_to_confirm()).unwrap();
        story.call("agent", confirm(true)).unwrap();
        story
    };
    let is_refused = |story: &mut Story, actor| {
        let refused = story.call(actor, deliver());
        assert!(
            matches!(refused, Err(Refusal::Unconfirmed { .. })),
            "{refused:?}"
        );
    };
    let mut story = confirmed();
    story
        .call("tablet", json!({"status": "claimed", "takeover": true}))
        .unwrap();
    is_refused(&mut story, "tablet");
    let mut story = confirmed();
    story.call("phone", json!({"status": "pending"})).unwrap();
    story.call("phone", json!({"status": "claimed"})).unwrap();
    is_refused(&mut story, "phone");
    let mut story = confirmed();
    story.call("phone", ask_to_confirm()).unwrap();
    is_refused(&mut story, "phone");
    // Waiting for a while does not void the confirmation.
    let mut story = confirmed();
    story.call("phone", json!({"status": "waiting"})).unwrap();
    assert_eq!(story.call("phone", deliver()), Ok(2));
}

#[test]
fn who_cannot_do_it_cannot_claim_it() {
    let mut story = Story::asking(json!({"requires": ["see", {"lift": {"kg": 10}}]}));
    story
        .capabilities
        .insert("phone".to_owned(), vec![json!("see")]);
    let all = vec![json!({"see": {}, "lift": {"kg": 5}}), json!("walk")];
    story.capabilities.insert("robot".to_owned(), all);
    let refused = |missing: &[&str]| {
        let missing = missing.iter().map(|id| (*id).to_owned()).collect();
        Err(Refusal::MissingCapabilities { missing })
    };
    for body in [
        json!({"status": "claimed"}),
        json!({"status": "declined"}),
        deliver(),
    ] {
        assert_eq!(
            story.call("phone", body.clone()),
            refused(&["lift"]),
            "{body}"
        );
        assert_eq!(story.call("tablet", body), refused(&["lift", "see"]));
    }
    let note = json!({"mess": [{"note": "I could if I had arms"}]});
    assert_eq!(story.call("phone", note), Ok(1), "messages are for all");
    story.call("robot", json!({"status": "claimed"})).unwrap();
    let takeover = story.call("phone", json!({"status": "claimed", "takeover": true}));
    assert_eq!(takeover, refused(&["lift"]));
    story.capabilities.clear();
    assert_eq!(
        story.call("robot", deliver()),
        Ok(2),
        "it was asked when it claimed"
    );
    let mut story = Story::asking(json!({"requires": ["see"]}));
    assert_eq!(story.call("agent", json!({"status": "cancelled"})), Ok(1));
}
