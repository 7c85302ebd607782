//! The inspection Worker of the tests: the same crate built with the feature `inspect`, bound
//! to the same bucket. It runs inside workerd what only there can be run for real.
//!
//! | path | answers |
//! | --- | --- |
//! | `/conformance` | each clause of the storage contract with what it found, on the R2 binding |
//! | `/conformance?broken` | the same on a bucket that ignores conditions: it must not pass |
//! | `/audit?now={ms}` | the auditor's report |
//! | `/offset?zone={name}&at={ms},{ms},…` | how far the zone is ahead of UTC at each moment, in ms |

use async_trait::async_trait;
use serde_json::{Value, json};
use worker::{Env, Request, Response};

use crate::app::App;
use crate::audit::audit;
use crate::background::Background;
use crate::domain::time::Timestamp;
use crate::storage::conformance::CLAUSES;
use crate::storage::{Condition, List, Object, ObjectStore, Page, Put, StoreError};

/// Answers a request to the inspection Worker.
///
/// # Errors
///
/// The set-up's or the store's.
pub async fn handle(
    request: Request,
    env: &Env,
    background: Background,
) -> worker::Result<Response> {
    let failed = |error: &dyn std::fmt::Display| worker::Error::RustError(error.to_string());
    let app = App::from_env(env, background).map_err(|error| failed(&error))?;
    let store = app.store.as_ref();
    let url = request.url()?;
    match url.path() {
        "/conformance" if url.query() == Some("broken") => {
            Response::from_json(&run_clauses(&Unconditional(store)).await)
        }
        "/conformance" => Response::from_json(&run_clauses(store).await),
        "/audit" => {
            let now = url.query_pairs().find(|(name, _)| name == "now");
            let now = now.and_then(|(_, millis)| millis.parse().ok());
            let now = now.map_or_else(|| app.clock.now(), Timestamp::from_millis);
            let report = audit(store, now).await.map_err(|error| failed(&error))?;
            Response::from_json(&report)
        }
        "/offset" => {
            let value = |name: &str| {
                let found = url.query_pairs().find(|(given, _)| given == name);
                found.map_or(String::new(), |(_, value)| value.into_owned())
            };
            let (zone, at) = (value("zone"), value("at"));
            let offset = |at: &str| {
                app.zones
                    .offset(&zone, Timestamp::from_millis(at.parse().ok()?))
            };
            Response::from_json(&at.split(',').map(offset).collect::<Vec<_>>())
        }
        _ => Response::error("There is nothing at this path.", 404),
    }
}

async fn run_clauses(store: &dyn ObjectStore) -> Vec<Value> {
    let mut outcomes = Vec::new();
    for (name, clause) in CLAUSES {
        let problem = clause(store).await.err();
        outcomes.push(json!({"clause": name, "problem": problem}));
    }
    outcomes
}

/// A bucket that ignores conditions, as some S3 servers do.
struct Unconditional<'a>(&'a dyn ObjectStore);

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
