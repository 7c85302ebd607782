//! The backends behind a wire, over services in memory that answer as workerd's disk service and
//! as S3 do, late and with faults.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use futures::executor::block_on;
use futures::future::join_all;
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::conformance::CLAUSES;
use super::disk::{self, Disk};
use super::memory::give_way;
use super::s3::{S3, Settings};
use super::sigv4::{Credentials, hex};
use super::wire::{Incoming, Outgoing, Wire};
use super::{Condition, List, ObjectStore, Put, Tag};
use crate::clock::Clock;
use crate::domain::time::Timestamp;

/// A clock on which only sleeping takes time.
#[derive(Default)]
struct StillClock(Cell<i64>);

#[async_trait(?Send)]
impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.get())
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(255);
    }

    async fn sleep(&self, duration: Duration) {
        let millis = i64::try_from(duration.as_millis()).unwrap();
        self.0.set(self.0.get() + millis);
        give_way().await;
    }
}

/// What befalls a request.
#[derive(Clone, Debug)]
enum Fate {
    /// Answered with this status, and not done.
    Refused(u16),
    /// Done, and answered with this status.
    Hidden(u16),
    /// No answer; not done.
    Lost,
    /// No answer; done.
    Unheard,
}

/// A service over objects in memory.
#[derive(Default)]
struct Service {
    objects: RefCell<BTreeMap<String, Vec<u8>>>,
    /// What befalls the next requests; then all goes well.
    fates: RefCell<VecDeque<Fate>>,
    /// How often each request lets others go first, before it is done and before its answer.
    turns: RefCell<VecDeque<u8>>,
    requests: RefCell<Vec<Outgoing>>,
}

impl Service {
    fn with_fates(fates: &[Fate]) -> Rc<Self> {
        let service = Self::default();
        service.fates.borrow_mut().extend(fates.iter().cloned());
        Rc::new(service)
    }

    async fn serve(
        &self,
        request: &Outgoing,
        answer: impl FnOnce() -> Incoming,
    ) -> Result<Incoming, String> {
        self.requests.borrow_mut().push(request.clone());
        let fate = self.fates.borrow_mut().pop_front();
        self.wait().await;
        let done = match fate {
            Some(Fate::Refused(_) | Fate::Lost) => None,
            _ => Some(answer()),
        };
        self.wait().await;
        match fate {
            None => Ok(done.unwrap()),
            Some(Fate::Refused(status) | Fate::Hidden(status)) => Ok(status_only(status)),
            Some(Fate::Lost | Fate::Unheard) => Err("the connection was lost".to_owned()),
        }
    }

    async fn wait(&self) {
        let turns = self.turns.borrow_mut().pop_front().unwrap_or(1);
        for _ in 0..turns {
            give_way().await;
        }
    }
}

fn status_only(status: u16) -> Incoming {
    Incoming {
        status,
        ..Incoming::default()
    }
}

/// workerd's disk service.
struct DiskService(Rc<Service>);

#[async_trait(?Send)]
impl Wire for DiskService {
    async fn send(&self, request: &Outgoing) -> Result<Incoming, String> {
        let url = Url::parse(&request.url).unwrap();
        let path = percent_decode_str(url.path().trim_start_matches('/'));
        let path = path.decode_utf8().unwrap().into_owned();
        let answer = || {
            let mut objects = self.0.objects.borrow_mut();
            let below = format!("{}/", path.trim_end_matches('/'));
            let below = if path.is_empty() { "" } else { &below };
            let is_folder = objects.keys().any(|key| key.starts_with(below));
            match request.method {
                "PUT" => {
                    objects.insert(path.clone(), request.body.clone().unwrap());
                    status_only(204)
                }
                "DELETE" => {
                    let before = objects.len();
                    objects.retain(|key, _| *key != path && !key.starts_with(below));
                    status_only(if objects.len() < before { 204 } else { 404 })
                }
                _ if is_folder => {
                    let mut entries: BTreeMap<&str, &str> = BTreeMap::new();
                    for rest in objects.keys().filter_map(|key| key.strip_prefix(below)) {
                        let (name, kind) = match rest.split_once('/') {
                            Some((name, _)) => (name, "directory"),
                            None => (rest, "file"),
                        };
                        entries.insert(name, kind);
                    }
                    let list: Vec<_> = entries
                        .into_iter()
                        .rev()
                        .map(|(name, kind)| serde_json::json!({"name": name, "type": kind}))
                        .collect();
                    Incoming {
                        status: 200,
                        content_type: Some("application/json".to_owned()),
                        body: serde_json::to_vec(&list).unwrap(),
                        etag: None,
                    }
                }
                _ => match objects.get(&path) {
                    Some(body) => Incoming {
                        status: 200,
                        content_type: Some("application/octet-stream".to_owned()),
                        body: body.clone(),
                        etag: None,
                    },
                    None => status_only(404),
                },
            }
        };
        self.0.serve(request, answer).await
    }
}

