//! Answers. They stay plain data until the end, and then become a response with the headers that
//! all responses have.

use serde::Serialize;
use worker::web_sys;

use super::problem::Problem;
use crate::runtime::js;

/// An answer to a request.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// What is sent.
    pub body: Body,
    /// Who may cache it.
    pub cache: Cache,
    /// Headers that only this answer has.
    pub headers: Vec<(&'static str, String)>,
}

/// What is sent.
#[derive(Debug)]
pub enum Body {
    /// No body.
    Empty,
    /// A JSON text.
    Json(String),
    /// Any other body that is complete.
    Bytes {
        /// Its media type.
        media_type: &'static str,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A body that is streamed.
    Stream {
        /// Its media type.
        media_type: String,
        /// The stream.
        stream: web_sys::ReadableStream,
    },
}

/// How an answer may be cached (RFC 9111).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Not at all.
    NoStore,
    /// By the client, which must revalidate it each time.
    Revalidate,
    /// By the client, for ever.
    Immutable,
}

impl Cache {
    /// The value of the `Cache-Control` header.
    fn as_str(self) -> &'static str {
        match self {
            Self::NoStore => "no-store",
            Self::Revalidate => "private, no-cache",
            Self::Immutable => "private, max-age=31536000, immutable",
        }
    }
}

/// What every answer allows a browser, from any origin.
const CORS: [(&str, &str); 2] = [
    ("Access-Control-Allow-Origin", "*"),
    (
        "Access-Control-Expose-Headers",
        "Allow, ETag, Location, Retry-After, WWW-Authenticate, X-Request-Id",
    ),
];

/// What a browser asks for before a call (a preflight request of the Fetch standard), and for how
/// many seconds it may remember the answer.
const PREFLIGHT: [(&str, &str); 3] = [
    (
        "Access-Control-Allow-Methods",
        "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    ),
    (
        "Access-Control-Allow-Headers",
        "Authorization, Content-Type, If-Match, If-None-Match, X-Registration-Token, X-Request-Id",
    ),
    ("Access-Control-Max-Age", "86400"),
];

impl Reply {
    /// Makes an answer without a body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            body: Body::Empty,
            cache: Cache::NoStore,
            headers: Vec::new(),
        }
    }

    /// Makes the answer to OPTIONS.
    pub fn preflight() -> Self {
        let headers = PREFLIGHT.map(|(name, value)| (name, value.to_owned()));
        Self {
            headers: headers.into(),
            ..Self::empty(204)
        }
    }

    /// Makes an answer with a JSON body.
    pub fn json<B: Serialize>(status: u16, body: &B) -> Self {
        // Only a map whose names are not strings could fail, and no answer contains one.
        let body = serde_json::to_string(body).unwrap_or_default();
        Self {
            body: Body::Json(body),
            ..Self::empty(status)
        }
    }

    /// Adds a header to this answer.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Makes the response, with the headers that every response has. An answer to HEAD has no body.
    ///
    /// # Errors
    ///
    /// Fails if the runtime refuses a header.
    pub fn into_response(self, request_id: &str, head: bool) -> worker::Result<web_sys::Response> {
        let media_type = match &self.body {
            Body::Empty => None,
            Body::Json(_) => Some("application/json; charset=utf-8"),
            Body::Bytes { media_type, .. } => Some(*media_type),
            Body::Stream { media_type, .. } => Some(media_type.as_str()),
        };
        let own = self.headers.iter().map(|(name, value)| (*name, &**value));
        let mut headers: Vec<(&str, &str)> = CORS.into_iter().chain(own).collect();
        headers.push(("X-Content-Type-Options", "nosniff"));
        headers.push(("Cache-Control", self.cache.as_str()));
        headers.push(("X-Request-Id", request_id));
        headers.extend(media_type.map(|media_type| ("Content-Type", media_type)));
        let content = match &self.body {
            _ if head => js::Content::None,
            Body::Empty => js::Content::None,
            Body::Json(text) => js::Content::Text(text),
            Body::Bytes { bytes, .. } => js::Content::Bytes(bytes),
            Body::Stream { stream, .. } => js::Content::Stream(stream),
        };
        js::response(self.status, &headers, content)
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let mut reply = Self::json(problem.status, &problem.to_json());
        reply.headers = problem.headers;
        reply
    }
}
