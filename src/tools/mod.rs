//! The tools Worker: the same crate, built with the feature `tools`. It works on the bucket that
//! its settings name. `selfhost/mess.js` and the tests use it. It is never bound to a public
//! socket.
//!
//! | path | does |
//! | --- | --- |
//! | `/conformance` | tries each clause of the storage contract and returns the outcomes |
//! | `/conformance?broken` | the same on a bucket that ignores conditions, which must fail |
//! | `/audit?now={ms}` | returns the auditor's report |
//! | `/count?after={key}` | counts a stretch of objects |
//! | `/copy?after={key}` | copies a stretch to the bucket that the `TO_` settings name |
//! | `/digest?of={from or to}&after={key}&digest={so far}` | hashes a stretch of either bucket |
//! | `/reindex?…` | runs one step of [`reindex`] |
//! | `/offset?zone={name}&at={ms},{ms},…` | how many ms the zone is ahead of UTC at each moment |

pub mod audit;
mod below;
mod copy;
mod error;
pub mod reindex;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};
use worker::{Env, Request, Response};

use crate::app::{App, SetupError, connect};
use crate::config::Config;
use crate::domain::time::Timestamp;
use crate::runtime::background::Background;
use crate::storage::conformance::{CLAUSES, Clause};
use crate::storage::{ObjectStore, disk};
use crate::tools::error::ToolError;
use audit::audit;
use below::{Below, Unconditional};

thread_local! {
    /// What is known about a directory that is the target of a copy.
    static TARGET: Rc<disk::Memory> = Rc::default();
}

/// Answers a request to the tools Worker: 200 with JSON, or 400 with a sentence.
///
/// # Errors
///
/// Fails if the runtime refuses the response.
pub async fn handle(
    request: Request,
    env: &Env,
    background: Background,
) -> worker::Result<Response> {
    let url = request.url()?;
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    match run(url.path(), &query, env, background).await {
        Ok(value) => Response::from_json(&value),
        Err(error) => {
            Ok(Response::from_json(&json!({"error": error.to_string()}))?.with_status(400))
        }
    }
}

async fn run(
    path: &str,
    query: &BTreeMap<String, String>,
    env: &Env,
    background: Background,
) -> Result<Value, ToolError> {
    let app = App::from_env(env, background, 0)?;
    let given = |name: &str| query.get(name).map(String::as_str);
    let store = app.store.as_ref();
    let fresh = Below::new(store, format!("conformance/{}/", app.clock.new_id()));
    Ok(match path {
        "/conformance" => {
            let broken = Unconditional(&fresh);
            let store: &dyn ObjectStore = match given("broken") {
                Some(_) => &broken,
                None => &fresh,
            };
            let outcomes = run_clauses(store, CLAUSES.iter()).await;
            fresh.clear().await?;
            json!(outcomes)
        }
        "/audit" => {
            let now = given("now").and_then(|millis| millis.parse().ok());
            let now = now.map_or_else(|| app.clock.now(), Timestamp::from_millis);
            json!(audit(store, now).await?)
        }
        "/count" => json!(copy::count(store, given("after")).await?),
        "/copy" => json!(copy::copy(store, target(env, &app)?.as_ref(), given("after")).await?),
        "/digest" => {
            let of = match given("of") {
                Some("to") => target(env, &app)?,
                _ => app.store.clone(),
            };
            json!(copy::digest(of.as_ref(), given("after"), given("digest")).await?)
        }
        "/reindex" => reindex::step(&app, query).await?,
        "/offset" => {
            let zone = given("zone").unwrap_or_default();
            let offset = |at: &str| {
                app.zones
                    .offset(zone, Timestamp::from_millis(at.parse().ok()?))
            };
            let at = given("at").unwrap_or_default();
            json!(at.split(',').map(offset).collect::<Vec<_>>())
        }
        _ => return Err(ToolError::NoSuchTool),
    })
}

/// The bucket named by the settings with the prefix `TO_`.
fn target(env: &Env, app: &App) -> Result<Rc<dyn ObjectStore>, ToolError> {
    let variable = |name: &str| {
        let text = env.var(&format!("TO_{name}")).ok();
        text.map(|text| text.to_string())
    };
    let connect = |config: Config| {
        TARGET.with(|memory| connect(env, "TO_", &config.storage, memory, &app.clock))
    };
    Config::read(variable, app.zones.as_ref())
        .map_err(SetupError::from)
        .and_then(connect)
        .map_err(ToolError::Target)
}

async fn run_clauses(
    store: &dyn ObjectStore,
    clauses: impl Iterator<Item = &(&'static str, Clause)>,
) -> Vec<Value> {
    let mut outcomes = Vec::new();
    for (name, clause) in clauses {
        let problem = clause(store).await.err();
        outcomes.push(json!({"clause": name, "problem": problem}));
    }
    outcomes
}
