//! The services over a bucket in memory: with faults, with operations held, with time passed in.

mod budgets;
mod crashes;
mod lists;
mod other_servers;
mod races;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use futures::executor::{LocalPool, LocalSpawner};
use futures::future::{LocalBoxFuture, RemoteHandle};
use futures::task::LocalSpawnExt as _;
use serde_json::{Value, json};

use super::create::create;
use super::list::{Filter, list};
use super::register::register;
use super::tick::tick;
use super::update::{Request, update};
use super::{ServiceError, threads};
use crate::app::{App, Isolate};
use crate::audit::audit;
use crate::background::Background;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::executor::Profile;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::request::NewRequest;
use crate::domain::status::Status;
use crate::domain::text::Fields;
use crate::domain::thread::{Thread, ThreadState};
use crate::domain::time::Timestamp;
use crate::domain::transition::Update;
use crate::storage::ObjectStore;
use crate::storage::memory::{Memory, Moment, Mortal};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// A clock that stands still until a test moves it or someone sleeps.
struct TestClock {
    now: Cell<i64>,
    seed: Cell<u64>,
}

#[async_trait(?Send)]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.get())
    }

    /// Repeatable numbers (xorshift64).
    fn random(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let mut x = self.seed.get();
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            self.seed.set(x);
            *byte = u8::try_from(x >> 56).unwrap();
        }
    }

    async fn sleep(&self, duration: Duration) {
        let millis = i64::try_from(duration.as_millis()).unwrap();
        self.now.set(self.now.get() + millis);
    }
}

/// An exchange with its bucket, and the tasks that are running in it.
struct World {
    store: Memory,
    clock: Rc<TestClock>,
    pool: LocalPool,
    app: Rc<App>,
}

fn home() -> ExchangeId {
    ExchangeId::parse("home", "").unwrap()
}

fn id(text: &str) -> ExecutorId {
    ExecutorId::parse(text, "").unwrap()
}

fn set(status: Status) -> Update {
    Update {
        status: Some(status),
        ..Update::default()
    }
}

fn say(text: &str) -> Update {
    Update {
        mess: Some(vec![json!({ "response": text })]),
        ..Update::default()
    }
}

impl World {
    fn new() -> Self {
        Self::over(Memory::like_r2())
    }

    fn over(store: Memory) -> Self {
        let clock = Rc::new(TestClock {
            now: Cell::new(1_738_411_200_000),
            seed: Cell::new(0x9e37_79b9_7f4a_7c15),
        });
        let pool = LocalPool::new();
        let app = isolate(&store, &clock, pool.spawner());
        Self {
            store,
            clock,
            pool,
            app,
        }
    }

    /// Forgets everything that an isolate remembers.
    fn restart(&mut self) {
        self.app = isolate(&self.store, &self.clock, self.pool.spawner());
    }

    /// An isolate that dies at its `nth` operation.
    fn mortal(&self, nth: usize, moment: Moment) -> (Rc<App>, Rc<Mortal>) {
        let store = Rc::new(Mortal::new(&self.store, nth, moment));
        let app = isolate_over(store.clone(), &self.clock, self.pool.spawner());
        (app, store)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn pass(&self, millis: i64) {
        self.clock.now.set(self.clock.now.get() + millis);
    }

    /// Runs `work` to its end, and whatever it leaves in the background.
    fn run<T>(&mut self, work: impl Future<Output = T>) -> T {
        let result = self.pool.run_until(work);
        self.pool.run_until_stalled();
        result
    }

    /// Starts `work`, and runs everything as far as it goes.
    fn start<T: 'static>(&mut self, work: impl Future<Output = T> + 'static) -> RemoteHandle<T> {
        let handle = self.pool.spawner().spawn_local_with_handle(work).unwrap();
        self.pool.run_until_stalled();
        handle
    }

    fn go_on(&mut self) {
        self.pool.run_until_stalled();
    }

    /// Moves time by `millis` and runs the tick, as the cron would have by then.
    fn tick_after(&mut self, millis: i64) {
        self.pass(millis);
        let (app, now) = (self.app.clone(), self.now());
        self.run(async move { tick(&app, now).await }).unwrap();
    }

    /// Runs the ticks after which nothing may be left: 1, 2, 4, … minutes, and past the hour.
    fn run_ticks(&mut self) {
        for minutes in [1, 1, 2, 4, 8, 16, 32, 5, 61, 61] {
            self.tick_after(minutes * MINUTE + SECOND);
        }
    }

