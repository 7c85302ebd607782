//! A provider: a form, and an HTTP conversation that makes one delivery.

use std::cell::Cell;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::http::{Request, Turn};
use super::notice::Notice;
use super::retry::Verdict;
use super::tokens::Tokens;
use crate::domain::member::forms::{Form, text};
use crate::domain::member::template::{EXTERNAL_ID, render, variables};
use crate::domain::time::Timestamp;

/// A type of channel or hook.
pub struct Provider {
    /// The form of its configuration.
    pub form: Form,
    /// Whether its hooks may get an id for what they create, for later hooks to use.
    pub gives_ids: bool,
    /// Whether it clears the earlier notification of those whom a request no longer concerns,
    /// instead of notifying them again.
    pub clears: bool,
    /// Returns the next move of a delivery, given the turns so far.
    pub next_move: fn(&Job, &[Turn]) -> Move,
}

/// One delivery to be made.
pub struct Job<'a> {
    /// The configuration of the channel or hook, with its credentials unsealed.
    pub config: &'a Map<String, Value>,
    /// What happened.
    pub notice: &'a Notice,
    /// The delivery's id. It is the same on every attempt.
    pub id: Uuid,
    /// How many deliveries led to this one.
    pub hops: u32,
    /// The moment of this attempt.
    pub now: Timestamp,
    /// Whether the recipient takes no part in the request any more, because somebody else claimed
    /// or ended it.
    pub is_bystander: bool,
    /// What an earlier hook of this executor created.
    pub created: Option<&'a Created>,
    /// Access tokens.
    pub tokens: &'a Tokens,
    /// The space left for the values of variables.
    pub room: Room,
}

/// Most bytes that the values of variables may take in one delivery. There is a limit because a
/// template may repeat them.
const ROOM: usize = 256 * 1024;

/// How many of these bytes are left; `None` once a value did not fit.
pub struct Room(Cell<Option<usize>>);

impl Default for Room {
    fn default() -> Self {
        Self(Cell::new(Some(ROOM)))
    }
}

impl Room {
    /// Returns `value` if there is room for it, or else an empty string.
    fn take(&self, value: String) -> String {
        let left = self.0.get().and_then(|room| room.checked_sub(value.len()));
        self.0.set(left);
        if left.is_some() { value } else { String::new() }
    }
}

/// What an earlier hook created.
pub struct Created {
    /// The provider's id for it.
    pub id: String,
    /// The configuration of that hook.
    pub by: Map<String, Value>,
}

/// A provider's next move.
#[derive(Debug, PartialEq)]
pub enum Move {
    /// Send this request, then ask for the next move with its answer.
    Send(Request),
    /// End the attempt with this verdict.
    End(Verdict),
}

impl Job<'_> {
    /// A text of the configuration, unchanged.
    pub fn text(&self, field: &str) -> Option<&str> {
        text(self.config, field)
    }

    /// A text of the configuration, or else `default`, with its variables replaced.
    pub fn render(&self, field: &str, default: &str) -> String {
        self.render_text(self.text(field).unwrap_or(default))
    }

    /// A JSON value with the variables in its strings replaced.
    pub fn render_json(&self, value: &Value) -> Value {
        match value {
            Value::String(template) => Value::String(self.render_text(template)),
            Value::Array(items) => items.iter().map(|item| self.render_json(item)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, field)| (name.clone(), self.render_json(field)))
                .collect(),
            other => other.clone(),
        }
    }

    /// A URL of the configuration with its variables replaced by percent-encoded values.
    pub fn render_url(&self, field: &str) -> String {
        self.render_escaped(self.text(field).unwrap_or_default(), encode)
    }

    fn render_text(&self, template: &str) -> String {
        self.render_escaped(template, str::to_owned)
    }

    fn render_escaped(&self, template: &str, escape: impl Fn(&str) -> String) -> String {
        render(template, |name| {
            self.room.take(escape(&self.variable(name)))
        })
    }

    /// Whether some value did not fit.
    pub fn is_overfull(&self) -> bool {
        self.room.0.get().is_none()
    }

    fn variable(&self, name: &str) -> String {
        if name == EXTERNAL_ID {
            return self
                .created
                .map_or(String::new(), |created| created.id.clone());
        }
        self.notice.variable(name)
    }

    /// Adds `headers` from the configuration and a body to `request`. The function `body` gets the
    /// content type that the headers name, or else `content_type`. A GET request has no body.
    pub fn with_headers(
        &self,
        mut request: Request,
        headers: Option<&Value>,
        content_type: &str,
        body: impl FnOnce(&str) -> String,
    ) -> Request {
        let mut content_type = content_type.to_owned();
        let headers = headers.and_then(Value::as_object);
        for (name, value) in headers.into_iter().flatten() {
            let value = self.render_text(value.as_str().unwrap_or_default());
            if name.eq_ignore_ascii_case("content-type") {
                content_type = value;
            } else {
                request = request.header(name, &value);
            }
        }
        if request.method == "GET" {
            return request;
        }
        let body = body(&content_type);
        request.header("Content-Type", &content_type).body(body)
    }

    /// Adds `headers` and the `body` from the configuration to `request`, or else the body
    /// `default`.
    ///
    /// A body that is a string is sent as text, with its values escaped for the content type. Any
    /// other body is sent as JSON.
    pub fn with_headers_and_body(
        &self,
        request: Request,
        headers: Option<&Value>,
        default: &Value,
    ) -> Request {
        let given = self.config.get("body").filter(|body| !body.is_null());
        let Some(Value::String(template)) = given else {
            return self.with_headers(request, headers, "application/json", |_| {
                given
                    .map_or_else(|| default.clone(), |body| self.render_json(body))
                    .to_string()
            });
        };
        // A text that parses as a JSON object or array is meant as JSON.
        let is_json = serde_json::from_str::<Value>(&render(template, |_| "x".to_owned()))
            .is_ok_and(|value| value.is_object() || value.is_array());
        let default_type = if is_json {
            "application/json"
        } else {
            "text/plain; charset=utf-8"
        };
        self.with_headers(request, headers, default_type, |content_type| {
            let kind = content_type.to_ascii_lowercase();
            if is_json || kind.contains("json") {
                self.render_escaped(template, escape_json)
            } else if kind.starts_with("application/x-www-form-urlencoded") {
                self.render_escaped(template, encode)
            } else if kind.contains("xml") || kind.contains("html") {
                self.render_escaped(template, escape_xml)
            } else {
                self.render_text(template)
            }
        })
    }
}

/// Whether any string in `value` uses the id that an earlier hook got.
pub fn uses_external_id(value: &Value) -> bool {
    match value {
        Value::String(text) => variables(text).any(|name| name == EXTERNAL_ID),
        Value::Array(items) => items.iter().any(uses_external_id),
        Value::Object(fields) => fields.values().any(uses_external_id),
        _ => false,
    }
}

/// Percent-encodes everything but unreserved characters, for use in a URL.
pub fn encode(text: &str) -> String {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Escapes a text for use between the tags of HTML or XML, and in Slack's mrkdwn.
pub fn escape_tags(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Escapes a text for use between tags and in quoted attributes.
fn escape_xml(text: &str) -> String {
    escape_tags(text)
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// Escapes a text for use inside a JSON string.
fn escape_json(text: &str) -> String {
    let quoted = Value::String(text.to_owned()).to_string();
    let inside = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"'));
    inside.unwrap_or_default().to_owned()
}

/// Shortens a text to `most` characters. If anything is cut, the last one is an ellipsis.
pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}
