//! HTTP to a service of the runtime: how the backends that are no R2 binding reach their bucket.

use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};
use worker::{Fetcher, Headers, Method, RequestInit, RequestRedirect};

use crate::runtime::clock::Clock;

/// How long a request may take, its answer's body included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// The method, in capitals.
    pub method: &'static str,
    /// The URL, encoded.
    pub url: String,
    /// Names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body, of a `PUT`.
    pub body: Option<Vec<u8>>,
}

/// Its answer.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    /// The status.
    pub status: u16,
    /// The header `ETag`.
    pub etag: Option<String>,
    /// The header `Content-Type`.
    pub content_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Carries requests to a bucket.
#[async_trait(?Send)]
pub trait Wire {
    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    ///
    /// No whole answer came; whether the request had an effect is unknown. The text is for the
    /// log.
    async fn send(&self, request: &Outgoing) -> Result<Incoming, String>;
}

/// A service binding of the runtime.
pub struct Service {
    fetcher: Fetcher,
    clock: Rc<dyn Clock>,
}

impl Service {
    /// The service behind a binding.
    pub fn new(fetcher: Fetcher, clock: Rc<dyn Clock>) -> Self {
        Self { fetcher, clock }
    }

    async fn fetch(&self, request: &Outgoing) -> worker::Result<Incoming> {
        let headers = Headers::new();
        for (name, value) in &request.headers {
            headers.set(name, value)?;
        }
        let body = request.body.as_deref();
        let mut init = RequestInit::new();
        init.with_method(Method::from(request.method.to_owned()))
            .with_headers(headers)
            .with_redirect(RequestRedirect::Manual)
            .with_body(body.map(|bytes| worker::js_sys::Uint8Array::from(bytes).into()));
        let mut response = self.fetcher.fetch(&request.url, Some(init)).await?;
        let header = |name| response.headers().get(name).ok().flatten();
        Ok(Incoming {
            status: response.status_code(),
            etag: header("etag"),
            content_type: header("content-type"),
            body: match request.method {
                "HEAD" => Vec::new(),
                _ => response.bytes().await?,
            },
        })
    }
}

#[async_trait(?Send)]
impl Wire for Service {
    async fn send(&self, request: &Outgoing) -> Result<Incoming, String> {
        let answer = Box::pin(self.fetch(request));
        match select(answer, Box::pin(self.clock.sleep(TIMEOUT))).await {
            Either::Left((answer, _)) => answer.map_err(|error| error.to_string()),
            Either::Right(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }
}
