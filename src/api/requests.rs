//! `/requests`: posting, listing, reading and changing requests.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::call::{Call, Caller, versions};
use super::problem::ApiError;
use super::reply::Reply;
use crate::domain::cursor::Cursor;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::limits::{BODY_BYTES, PAGE_DEFAULT, PAGE_MAX};
use crate::domain::text::{Fields, Invalid};
use crate::domain::thread::document::Thread;
use crate::domain::thread::event::Event;
use crate::domain::thread::posted::NewRequest;
use crate::domain::thread::row::{Row, VersionedRow};
use crate::domain::thread::state::Version;
use crate::domain::thread::status::{Priority, Status};
use crate::domain::thread::transition::Update;
use crate::domain::time::Timestamp;
use crate::service::requests::create::create;
use crate::service::requests::list::{Filter, list as list_threads};
use crate::service::requests::read;
use crate::service::requests::update::{Request, update};

/// 201 with the ref of a new request.
pub async fn post(mut call: Call) -> Result<Reply, ApiError> {
    let Caller {
        exchange, executor, ..
    } = call.caller().await?;
    let fields = call.fields(BODY_BYTES).await?;
    let nudge_after = |priority| call.app.config.nudges.after(&exchange, priority);
    let request = NewRequest::parse(fields, call.app.clock.now(), nudge_after)?;
    let state = create(&call.app, exchange.clone(), executor, request).await?;
    let location = format!("/api/v1/exchanges/{exchange}/requests/{}", state.reference);
    let body = json!({"ref": state.reference, "status": state.status});
    Ok(Reply::json(201, &body)
        .header("Location", location)
        .header("ETag", etag(state.version_as_of(call.app.clock.now()))))
}

/// 200 with the thread, as it is by now; 304 when the client has this version and nothing has
/// fallen due since.
pub async fn get(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller().await?;
    let reference = call.reference()?;
    let loaded = caller.found(read::get(&call.app, &caller.exchange, &reference).await)?;
    let mut thread = loaded.document;
    let now = call.app.clock.now();
    let version = thread.state.version_as_of(now);
    let known = call
        .header("If-None-Match")
        .is_some_and(|header| versions(&header, true).is_none_or(|list| list.contains(&version)));
    if let Some(state) = thread.state.as_of(now) {
        thread.state = state;
    }
    // One version may fall due twice, so that its tag alone would hide the second time.
    let reply = if known && !version.is_due {
        Reply::empty(304)
    } else {
        Reply::json(200, &HashMap::from([("thread", Shown::of(&thread))]))
    };
    Ok(reply.header("ETag", etag(version)))
}

/// 200 with the status after the change.
pub async fn patch(call: Call) -> Result<Reply, ApiError> {
    change(call, true, Update::parse).await
}

/// 200 with when the claim ends from now on.
pub async fn renew(call: Call) -> Result<Reply, ApiError> {
    change(call, false, Update::parse_renewal).await
}

async fn change(
    mut call: Call,
    needs_body: bool,
    parse: fn(Fields) -> Result<Update, Invalid>,
) -> Result<Reply, ApiError> {
    let caller = call.caller().await?;
    let reference = call.reference()?;
    let accepted = call
        .header("If-Match")
        .and_then(|text| versions(&text, false));
    let fields = if needs_body {
        call.fields(BODY_BYTES).await?
    } else {
        call.optional_fields(BODY_BYTES).await?
    };
    let request = Request {
        exchange: caller.exchange.clone(),
        reference,
        actor: caller.executor.clone(),
        update: parse(fields)?,
        versions: accepted,
    };
    let state = caller.found(update(&call.app, request).await)?;
    let now = call.app.clock.now();
    let version = state.version_as_of(now);
    let state = state.as_of(now).unwrap_or(state);
    let changed = Changed {
        reference: &state.reference,
        status: state.status,
        version: state.version,
        lease_until: state.lease_until,
    };
    Ok(Reply::json(200, &changed).header("ETag", etag(version)))
}

