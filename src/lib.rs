//! MESS Exchange: an HTTP server through which software asks for things that need hands and eyes.
//! It is a Worker over one bucket: on Cloudflare over R2, and in workerd over S3 or a directory.
//!
//! Data flows one way. [`api`] parses a request and calls a [`service`]. The service loads from
//! [`storage`], lets the [`domain`] decide, and saves. It writes ahead what a mutation owes, and
//! [`service::tick`] completes what is left.
//!
//! | to find | look in |
//! | --- | --- |
//! | who may change a thread's status | [`domain::thread::transition`] |
//! | limits | [`domain::limits`] |
//! | where each object of the bucket is stored | [`storage::layout`] |
//! | what a bucket must do | [`storage::ObjectStore`] |
//! | the write path | [`service::requests::update`] |
//! | what follows a commit | [`service::requests::settle`] |
//! | who is told of what, and when | [`delivery::plan`] |
//! | providers of notifications and hooks | [`delivery`] |
//! | recovery after a crash | [`service::tick`] |
//! | routes | [`api`] |
//! | error statuses | [`api::problem`] |

// Test code may use arithmetic and slices freely, because a panic there is a failed test.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::string_slice))]

pub mod api;
pub mod app;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod isolate;
pub mod runtime;
pub mod service;
pub mod storage;

#[cfg(any(test, feature = "tools"))]
pub mod tools;

#[cfg(test)]
mod layers;

use std::rc::Rc;

// This crate is not called. Its version decides what `url` brings along, see Cargo.toml.
use idna_adapter as _;
use worker::{Context, Env, Request, ScheduleContext, ScheduledEvent, event, web_sys};

use crate::app::App;
use crate::domain::time::Timestamp;
use crate::runtime::background::Background;

/// Runs once in each isolate.
#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

/// Answers a request.
#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<web_sys::Response> {
    let background = Background::new(move |work| context.wait_until(work));
    #[cfg(feature = "tools")]
    return tools::handle(request, &env, background)
        .await
        .map(Into::into);
    #[cfg(not(feature = "tools"))]
    api::handle(request, env, &runtime::clock::SystemClock, background).await
}

/// Checks for the start script whether the exchange can run here. Returns JSON: `{"status": 200,
/// "body": {"storage"}}` or `{"status": 400, "body": {"error"}}`. Requests cannot reach it.
#[cfg(not(feature = "tools"))]
#[wasm_bindgen::prelude::wasm_bindgen(wasm_bindgen_futures = worker::wasm_bindgen_futures)]
pub async fn check(env: Env) -> String {
    let checked = match App::from_env(&env, Background::new(|_| {}), 0) {
        Ok(app) => service::start::check(&app)
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let answer = match checked {
        Ok(storage) => serde_json::json!({"status": 200, "body": {"storage": storage}}),
        Err(error) => serde_json::json!({"status": 400, "body": {"error": error}}),
    };
    answer.to_string()
}

/// Runs the maintenance that is due at the scheduled time.
#[event(scheduled)]
async fn scheduled(event: ScheduledEvent, env: Env, context: ScheduleContext) {
    let context = Rc::new(context);
    let background = Background::new(move |work| context.wait_until(work));
    #[expect(
        clippy::cast_possible_truncation,
        reason = "milliseconds fit in 53 bits"
    )]
    let now = Timestamp::from_millis(event.schedule() as i64);
    let app = match App::from_env(&env, background, 0) {
        Ok(app) => app,
        Err(error) => return runtime::log::warn("the tick cannot run", &error),
    };
    if let Err(error) = service::tick::tick(&app, now).await {
        runtime::log::warn("the tick could not do its work", &error);
    }
}
