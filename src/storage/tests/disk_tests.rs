//! How the backend uses a directory, and what it remembers about it.

use std::rc::Rc;

use futures::executor::block_on;
use futures::future::join_all;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{Fate, Service, disk as open_disk, put};
use crate::domain::key::to_hex;
use crate::storage::disk;
use crate::storage::disk::Disk;
use crate::storage::{Condition, List, ObjectStore, Put, Tag};

#[test]
fn a_folder_is_never_deleted() {
    let service: Rc<Service> = Rc::default();
    let store = open_disk(&service, &Rc::default());
    block_on(put(&store, Condition::Always)).unwrap();
    assert!(block_on(store.delete("a")).is_err());
    assert!(block_on(store.get("a")).unwrap().is_none(), "nor read");
    assert_eq!(service.objects.borrow().len(), 1);
}

#[test]
fn an_empty_file_is_none() {
    let service: Rc<Service> = Rc::default();
    let store = open_disk(&service, &Rc::default());
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
        let query = List::keys(prefix, after, limit);
        let page = block_on(open_disk(&service, &memory).list(query)).unwrap();
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

/// Anybody can ask for what does not exist, such as keys of exchanges that nobody has.
#[test]
fn what_is_not_there_is_not_remembered() {
    let service: Rc<Service> = Rc::default();
    let memory: Rc<disk::Memory> = Rc::default();
    let store = open_disk(&service, &memory);
    let there = [
        "keys/exchange=home/1.json",
        "executors/exchange=home/a.json",
    ];
    for key in there {
        let put = store.put(key, b"x".to_vec(), None, Condition::Always);
        block_on(put).unwrap();
    }
    let list = |exchange: &str| {
        let prefix = format!("executors/exchange={exchange}/");
        block_on(store.list(List::keys(&prefix, None, 1))).unwrap()
    };
    assert_eq!(list("home").rows.len(), 1);
    let before = memory.remembered();
    for stranger in 0..1_000 {
        let exchange = format!("x{stranger}");
        let key = format!("keys/exchange={exchange}/1.json");
        assert!(block_on(store.get(&key)).unwrap().is_none());
        block_on(store.delete(&key)).unwrap();
        assert!(list(&exchange).rows.is_empty());
    }
    assert_eq!(memory.remembered(), before);
    // The first member of an exchange is listed all the same.
    let put = store.put(
        "executors/exchange=x7/a.json",
        b"x".to_vec(),
        None,
        Condition::Absent,
    );
    block_on(put).unwrap();
    assert_eq!(list("x7").rows.len(), 1);
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

const KEYS: [&str; 5] = ["a/x", "a/y", "a/d/x", "b/x", "b-x"];
const PREFIXES: [&str; 4] = ["", "a/", "a/d/", "b"];

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
    let query = List::keys(prefix, None, 1_000);
    let rows = store
        .list(query)
        .await
        .map(|page| page.rows)
        .unwrap_or_default();
    rows.into_iter().map(|row| (row.key, row.tag)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Whatever runs at the same time and whatever fails, the folders are remembered as they are in
    /// the end, and every listed tag is that of the content.
    #[test]
    fn what_is_remembered_is_what_is_there(
        rounds in prop::collection::vec(prop::collection::vec(deed(), 1..6), 1..6),
        turns in prop::collection::vec(0..9_u8, 80),
        fates in prop::collection::vec(fate(), 40),
    ) {
        let service: Rc<Service> = Rc::default();
        service.turns.borrow_mut().extend(turns);
        let memory: Rc<disk::Memory> = Rc::default();
        let mut fates = fates.into_iter();
        for round in rounds {
            // The requests of one round run at the same time.
            for _ in 0..round.len() {
                if let Some(Some(fate)) = fates.next() {
                    service.fates.borrow_mut().push_back(fate);
                }
            }
            let tasks = round.into_iter().map(|deed| {
                let store = open_disk(&service, &memory);
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
            let store = open_disk(&service, &memory);
            for prefix in PREFIXES {
                let listed = block_on(list_all(&store, prefix));
                let objects = service.objects.borrow();
                let there: Vec<_> = objects.keys().filter(|key| key.starts_with(prefix)).collect();
                prop_assert_eq!(listed.iter().map(|(key, _)| key).collect::<Vec<_>>(), there);
                for (key, tag) in listed {
                    let hash = to_hex(&Sha256::digest(&objects[&key])[..16]);
                    prop_assert!(tag.is_none_or(|tag| tag.0 == hash), "{}", key);
                }
            }
        }
    }
}
