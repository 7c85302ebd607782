//! Sending. All requests to the outside leave through this file.

use std::cell::Cell;
use std::rc::Rc;

use async_trait::async_trait;
use futures::StreamExt as _;
use url::Url;
use worker::{AbortSignal, Fetch, Headers, Method, RequestInit, RequestRedirect, web_sys};

use super::http::{Answer, Request, Response, Turn, Unreachable};
use super::provider::{Job, Move, Provider};
use super::retry::{Verdict, last_response, parse_retry_after};
use crate::domain::member::address::parse_address;
use crate::domain::time::Timestamp;
use crate::runtime::clock::Clock;

/// Milliseconds after which an attempt is given up, counting all its requests together.
const TIMEOUT: i64 = 10_000;
/// How many bytes of an answer are read. Ids and error words come at the beginning.
const ANSWER_BYTES: usize = 64 * 1024;
/// Longest URL that Workers can send, in bytes.
const LONGEST_URL: usize = 16_000;
/// How many requests one invocation may send. Cloudflare's free plan allows 50.
const MOST_REQUESTS: usize = 48;
/// Milliseconds after which an invocation that serves a request begins no further chunk. Its
/// background work is cut off 30 s after the answer, and a chunk takes up to 10 s plus the time to
/// record it.
const BEGIN_WITHIN: i64 = 15_000;
/// The same limit for a tick. A tick is not cut off, but the next one comes after a minute.
const TICK_BEGINS_WITHIN: i64 = 45_000;
/// How many requests one delivery may take.
const TURNS: usize = 4;

/// The header that tells how many deliveries led to a call.
pub const HOPS_HEADER: &str = "Mess-Hops";

/// Carries requests to the outside.
#[async_trait(?Send)]
pub trait Transport {
    /// Sends `request` and waits up to `within` milliseconds for the answer.
    async fn send(&self, request: &Request, within: i64) -> Answer;
}

/// Limits what one invocation may send. An invocation is a tick, or a request with its background
/// work.
pub struct Outbound {
    transport: Rc<dyn Transport>,
    clock: Rc<dyn Clock>,
    started_at: Timestamp,
    left: Cell<usize>,
    begin_within: Cell<i64>,
    allow_private: bool,
    /// The store of the bucket, which no delivery may write to.
    store: Option<Url>,
}

impl Outbound {
    /// Starts counting for an invocation that begins now.
    pub fn new(
        transport: Rc<dyn Transport>,
        clock: Rc<dyn Clock>,
        allow_private: bool,
        store: Option<Url>,
    ) -> Self {
        Self {
            started_at: clock.now(),
            transport,
            clock,
            left: Cell::new(MOST_REQUESTS),
            begin_within: Cell::new(BEGIN_WITHIN),
            allow_private,
            store,
        }
    }

    /// Whether there is time to attempt `deliveries`, and enough requests left for two each.
    pub fn may_begin(&self, deliveries: usize) -> bool {
        self.age() < self.begin_within.get() && self.left.get() >= deliveries.saturating_mul(2)
    }

    /// Milliseconds since this invocation began.
    pub fn age(&self) -> i64 {
        self.clock.now().since(self.started_at)
    }

    /// Allows the longer time of a tick.
    pub fn allow_tick_time(&self) {
        self.begin_within.set(TICK_BEGINS_WITHIN);
    }

    /// Holds the conversation that makes one delivery. Returns the verdict and the status of the
    /// last response. Returns `None` if this invocation has sent as many requests as it may.
    pub async fn converse(
        &self,
        provider: &Provider,
        job: &Job<'_>,
    ) -> Option<(Verdict, Option<u16>)> {
        let deadline = self.clock.now().plus_millis(TIMEOUT);
        let mut turns: Vec<Turn> = Vec::new();
        let status = |turns: &[Turn]| last_response(turns).map(|response| response.status);
        while turns.len() < TURNS {
            match (provider.next_move)(job, &turns) {
                Move::Send(_) if job.is_overfull() => {
                    let verdict = Verdict::failed("what would be sent is too large");
                    return Some((verdict, status(&turns)));
                }
                Move::Send(request) => {
                    // So that a circle of hooks, from one exchange to the next, comes to an end.
                    let hops = job.hops.saturating_add(1).to_string();
                    let mut request = request.header(HOPS_HEADER, &hops);
                    let answer = self.send(&mut request, deadline).await;
                    if answer == Err(Unreachable::Busy) {
                        return None;
                    }
                    turns.push(Turn { request, answer });
                }
                Move::End(verdict) => return Some((verdict, status(&turns))),
            }
        }
        Some((Verdict::failed("it did not come to an end"), status(&turns)))
    }

    /// Sends `request` if its address may be called. The URL is sent exactly as it was checked.
    async fn send(&self, request: &mut Request, deadline: Timestamp) -> Answer {
        let url =
            parse_address(&request.url, self.allow_private).map_err(|_| Unreachable::Forbidden)?;
        if self
            .store
            .as_ref()
            .is_some_and(|store| is_same_server(store, &url))
        {
            return Err(Unreachable::Forbidden);
        }
        if url.as_str().len() > LONGEST_URL {
            return Err(Unreachable::TooLong);
        }
        let Some(left) = self.left.get().checked_sub(1) else {
            return Err(Unreachable::Busy);
        };
        self.left.set(left);
        request.url = url.into();
        let within = deadline.since(self.clock.now());
        if within <= 0 {
            return Err(Unreachable::Timeout);
        }
        self.transport.send(request, within).await
    }
}

/// Whether two URLs lead to the same host and port.
fn is_same_server(a: &Url, b: &Url) -> bool {
    a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// The runtime's `fetch`.
pub struct FetchTransport {
    /// Needed to convert dates in answers to durations.
    pub clock: Rc<dyn Clock>,
}

#[async_trait(?Send)]
impl Transport for FetchTransport {
    async fn send(&self, request: &Request, within: i64) -> Answer {
        self.fetch(request, within).await.map_err(|error| {
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
    async fn fetch(&self, request: &Request, within: i64) -> worker::Result<Response> {
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
        let signal = AbortSignal::from(web_sys::AbortSignal::timeout_with_u32(
            u32::try_from(within).unwrap_or(1),
        ));
        let mut response = Fetch::Request(outgoing).send_with_signal(&signal).await?;
        let header = |name: &str| response.headers().get(name).ok().flatten();
        let now = self.clock.now();
        let reset: Option<i64> =
            header("X-RateLimit-Requests-Reset").and_then(|text| text.parse().ok());
        Ok(Response {
            status: response.status_code(),
            retry_after: header("Retry-After").and_then(|text| parse_retry_after(&text, now)),
            rate_limit_reset: reset.map(|at| Timestamp::from_millis(at).since(now).max(0)),
            body: read_beginning(&mut response).await,
        })
    }
}

/// Reads the beginning of a body, as far as it arrives. A broken body is no error, because the
/// status matters most.
async fn read_beginning(response: &mut worker::Response) -> String {
    let mut body = Vec::new();
    if let Ok(mut stream) = response.stream() {
        while let Some(Ok(chunk)) = stream.next().await {
            body.extend(chunk);
            if body.len() >= ANSWER_BYTES {
                break;
            }
        }
    }
    body.truncate(ANSWER_BYTES);
    String::from_utf8_lossy(&body).into_owned()
}
