//! Sending: the one file through which requests leave for the outside.

use std::cell::Cell;
use std::rc::Rc;

use async_trait::async_trait;
use futures::StreamExt as _;
use worker::{AbortSignal, Fetch, Headers, Method, RequestInit, RequestRedirect, web_sys};

use super::provider::{Answer, Request, Response, Unreachable};
use super::retry::parse_retry_after;
use crate::clock::Clock;
use crate::domain::address::parse_address;
use crate::domain::time::Timestamp;

/// Milliseconds until an attempt is given up.
const TIMEOUT: u32 = 10_000;
/// Bytes of an answer that are read; ids and error words stand at the beginning.
const ANSWER_BYTES: usize = 64 * 1024;
/// Bytes of a URL that Workers send.
const LONGEST_URL: usize = 16_000;
/// Requests that one invocation may send: Cloudflare's free plan allows 50.
const MOST_REQUESTS: usize = 48;
/// Milliseconds into an invocation after which no chunk is begun. What a request leaves behind
/// is cut off 30 s after its answer, and a chunk takes up to 10 s and its recording.
const BEGIN_WITHIN: i64 = 15_000;
/// Requests that one delivery may need.
const TURNS: usize = 4;

/// What carries requests to the outside.
#[async_trait(?Send)]
pub trait Transport {
    /// Sends `request` and waits for its answer, for a bounded time.
    async fn send(&self, request: &Request) -> Answer;
}

/// What one invocation (a request with its background, or a tick) may send.
pub struct Outbound {
    transport: Rc<dyn Transport>,
    clock: Rc<dyn Clock>,
    started_at: Timestamp,
    left: Cell<usize>,
    allow_private: bool,
}

impl Outbound {
    /// For an invocation that begins now.
    pub fn new(transport: Rc<dyn Transport>, clock: Rc<dyn Clock>, allow_private: bool) -> Self {
        Self {
            started_at: clock.now(),
            transport,
            clock,
            left: Cell::new(MOST_REQUESTS),
            allow_private,
        }
    }

    /// Whether `deliveries` can still be attempted: there is time, and each may take two requests.
    pub fn may_begin(&self, deliveries: usize) -> bool {
        let is_early = self.clock.now().since(self.started_at) < BEGIN_WITHIN;
        is_early && self.left.get() >= deliveries.saturating_mul(2)
    }

    /// How many requests a delivery may take.
    pub fn turns() -> usize {
        TURNS
    }

    /// Sends `request` if its address may be called.
    pub async fn send(&self, request: &Request) -> Answer {
        let url =
            parse_address(&request.url, self.allow_private).map_err(|_| Unreachable::Forbidden)?;
        if url.as_str().len() > LONGEST_URL {
            return Err(Unreachable::TooLong);
        }
        let Some(left) = self.left.get().checked_sub(1) else {
            return Err(Unreachable::Busy);
        };
        self.left.set(left);
        // In the spelling that was checked.
        let request = Request {
            url: url.into(),
            ..request.clone()
        };
        self.transport.send(&request).await
    }
}

/// The runtime's `fetch`.
pub struct FetchTransport {
    /// Tells dates in answers from durations.
    pub clock: Rc<dyn Clock>,
}

#[async_trait(?Send)]
impl Transport for FetchTransport {
    async fn send(&self, request: &Request) -> Answer {
        self.fetch(request).await.map_err(|error| {
            let text = error.to_string();
            if text.contains("Timeout") || text.contains("timeout") {
                Unreachable::Timeout
            } else if text.contains("header") {
                Unreachable::Unsendable
            } else {
                Unreachable::Connection
            }
        })
    }
}

impl FetchTransport {
    async fn fetch(&self, request: &Request) -> worker::Result<Response> {
        let headers = Headers::new();
        let agent = concat!("mess-exchange/", env!("CARGO_PKG_VERSION"));
        headers.set("User-Agent", agent)?;
        for (name, value) in &request.headers {
            headers.set(name, value)?;
        }
        let mut init = RequestInit::new();
        init.with_method(Method::from(request.method.clone()))
            .with_headers(headers)
            .with_redirect(RequestRedirect::Manual)
            .with_body(request.body.as_deref().map(Into::into));
        let outgoing = worker::Request::new_with_init(&request.url, &init)?;
        let signal = AbortSignal::from(web_sys::AbortSignal::timeout_with_u32(TIMEOUT));
        let mut response = Fetch::Request(outgoing).send_with_signal(&signal).await?;
        let header = |name: &str| response.headers().get(name).ok().flatten();
        let retry_after = header("Retry-After")
            .and_then(|text| parse_retry_after(&text, self.clock.now()))
            .or_else(|| {
                // Linear says it in milliseconds since the epoch.
                let reset = header("X-RateLimit-Requests-Reset")?.parse().ok()?;
                Some(Timestamp::from_millis(reset).since(self.clock.now()).max(0))
            });
        Ok(Response {
            status: response.status_code(),
            retry_after,
            body: read_beginning(&mut response).await?,
        })
    }
}

async fn read_beginning(response: &mut worker::Response) -> worker::Result<String> {
    let mut body = Vec::new();
    if let Ok(mut stream) = response.stream() {
        while let Some(chunk) = stream.next().await {
            body.extend(chunk?);
            if body.len() >= ANSWER_BYTES {
                break;
            }
        }
    }
    body.truncate(ANSWER_BYTES);
    Ok(String::from_utf8_lossy(&body).into_owned())
}
