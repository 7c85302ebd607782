//! HTTP to a service of the runtime. The backends without an R2 binding reach their bucket this
//! way.

use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};

use crate::runtime::clock::Clock;
use crate::runtime::js::{self, Binding};

/// How long a request may take, including the body of its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// The method, in upper case.
    pub method: &'static str,
    /// The URL, encoded.
    pub url: String,
    /// The headers: names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body of a `PUT`.
    pub body: Option<Vec<u8>>,
}

/// The answer to a request.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    /// The status.
    pub status: u16,
    /// The `ETag` header.
    pub etag: Option<String>,
    /// The `Content-Type` header.
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
    /// Fails if no complete answer came. It is then unknown whether the request had an effect. The
    /// text is for the log.
    async fn send(&self, request: &Outgoing) -> Result<Incoming, String>;
}

/// A service binding of the runtime.
pub struct Service {
    binding: Binding,
    /// Ends a request that takes too long. This is only possible if the runtime goes on in the
    /// meantime.
    timer: Option<Rc<dyn Clock>>,
}

impl Service {
    /// A service that is reached over a network. A request to it ends after 10 s.
    pub fn remote(binding: Binding, clock: Rc<dyn Clock>) -> Self {
        Self {
            binding,
            timer: Some(clock),
        }
    }

    /// A service in the runtime's own process. While it reads and writes files, nothing else runs,
    /// not even a timer, so no timer could end a request.
    pub fn local(binding: Binding) -> Self {
        Self {
            binding,
            timer: None,
        }
    }

    async fn fetch(&self, request: &Outgoing) -> worker::Result<Incoming> {
        let headers: Vec<_> = request
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = js::call(
            &self.binding,
            request.method,
            &request.url,
            &headers,
            request.body.as_deref(),
        )
        .await?;
        Ok(Incoming {
            status: answer.status(),
            etag: answer.etag(),
            content_type: answer.content_type(),
            body: answer.body(),
        })
    }
}

#[async_trait(?Send)]
impl Wire for Service {
    async fn send(&self, request: &Outgoing) -> Result<Incoming, String> {
        let Some(clock) = &self.timer else {
            return self.fetch(request).await.map_err(|error| error.to_string());
        };
        let answer = Box::pin(self.fetch(request));
        match select(answer, Box::pin(clock.sleep(TIMEOUT))).await {
            Either::Left((answer, _)) => answer.map_err(|error| error.to_string()),
            Either::Right(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }
}
