//! Answers: plain data until the last moment, then a response with the headers that all have.

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
    /// What may be kept of it, and by whom.
    pub cache: Cache,
    /// Headers of this answer alone.
    pub headers: Vec<(&'static str, String)>,
}

/// What is sent.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// JSON.
    Json(String),
    /// Anything else that is at hand.
    Bytes {
        /// Its media type.
        media_type: &'static str,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// What comes bit by bit.
    Stream {
        /// Its media type.
        media_type: String,
        /// Where it comes from.
        stream: web_sys::ReadableStream,
    },
}

/// What may be kept of an answer (RFC 9111).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Nothing, by anyone.
    NoStore,
    /// By its reader, who asks each time whether it is still so.
    Revalidate,
    /// By its reader, for ever.
    Immutable,
}

impl Cache {
    /// The header `Cache-Control`.
    fn as_str(self) -> &'static str {
        match self {
            Self::NoStore => "no-store",
            Self::Revalidate => "private, no-cache",
            Self::Immutable => "private, max-age=31536000, immutable",
        }
    }
}

/// What every answer allows a browser, from any origin.
const CORS: [(&str, &str); 4] = [
    ("Access-Control-Allow-Origin", "*"),
    (
        "Access-Control-Allow-Methods",
        "GET, HEAD, POST, PUT, PATCH, OPTIONS",
    ),
    (
        "Access-Control-Allow-Headers",
        "Authorization, Content-Type, If-Match, If-None-Match, X-Registration-Token, X-Request-Id",
    ),
    (
        "Access-Control-Expose-Headers",
        "Allow, ETag, Location, Retry-After, WWW-Authenticate, X-Request-Id",
    ),
];

impl Reply {
    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            body: Body::Empty,
            cache: Cache::NoStore,
            headers: Vec::new(),
        }
    }

    /// An answer with JSON.
    pub fn json<B: Serialize>(status: u16, body: &B) -> Self {
        // Only a map with names that are no strings could fail, and no answer has one.
        let body = serde_json::to_string(body).unwrap_or_default();
        Self {
            body: Body::Json(body),
            ..Self::empty(status)
        }
    }

    /// This answer with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The response, with the headers that every response has; without the body for HEAD.
    ///
    /// # Errors
    ///
    /// The runtime refuses a header.
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
        if self.status == 204 {
            headers.push(("Access-Control-Max-Age", "86400"));
        }
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
