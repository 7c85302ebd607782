//! Google Tasks, with OAuth: creates a task, and completes it.
//! <https://developers.google.com/workspace/tasks/reference/rest>

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::delivery::http::{Request, Response, Turn};
use crate::delivery::provider::{Job, Move, Provider, encode, shorten};
use crate::delivery::retry::{Verdict, Wait, error_word, judge_last};
use crate::domain::limits::{CREDENTIAL_CHARS, NAME_CHARS};
use crate::domain::member::forms::{Field, Form, Kind, text};
use crate::domain::time::Timestamp;

const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const API: &str = "https://tasks.googleapis.com/tasks/v1";
/// Google's own limits.
const TITLE_CHARS: usize = 1_024;
const NOTES_CHARS: usize = 8_192;
/// Milliseconds before its expiry from which on a token is no longer used.
const EARLY: i64 = 60_000;

/// The type `google_tasks`.
pub const PROVIDER: Provider = Provider {
    form: Form {
        name: "google_tasks",
        fields: &[
            Field::required("client_id", Kind::Line(CREDENTIAL_CHARS)),
            Field::required("client_secret", Kind::Line(CREDENTIAL_CHARS)).secret(),
            Field::required("refresh_token", Kind::Line(CREDENTIAL_CHARS)).secret(),
            Field::optional("tasklist", Kind::Line(NAME_CHARS)).template(),
            Field::optional("title", Kind::Text).template(),
            Field::optional("notes", Kind::Text).template(),
            Field::optional("due", Kind::Text).template(),
            Field::optional("action", Kind::Word(&["create", "complete"])),
            Field::optional("task_id", Kind::Text).template(),
        ],
        check: Form::ANY,
    },
    gives_ids: true,
    clears: false,
    next_move,
};

/// Fetches an access token unless one is kept, and then calls the API. If the API refuses a kept
/// token, the call is repeated once with a fresh one.
fn next_move(job: &Job, turns: &[Turn]) -> Move {
    let key = token_key(job);
    let Some(Turn { request, answer }) = turns.last() else {
        return Move::Send(match job.tokens.find(&key, job.now) {
            Some(token) => call(job, &token),
            None => fetch_token(job),
        });
    };
    let Ok(response) = answer else {
        return Move::End(judge_last(turns));
    };
    if request.url == TOKEN_URL {
        return match keep_token(job, &key, response) {
            Some(token) => Move::Send(call(job, &token)),
            None => Move::End(judge_token(response, turns)),
        };
    }
    if response.status == 401 {
        job.tokens.forget(&key);
        if turns.len() == 1 {
            return Move::Send(fetch_token(job));
        }
    }
    Move::End(judge(job, response, turns))
}

/// The key under which an access token is kept. It does not reveal the credentials.
fn token_key(job: &Job) -> String {
    let mut hash = Sha256::new();
    for field in ["client_id", "client_secret", "refresh_token"] {
        hash.update(job.text(field).unwrap_or_default());
        hash.update([0]);
    }
    format!("{:x}", hash.finalize())
}

fn fetch_token(job: &Job) -> Request {
    let mut form = "grant_type=refresh_token".to_owned();
    for field in ["client_id", "client_secret", "refresh_token"] {
        let value = job.text(field).unwrap_or_default();
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        form = format!("{form}&{field}={value}");
    }
    Request::new("POST", TOKEN_URL)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form)
}

fn keep_token(job: &Job, key: &str, response: &Response) -> Option<String> {
    let body = response.json();
    let token = body.get("access_token").filter(|_| response.is_success())?;
    let token = token.as_str()?;
    let seconds = body.get("expires_in").and_then(Value::as_i64).unwrap_or(0);
    // A token that is about to expire is still good for this attempt.
    let lifetime = seconds.saturating_mul(1_000).saturating_sub(EARLY).max(1);
    job.tokens.keep(key, token, job.now.plus_millis(lifetime));
    Some(token.to_owned())
}

fn call(job: &Job, token: &str) -> Request {
    // A task is in the list where it was created, unless the hook names another.
    let created_in = job
        .created
        .and_then(|created| text(&created.by, "tasklist"));
    let list = encode(&job.render("tasklist", created_in.unwrap_or("@default")));
    let tasks = format!("{API}/lists/{list}/tasks");
    if job.text("action") == Some("complete") {
        let task = encode(&job.render("task_id", "{{external_id}}"));
        let body = serde_json::json!({"status": "completed"});
        return Request::json("PATCH", format!("{tasks}/{task}"), &body).bearer(Some(token));
    }
    let mut task = Map::new();
    let title = job.render("title", "{{intent}}");
    task.insert("title".to_owned(), shorten(&title, TITLE_CHARS).into());
    let notes = job.render("notes", "Ref: {{ref}}\nPriority: {{priority}}");
    task.insert("notes".to_owned(), shorten(&notes, NOTES_CHARS).into());
    // Google reads only the day of an RFC 3339 date-time, so a bare day is turned into one.
    let due = job.render("due", "");
    let due = Timestamp::parse(&due).or_else(|| Timestamp::parse(&format!("{due}T00:00:00Z")));
    if let Some(due) = due {
        task.insert("due".to_owned(), due.to_string().into());
    }
    Request::json("POST", tasks, &Value::Object(task)).bearer(Some(token))
}

/// Judges the answer to a request for a token. Google answers `invalid_grant` if the refresh token
/// was revoked, or if it belongs to an app in testing and is older than seven days.
fn judge_token(response: &Response, turns: &[Turn]) -> Verdict {
    let body = response.json();
    let word = error_word(body.get("error").unwrap_or(&Value::Null));
    match judge_last(turns) {
        Verdict::Delivered { .. } => Verdict::retry("the token answer makes no sense"),
        verdict => verdict.because(word),
    }
}

fn judge(job: &Job, response: &Response, turns: &[Turn]) -> Verdict {
    let body = response.json();
    let reason = [
        "/error/errors/0/reason",
        "/error/details/0/reason",
        "/error/status",
    ]
    .iter()
    .map(|path| error_word(body.pointer(path).unwrap_or(&Value::Null)))
    .find(|word| !word.is_empty())
    .unwrap_or_default();
    let too_many = matches!(
        reason,
        "rateLimitExceeded" | "userRateLimitExceeded" | "quotaExceeded" | "dailyLimitExceeded"
    );
    match judge_last(turns) {
        Verdict::Delivered { .. } if job.text("action") != Some("complete") => {
            let id = body.get("id").and_then(Value::as_str);
            Verdict::Delivered {
                external_id: id.map(str::to_owned),
            }
        }
        Verdict::Failed { .. } if response.status == 403 && too_many => Verdict::Retry {
            reason: format!("answered 403: {reason}"),
            wait: response.retry_after.map_or(Wait::Schedule, Wait::Exactly),
        },
        verdict => verdict.because(reason),
    }
}
