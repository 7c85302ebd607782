//! A bucket in memory for tests. It counts operations, fails on demand, and can hold an operation
//! until the test releases it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use async_trait::async_trait;
use futures::channel::oneshot;
use sha2::{Digest as _, Sha256};

use super::{Condition, List, Object, ObjectStore, Page, Put, Row, StoreError, Tag};

/// The kind of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// `get`
    Get,
    /// `put`
    Put,
    /// `delete`
    Delete,
    /// `list`
    List,
}

/// Whether a fault or a hold takes place before an operation takes effect or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The operation has no effect yet. After a fault it never has one.
    Before,
    /// The operation has taken effect but has not answered yet.
    After,
}

/// Which operation a fault or a hold applies to: the `nth`, counted from 0, with this verb and
/// prefix.
#[derive(Clone, Debug)]
struct Strike {
    verb: Verb,
    prefix: String,
    left: usize,
    moment: Moment,
    /// Whether it applies to every operation after the first, too.
    lasting: bool,
}

enum Effect {
    Fail,
    Hold(RefCell<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>),
}

/// An operation that is held.
pub struct Held {
    reached: oneshot::Receiver<()>,
    go_on: Option<oneshot::Sender<()>>,
}

impl Held {
    /// Whether the operation has reached the point at which it is held.
    pub fn is_reached(&mut self) -> bool {
        matches!(self.reached.try_recv(), Ok(Some(())))
    }

    /// Lets the operation continue.
    pub fn release(&mut self) {
        if let Some(go_on) = self.go_on.take() {
            let _ = go_on.send(());
        }
    }
}

struct Stored {
    body: Vec<u8>,
    tag: Tag,
    summary: Option<String>,
}

/// The bucket. Clones share it.
#[derive(Clone)]
pub struct Memory {
    shared: Rc<Shared>,
    lists_summaries: bool,
}

#[derive(Default)]
struct Shared {
    objects: RefCell<BTreeMap<String, Stored>>,
    operations: RefCell<Vec<(Verb, String)>>,
    strikes: RefCell<Vec<(Strike, Effect)>>,
    gave_way: Cell<usize>,
}

impl Memory {
    /// A bucket that lists summaries and tags, as R2 does.
    pub fn like_r2() -> Self {
        Self {
            shared: Rc::default(),
            lists_summaries: true,
        }
    }

    /// A bucket that lists no summaries, as S3 does.
    pub fn like_s3() -> Self {
        Self {
            lists_summaries: false,
            ..Self::like_r2()
        }
    }

    /// Makes the `nth` operation, counted from 0, with this verb on a key with this prefix fail.
    pub fn fail(&self, verb: Verb, prefix: &str, nth: usize, moment: Moment) {
        self.strike(verb, prefix, nth, moment, false, Effect::Fail);
    }

    /// Makes every operation with this verb on a key with this prefix fail, until [`Self::heal`].
    pub fn fail_always(&self, verb: Verb, prefix: &str, moment: Moment) {
        self.strike(verb, prefix, 0, moment, true, Effect::Fail);
    }

    /// Removes all faults and holds.
    pub fn heal(&self) {
        self.shared.strikes.borrow_mut().clear();
    }

    /// Holds the `nth` operation, counted from 0, with this verb on a key with this prefix.
    pub fn hold(&self, verb: Verb, prefix: &str, nth: usize, moment: Moment) -> Held {
        let (reached_in, reached) = oneshot::channel();
        let (go_on, go_on_out) = oneshot::channel();
        let effect = Effect::Hold(RefCell::new(Some((reached_in, go_on_out))));
        self.strike(verb, prefix, nth, moment, false, effect);
        Held {
            reached,
            go_on: Some(go_on),
        }
    }

    /// The operations since the last call, in order.
    pub fn take_operations(&self) -> Vec<(Verb, String)> {
        self.shared.operations.take()
    }

    /// How often its users gave way to others since the last call.
    pub fn take_gave_way(&self) -> usize {
        self.shared.gave_way.take()
    }