    /// Fails the test if the auditor finds anything.
    fn assert_sound(&mut self, context: &str) {
        let (store, now) = (self.store.clone(), self.now());
        let mut report = self.run(async move { audit(&store, now).await }).unwrap();
        report.problems.truncate(5);
        assert_eq!(report.problems, Vec::<String>::new(), "{context}");
    }

    /// Runs all ticks, after which everything agrees and nothing is owed.
    fn assert_settles(&mut self, context: &str) {
        self.run_ticks();
        self.assert_sound(context);
        assert_eq!(self.store.keys("due/"), Vec::<String>::new(), "{context}");
    }

    fn register(&mut self, executor: &str) -> Result<(), ServiceError> {
        let work = registration(self.app.clone(), executor);
        self.run(work)
    }

    fn create(&mut self, requestor: &str) -> Result<ThreadState, ServiceError> {
        let work = creation(self.app.clone(), requestor);
        self.run(work)
    }

    fn update(
        &mut self,
        reference: &Ref,
        actor: &str,
        change: Update,
    ) -> Result<ThreadState, ServiceError> {
        let work = change_of(self.app.clone(), reference, actor, change);
        self.run(work)
    }

    fn thread(&mut self, reference: &Ref) -> Result<Thread, ServiceError> {
        let (app, reference) = (self.app.clone(), reference.clone());
        let loaded = self.run(async move { threads::get(&app, &home(), &reference).await })?;
        Ok(loaded.document)
    }

    /// The refs that a list with this status shows.
    fn listed(&mut self, status: Option<Status>) -> Vec<Ref> {
        let app = self.app.clone();
        let listed = self.run(async move {
            let filter = Filter {
                status,
                ..Filter::default()
            };
            list(&app, &home(), &filter, 1_000, None).await.unwrap()
        });
        listed
            .threads
            .into_iter()
            .map(|thread| thread.reference)
            .collect()
    }

    /// The lines of the log, with their number of occurrences of each event id.
    fn log(&self) -> Vec<Value> {
        self.store
            .keys("events/")
            .iter()
            .flat_map(|key| {
                let text = self.store.text(key);
                text.lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect::<Vec<Value>>()
            })
            .collect()
    }

    fn count_log(&self, event_type: &str) -> usize {
        let mut ids = HashMap::new();
        for line in self.log() {
            if line["event_type"] == event_type {
                *ids.entry(line["event_id"].to_string()).or_insert(0) += 1;
            }
        }
        assert!(
            ids.values().all(|count| *count == 1),
            "an event is there twice"
        );
        ids.len()
    }
}

/// A fresh isolate over the same bucket.
fn isolate(store: &Memory, clock: &Rc<TestClock>, spawner: LocalSpawner) -> Rc<App> {
    isolate_over(Rc::new(store.clone()), clock, spawner)
}

/// A fresh isolate with its own view of the bucket.
fn isolate_over(
    store: Rc<dyn ObjectStore>,
    clock: &Rc<TestClock>,
    spawner: LocalSpawner,
) -> Rc<App> {
    let spawner = RefCell::new(spawner);
    let background = Background::new(move |work: LocalBoxFuture<'static, ()>| {
        spawner.borrow_mut().spawn_local(work).unwrap();
    });
    Rc::new(App {
        store,
        clock: clock.clone(),
        config: Rc::new(Config::read(|_| None).unwrap()),
        isolate: Rc::new(Isolate::default()),
        background,
    })
}

async fn registration(app: Rc<App>, executor: &str) -> Result<(), ServiceError> {
    register(&app, home(), id(executor), Profile::default()).await?;
    Ok(())
}

async fn creation(app: Rc<App>, requestor: &str) -> Result<ThreadState, ServiceError> {
    let body = Fields::of("", json!({"intent": "Check front door"})).unwrap();
    create(
        &app,
        home(),
        id(requestor),
        NewRequest::parse(body).unwrap(),
    )
    .await
}

fn change_of(
    app: Rc<App>,
    reference: &Ref,
    actor: &str,
    change: Update,
) -> impl Future<Output = Result<ThreadState, ServiceError>> + use<> {
    let request = Request {
        exchange: home(),
        reference: reference.clone(),
        actor: id(actor),
        update: change,
        versions: None,
    };
    async move { update(&app, request).await }
}
