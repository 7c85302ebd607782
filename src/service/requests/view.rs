//! How requests are shown, and how a client asks for a list. This is plain data for every
//! interface.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::list::{Filter, Listed};
use crate::domain::cursor::Cursor;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::domain::text::Invalid;
use crate::domain::thread::event::StatusChanged;
use crate::domain::thread::glance::{self, Glance, Told};
use crate::domain::thread::outcome::Outcome;
use crate::domain::thread::row::{Row, VersionedRow};
use crate::domain::thread::state::{ThreadState, Version};
use crate::domain::thread::status::{Priority, Status};
use crate::domain::time::Timestamp;

/// The answer to a client that reads a request.
#[derive(Serialize)]
pub struct Reading<'a> {
    thread: Shown<'a>,
}

/// A request in full.
#[derive(Serialize)]
pub struct Shown<'a> {
    #[serde(flatten)]
    row: VersionedRow<'a>,
    /// What was said about the current status.
    #[serde(skip_serializing_if = "Map::is_empty")]
    details: Map<String, Value>,
    /// How it ended, if it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    messages: Vec<Message<'a>>,
}

/// What somebody wrote to a request.
#[derive(Serialize)]
struct Message<'a> {
    from: &'a ExecutorId,
    ts: Timestamp,
    mess: &'a RawValue,
}

/// Everything that happened to a request, in order.
#[derive(Serialize)]
pub struct Events<'a> {
    events: Vec<Happened<'a>>,
}

/// One thing that happened to a request.
#[derive(Serialize)]
struct Happened<'a> {
    id: Uuid,
    ts: Timestamp,
    #[serde(rename = "type")]
    event_type: &'a str,
    from: &'a ExecutorId,
    /// What was said about a change of status.
    #[serde(flatten)]
    change: Map<String, Value>,
    /// What was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    mess: Option<&'a RawValue>,
    /// What was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a RawValue>,
}

/// A request that was just posted.
#[derive(Serialize)]
pub struct Posted<'a> {
    #[serde(rename = "ref")]
    reference: &'a Ref,
    status: Status,
}

/// A request after a change.
#[derive(Serialize)]
pub struct Changed<'a> {
    #[serde(rename = "ref")]
    reference: &'a Ref,
    status: Status,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_until: Option<Timestamp>,
}

/// A page of a list.
#[derive(Serialize)]
pub struct Page<'a> {
    threads: Vec<Row<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// `false` while another server's bucket is being imported. Otherwise it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
}

impl<'a> Reading<'a> {
    /// Shows `thread`.
    ///
    /// # Errors
    ///
    /// Fails if an event of the thread cannot be read.
    pub fn of(thread: &'a Glance) -> serde_json::Result<Self> {
        Ok(Self {
            thread: Shown::of(thread)?,
        })
    }
}

impl<'a> Shown<'a> {
    /// Shows `thread`.
    ///
    /// # Errors
    ///
    /// Fails if an event of the thread cannot be read.
    pub fn of(thread: &'a Glance) -> serde_json::Result<Self> {
        let message = |glance::Message { from, ts, mess }| Message { from, ts, mess };
        Ok(Self {
            row: VersionedRow::of(&thread.state),
            details: thread.details()?,
            outcome: thread.outcome()?,
            messages: thread.messages()?.into_iter().map(message).collect(),
        })
    }
}

impl<'a> Events<'a> {
    /// Shows what happened to `thread`.
    ///
    /// # Errors
    ///
    /// Fails if an event of the thread cannot be read.
    pub fn of(thread: &'a Glance) -> serde_json::Result<Self> {
        let events = thread.events().map(Happened::of);
        Ok(Self {
            events: events.collect::<Result<_, _>>()?,
        })
    }
}

impl<'a> Happened<'a> {
    fn of(told: Told<'a>) -> serde_json::Result<Self> {
        let Told {
            id,
            ts,
            event_type,
            from,
            payload,
        } = told;
        let mut happened = Self {
            id,
            ts,
            event_type,
            from,
            change: Map::new(),
            mess: None,
            request: None,
        };
        match event_type {
            glance::WRITTEN => happened.mess = Some(glance::mess_of(payload)?),
            glance::CHANGED => {
                let change: StatusChanged = serde_json::from_str(payload.get())?;
                happened.change = shown_change(change)?;
            }
            _ => happened.request = Some(payload),
        }
        Ok(happened)
    }
}

