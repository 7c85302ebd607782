//! Answers: plain data until the last moment, then a response with the headers of them all.

use serde::Serialize;
use worker::{Headers, Response, ResponseBuilder};

/// An answer to a request.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body, if there is one.
    pub body: Option<Vec<u8>>,
    /// Headers of this answer alone.
    pub headers: Vec<(&'static str, String)>,
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
            body: None,
            headers: Vec::new(),
        }
    }

    /// An answer with JSON.
    pub fn json<B: Serialize>(status: u16, body: &B) -> Self {
        // Only a map with names that are no strings could fail, and no answer has one.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self {
            body: Some(body),
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
    pub fn into_response(self, request_id: &str, head: bool) -> worker::Result<Response> {
        let headers = Headers::new();
        for (name, value) in CORS {
            headers.set(name, value)?;
        }
        headers.set("X-Content-Type-Options", "nosniff")?;
        headers.set("Cache-Control", "no-store")?;
        headers.set("X-Request-Id", request_id)?;
        if self.body.is_some() {
            headers.set("Content-Type", "application/json; charset=utf-8")?;
        }
        for (name, value) in &self.headers {
            headers.set(name, value)?;
        }
        if self.status == 204 {
            headers.set("Access-Control-Max-Age", "86400")?;
        }
        let builder = ResponseBuilder::new()
            .with_status(self.status)
            .with_headers(headers);
        Ok(match self.body {
            Some(body) if !head => builder.fixed(body),
            _ => builder.empty(),
        })
    }
}
