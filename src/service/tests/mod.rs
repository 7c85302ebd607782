//! Tests of the services with a bucket in memory. They inject faults, hold operations, and simulate
//! time.

mod access;
mod budgets;
mod crashes;
mod deliveries;
mod household;
mod lists;
mod moments;
mod other_servers;
mod races;
mod readings;
mod replies;
mod timers;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use futures::executor::{LocalPool, LocalSpawner};
use futures::future::{LocalBoxFuture, RemoteHandle};
use futures::task::LocalSpawnExt as _;
use serde_json::{Value, json};

use super::ServiceError;
use super::members::executors::parse_profile;
use super::members::owner;
use super::members::register::{Joining, register};
use super::requests::create::create;
use super::requests::list::{Filter, list};
use super::requests::update::update;
use super::requests::{read, update};
use super::tick::tick;
use crate::app::App;
use crate::config::Config;
use crate::delivery::http::{Answer, Request, Response, Unreachable};
use crate::delivery::send::{Outbound, Transport};
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::member::profile::Profile;
use crate::domain::member::quiet_hours::tests::Iana;
use crate::domain::text::Fields;
use crate::domain::thread::document::Thread;
use crate::domain::thread::posted::NewRequest;
use crate::domain::thread::state::ThreadState;
use crate::domain::thread::status::Status;
use crate::domain::thread::transition::{Powers, Update};
use crate::domain::time::Timestamp;
use crate::isolate::Isolate;
use crate::runtime::background::Background;
use crate::runtime::clock::Clock;
use crate::storage::ObjectStore;
use crate::storage::memory::{Memory, Moment, Mortal, give_way};
use crate::tools::audit::audit;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// A clock that stands still until a test moves it or a task sleeps.
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

/// How the outside reacts to a request.
type Reaction = Box<dyn Fn(&Request) -> Answer>;

/// The outside. It records what is sent to it and reacts as a test says, by default with 200. If it
/// does not answer, the clock advances to the time-out, for all requests that are waiting at once.
struct Outside {
    clock: Rc<TestClock>,
    sent: RefCell<Vec<(Timestamp, Request)>>,
    reaction: RefCell<Reaction>,
}

#[async_trait(?Send)]
impl Transport for Outside {
    async fn send(&self, request: &Request, within: i64) -> Answer {
        let started = self.clock.now();
        self.sent.borrow_mut().push((started, request.clone()));
        let answer = (self.reaction.borrow())(request);
        // Other tasks go on in the meantime.
        give_way().await;
        if answer == Err(Unreachable::Timeout) {
            let over = started.plus_millis(within).millis();
            self.clock.now.set(self.clock.now.get().max(over));
        }
        answer
    }
}

/// An exchange with its bucket, and the tasks that are running in it.
struct World {
    store: Memory,
    clock: Rc<TestClock>,
    pool: LocalPool,
    outside: Rc<Outside>,
    config: Rc<Config>,
    app: Rc<App>,
}

fn home() -> ExchangeId {
    ExchangeId::parse("home", "").unwrap()
}

fn id(text: &str) -> ExecutorId {
    ExecutorId::parse(text, "").unwrap()
}

fn set(status: Status) -> Update {
    Update::set(status)
}

/// An update as a client gives it.
fn call(body: Value) -> Update {
    Update::parse(Fields::of("", body).unwrap()).unwrap()
}

