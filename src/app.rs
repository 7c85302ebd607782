//! What a request needs: the bucket, the clock, the settings, and the isolate's memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use worker::Env;

use crate::config::{Config, ConfigError, Storage};
use crate::delivery::send::{FetchTransport, Outbound};
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::member::executor::Executor;
use crate::domain::member::quiet_hours::Zones;
use crate::isolate::Isolate;
use crate::runtime::background::Background;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::js;
use crate::runtime::zones::IntlZones;
use crate::storage::disk::Disk;
use crate::storage::r2::R2;
use crate::storage::s3::S3;
use crate::storage::wire::Service;
use crate::storage::{ObjectStore, disk};

/// The names of the bindings through which a bucket can be reached: that of R2, and those of
/// workerd's services for a directory and for an S3 server.
const BUCKET: &str = "MESS_BUCKET";
const DISK: &str = "MESS_DISK";
const NETWORK: &str = "MESS_S3";

/// How many operations an invocation may ask of R2 on Cloudflare's free plan.
const OPERATIONS: usize = 1_000;

/// Everything that a service uses. It is made anew for each request or tick.
pub struct App {
    /// The bucket.
    pub store: Rc<dyn ObjectStore>,
    /// Time and randomness.
    pub clock: Rc<dyn Clock>,
    /// The deployment's settings.
    pub config: Rc<Config>,
    /// What this isolate remembers from one request to the next.
    pub isolate: Rc<Isolate>,
    /// Runs work after the answer.
    pub background: Background,
    /// Sends requests to the outside.
    pub outbound: Outbound,
    /// Time zones.
    pub zones: Rc<dyn Zones>,
    /// The executors' records that were read for this request or tick.
    pub executors: RefCell<HashMap<(ExchangeId, ExecutorId), Rc<Executor>>>,
    /// How many operations the store had been asked for before this request or tick.
    pub operations_before: usize,
    /// How many exchanges and relays this call has come through; see
    /// [`crate::domain::limits::HOPS`].
    pub hops: u32,
}

thread_local! {
    /// Time zones. They are kept because their formatters are expensive to make.
    static ZONES: Rc<IntlZones> = Rc::default();
}

/// Why the exchange cannot run at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The binding of the bucket is missing.
    #[error("the binding {0} is missing, where STORAGE_TYPE says that the bucket is")]
    NoBucket(&'static str),
}

/// Connects the bucket that the settings name. The name of its binding is prefixed with `prefix`.
/// `memory` is what the isolate knows about a directory.
///
/// # Errors
///
/// Fails if the binding is missing.
pub fn connect(
    env: &Env,
    prefix: &str,
    storage: &Storage,
    memory: &Rc<disk::Memory>,
    clock: &Rc<dyn Clock>,
) -> Result<Rc<dyn ObjectStore>, SetupError> {
    let service = |name| {
        let binding = js::binding(env, &format!("{prefix}{name}"));
        binding.ok_or(SetupError::NoBucket(name))
    };
    Ok(match storage {
        Storage::R2 => {
            let missing = SetupError::NoBucket(BUCKET);
            match (env.bucket(BUCKET), js::binding(env, BUCKET)) {
                (Ok(bucket), Some(binding)) => Rc::new(R2::new(bucket, binding)),
                _ => return Err(missing),
            }
        }
        Storage::Filesystem => {
            let service = Rc::new(Service::local(service(DISK)?));
            Rc::new(Disk::new(service, clock.clone(), memory.clone()))
        }
        Storage::S3(settings) => {
            let service = Rc::new(Service::remote(service(NETWORK)?, clock.clone()));
            Rc::new(S3::new(service, clock.clone(), settings.clone()))
        }
    })
}

impl App {
    /// Makes an app from the Worker's environment, for a call that has come through `hops` others.
    ///
    /// # Errors
    ///
    /// Fails if a setting is wrong, or if the binding of the bucket is missing.
    pub fn from_env(env: &Env, background: Background, hops: u32) -> Result<Rc<Self>, SetupError> {
        let (zones, isolate) = (ZONES.with(Rc::clone), Isolate::of_this_thread());
        // The settings are the same for as long as the isolate lives.
        let known = isolate.config.borrow().clone();
        let config = if let Some(config) = known {
            config
        } else {
            // Secrets and variables are read in the same way.
            let variable = |name: &str| env.var(name).ok().map(|text| text.to_string());
            let config = Rc::new(Config::read(variable, zones.as_ref())?);
            isolate.config.replace(Some(config.clone()));
            config
        };
        let clock: Rc<dyn Clock> = Rc::new(SystemClock);
        let store = connect(env, "", &config.storage, &isolate.disk, &clock)?;
        let transport = Rc::new(FetchTransport {
            clock: clock.clone(),
        });
        Ok(Rc::new(Self {
            store,
            outbound: Outbound::new(
                transport,
                clock.clone(),
                config.outbound_allow_private,
                config.storage.server().cloned(),
            ),
            clock,
            config,
            isolate,
            background,
            zones,
            executors: RefCell::default(),
            operations_before: 0,
            hops,
        }))
    }

    /// How many operations this invocation may still ask of the store.
    pub fn operations_left(&self) -> usize {
        let used = self
            .store
            .operations()
            .saturating_sub(self.operations_before);
        OPERATIONS.saturating_sub(used)
    }
}
