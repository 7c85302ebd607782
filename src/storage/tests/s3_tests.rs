//! What is made of the answers of an S3 server.

use std::rc::Rc;

use async_trait::async_trait;
use futures::executor::block_on;
use url::Url;

use super::{Fate, Service, StillClock, error, put, s3};
use crate::storage::s3::{S3, Settings};
use crate::storage::sigv4::Credentials;
use crate::storage::wire::{Incoming, Outgoing, Wire};
use crate::storage::{Condition, List, ObjectStore, Put, Tag};

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