fn say(text: &str) -> Update {
    Update {
        mess: Some(vec![json!({ "note": text })]),
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
        let outside = Rc::new(Outside {
            clock: clock.clone(),
            sent: RefCell::default(),
            reaction: RefCell::new(Box::new(|_| answered(200, "{}"))),
        });
        let app = isolate_over(Rc::new(store.clone()), &outside, pool.spawner());
        Self {
            store,
            clock,
            pool,
            outside,
            config: app.config.clone(),
            app,
        }
    }

    /// Sets the reaction of the outside from now on.
    fn react(&self, reaction: impl Fn(&Request) -> Answer + 'static) {
        *self.outside.reaction.borrow_mut() = Box::new(reaction);
    }

    /// The requests that were sent since the last call.
    fn sent(&self) -> Vec<(Timestamp, Request)> {
        self.outside.sent.take()
    }

    /// Changes a setting for the invocations from now on.
    fn set_config(&mut self, variable: &str, value: &str) {
        let read = |name: &str| (name == variable).then(|| value.to_owned());
        self.config = Rc::new(Config::read(read, &Iana).unwrap());
    }

    /// Starts a new isolate, which remembers nothing.
    fn restart(&mut self) {
        let store = Rc::new(self.store.clone());
        self.app = isolate_over(store, &self.outside, self.pool.spawner());
    }

    /// Starts a new invocation in the same isolate, which keeps what it remembers.
    fn invoke(&mut self) -> Rc<App> {
        self.invoke_after(0)
    }

    /// An invocation by a call to which so many deliveries led.
    fn invoke_after(&mut self, hops: u32) -> Rc<App> {
        let fresh = isolate_over(self.app.store.clone(), &self.outside, self.pool.spawner());
        let mut app = Rc::into_inner(fresh).unwrap();
        app.isolate = self.app.isolate.clone();
        app.config = self.config.clone();
        app.hops = hops;
        self.app = Rc::new(app);
        self.app.clone()
    }

    /// An isolate that dies at its `nth` operation.
    fn mortal(&self, nth: usize, moment: Moment) -> (Rc<App>, Rc<Mortal>) {
        let store = Rc::new(Mortal::new(&self.store, nth, moment));
        let app = isolate_over(store.clone(), &self.outside, self.pool.spawner());
        (app, store)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn pass(&self, millis: i64) {
        self.clock.now.set(self.clock.now.get() + millis);
    }

    /// Runs `work` to its end, and everything that it leaves in the background.
    fn run<T>(&mut self, work: impl Future<Output = T>) -> T {
        let result = self.pool.run_until(work);
        self.pool.run_until_stalled();
        result
    }

    /// Starts `work`, and runs all tasks as far as they can go.
    fn start<T: 'static>(&mut self, work: impl Future<Output = T> + 'static) -> RemoteHandle<T> {
        let handle = self.pool.spawner().spawn_local_with_handle(work).unwrap();
        self.pool.run_until_stalled();
        handle
    }

    fn go_on(&mut self) {
        self.pool.run_until_stalled();
    }

    /// Moves the clock by `millis` and runs the tick, as the cron would.
    fn tick_after(&mut self, millis: i64) {
        self.pass(millis);
        let (app, now) = (self.invoke(), self.now());
        self.run(async move { tick(&app, now).await }).unwrap();
    }

    /// Runs the ticks after which nothing may be left: after 1, 2, 4, … minutes and past the hour.
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

    /// Runs all ticks, and checks that everything agrees and that nothing is owed.
    fn assert_settles(&mut self, context: &str) {
        self.run_ticks();
        self.assert_sound(context);
        assert_eq!(self.owed(), Vec::<String>::new(), "{context}");
    }

    /// The keys of all obligations, except for timers and for the deletion of old attempts.
    fn owed(&self) -> Vec<String> {
        let mut keys = self.store.keys("due/");
        let is_of = |key: &String, kind: &str| self.store.text(key).contains(kind);
        keys.retain(|key| !is_of(key, r#""kind":"sweep""#) && !is_of(key, r#""kind":"timer""#));
        keys
    }

    /// Registers an executor with a profile.
    fn join(&mut self, executor: &str, fields: Value) {
        let (app, executor) = (self.invoke(), id(executor));
        let profile = profile(&app, fields);
        self.run(async move { register(&app, home(), Joining::plain(executor, profile)).await })
            .unwrap();
    }

    /// An executor's last attempts, newest first.
    fn attempts(&mut self, executor: &str) -> Vec<Value> {
        let (app, executor) = (self.invoke(), id(executor));
        self.run(async move { owner::deliveries(&app, &home(), &executor).await })
            .unwrap()
    }

    fn register(&mut self, executor: &str) -> Result<(), ServiceError> {
        let work = registration(self.app.clone(), executor);
        self.run(work)
    }

    fn create(&mut self, requestor: &str) -> Result<ThreadState, ServiceError> {
        let work = creation(self.invoke(), requestor);
        self.run(work)
    }

    /// Posts a request with more than an intent, which must be accepted.
    fn ask(&mut self, requestor: &str, more: Value) -> Ref {
        let mut fields = json!({"intent": "Check front door"});
        if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
            fields.extend(more);
        }
        let (app, requestor) = (self.invoke(), id(requestor));
        let request = request(&app, fields);
        let work = async move { create(&app, home(), requestor, request).await };
        self.run(work).unwrap().reference
    }

    fn update(
        &mut self,
        reference: &Ref,
        actor: &str,
        change: Update,
    ) -> Result<ThreadState, ServiceError> {
        let work = change_of(self.invoke(), reference, actor, change);
        self.run(work)
    }

    fn thread(&mut self, reference: &Ref) -> Result<Thread, ServiceError> {
        let (app, reference) = (self.app.clone(), reference.clone());
        let loaded = self.run(async move { read::get(&app, &home(), &reference).await })?;
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

    /// The lines of the log.
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

/// A new isolate with the given view of the bucket.
fn isolate_over(
    store: Rc<dyn ObjectStore>,
    outside: &Rc<Outside>,
    spawner: LocalSpawner,
) -> Rc<App> {
    let spawner = RefCell::new(spawner);
    let background = Background::new(move |work: LocalBoxFuture<'static, ()>| {
        spawner.borrow_mut().spawn_local(work).unwrap();
    });
    let store_url = Some(url::Url::parse("https://s3.example:9000/bucket/").unwrap());
    Rc::new(App {
        operations_before: store.operations(),
        hops: 0,
        store,
        clock: outside.clock.clone(),
        config: Rc::new(Config::read(|_| None, &Iana).unwrap()),
        isolate: Rc::new(Isolate::default()),
        background,
        outbound: Outbound::new(outside.clone(), outside.clock.clone(), false, store_url),
        zones: Rc::new(Iana),
        executors: RefCell::default(),
    })
}

/// A response with this status and body.
#[expect(clippy::unnecessary_wraps, reason = "it is an answer, as others are")]
fn answered(status: u16, body: &str) -> Answer {
    Ok(Response {
        status,
        body: body.to_owned(),
        ..Response::default()
    })
}

async fn registration(app: Rc<App>, executor: &str) -> Result<(), ServiceError> {
    register(
        &app,
        home(),
        Joining::plain(id(executor), Profile::default()),
    )
    .await?;
    Ok(())
}

/// A profile as a client gives it.
fn profile(app: &App, value: Value) -> Profile {
    parse_profile(app, &mut Fields::of("", value).unwrap()).unwrap()
}

async fn creation(app: Rc<App>, requestor: &str) -> Result<ThreadState, ServiceError> {
    let request = request(&app, json!({"intent": "Check front door"}));
    create(&app, home(), id(requestor), request).await
}

/// A request as a client posts it.
fn request(app: &App, body: Value) -> NewRequest {
    let nudge_after = |priority| app.config.nudges.after(&home(), priority);
    NewRequest::parse(Fields::of("", body).unwrap(), app.clock.now(), nudge_after).unwrap()
}

fn change_of(
    app: Rc<App>,
    reference: &Ref,
    actor: &str,
    change: Update,
) -> impl Future<Output = Result<ThreadState, ServiceError>> + use<> {
    let request = update::Request {
        exchange: home(),
        reference: reference.clone(),
        actor: id(actor),
        update: change,
        powers: Powers::default(),
        versions: None,
    };
    async move { update(&app, request).await }
}
