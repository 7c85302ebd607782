//! Requests to providers, and their answers.

use serde_json::Value;

/// A request to a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// Headers, besides those that every request has.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<String>,
}

/// A request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The request.
    pub request: Request,
    /// The answer.
    pub answer: Answer,
}

/// What came back: a response, or the reason why there is none.
pub type Answer = Result<Response, Unreachable>;

/// A response of a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Its status code.
    pub status: u16,
    /// Milliseconds that the response asks to wait before the next request.
    pub retry_after: Option<i64>,
    /// Milliseconds until the moment in the header `X-RateLimit-Requests-Reset`, which gives it in
    /// milliseconds since the epoch.
    pub rate_limit_reset: Option<i64>,
    /// The beginning of its body.
    pub body: String,
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// No response came in time.
    #[error("no answer within 10 s")]
    Timeout,
    /// The connection failed or broke.
    #[error("the connection failed")]
    Connection,
    /// The URL may not be called.
    #[error("the URL may not be called")]
    Forbidden,
    /// The URL with its variables filled in is longer than any server accepts.
    #[error("the URL is too long to be sent")]
    TooLong,
    /// The runtime refuses to send it.
    #[error("a header cannot be sent")]
    Unsendable,
    /// This invocation has already sent as many requests as it may.
    #[error("the exchange was busy")]
    Busy,
}

impl Response {
    /// The body as JSON, or null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// Whether the status is a success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Request {
    /// A request with a JSON body.
    pub fn json(method: &str, url: impl Into<String>, body: &Value) -> Self {
        Self::new(method, url)
            .header("Content-Type", "application/json")
            .body(body.to_string())
    }

    /// A request without a body.
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        Self {
            method: method.to_owned(),
            url: url.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// Adds a header. Line breaks in its value become spaces.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let value = value.replace(['\r', '\n'], " ");
        self.headers.push((name.to_owned(), value));
        self
    }

    /// Adds a body.
    #[must_use]
    pub fn body(mut self, body: String) -> Self {
        self.body = Some(body);
        self
    }

    /// Adds a bearer token, if there is one.
    #[must_use]
    pub fn bearer(self, token: Option<&str>) -> Self {
        match token {
            Some(token) => self.header("Authorization", &format!("Bearer {token}")),
            None => self,
        }
    }
}