/// An S3 server.
struct S3Service(Rc<Service>);

#[async_trait(?Send)]
impl Wire for S3Service {
    async fn send(&self, request: &Outgoing) -> Result<Incoming, String> {
        let url = Url::parse(&request.url).unwrap();
        let key = percent_decode_str(url.path().strip_prefix("/bucket/").unwrap());
        let key = key.decode_utf8().unwrap().into_owned();
        let header = |name| {
            let found = request.headers.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| value.as_str())
        };
        let etag = |body: &[u8]| format!("\"{}\"", hex(&Sha256::digest(body)));
        let answer = || {
            let mut objects = self.0.objects.borrow_mut();
            let current = objects.get(&key).map(|body| etag(body));
            match request.method {
                "PUT" if header("if-none-match").is_some() && current.is_some() => status_only(412),
                "PUT" if header("if-match").is_some() && current.is_none() => {
                    error(404, "NoSuchKey")
                }
                "PUT" if header("if-match").is_some_and(|tag| current.as_deref() != Some(tag)) => {
                    status_only(412)
                }
                "PUT" => {
                    let body = request.body.clone().unwrap();
                    let etag = Some(etag(&body));
                    objects.insert(key.clone(), body);
                    Incoming {
                        etag,
                        ..status_only(200)
                    }
                }
                "DELETE" => {
                    objects.remove(&key);
                    status_only(204)
                }
                "GET" if key.is_empty() => page_of(&objects, &url, etag),
                "GET" => match objects.get(&key) {
                    Some(body) => Incoming {
                        etag: current,
                        body: body.clone(),
                        ..status_only(200)
                    },
                    None => error(404, "NoSuchKey"),
                },
                _ => status_only(405),
            }
        };
        self.0.serve(request, answer).await
    }
}

fn error(status: u16, code: &str) -> Incoming {
    Incoming {
        body: format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>").into_bytes(),
        ..status_only(status)
    }
}

fn page_of(
    objects: &BTreeMap<String, Vec<u8>>,
    url: &Url,
    etag: impl Fn(&[u8]) -> String,
) -> Incoming {
    let query = |name: &str| {
        let found = url.query_pairs().find(|(given, _)| given == name);
        found
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    };
    let (prefix, after) = (query("prefix"), query("start-after"));
    let limit: usize = query("max-keys").parse().unwrap();
    let found: Vec<_> = objects
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix) && **key > after)
        .collect();
    let mut xml = format!(
        "<ListBucketResult><IsTruncated>{}</IsTruncated>",
        found.len() > limit
    );
    for (key, body) in found.into_iter().take(limit) {
        let etag = etag(body).replace('"', "&quot;");
        xml.push_str(&format!(
            "<Contents><Key>{key}</Key><ETag>{etag}</ETag></Contents>"
        ));
    }
    xml.push_str("</ListBucketResult>");
    Incoming {
        body: xml.into_bytes(),
        ..status_only(200)
    }
}

fn disk(service: &Rc<Service>, memory: &Rc<disk::Memory>) -> Disk {
    let clock = Rc::new(StillClock::default());
    Disk::new(Rc::new(DiskService(service.clone())), clock, memory.clone())
}

fn s3(service: &Rc<Service>) -> S3 {
    let settings = Settings {
        bucket: Url::parse("http://store/bucket/").unwrap(),
        credentials: Credentials {
            access_key: "id".to_owned(),
            secret_key: "hush".to_owned(),
            region: "auto".to_owned(),
        },
    };
    let clock = Rc::new(StillClock::default());
    S3::new(Rc::new(S3Service(service.clone())), clock, settings)
}

async fn put(store: &dyn ObjectStore, condition: Condition<'_>) -> Result<Put, String> {
    let put = store.put("a/b", b"new".to_vec(), None, condition).await;
    put.map_err(|error| error.reason)
}

#[test]
fn both_keep_the_contract() {
    for service in [Rc::default(), Rc::default()] {
        let stores: [&dyn ObjectStore; 2] = [&disk(&service, &Rc::default()), &s3(&service)];
        for store in stores {
            for (name, clause) in CLAUSES {
                assert_eq!(block_on(clause(store)), Ok(()), "{} {name}", store.kind());
            }
            assert!(service.objects.borrow().is_empty(), "something is left");
        }
    }
}

