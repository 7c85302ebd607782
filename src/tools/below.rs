//! A part of a bucket that looks like a whole bucket, for the clauses of the storage contract,
//! which need an empty one.

use async_trait::async_trait;

use crate::storage::{Condition, List, Object, ObjectStore, Page, Put, StoreError};

/// The part of a bucket below a prefix.
pub struct Below<'a> {
    store: &'a dyn ObjectStore,
    prefix: String,
}

impl<'a> Below<'a> {
    /// The part of `store` below `prefix`.
    pub fn new(store: &'a dyn ObjectStore, prefix: String) -> Self {
        Self { store, prefix }
    }

    /// Deletes everything. A clause that does not hold leaves objects behind.
    pub async fn clear(&self) -> Result<(), StoreError> {
        loop {
            let everything = List::keys(&self.prefix, None, 100);
            let page = self.store.list(everything).await?;
            for row in &page.rows {
                self.store.delete(&row.key).await?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

#[async_trait(?Send)]
impl ObjectStore for Below<'_> {
    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    fn operations(&self) -> usize {
        self.store.operations()
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.store.get(&self.full(key)).await
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        summary: Option<&str>,
        condition: Condition<'_>,
    ) -> Result<Put, StoreError> {
        let key = self.full(key);
        self.store.put(&key, body, summary, condition).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.store.delete(&self.full(key)).await
    }

    async fn list(&self, query: List<'_>) -> Result<Page, StoreError> {
        let after = query.after.map(|after| self.full(after));
        let query = List {
            prefix: &self.full(query.prefix),
            after: after.as_deref(),
            ..query
        };
        let mut page = self.store.list(query).await?;
        for row in &mut page.rows {
            row.key = row.key.split_off(self.prefix.len());
        }
        Ok(page)
    }
}

/// A bucket that ignores conditions, as some S3 servers do.
pub struct Unconditional<'a>(pub &'a dyn ObjectStore);

#[async_trait(?Send)]
impl ObjectStore for Unconditional<'_> {
    fn kind(&self) -> &'static str {
        "unconditional"
    }

    fn operations(&self) -> usize {
        self.0.operations()
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.0.get(key).await
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        summary: Option<&str>,
        _: Condition<'_>,
    ) -> Result<Put, StoreError> {
        self.0.put(key, body, summary, Condition::Always).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.0.delete(key).await
    }

    async fn list(&self, query: List<'_>) -> Result<Page, StoreError> {
        self.0.list(query).await
    }
}
