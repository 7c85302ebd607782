//! Time and randomness. This is the only file that reads either.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::domain::time::Timestamp;

/// The source of the current moment and of random bytes.
#[async_trait(?Send)]
pub trait Clock {
    /// The current moment.
    fn now(&self) -> Timestamp;
    /// Fills `bytes` from a source that is fit for secrets.
    fn random(&self, bytes: &mut [u8]);
    /// Waits.
    async fn sleep(&self, duration: Duration);
}

impl dyn Clock + '_ {
    /// `N` random bytes.
    pub fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random(&mut bytes);
        bytes
    }

    /// A random (version 4) UUID.
    pub fn new_id(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random_bytes()).into_uuid()
    }

    /// A random id of 12 hex digits, for things of which there are few.
    pub fn new_entry_id(&self) -> String {
        let mut id = self.new_id().simple().to_string();
        id.truncate(12);
        id
    }

    /// Waits for a random time of at most `most`.
    pub async fn jitter(&self, most: Duration) {
        self.sleep(most.mul_f64(self.random_share())).await;
    }

    /// A random number from 0 to 1.
    pub fn random_share(&self) -> f64 {
        f64::from(u16::from_le_bytes(self.random_bytes())) / f64::from(u16::MAX)
    }
}

/// The runtime's clock. On Cloudflare it stands still while code runs, and advances with each
/// answer from outside.
pub struct SystemClock;

#[async_trait(?Send)]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            clippy::cast_possible_truncation,
            reason = "this is where time is read; milliseconds fit in 53 bits"
        )]
        Timestamp::from_millis(js_sys::Date::now() as i64)
    }

    fn random(&self, bytes: &mut [u8]) {
        #[expect(
            clippy::disallowed_methods,
            clippy::expect_used,
            reason = "this is where randomness is drawn; a runtime without randomness cannot make keys: stop rather than guess"
        )]
        getrandom::fill(bytes).expect("the runtime gives random bytes");
    }

    async fn sleep(&self, duration: Duration) {
        worker::Delay::from(duration).await;
    }
}
