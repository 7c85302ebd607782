//! What the backend makes of the answers of an S3 server.

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
    let faults = [429, 500, 503, 504, 409].map(Fate::Refused);
    let service = Service::with_fates(&[&faults[..], &[Fate::Lost]].concat());
    let stored = block_on(put(&s3(&service), Condition::Absent)).unwrap();
    assert!(matches!(stored, Put::Stored(_)));
    assert_eq!(service.requests.borrow().len(), 7);

    let service = Service::with_fates(&vec![Fate::Refused(503); 100]);
    let error = block_on(put(&s3(&service), Condition::Absent)).unwrap_err();
    assert!(error.starts_with("the store answered 503 ("), "{error}");
    assert!(service.requests.borrow().len() <= 8);
    assert!(!error.contains("hush"));
}

#[test]
fn a_put_without_a_condition_is_certain_only_at_once() {
    for (fate, is_certain) in [
        (Fate::Refused(429), true),
        (Fate::Refused(503), false),
        (Fate::Lost, false),
    ] {
        let service = Service::with_fates(std::slice::from_ref(&fate));
        let outcome = block_on(put(&s3(&service), Condition::Always));
        assert_eq!(outcome.is_ok(), is_certain, "{fate:?}: {outcome:?}");
        assert_eq!(service.objects.borrow()["a/b"], b"new");
    }
}

#[test]
fn a_condition_that_our_own_try_may_have_broken() {
    let put_after = |fate: &Fate, there: Option<&str>| {
        let service = Service::with_fates(std::slice::from_ref(fate));
        if let Some(there) = there {
            let mut objects = service.objects.borrow_mut();
            objects.insert("a/b".to_owned(), there.as_bytes().to_vec());
        }
        let outcome = block_on(put(&s3(&service), Condition::Absent));
        let stored = service.objects.borrow()["a/b"].clone();
        (outcome, String::from_utf8(stored).unwrap())
    };
    for fate in [Fate::Hidden(500), Fate::Hidden(503), Fate::Unheard] {
        let (outcome, stored) = put_after(&fate, None);
        assert!(
            matches!(outcome, Ok(Put::Stored(_))),
            "{fate:?}: {outcome:?}"
        );
        assert_eq!(stored, "new");
    }
    // This cannot be distinguished from a put that was done and then overwritten.
    for fate in [Fate::Refused(500), Fate::Lost] {
        let (outcome, stored) = put_after(&fate, Some("another's"));
        let said = outcome.unwrap_err();
        assert_eq!(
            said, "a try without an answer may have been done",
            "{fate:?}"
        );
        assert_eq!(stored, "another's");
    }
    // These were certainly not done.
    for fate in [Fate::Refused(409), Fate::Refused(429)] {
        let (outcome, stored) = put_after(&fate, Some("another's"));
        assert_eq!(outcome, Ok(Put::ConditionFailed), "{fate:?}");
        assert_eq!(stored, "another's");
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
    let everything = List::keys("", None, 10);
    assert!(block_on(store.list(everything)).is_err());
}