/// 200 with a page of threads.
pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller().await?;
    let query = call.query(&[
        "status",
        "priority",
        "requestor",
        "executor",
        "updated_since",
        "limit",
        "cursor",
    ])?;
    let filter = parse_filter(&query)?;
    let limit = parse_limit(query.get("limit"))?;
    let cursor = parse_cursor(query.get("cursor"), &caller.exchange, &filter)?;
    let listed = list_threads(&call.app, &caller.exchange, &filter, limit, cursor.as_ref()).await?;
    let page = Page {
        threads: listed.threads.iter().map(Row::of).collect(),
        next_cursor: listed
            .next
            .map(|next| next.encode(&caller.exchange, filter.status)),
        complete: (!caller.is_imported).then_some(false),
    };
    Ok(Reply::json(200, &page))
}

fn parse_filter(query: &HashMap<&str, String>) -> Result<Filter, Invalid> {
    let executor = |name| match query.get(name) {
        Some(text) => ExecutorId::parse(text, name).map(Some),
        None => Ok(None),
    };
    Ok(Filter {
        status: match query.get("status") {
            Some(text) => Some(Status::parse(text, "status")?),
            None => None,
        },
        priority: match query.get("priority") {
            Some(text) => Some(Priority::parse(text, "priority")?),
            None => None,
        },
        requestor: executor("requestor")?,
        executor: executor("executor")?,
        updated_since: match query.get("updated_since") {
            Some(text) => Some(parse_since(text)?),
            None => None,
        },
    })
}

/// A `+` that was not percent-encoded has become a space on the way.
fn parse_since(text: &str) -> Result<Timestamp, Invalid> {
    Timestamp::parse(&text.replace(' ', "+")).ok_or_else(|| {
        let problem = "must be an RFC 3339 date-time like 2025-02-01T12:00:00Z";
        Invalid::new("updated_since", problem)
    })
}

fn parse_limit(text: Option<&String>) -> Result<usize, Invalid> {
    let Some(text) = text else {
        return Ok(PAGE_DEFAULT);
    };
    text.parse()
        .ok()
        .filter(|limit| (1..=PAGE_MAX).contains(limit))
        .ok_or_else(|| Invalid::new("limit", format!("must be a number from 1 to {PAGE_MAX}")))
}

fn parse_cursor(
    text: Option<&String>,
    exchange: &ExchangeId,
    filter: &Filter,
) -> Result<Option<Cursor>, Invalid> {
    match text {
        Some(text) => Cursor::decode(text, exchange, filter.status).map(Some),
        None => Ok(None),
    }
}

/// The entity tag of what is shown.
fn etag(version: Version) -> String {
    format!("\"{version}\"")
}

/// A request after a change.
#[derive(Serialize)]
struct Changed<'a> {
    #[serde(rename = "ref")]
    reference: &'a Ref,
    status: Status,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_until: Option<Timestamp>,
}

/// A page of a list.
#[derive(Serialize)]
struct Page<'a> {
    threads: Vec<Row<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// False while a bucket is taken over, else left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
}

/// A thread in full.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    row: VersionedRow<'a>,
    /// What was said of the present status.
    #[serde(skip_serializing_if = "Map::is_empty")]
    details: Map<String, Value>,
    messages: Vec<Message<'a>>,
}

/// What someone wrote to a thread.
#[derive(Serialize)]
struct Message<'a> {
    from: &'a ExecutorId,
    ts: Timestamp,
    mess: &'a [Value],
}

impl<'a> Shown<'a> {
    fn of(thread: &'a Thread) -> Self {
        let message = |(event, mess): (&'a Event, &'a [Value])| Message {
            from: &event.actor_id,
            ts: event.ts,
            mess,
        };
        Self {
            row: VersionedRow::of(&thread.state),
            details: thread.details(),
            messages: thread.messages().map(message).collect(),
        }
    }
}
