//! Todoist: creates a task, and closes it. <https://developer.todoist.com/api/v1/>

use serde_json::{Map, Value, json};

use crate::delivery::http::{Request, Response, Turn};
use crate::delivery::provider::{Job, Move, Provider, encode, shorten};
use crate::delivery::retry::{Verdict, Wait, error_word, judge_last, last_response};
use crate::domain::limits::{CREDENTIAL_CHARS, NAME_CHARS};
use crate::domain::member::forms::{Complaint, Field, Form, Kind, given};
use crate::domain::thread::status::Priority;

const API: &str = "https://api.todoist.com/api/v1";
/// Todoist's own limits.
const CONTENT_CHARS: usize = 500;
const DESCRIPTION_CHARS: usize = 16_383;
const DUE_CHARS: usize = 150;

/// The type `todoist`.
pub const PROVIDER: Provider = Provider {
    form: Form {
        name: "todoist",
        fields: &[
            Field::required("token", Kind::Line(CREDENTIAL_CHARS)).secret(),
            Field::optional("content", Kind::Text).template(),
            Field::optional("description", Kind::Text).template(),
            Field::optional("project_id", Kind::Line(NAME_CHARS)).template(),
            Field::optional("labels", Kind::Texts).template(),
            Field::optional("due_string", Kind::Text).template(),
            Field::optional("priority_map", Kind::Object),
            Field::optional("action", Kind::Word(&["create", "complete"])),
            Field::optional("task_id", Kind::Text).template(),
        ],
        check: check_priorities,
    },
    gives_ids: true,
    clears: false,
    next_move,
};

fn check_priorities(entry: &Map<String, Value>) -> Result<(), Complaint> {
    let fits = |(name, value): (&String, &Value)| {
        Priority::parse(name, "").is_ok()
            && value
                .as_u64()
                .is_some_and(|number| (1..=4).contains(&number))
    };
    match given(entry, "priority_map").and_then(Value::as_object) {
        Some(map) if !map.iter().all(fits) => Err((
            "priority_map",
            "must give background, normal, elevated or urgent a number from 1 to 4",
        )),
        _ => Ok(()),
    }
}

fn next_move(job: &Job, turns: &[Turn]) -> Move {
    let completes = job.text("action") == Some("complete");
    match (turns, last_response(turns)) {
        ([], _) if completes => Move::Send(close(job)),
        ([], _) => Move::Send(create(job)),
        // The task no longer exists, so there is nothing left to close.
        (_, Some(response)) if completes && response.status == 404 => {
            Move::End(Verdict::delivered())
        }
        (_, Some(response)) => Move::End(judge(response, turns)),
        (_, None) => Move::End(judge_last(turns)),
    }
}

fn create(job: &Job) -> Request {
    let labels = job.config.get("labels").cloned().unwrap_or(json!([]));
    let mut task = Map::new();
    let content = job.render("content", "{{intent}}");
    task.insert(
        "content".to_owned(),
        shorten(&content, CONTENT_CHARS).into(),
    );
    let description = job.render("description", "Ref: {{ref}}\nPriority: {{priority}}");
    let description = shorten(&description, DESCRIPTION_CHARS);
    task.insert("description".to_owned(), description.into());
    task.insert("priority".to_owned(), priority(job).into());
    task.insert("labels".to_owned(), job.render_json(&labels));
    let project = job.render("project_id", "");
    if !project.is_empty() {
        task.insert("project_id".to_owned(), project.into());
    }
    let due = job.render("due_string", "");
    if !due.trim().is_empty() {
        task.insert("due_string".to_owned(), shorten(&due, DUE_CHARS).into());
    }
    // Todoist ignores a second request with the same id.
    Request::json("POST", format!("{API}/tasks"), &Value::Object(task))
        .bearer(job.text("token"))
        .header("X-Request-Id", &job.id.to_string())
}

fn close(job: &Job) -> Request {
    let task = encode(&job.render("task_id", "{{external_id}}"));
    Request::new("POST", format!("{API}/tasks/{task}/close"))
        .bearer(job.text("token"))
        .header("X-Request-Id", &job.id.to_string())
}

/// In Todoist, priority 4 is the most urgent.
fn priority(job: &Job) -> u64 {
    let priority = job.notice.priority();
    let map = job.config.get("priority_map");
    map.and_then(|map| map.get(priority.as_str())?.as_u64())
        .unwrap_or(match priority {
            Priority::Background => 1,
            Priority::Normal => 2,
            Priority::Elevated => 3,
            Priority::Urgent => 4,
        })
}

fn judge(response: &Response, turns: &[Turn]) -> Verdict {
    let body = response.json();
    let word = error_word(body.get("error_tag").unwrap_or(&Value::Null));
    match judge_last(turns).because(word) {
        Verdict::Delivered { .. } => Verdict::Delivered {
            external_id: body.get("id").and_then(Value::as_str).map(str::to_owned),
        },
        // Without the header, the body says when to try again.
        Verdict::Retry {
            reason,
            wait: Wait::Schedule,
        } => Verdict::Retry {
            reason,
            wait: body
                .pointer("/error_extra/retry_after")
                .and_then(Value::as_i64)
                .and_then(|seconds| seconds.checked_mul(1_000))
                .map_or(Wait::Schedule, Wait::Exactly),
        },
        other => other,
    }
}
