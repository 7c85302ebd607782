//! The steps that blocks ask for, and how a call's own status joins them.

use serde_json::json;

use super::*;

fn steps(mess: &Value, status: Option<Status>) -> Result<Vec<Step>, Invalid> {
    parse_steps(mess.as_array().unwrap(), status.map(Change::to))
}

/// Abbreviates steps: statuses by name, `!` for a delivery that completes the request, `.` for one
/// that does not.
fn short(mess: &Value, status: Option<Status>) -> String {
    let steps = steps(mess, status).unwrap();
    let words = steps.iter().map(|step| match step {
        Step::Set(change) => change.status.to_string(),
        Step::Reply(_) => "reply".to_owned(),
        Step::Deliver { completes: true } => "!".to_owned(),
        Step::Deliver { completes: false } => ".".to_owned(),
        Step::Renew(_) => "renew".to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn blocks_are_steps_in_their_order() {
    let claim = json!({"status": {"code": "claimed", "executor": "me"}});
    let start = json!({"status": {"code": "in_progress"}});
    let response = json!({"response": {"content": ["done"]}});
    let cancel = json!({"cancel": {"reason": "no need"}});
    let reply = json!({"reply": {"confirm": false}});
    let completed = Some(Status::Completed);
    for (mess, status, expected) in [
        (json!([]), None, ""),
        (json!([{"note": 1}, {"v": "1.1.0"}, {"ack": {}}]), None, ""),
        (json!([claim, start]), None, "claimed in-progress"),
        (json!([claim, response]), None, "claimed !"),
        (json!([response, claim]), None, ". claimed"),
        (json!([response]), completed, ". completed"),
        (json!([response]), Some(Status::Claimed), ". claimed"),
        (json!([claim, response]), completed, "claimed . completed"),
        (
            json!([claim, start]),
            Some(Status::InProgress),
            "claimed in-progress",
        ),
        (
            json!([{"status": {"code": "completed"}}, response]),
            completed,
            "completed .",
        ),
        (
            json!([claim, {"response": "done"}, {"response": {"content": null}}]),
            None,
            "claimed",
        ),
        (json!([cancel]), None, "cancelled"),
        (json!([cancel]), Some(Status::Cancelled), "cancelled"),
        (json!([reply]), None, "reply"),
        (json!([reply]), Some(Status::Held), "reply"),
    ] {
        assert_eq!(short(&mess, status), expected, "{mess} {status:?}");
    }
}

#[test]
fn a_status_that_is_not_the_last_step_is_refused() {
    let claim = json!({"status": {"code": "claimed"}});
    for (mess, status) in [
        (json!([claim]), Status::Completed),
        (
            json!([{"response": {"content": []}}, claim]),
            Status::Completed,
        ),
        (json!([{"cancel": {}}]), Status::Claimed),
        (json!([{"reply": {"confirm": true}}]), Status::Held),
    ] {
        let refused = steps(&mess, Some(status)).unwrap_err();
        assert_eq!(refused.path, "status", "{mess}");
    }
}

#[test]
fn what_is_said_twice_of_the_last_step_is_said_once() {
    let mess =
        [json!({"status": {"code": "claimed", "estimate": "PT45M", "message": "on my way"}})];
    let mut status = Change::to(Status::Claimed);
    status.lease = Duration::parse("PT1H");
    status.message = Some("another".to_owned());
    let steps = parse_steps(&mess, Some(status)).unwrap();
    let [Step::Set(change)] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(change.message.as_deref(), Some("on my way"));
    assert_eq!(change.lease, Duration::parse("PT1H"));
    assert_eq!(change.details.get("estimate"), Some(&json!("PT45M")));
}

#[test]
fn details_are_kept_and_others_left() {
    let details = json!({"estimate": "PT45M", "eta": "2h15m", "progress_pct": 35.5,
        "waiting_for": {"type": "schedule"}, "reason": {"type": "access"}, "action": "close it",
        "consequences": ["dark"], "reversible": false,
        "questions": [{"field": "a", "question": "?", "options": ["b"]}]});
    let mut status = details.clone();
    status["code"] = json!("waiting");
    status["unknown"] = json!(1);
    let steps = parse_steps(&[json!({ "status": status })], None).unwrap();
    let [Step::Set(change)] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(json!(change.details), details);
}

#[test]
fn blocks_that_are_refused() {
    for (bad, path) in [
        (json!("text"), ""),
        (json!({"status": "claimed"}), ".status"),
        (json!({"status": null}), ".status"),
        (json!({"status": {}}), ".status.code"),
        (json!({"status": {"code": "received"}}), ".status.code"),
        (json!({"status": {"code": 5}}), ".status.code"),
        (
            json!({"status": {"code": "claimed", "message": 5}}),
            ".status.message",
        ),
        (
            json!({"status": {"code": "claimed", "estimate": "45m"}}),
            ".status.estimate",
        ),
        (
            json!({"status": {"code": "claimed", "lease": "PT1S"}}),
            ".status.lease",
        ),
        (
            json!({"status": {"code": "failed", "lease": "PT1H"}}),
            ".status.lease",
        ),
        (
            json!({"status": {"code": "held", "takeover": true}}),
            ".status.takeover",
        ),
        (
            json!({"status": {"code": "held", "progress_pct": 101}}),
            ".status.progress_pct",
        ),
        (
            json!({"status": {"code": "held", "progress_pct": "half"}}),
            ".status.progress_pct",
        ),
        (
            json!({"status": {"code": "needs_input", "questions": "?"}}),
            ".status.questions",
        ),
        (
            json!({"status": {"code": "needs_confirmation", "action": 5}}),
            ".status.action",
        ),
        (
            json!({"status": {"code": "needs_confirmation", "reversible": "yes"}}),
            ".status.reversible",
        ),
        (json!({"cancel": true}), ".cancel"),
        (json!({"reply": "yes"}), ".reply"),
        (json!({"reply": {}}), ".reply"),
        (
            json!({"status": {"code": "held"}, "response": {"content": []}}),
            "",
        ),
    ] {
        let refused = steps(&json!([{"v": "1.1.0"}, bad]), None).unwrap_err();
        assert_eq!(refused.path, format!("mess[1]{path}"), "{bad}");
    }
}

#[test]
fn steps_are_few() {
    let many = |count| json!(vec![json!({"reply": {"accept": true}}); count]);
    assert!(steps(&many(STEPS), None).is_ok());
    assert_eq!(steps(&many(STEPS + 1), None).unwrap_err().path, "mess");
}
