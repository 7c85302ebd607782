//! HTTP to a service of the runtime: how the backends that are no R2 binding reach their bucket.

use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};

use crate::runtime::clock::Clock;
use crate::runtime::js::{self, ServiceBinding};

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
    binding: ServiceBinding,
    /// Ends what takes too long, where the runtime goes on meanwhile.
    timer: Option<Rc<dyn Clock>>,
}

impl Service {
    /// A service that is reached over a network: a request to it ends after 10 s.
    pub fn remote(binding: ServiceBinding, clock: Rc<dyn Clock>) -> Self {
        Self {
            binding,
            timer: Some(clock),
        }
    }

    /// A service of the runtime's own process. It reads and writes files while nothing else runs,
    /// timers included, so no timer could end it.
    pub fn local(binding: ServiceBinding) -> Self {
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
        let response = js::fetch(
            &self.binding,
            request.method,
            &request.url,
            &headers,
            request.body.as_deref(),
        )
        .await?;
        let header = |name| response.headers().get(name).ok().flatten();
        Ok(Incoming {
            status: response.status(),
            etag: header("etag"),
            content_type: header("content-type"),
            body: match request.method {
                "HEAD" => Vec::new(),
                _ => js::whole_body(response.array_buffer()).await?,
            },
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