    /// The keys that begin with `prefix`.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let objects = self.shared.objects.borrow();
        objects
            .keys()
            .filter(|key| key.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// The text of an object.
    ///
    /// # Panics
    ///
    /// Panics if there is no such object, or if it is not text.
    pub fn text(&self, key: &str) -> String {
        let objects = self.shared.objects.borrow();
        String::from_utf8(objects[key].body.clone()).unwrap()
    }

    /// Puts an object directly, without faults and without counting.
    pub fn plant(&self, key: &str, body: &str) {
        self.write(key, body.as_bytes().to_vec(), None);
    }

    /// Removes an object directly, without faults and without counting.
    pub fn forget(&self, key: &str) {
        self.shared.objects.borrow_mut().remove(key);
    }

    fn strike(
        &self,
        verb: Verb,
        prefix: &str,
        left: usize,
        moment: Moment,
        lasting: bool,
        effect: Effect,
    ) {
        let strike = Strike {
            verb,
            prefix: prefix.to_owned(),
            left,
            moment,
            lasting,
        };
        self.shared.strikes.borrow_mut().push((strike, effect));
    }

    fn write(&self, key: &str, body: Vec<u8>, summary: Option<&str>) -> Tag {
        let tag = Tag(format!("{:x}", Sha256::digest(&body)));
        let stored = Stored {
            body,
            tag: tag.clone(),
            summary: summary.map(str::to_owned),
        };
        let mut objects = self.shared.objects.borrow_mut();
        objects.insert(key.to_owned(), stored);
        tag
    }

    /// Begins an operation: lets others go first, counts it, and finds the fault or hold that
    /// applies to it.
    async fn begin(&self, verb: Verb, key: &str) -> Result<Option<Effect>, StoreError> {
        give_way().await;
        self.count(verb, key);
        match self.struck(verb, key) {
            Some((Moment::Before, effect)) => {
                suffer(effect, verb, key).await?;
                Ok(None)
            }
            Some((Moment::After, effect)) => Ok(Some(effect)),
            None => Ok(None),
        }
    }

    fn count(&self, verb: Verb, key: &str) {
        let mut operations = self.shared.operations.borrow_mut();
        operations.push((verb, key.to_owned()));
    }

    fn struck(&self, verb: Verb, key: &str) -> Option<(Moment, Effect)> {
        let mut strikes = self.shared.strikes.borrow_mut();
        let mut found = None;
        for (at, (strike, _)) in strikes.iter_mut().enumerate() {
            if strike.verb == verb && key.starts_with(&strike.prefix) {
                if strike.left == 0 && found.is_none() {
                    found = Some(at);
                } else {
                    strike.left = strike.left.saturating_sub(1);
                }
            }
        }
        let at = found?;
        let moment = strikes[at].0.moment;
        if strikes[at].0.lasting {
            Some((moment, Effect::Fail))
        } else {
            Some((moment, strikes.remove(at).1))
        }
    }
}

async fn suffer(effect: Effect, verb: Verb, key: &str) -> Result<(), StoreError> {
    match effect {
        Effect::Fail => {
            let operation = match verb {
                Verb::Get => "get",
                Verb::Put => "put",
                Verb::Delete => "delete",
                Verb::List => "list",
            };
            Err(StoreError::new(operation, key, &"injected fault"))
        }
        Effect::Hold(hold) => {
            let taken = hold.borrow_mut().take();
            if let Some((reached, go_on)) = taken {
                let _ = reached.send(());
                // If the handle is dropped without a release, the operation is held for ever, like
                // that of a writer that died.
                if go_on.await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            Ok(())
        }
    }
}

/// Lets every other task run once, as a real operation would.
pub async fn give_way() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if waited {
            return std::task::Poll::Ready(());
        }
        waited = true;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

#[async_trait(?Send)]
impl ObjectStore for Memory {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn operations(&self) -> usize {
        self.shared.operations.borrow().len()
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let after = self.begin(Verb::Get, key).await?;
        let object = self.shared.objects.borrow().get(key).map(|stored| Object {
            body: stored.body.clone(),
            tag: stored.tag.clone(),
        });
        if let Some(effect) = after {
            suffer(effect, Verb::Get, key).await?;
        }
        Ok(object)
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        summary: Option<&str>,
        condition: Condition<'_>,
    ) -> Result<Put, StoreError> {
        let after = self.begin(Verb::Put, key).await?;
        let holds = {
            let objects = self.shared.objects.borrow();
            match condition {
                Condition::Always => true,
                Condition::Absent => !objects.contains_key(key),
                Condition::Matches(tag) => {
                    objects.get(key).is_some_and(|stored| stored.tag == *tag)
                }
            }
        };
        let outcome = if holds {
            Put::Stored(self.write(key, body, summary))
        } else {
            Put::ConditionFailed
        };
        if let Some(effect) = after {
            suffer(effect, Verb::Put, key).await?;
        }
        Ok(outcome)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let after = self.begin(Verb::Delete, key).await?;
        self.shared.objects.borrow_mut().remove(key);
        if let Some(effect) = after {
            suffer(effect, Verb::Delete, key).await?;
        }
        Ok(())
    }

    async fn list(&self, query: List<'_>) -> Result<Page, StoreError> {
        let after = self.begin(Verb::List, query.prefix).await?;
        let limit = if query.summaries {
            query.limit.min(100)
        } else {
            query.limit
        };
        let page = {
            let objects = self.shared.objects.borrow();
            let mut rows: Vec<_> = objects
                .range(query.prefix.to_owned()..)
                .take_while(|(key, _)| key.starts_with(query.prefix))
                .filter(|(key, _)| query.after.is_none_or(|after| key.as_str() > after))
                .take(limit + 1)
                .map(|(key, stored)| Row {
                    key: key.clone(),
                    tag: Some(stored.tag.clone()),
                    summary: (self.lists_summaries && query.summaries)
                        .then(|| stored.summary.clone())
                        .flatten(),
                })
                .collect();
            let more = rows.len() > limit;
            rows.truncate(limit);
            Page { rows, more }
        };
        if let Some(effect) = after {
            suffer(effect, Verb::List, query.prefix).await?;
        }
        Ok(page)
    }

    async fn give_way(&self) {
        let count = self.shared.gave_way.get();
        self.shared.gave_way.set(count + 1);
        give_way().await;
    }
}

/// A writer's view of the bucket. The writer dies at one of its operations. The operations that it
/// has in progress then never answer, and neither do later ones.
pub struct Mortal {
    bucket: Memory,
    left: Cell<usize>,
    moment: Moment,
}

impl Mortal {
    /// Dies at the `nth` operation, counted from 0, before or after the operation takes effect.
    pub fn new(bucket: &Memory, nth: usize, moment: Moment) -> Self {
        Self {
            bucket: bucket.clone(),
            left: Cell::new(nth.saturating_add(1)),
            moment,
        }
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        self.left.get() == 0
    }

    async fn live<T>(&self, operation: impl Future<Output = T>) -> T {
        let last = self.left.get() <= 1;
        self.left.set(self.left.get().saturating_sub(1));
        if last && self.moment == Moment::Before {
            return std::future::pending().await;
        }
        let outcome = operation.await;
        // In the meantime, another of its operations may have been its last.
        if self.is_dead() {
            return std::future::pending().await;
        }
        outcome
    }
}

#[async_trait(?Send)]
impl ObjectStore for Mortal {
    fn kind(&self) -> &'static str {
        self.bucket.kind()
    }

    fn operations(&self) -> usize {
        self.bucket.operations()
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.live(self.bucket.get(key)).await
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        summary: Option<&str>,
        condition: Condition<'_>,
    ) -> Result<Put, StoreError> {
        self.live(self.bucket.put(key, body, summary, condition))
            .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.live(self.bucket.delete(key)).await
    }

    async fn list(&self, query: List<'_>) -> Result<Page, StoreError> {
        self.live(self.bucket.list(query)).await
    }
}
