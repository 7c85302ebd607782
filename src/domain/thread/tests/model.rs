//! The whole state machine under random commands by the requestor, the holder, others and the
//! clock.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::states::{Edge, Who, documented};
use super::*;
use crate::domain::duration::Duration;
use crate::domain::thread::due::owed_timer;
use crate::domain::thread::event::StatusChanged;
use crate::domain::thread::state::{ThreadState, next_moment};

const ACTORS: [&str; 3] = ["agent", "phone", "tablet"];

/// A call, or time that passes.
#[derive(Clone, Debug)]
enum Command {
    Call(&'static str, Value),
    Renew(&'static str, Option<&'static str>),
    /// How many minutes pass, and whether a tick follows.
    Wait(i64, bool),
}

fn any_status_fields() -> impl Strategy<Value = Value> {
    let status = proptest::sample::select(Status::ALL);
    let lease = proptest::option::of(proptest::sample::select(&["PT5M", "PT1H"][..]));
    let message = proptest::option::of("[a-b]");
    (status, lease, message, any::<bool>()).prop_map(|(status, lease, message, takeover)| {
        let mut fields = json!({"code": status});
        if let Some(lease) = lease
            && status != Status::Pending
            && !status.is_terminal()
        {
            fields["lease"] = json!(lease);
        }
        if let Some(message) = message {
            fields["message"] = json!(message);
        }
        if takeover && status == Status::Claimed {
            fields["takeover"] = json!(true);
        }
        if status == Status::NeedsInput {
            let question = json!({"field": "a", "question": "?", "options": ["x", "y"]});
            fields["questions"] = json!([question]);
        }
        fields
    })
}

fn any_block() -> impl Strategy<Value = Value> {
    let reply = proptest::sample::select(vec![
        json!({"answers": {"a": "x"}}),
        json!({"answers": {"a": "z"}}),
        json!({"confirm": true}),
        json!({"confirm": false}),
        json!({"accept": true}),
    ]);
    prop_oneof![
        4 => any_status_fields().prop_map(|fields| json!({ "status": fields })),
        2 => reply.prop_map(|reply| json!({ "reply": reply })),
        1 => Just(json!({"response": {"content": ["done"]}})),
        1 => Just(json!({"cancel": {}})),
        1 => Just(json!({"suggestion": {}})),
        1 => (0..3_u8).prop_map(|n| json!({ "note": n })),
    ]
}

fn any_body() -> impl Strategy<Value = Value> {
    let by_field = any_status_fields().prop_map(|mut fields| {
        let map = fields.as_object_mut().unwrap();
        let code = map.remove("code").unwrap();
        map.insert("status".to_owned(), code);
        fields
    });
    let by_blocks =
        proptest::collection::vec(any_block(), 1..4).prop_map(|mess| json!({ "mess": mess }));
    prop_oneof![by_field, by_blocks]
}

fn any_command() -> impl Strategy<Value = Command> {
    let actor = || proptest::sample::select(&ACTORS[..]);
    let lease = proptest::option::of(proptest::sample::select(&["PT2M", "PT2H"][..]));
    prop_oneof![
        6 => (actor(), any_body()).prop_map(|(actor, body)| Command::Call(actor, body)),
        1 => (actor(), lease).prop_map(|(actor, lease)| Command::Renew(actor, lease)),
        3 => (0..90_i64, any::<bool>()).prop_map(|(minutes, ticks)| Command::Wait(minutes, ticks)),
    ]
}

fn any_terms() -> impl Strategy<Value = Value> {
    let needed_in = proptest::option::of(1..600_i64);
    let priority = proptest::sample::select(&["normal", "elevated", "urgent"][..]);
    (needed_in, priority, any::<bool>(), any::<bool>()).prop_map(
        |(needed_in, priority, confirm_before, picky)| {
            let mut terms = json!({"priority": priority, "confirm_before": confirm_before});
            if let Some(minutes) = needed_in {
                let moment = Story::begin().now.plus_millis(minutes * MINUTE);
                terms["needed_by"] = json!(moment.to_string());
            }
            if picky {
                terms["requires"] = json!(["see"]);
            }
            terms
        },
    )
}

static EDGES: LazyLock<BTreeSet<Edge>> = LazyLock::new(documented);

/// Whether the document allows `actor` to make this change to a thread in this state.
fn is_documented(then: &ThreadState, actor: &ExecutorId, change: &StatusChanged) -> bool {
    let holder = then.holder();
    let mut roles = vec![Who::Anyone];
    if actor.is_exchange() {
        roles = vec![Who::Exchange];
    } else if holder == Some(actor) {
        roles.push(Who::Holder);
    } else if holder.is_some() && change.takeover {
        roles.push(Who::Another);
    }
    if then.requestor_id == *actor {
        roles.push(Who::Requestor);
    }
    let way = |who: &Who| EDGES.contains(&(change.old_status, change.new_status, *who));
    change.old_status == then.status && roles.iter().any(way)
}

/// Checks the changes that a command led to against the document and the rules.
fn check(before: &Story, after: &Story) -> Result<(), TestCaseError> {
    let mut state = before.thread.state.clone();
    for event in &after.thread.events[before.thread.events.len()..] {
        if let Fact::StatusChanged(change) = &event.fact {
            let said = format!("{} {change:?}", event.actor_id);
            prop_assert!(is_documented(&state, &event.actor_id, change), "{}", said);
            let completes = matches!(change.new_status, Status::Completed | Status::Partial);
            let needs = state.terms.confirm_before && !state.confirmed;
            prop_assert!(!(completes && needs), "unconfirmed: {}", said);
            let takes = change.executor_id.as_ref() == Some(&event.actor_id);
            if takes && state.holder() != Some(&event.actor_id) && !state.terms.requires.is_empty()
            {
                prop_assert_eq!(event.actor_id.as_str(), "phone", "only phone can see");
            }
            if event.actor_id.is_exchange() {
                prop_assert!(next_moment(&state).is_some_and(|moment| moment <= event.ts));
            }
        }
        state.take(&event.fact, &event.actor_id, event.ts);
    }
    prop_assert!(!before.status().is_terminal() || before.status() == after.status());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// Whatever anyone asks at any time: no change is one that the document forbids; the events
    /// fold into the thread; every batch can be read back from it; a retry writes nothing; nothing
    /// stays due after a decision or a tick; and a timer comes no later than its moment.
    #[test]
    fn no_command_leads_where_the_document_forbids(
        terms in any_terms(),
        commands in proptest::collection::vec(any_command(), 0..40),
    ) {
        let mut story = Story::asking(terms);
        story.capabilities.insert("phone".to_owned(), vec![json!("see")]);
        // The timers that the tick would have set.
        let mut timers = vec![];
        timers.extend(story.thread.state.timer_at);
        for command in commands {
            let before = story.clone();
            match &command {
                Command::Call(actor, body) => {
                    let Ok(update) = parse(body.clone()) else { continue };
                    let outcome = story.apply(actor, update.clone());
                    let wrote = matches!(outcome, Ok(1..));
                    prop_assert_eq!(wrote, before.thread != story.thread, "all or nothing");
                    let has_target = !update.steps.is_empty();
                    let ends_there = !story.thread.state.version_as_of(story.now).is_due;
                    if wrote && has_target && ends_there && retries(&story, actor) {
                        prop_assert_eq!(story.decide(actor, update), Ok(vec![]), "{:?}", command);
                    }
                }
                Command::Renew(actor, lease) => {
                    let lease = lease.and_then(Duration::parse);
                    let _ = story.apply(actor, Update::renew(lease));
                }
                Command::Wait(minutes, ticks) => {
                    story.wait(minutes * MINUTE);
                    if *ticks {
                        let due = timers.iter().any(|at| *at <= story.now);
                        let wrote = story.pass(0);
                        prop_assert!(wrote == 0 || due, "nothing happens without a timer");
                        timers.retain(|at| *at > story.now);
                        timers.extend(next_moment(&story.thread.state));
                        prop_assert!(!story.thread.state.version_as_of(story.now).is_due);
                    }
                }
            }
            check(&before, &story)?;
            reads_at_a_glance(&story)?;
            timers.extend(story.thread.state.timer_at);
            if let Some(moment) = next_moment(&story.thread.state) {
                let in_time = timers.iter().any(|at| *at <= moment);
                prop_assert!(in_time, "{moment} has no timer: {timers:?}");
            }
        }
        folds_and_reads_back(&story)?;
    }
}

/// Whether the last thing that happened was this actor's own change of status. Only then is the
/// same call a retry: renewing a claim or accepting a suggestion does not count.
fn retries(story: &Story, actor: &str) -> bool {
    let Some((event, change)) = story.thread.last_status() else {
        return false;
    };
    let is_last = event.batch_id == Uuid::from_u128(story.batches);
    is_last && event.actor_id.as_str() == actor && change.new_status == story.status()
}

/// What is shown of a document that is not parsed is what is in it.
fn reads_at_a_glance(story: &Story) -> Result<(), TestCaseError> {
    use crate::domain::thread::glance::Glance;
    let thread = &story.thread;
    let written = serde_json::to_vec(thread).unwrap();
    let glance = Glance::of(&written).unwrap();
    prop_assert_eq!(&glance.state, &thread.state);
    prop_assert_eq!(glance.details().unwrap(), thread.details());
    let messages = glance.messages().unwrap();
    prop_assert_eq!(messages.len(), thread.messages().count());
    for (seen, (event, mess)) in messages.iter().zip(thread.messages()) {
        prop_assert_eq!((seen.from, seen.ts), (&event.actor_id, event.ts));
        prop_assert_eq!(seen.mess.get(), serde_json::to_string(mess).unwrap());
    }
    Ok(())
}

fn folds_and_reads_back(story: &Story) -> Result<(), TestCaseError> {
    use crate::domain::thread::state::fold;
    let thread = &story.thread;
    let folded = fold(&thread.state.reference, &thread.events);
    prop_assert_eq!(folded.as_ref(), Some(&thread.state));
    let mut last: Option<ThreadState> = None;
    let mut owed = Vec::new();
    for batch in 1..=story.batches {
        let id = Uuid::from_u128(batch);
        let committed = thread.committed(id).unwrap();
        let timer = owed_timer(committed.before.as_ref(), &committed.after);
        owed.extend(timer.map(|moment| (id, moment)));
        prop_assert_eq!(&committed.before, &last);
        prop_assert_eq!(u128::from(committed.after.version), batch);
        if let Some(last) = &last {
            prop_assert!(committed.after.updated_at > last.updated_at);
        }
        last = Some(committed.after);
    }
    prop_assert_eq!(last.as_ref(), Some(&thread.state));
    prop_assert_eq!(thread.owed_timers(), owed);
    let written = serde_json::to_vec(thread).unwrap();
    prop_assert_eq!(&serde_json::from_slice::<Thread>(&written).unwrap(), thread);
    Ok(())
}