/// A change of status under the names that readings have for it.
fn shown_change(change: StatusChanged) -> serde_json::Result<Map<String, Value>> {
    let mut shown = Map::new();
    if let Value::Object(fields) = serde_json::to_value(change)? {
        for (name, value) in fields {
            let name = match name.as_str() {
                "new_status" => "status".to_owned(),
                "old_status" => "previous_status".to_owned(),
                _ => name,
            };
            shown.insert(name, value);
        }
    }
    Ok(shown)
}

impl<'a> Posted<'a> {
    /// Shows a request after it was posted.
    pub fn of(state: &'a ThreadState) -> Self {
        Self {
            reference: &state.reference,
            status: state.status,
        }
    }
}

impl<'a> Changed<'a> {
    /// Shows a request after it was changed.
    pub fn of(state: &'a ThreadState) -> Self {
        Self {
            reference: &state.reference,
            status: state.status,
            version: state.version,
            lease_until: state.lease_until,
        }
    }
}

impl<'a> Page<'a> {
    /// Shows a page of a list that was made with `filter`.
    pub fn of(
        listed: &'a Listed,
        exchange: &ExchangeId,
        filter: &Filter,
        is_imported: bool,
    ) -> Self {
        let next = listed.next.as_ref();
        Self {
            threads: listed.threads.iter().map(Row::of).collect(),
            next_cursor: next.map(|next| next.encode(exchange, filter.status)),
            complete: (!is_imported).then_some(false),
        }
    }
}

/// The entity tag of a request that is shown at this version.
pub fn entity_tag(version: Version) -> String {
    format!("\"{version}\"")
}

/// What a client asks of a list. The function returns the value of a parameter by its name, if the
/// client gave it.
pub struct ListQuery<'a>(pub &'a dyn Fn(&'static str) -> Option<&'a str>);

impl ListQuery<'_> {
    /// The names of the parameters.
    pub const NAMES: [&'static str; 7] = [
        "status",
        "priority",
        "requestor",
        "executor",
        "updated_since",
        "limit",
        "cursor",
    ];

    /// The filters of the list. In them, `me` stands for the caller.
    ///
    /// # Errors
    ///
    /// Fails with the name of the first parameter that is wrong.
    pub fn filter(&self, caller: &ExecutorId) -> Result<Filter, Invalid> {
        let member = |text: &str, name: &str| match text {
            ExecutorId::ME => Ok(caller.clone()),
            id => ExecutorId::parse(id, name),
        };
        Ok(Filter {
            status: self.parsed("status", Status::parse)?,
            priority: self.parsed("priority", Priority::parse)?,
            requestor: self.parsed("requestor", member)?,
            executor: self.parsed("executor", member)?,
            updated_since: self.parsed("updated_since", parse_since)?,
            guest: None,
        })
    }

    /// How many rows a page may have.
    ///
    /// # Errors
    ///
    /// Fails if the parameter is not a number from 1 to 1,000.
    pub fn limit(&self) -> Result<usize, Invalid> {
        Ok(self.parsed("limit", parse_limit)?.unwrap_or(PAGE_DEFAULT))
    }

    /// Where the page begins, or `None` for the first page.
    ///
    /// # Errors
    ///
    /// Fails if the cursor was made for another list.
    pub fn cursor(
        &self,
        exchange: &ExchangeId,
        filter: &Filter,
    ) -> Result<Option<Cursor>, Invalid> {
        self.parsed("cursor", |text, _| {
            Cursor::decode(text, exchange, filter.status)
        })
    }

    fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str, &str) -> Result<T, Invalid>,
    ) -> Result<Option<T>, Invalid> {
        self.0(name).map(|text| parse(text, name)).transpose()
    }
}

/// Parses a date-time. A space stands for a `+`, since a `+` that is not percent-encoded in a query
/// becomes a space.
fn parse_since(text: &str, name: &str) -> Result<Timestamp, Invalid> {
    Timestamp::parse(&text.replace(' ', "+")).ok_or_else(|| {
        let problem = "must be an RFC 3339 date-time like 2025-02-01T12:00:00Z";
        Invalid::new(name, problem)
    })
}

/// Reads how many rows a page may have.
///
/// # Errors
///
/// Fails if it is not a number from 1 to 1,000.
pub fn parse_limit(text: &str, name: &str) -> Result<usize, Invalid> {
    let limit = text.parse().ok();
    limit
        .filter(|limit| (1..=PAGE_MAX).contains(limit))
        .ok_or_else(|| Invalid::new(name, format!("must be a number from 1 to {PAGE_MAX}")))
}
