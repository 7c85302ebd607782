//! Tests of the backends that use a wire. Services in memory answer like workerd's disk service and
//! like S3, late and with faults.

mod disk_tests;
mod s3_tests;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use futures::executor::block_on;
use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::conformance::CLAUSES;
use super::disk;
use super::disk::Disk;
use super::memory::give_way;
use super::s3::{S3, Settings};
use super::sigv4::Credentials;
use super::wire::{Incoming, Outgoing, Wire};
use super::{Condition, ObjectStore, Put};
use crate::domain::key::to_hex;
use crate::domain::time::Timestamp;
use crate::runtime::clock::Clock;

/// A clock that advances only by sleeping.
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

/// What happens to a request.
#[derive(Clone, Debug)]
enum Fate {
    /// It is not done, and is answered with this status.
    Refused(u16),
    /// It is done, but is answered with this status.
    Hidden(u16),
    /// It is not done and gets no answer.
    Lost,
    /// It is done but gets no answer.
    Unheard,
}

/// A service over objects in memory.
#[derive(Default)]
struct Service {
    objects: RefCell<BTreeMap<String, Vec<u8>>>,
    /// What happens to the next requests. After those, everything succeeds.
    fates: RefCell<VecDeque<Fate>>,
    /// How often each request lets others go first, before it is done and again before it is
    /// answered.
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

/// A simulation of workerd's disk service.
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

/// A simulation of an S3 server.
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
        let etag = |body: &[u8]| format!("\"{}\"", to_hex(&Sha256::digest(body)));
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
        let _ = write!(
            xml,
            "<Contents><Key>{key}</Key><ETag>{etag}</ETag></Contents>"
        );
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
    let services: [Rc<Service>; 2] = [Rc::default(), Rc::default()];
    let stores: [&dyn ObjectStore; 2] = [&disk(&services[0], &Rc::default()), &s3(&services[1])];
    for store in stores {
        for (name, clause) in CLAUSES {
            assert_eq!(block_on(clause(store)), Ok(()), "{} {name}", store.kind());
        }
    }
    for service in services {
        assert!(service.objects.borrow().is_empty(), "something is left");
    }
}
