//! A day in a household on a simulated clock: what the log says, who was told what, and when.

use super::*;

/// What each person was told since the last call, as `HH:MM who: title`.
fn told(world: &World) -> Vec<String> {
    let sent = world.sent();
    let line = |(at, request): &(Timestamp, Request)| {
        let body: Value = serde_json::from_str(request.body.as_ref().unwrap()).unwrap();
        let rest = request.url.split("//").nth(1).unwrap();
        let who = rest.split('.').next().unwrap();
        format!(
            "{} {who}: {}",
            &at.to_string()[11..16],
            body["title"].as_str().unwrap()
        )
    };
    let mut lines: Vec<_> = sent.iter().map(line).collect();
    lines.sort();
    lines
}

/// Moves the clock to this time of the day, or of the next day, with a tick each minute.
fn until(world: &mut World, time: &str) {
    while &world.now().to_string()[11..16] != time {
        world.tick_after(MINUTE);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is one day")]
fn a_day_in_a_household() {
    let mut world = World::new();
    world
        .clock
        .now
        .set(Timestamp::parse("2025-02-01T21:50:00Z").unwrap().millis());
    for (name, quiet) in [
        ("agent", false),
        ("anna", true),
        ("ben", false),
        ("cleo", false),
    ] {
        let channel = json!({"type": "webhook", "url": format!("https://{name}.example/")});
        let hours = json!({"enabled": quiet, "start": "22:00", "end": "07:00"});
        world.join(
            name,
            json!({"notifications": [channel], "preferences": {"quiet_hours": hours}}),
        );
    }

    // 21:50 The agent asks for something that must be done by 10:00 tomorrow, after it has
    // confirmed.
    let reference = world.ask(
        "agent",
        json!({"intent": "Close the main valve",
        "needed_by": "2025-02-02T11:00:00+01:00", "confirm_before": true}),
    );
    assert_eq!(
        told(&world),
        [
            "21:50 anna: New request",
            "21:50 ben: New request",
            "21:50 cleo: New request"
        ]
    );

    // 22:05 Ben claims it for half an hour and asks a question. Anna sleeps.
    until(&mut world, "22:05");
    let questions =
        json!([{"field": "which", "question": "Which one?", "options": ["cellar", "garden"]}]);
    let ask = json!({"mess": [
        {"status": {"code": "claimed", "lease": "PT30M", "estimate": "PT20M"}},
        {"status": {"code": "needs_input", "questions": questions}}]});
    world.update(&reference, "ben", call(ask)).unwrap();
    assert_eq!(
        told(&world),
        [
            "22:05 agent: ben has a question",
            "22:05 cleo: ben has a question"
        ]
    );

    // 22:10 The agent answers. Its second answer is one of the options.
    until(&mut world, "22:10");
    let answer = |which: &str| call(json!({"mess": [{"reply": {"answers": {"which": which}}}]}));
    let refused = world.update(&reference, "agent", answer("attic"));
    assert!(matches!(refused, Err(ServiceError::Refused(_))));
    world.update(&reference, "agent", answer("cellar")).unwrap();
    assert_eq!(
        told(&world),
        [
            "22:10 ben: Answered by agent",
            "22:10 cleo: Answered by agent"
        ]
    );

    // 22:35 Ben has fallen asleep, and his claim lapses by itself.
    until(&mut world, "22:34");
    assert_eq!(told(&world), Vec::<String>::new());
    until(&mut world, "22:40");
    let lapsed = "Open again: the claim of ben has lapsed";
    let lapsed = ["agent", "ben", "cleo"].map(|who| format!("22:35 {who}: {lapsed}"));
    assert_eq!(told(&world), lapsed);

    // 22:45 Cleo takes it over. She cannot complete it before the agent has confirmed.
    until(&mut world, "22:45");
    world
        .update(
            &reference,
            "cleo",
            call(json!({"status": "claimed", "lease": "PT12H"})),
        )
        .unwrap();
    let done = json!({"mess": [{"response": {"content": ["It is shut."]}}]});
    let refused = world.update(&reference, "cleo", call(done.clone()));
    let status = Status::Claimed;
    let refusal = crate::domain::thread::transition::Refusal::Unconfirmed { status };
    assert!(matches!(refused, Err(ServiceError::Refused(r)) if r == refusal));
    let plan = json!({"mess": [{"status": {"code": "needs_confirmation",
        "action": "close the valve in the cellar", "consequences": "no water", "reversible": true}}]});
    world.update(&reference, "cleo", call(plan)).unwrap();
    assert_eq!(
        told(&world),
        [
            "22:45 agent: Claimed by cleo",
            "22:45 agent: cleo asks for confirmation",
            "22:45 ben: Claimed by cleo",
            "22:45 ben: cleo asks for confirmation",
        ]
    );

    // 06:55 The agent confirms. Anna wakes at 07:00, and one of the night's notices is still true.
    until(&mut world, "06:55");
    assert_eq!(told(&world), Vec::<String>::new());
    let confirm = call(json!({"mess": [{"reply": {"confirm": true}}]}));
    world.update(&reference, "agent", confirm).unwrap();
    assert_eq!(
        told(&world),
        [
            "06:55 ben: Confirmed by agent",
            "06:55 cleo: Confirmed by agent"
        ]
    );
    until(&mut world, "07:01");
    assert_eq!(told(&world), ["07:00 anna: Confirmed by agent"]);

    // 07:20 It is done.
    until(&mut world, "07:20");
    world.update(&reference, "cleo", call(done)).unwrap();
    assert_eq!(
        told(&world),
        [
            "07:20 agent: Completed by cleo",
            "07:20 anna: Completed by cleo",
            "07:20 ben: Completed by cleo"
        ]
    );

    // The deadline passes at 10:00, and at 10:45 the lease would have ended. Nothing happens any
    // more.
    until(&mut world, "11:00");
    assert_eq!(told(&world), Vec::<String>::new());
    let thread = world.thread(&reference).unwrap();
    assert_eq!(thread.state.status, Status::Completed);
    let mut log: Vec<_> = world
        .log()
        .into_iter()
        .filter(|line| line["event_type"] == "status_changed")
        .map(|line| {
            let (ts, payload) = (line["ts"].as_str().unwrap(), &line["payload"]);
            let step = payload["step"].as_u64().unwrap_or(0);
            let text = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
            let (from, to) = (text("old_status"), text("new_status"));
            let who = line["actor_id"].as_str().unwrap();
            (
                ts[..23].to_owned(),
                step,
                format!("{} {who}: {from} > {to}", &ts[11..16]),
            )
        })
        .collect();
    log.sort();
    let log: Vec<_> = log.into_iter().map(|(_, _, line)| line).collect();
    assert_eq!(
        log,
        [
            "22:05 ben: pending > claimed",
            "22:05 ben: claimed > needs_input",
            "22:10 agent: needs_input > in-progress",
            "22:35 exchange: in-progress > pending",
            "22:45 cleo: pending > claimed",
            "22:45 cleo: claimed > needs_confirmation",
            "06:55 agent: needs_confirmation > in-progress",
            "07:20 cleo: in-progress > completed",
        ]
    );
    world.assert_settles("a day");
    assert!(
        world
            .store
            .keys("due/")
            .iter()
            .all(|key| { !world.store.text(key).contains(r#""kind":"timer""#) })
    );
}
