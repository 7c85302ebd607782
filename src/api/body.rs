//! Reading bodies, within bounds: of each one's length, of the time without progress and in all, and of
//! what all calls together have in memory.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{Either, select};
use worker::Request;

use super::problem::ApiError;
use crate::app::App;
use crate::domain::limits::{BODIES_BYTES, BODY_BYTES, STRANGERS_BYTES};
use crate::domain::time::Timestamp;
use crate::isolate::Isolate;
use crate::runtime::js;

/// How much of a body that is too long is read all the same. Otherwise the connection would close
/// while the client is still writing, and the client would never see why.
const DRAINED_BYTES: usize = 4 * BODY_BYTES;
/// A body of at most so many bytes is read in one piece, others piece by piece.
const SHORT_BYTES: usize = 64 * 1024;
/// How many milliseconds a piece may take.
const PIECE_WITHIN: i64 = 30_000;

/// Who sends a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Somebody with a key.
    Member,
    /// Somebody without one.
    Stranger,
}

impl Sender {
    /// How many milliseconds the whole body may take, however steadily it comes.
    fn within(self) -> i64 {
        match self {
            Self::Member => 300_000,
            Self::Stranger => 60_000,
        }
    }
}

/// A body, counted among those of all calls until it is dropped.
pub struct Body {
    /// Its bytes.
    pub bytes: Vec<u8>,
    _held: Held,
}

/// Bytes of bodies that a call has in memory, or is about to.
struct Held {
    isolate: Rc<Isolate>,
    sender: Sender,
    count: usize,
}

impl Held {
    fn nothing(app: &App, sender: Sender) -> Self {
        Self {
            isolate: app.isolate.clone(),
            sender,
            count: 0,
        }
    }

    /// Counts `count` more, unless that is more than all calls together may have.
    fn take(&mut self, count: usize) -> Result<(), ApiError> {
        let strangers = match self.sender {
            Sender::Member => 0,
            Sender::Stranger => count,
        };
        let all = self.isolate.body_bytes.get().saturating_add(count);
        let strangers = self.isolate.strangers_bytes.get().saturating_add(strangers);
        let is_strangers = self.sender == Sender::Stranger;
        if all > BODIES_BYTES || (is_strangers && strangers > STRANGERS_BYTES) {
            return Err(ApiError::Busy);
        }
        self.isolate.body_bytes.set(all);
        self.isolate.strangers_bytes.set(strangers);
        self.count = self.count.saturating_add(count);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let isolate = &self.isolate;
        let without = |bytes: &Cell<usize>| bytes.set(bytes.get().saturating_sub(self.count));
        without(&isolate.body_bytes);
        if self.sender == Sender::Stranger {
            without(&isolate.strangers_bytes);
        }
    }
}

/// Reads the body of a request. Keeps no more than `limit` bytes, whatever its declared length.
///
/// # Errors
///
/// Fails if the body is too long, breaks off or does not come, or if too much is being received
/// already.
pub async fn read(
    app: &App,
    request: &mut Request,
    limit: usize,
    sender: Sender,
) -> Result<Body, ApiError> {
    let mut held = Held::nothing(app, sender);
    let deadline = app.clock.now().plus_millis(sender.within());
    let length = request.headers().get("Content-Length").ok().flatten();
    let length: Option<usize> = length.and_then(|text| text.parse().ok());
    if let Some(length) = length.filter(|length| *length <= SHORT_BYTES.min(limit)) {
        held.take(length)?;
        let whole = js::whole_body(request.inner().array_buffer());
        let bytes = in_time(app, deadline, whole).await?.map_err(broken)?;
        return Ok(Body { bytes, _held: held });
    }
    let mut bytes = Vec::new();
    if request.inner().body().is_none() {
        return Ok(Body { bytes, _held: held });
    }
    let mut stream = request.stream()?;
    let mut read = 0_usize;
    while let Some(piece) = in_time(app, deadline, stream.next()).await? {
        let piece = piece.map_err(broken)?;
        read = read.saturating_add(piece.len());
        if read <= limit {
            held.take(piece.len())?;
            bytes.extend(piece);
        } else if read > DRAINED_BYTES {
            break;
        }
    }
    if read > limit {
        return Err(ApiError::BodyTooLarge { limit });
    }
    Ok(Body { bytes, _held: held })
}

/// The runtime does not say whether the client hung up, or sent what is no body, such as chunks whose
/// sizes are wrong. Neither is a failure of the server.
fn broken(_: worker::Error) -> ApiError {
    ApiError::BodyBroken
}

/// Waits for a piece of a body, but not for ever.
async fn in_time<T>(
    app: &App,
    deadline: Timestamp,
    piece: impl Future<Output = T>,
) -> Result<T, ApiError> {
    let left = deadline.since(app.clock.now()).min(PIECE_WITHIN);
    let left = u64::try_from(left).unwrap_or_default();
    let late = app.clock.sleep(Duration::from_millis(left));
    match select(Box::pin(piece), late).await {
        Either::Left((piece, _)) => Ok(piece),
        Either::Right(_) => Err(ApiError::BodyTooSlow),
    }
}