#[test]
fn s3_is_asked_again_until_it_answers() {
    let faults = [429, 500, 502, 503, 504, 409].map(Fate::Refused);
    let service = Service::with_fates(&[&faults[..], &[Fate::Lost]].concat());
    let stored = block_on(put(&s3(&service), Condition::Always)).unwrap();
    assert!(matches!(stored, Put::Stored(_)));
    assert_eq!(service.requests.borrow().len(), 8);

    let service = Service::with_fates(&vec![Fate::Refused(503); 100]);
    let error = block_on(put(&s3(&service), Condition::Always)).unwrap_err();
    assert!(
        error.starts_with("the store answered 503 (8 tries in"),
        "{error}"
    );
    assert!(!error.contains("hush"));
}

#[test]
fn a_condition_that_our_own_lost_try_may_have_broken_is_unclear() {
    for (fate, is_clear) in [
        (Fate::Hidden(500), false),
        (Fate::Hidden(503), false),
        (Fate::Unheard, false),
        (Fate::Refused(409), true),
        (Fate::Refused(429), true),
    ] {
        let service = Service::with_fates(std::slice::from_ref(&fate));
        let store = s3(&service);
        if is_clear {
            service
                .objects
                .borrow_mut()
                .insert("a/b".to_owned(), b"old".to_vec());
        }
        let outcome = block_on(put(&store, Condition::Absent));
        assert_eq!(
            outcome == Ok(Put::ConditionFailed),
            is_clear,
            "{fate:?}: {outcome:?}"
        );
        assert_eq!(outcome.is_err(), !is_clear, "{fate:?}");
        let text = service.objects.borrow()["a/b"].clone();
        assert_eq!(text == b"new", !is_clear);
    }
}

#[test]
fn a_bucket_that_is_not_there_is_no_empty_bucket() {
    struct NoBucket;
    #[async_trait(?Send)]
    impl Wire for NoBucket {
        async fn send(&self, _: &Outgoing) -> Result<Incoming, String> {
            Ok(error(404, "NoSuchBucket"))
        }
    }
    let settings = Settings {
        bucket: Url::parse("http://store/bucket/").unwrap(),
        credentials: Credentials {
            access_key: String::new(),
            secret_key: String::new(),
            region: String::new(),
        },
    };
    let store = S3::new(Rc::new(NoBucket), Rc::new(StillClock::default()), settings);
    let tag = Tag("x".to_owned());
    let said = block_on(store.get("a/b")).unwrap_err().reason;
    assert_eq!(said, "the store answered 404: NoSuchBucket");
    assert!(block_on(store.delete("a/b")).is_err());
    assert!(block_on(put(&store, Condition::Matches(&tag))).is_err());
    let everything = List {
        prefix: "",
        after: None,
        limit: 10,
        summaries: false,
    };
    assert!(block_on(store.list(everything)).is_err());
}

#[test]
fn a_folder_is_never_deleted() {
    let service: Rc<Service> = Rc::default();
    let store = disk(&service, &Rc::default());
    block_on(put(&store, Condition::Always)).unwrap();
    assert!(block_on(store.delete("a")).is_err());
    assert!(block_on(store.get("a")).unwrap().is_none(), "nor read");
    assert_eq!(service.objects.borrow().len(), 1);
}

#[test]
fn an_empty_file_is_none() {
    let service: Rc<Service> = Rc::default();
    let store = disk(&service, &Rc::default());
    service
        .objects
        .borrow_mut()
        .insert("a/b".to_owned(), Vec::new());
    assert!(block_on(store.get("a/b")).unwrap().is_none());
    let created = block_on(put(&store, Condition::Absent)).unwrap();
    assert!(matches!(created, Put::Stored(_)));
}

#[test]
fn a_folder_is_listed_once() {
    let service: Rc<Service> = Rc::default();
    let memory: Rc<disk::Memory> = Rc::default();
    for name in ["a/1", "a/b/2", "a/b/3", "a/c/4", "z/5"] {
        service
            .objects
            .borrow_mut()
            .insert(name.to_owned(), b"x".to_vec());
    }
    let keys = |prefix: &str, after: Option<&str>, limit| {
        let query = List {
            prefix,
            after,
            limit,
            summaries: false,
        };
        let page = block_on(disk(&service, &memory).list(query)).unwrap();
        let keys: Vec<_> = page.rows.into_iter().map(|row| row.key).collect();
        (keys.join(" "), page.more)
    };
    assert_eq!(keys("a/", None, 2), ("a/1 a/b/2".to_owned(), true));
    assert_eq!(
        service.requests.borrow().len(),
        2,
        "a/ and a/b/ but not a/c/"
    );
    assert_eq!(
        keys("a/", Some("a/b/2"), 9),
        ("a/b/3 a/c/4".to_owned(), false)
    );
    assert_eq!(service.requests.borrow().len(), 3);
    assert_eq!(
        keys("a/", None, 9),
        ("a/1 a/b/2 a/b/3 a/c/4".to_owned(), false)
    );
    assert_eq!(keys("a/b/3", None, 9), ("a/b/3".to_owned(), false));
    assert_eq!(service.requests.borrow().len(), 3);
}

