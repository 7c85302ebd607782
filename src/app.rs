//! What a request needs: the bucket, the clock, the settings, the isolate's memory.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use worker::Env;

use crate::background::Background;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigError};
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::key::KeyHash;
use crate::domain::time::Timestamp;
use crate::storage::ObjectStore;
use crate::storage::r2::R2;
use crate::storage::rows::SummaryCache;

/// The name of the R2 binding.
const BUCKET: &str = "MESS_BUCKET";

/// Everything that a service uses; made anew for each request or tick.
pub struct App {
    /// The bucket.
    pub store: Rc<dyn ObjectStore>,
    /// Time and randomness.
    pub clock: Rc<dyn Clock>,
    /// The deployment's settings.
    pub config: Rc<Config>,
    /// What this isolate remembers from request to request.
    pub isolate: Rc<Isolate>,
    /// Where work goes on after the answer.
    pub background: Background,
}

/// What an isolate remembers; all of it can be lost at any time.
#[derive(Default)]
pub struct Isolate {
    /// Keys that were found in the bucket.
    pub keys: RefCell<HashMap<KeyHash, KnownKey>>,
    /// Summaries that the backend does not list.
    pub summaries: SummaryCache,
    /// Exchanges in which every thread is derived.
    pub derived: RefCell<HashSet<ExchangeId>>,
    /// Exchanges that this isolate is deriving, and when to take that work for lost.
    pub deriving: RefCell<HashMap<ExchangeId, Timestamp>>,
}

/// A key that was found in the bucket.
#[derive(Clone)]
pub struct KnownKey {
    /// Whose it is.
    pub executor: ExecutorId,
    /// Until when this is believed without asking again.
    pub until: Timestamp,
}

thread_local! {
    /// The memory of this isolate: it runs on one thread.
    static ISOLATE: Rc<Isolate> = Rc::default();
}

/// Why the exchange cannot run at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The bucket is not bound.
    #[error("the R2 binding {BUCKET} is missing: see wrangler.toml")]
    NoBucket,
}

impl App {
    /// What the Worker's environment gives.
    ///
    /// # Errors
    ///
    /// A setting is wrong or the bucket is not bound.
    pub fn from_env(env: &Env, background: Background) -> Result<Rc<Self>, SetupError> {
        // A secret and a variable are read alike.
        let config = Config::read(|name| env.var(name).ok().map(|text| text.to_string()))?;
        let bucket = env.bucket(BUCKET).map_err(|_| SetupError::NoBucket)?;
        Ok(Rc::new(Self {
            store: Rc::new(R2::new(bucket)),
            clock: Rc::new(SystemClock),
            config: Rc::new(config),
            isolate: ISOLATE.with(Rc::clone),
            background,
        }))
    }
}
