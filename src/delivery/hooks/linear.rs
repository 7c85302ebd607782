//! Linear: creates an issue, and moves it. <https://linear.app/developers/graphql>

use serde_json::{Map, Value, json};

use crate::delivery::http::{Request, Response, Turn};
use crate::delivery::provider::{Job, Move, Provider, shorten};
use crate::delivery::retry::{Verdict, Wait, error_word, judge_last, last_response};
use crate::domain::limits::{CREDENTIAL_CHARS, NAME_CHARS};
use crate::domain::member::forms::{Complaint, Field, Form, Kind, given};
use crate::domain::thread::status::Priority;

const API: &str = "https://api.linear.app/graphql";
const TITLE_CHARS: usize = 255;

const CREATE: &str =
    "mutation($input: IssueCreateInput!) { issueCreate(input: $input) { success issue { id } } }";
const UPDATE: &str = "mutation($id: String!, $input: IssueUpdateInput!) { issueUpdate(id: $id, input: $input) { success } }";
const FIND: &str = "query($id: String!) { issue(id: $id) { id } }";

/// The type `linear`.
pub const PROVIDER: Provider = Provider {
    form: Form {
        name: "linear",
        fields: &[
            Field::required("token", Kind::Line(CREDENTIAL_CHARS)).secret(),
            Field::optional("team_id", Kind::Line(NAME_CHARS)).template(),
            Field::optional("title", Kind::Text).template(),
            Field::optional("description", Kind::Text).template(),
            Field::optional("action", Kind::Word(&["create", "complete"])),
            Field::optional("state_id", Kind::Line(NAME_CHARS)).template(),
            Field::optional("issue_id", Kind::Text).template(),
        ],
        check: check_ids,
    },
    gives_ids: true,
    clears: false,
    next_move,
};

fn check_ids(entry: &Map<String, Value>) -> Result<(), Complaint> {
    let has = |name| given(entry, name).is_some();
    let completes = entry.get("action").and_then(Value::as_str) == Some("complete");
    if completes && !has("state_id") {
        return Err(("state_id", "is required to complete: the state to move to"));
    }
    if !completes && !has("team_id") {
        return Err(("team_id", "is required to create an issue"));
    }
    Ok(())
}

/// Creates the issue under an id of our own, so that a second attempt cannot create another one.
/// The second attempt gets a conflict and then checks whether the issue exists.
fn next_move(job: &Job, turns: &[Turn]) -> Move {
    let completes = job.text("action") == Some("complete");
    match (turns, last_response(turns)) {
        ([], _) if completes => Move::Send(update(job)),
        ([], _) => Move::Send(create(job)),
        ([_], Some(response)) if !completes && is_conflict(response) => {
            Move::Send(query(job, FIND, &json!({"id": job.id})))
        }
        ([_, _], Some(response)) if response.json().pointer("/data/issue/id").is_some() => {
            Move::End(created(job))
        }
        (_, Some(response)) => Move::End(match judge(response, turns) {
            Verdict::Delivered { .. } if turns.len() > 1 => {
                Verdict::retry("Linear reports a conflict with an issue that is not there")
            }
            Verdict::Delivered { .. } if !completes => created(job),
            verdict => verdict,
        }),
        (_, None) => Move::End(judge_last(turns)),
    }
}

fn created(job: &Job) -> Verdict {
    Verdict::Delivered {
        external_id: Some(job.id.to_string()),
    }
}

fn create(job: &Job) -> Request {
    let priority = match job.notice.priority() {
        Priority::Urgent => 1,
        Priority::Elevated => 2,
        Priority::Normal => 3,
        Priority::Background => 4,
    };
    let input = json!({
        "id": job.id,
        "teamId": job.render("team_id", ""),
        "title": shorten(&job.render("title", "{{intent}}"), TITLE_CHARS),
        "description": job.render("description", "{{intent}}\n\nRef: {{ref}}"),
        "priority": priority,
        "stateId": job.text("state_id").map(|_| job.render("state_id", "")),
    });
    // Fields that are not given are left out.
    let input: Map<String, Value> = match input {
        Value::Object(fields) => fields.into_iter().filter(|(_, v)| !v.is_null()).collect(),
        _ => Map::new(),
    };
    query(job, CREATE, &json!({ "input": input }))
}

fn update(job: &Job) -> Request {
    let id = job.render("issue_id", "{{external_id}}");
    let input = json!({"stateId": job.render("state_id", "")});
    query(job, UPDATE, &json!({"id": id, "input": input}))
}

/// Linear wants a personal key as it is and an OAuth token as a bearer token.
fn query(job: &Job, query: &str, variables: &Value) -> Request {
    let request = Request::json(
        "POST",
        API,
        &json!({"query": query, "variables": variables}),
    );
    match job.text("token") {
        Some(key) if key.starts_with("lin_api_") => request.header("Authorization", key),
        token => request.bearer(token),
    }
}

fn is_conflict(response: &Response) -> bool {
    let body = response.json();
    let text = |field: &str| {
        body.pointer(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    text("/errors/0/extensions/userPresentableMessage").contains("already exists")
        || text("/errors/0/message").contains("conflict on insert")
}

/// Linear answers errors with status 200 too, and too many requests with 400.
fn judge(response: &Response, turns: &[Turn]) -> Verdict {
    let body = response.json();
    let Some(error) = body.pointer("/errors/0") else {
        let done = body.get("data").is_some_and(|data| {
            let results = data.as_object().into_iter().flatten();
            results
                .into_iter()
                .all(|(_, result)| result.get("success") != Some(&json!(false)))
        });
        return match judge_last(turns) {
            Verdict::Delivered { .. } if !done => Verdict::retry("answered without a result"),
            verdict => verdict,
        };
    };
    let code = error_word(error.pointer("/extensions/code").unwrap_or(&Value::Null));
    match (code, judge_last(turns)) {
        ("RATELIMITED", _) => Verdict::Retry {
            reason: "answered RATELIMITED".to_owned(),
            wait: response
                .rate_limit_reset
                .or(response.retry_after)
                .map_or(Wait::Schedule, Wait::Exactly),
        },
        ("INTERNAL_SERVER_ERROR" | "LOCK_TIMEOUT", _) => Verdict::retry(format!("answered {code}")),
        (_, retry @ Verdict::Retry { .. }) => retry.because(code),
        _ => Verdict::failed(format!("answered {}", response.status)).because(code),
    }
}