/// What one task of the test below does to a key.
#[derive(Clone, Debug)]
enum Deed {
    Put(usize, u8),
    Create(usize, u8),
    Delete(usize),
    Get(usize),
    List(usize),
}

const KEYS: [&str; 6] = ["a/x", "a/y", "a/d/x", "a/d/e/x", "b/x", "b-x"];
const PREFIXES: [&str; 5] = ["", "a/", "a/d/", "b", "a/x"];

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        (0..KEYS.len(), any::<u8>()).prop_map(|(key, body)| Deed::Put(key, body)),
        (0..KEYS.len(), any::<u8>()).prop_map(|(key, body)| Deed::Create(key, body)),
        (0..KEYS.len()).prop_map(Deed::Delete),
        (0..KEYS.len()).prop_map(Deed::Get),
        (0..PREFIXES.len()).prop_map(Deed::List),
    ]
}

fn fate() -> impl Strategy<Value = Option<Fate>> {
    prop_oneof![
        8 => Just(None),
        1 => Just(Some(Fate::Refused(500))),
        1 => Just(Some(Fate::Unheard)),
    ]
}

async fn list_all(store: &Disk, prefix: &str) -> Vec<(String, Option<Tag>)> {
    let query = List {
        prefix,
        after: None,
        limit: 1_000,
        summaries: false,
    };
    let rows = store
        .list(query)
        .await
        .map(|page| page.rows)
        .unwrap_or_default();
    rows.into_iter().map(|row| (row.key, row.tag)).collect()
}

proptest! {
    /// Whatever goes on at once, and whatever of it fails: what is remembered of the folders in
    /// the end is what is there, and every tag that is listed is that of the content.
    #[test]
    fn what_is_remembered_is_what_is_there(
        rounds in prop::collection::vec(prop::collection::vec(deed(), 1..6), 1..6),
        turns in prop::collection::vec(0..6_u8, 60),
        fates in prop::collection::vec(fate(), 40),
    ) {
        let service: Rc<Service> = Rc::default();
        service.turns.borrow_mut().extend(turns);
        let memory: Rc<disk::Memory> = Rc::default();
        let mut fates = fates.into_iter();
        for round in rounds {
            // Requests of one round are under way at once.
            for _ in 0..round.len() {
                if let Some(Some(fate)) = fates.next() {
                    service.fates.borrow_mut().push_back(fate);
                }
            }
            let tasks = round.into_iter().map(|deed| {
                let store = disk(&service, &memory);
                async move {
                    let body = |byte: u8| vec![byte; 3];
                    match deed {
                        Deed::Put(key, byte) => {
                            let _ = store.put(KEYS[key], body(byte), None, Condition::Always).await;
                        }
                        Deed::Create(key, byte) => {
                            let _ = store.put(KEYS[key], body(byte), None, Condition::Absent).await;
                        }
                        Deed::Delete(key) => {
                            let _ = store.delete(KEYS[key]).await;
                        }
                        Deed::Get(key) => {
                            let _ = store.get(KEYS[key]).await;
                        }
                        Deed::List(prefix) => {
                            list_all(&store, PREFIXES[prefix]).await;
                        }
                    }
                }
            });
            block_on(join_all(tasks));
            service.fates.borrow_mut().clear();
            let store = disk(&service, &memory);
            for prefix in PREFIXES {
                let listed = block_on(list_all(&store, prefix));
                let objects = service.objects.borrow();
                let there: Vec<_> = objects.keys().filter(|key| key.starts_with(prefix)).collect();
                prop_assert_eq!(listed.iter().map(|(key, _)| key).collect::<Vec<_>>(), there);
                for (key, tag) in listed {
                    let hash = hex(&Sha256::digest(&objects[&key])[..16]);
                    prop_assert!(tag.is_none_or(|tag| tag.0 == hash), "{}", key);
                }
            }
        }
    }
}
