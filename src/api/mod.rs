//! The HTTP interface: what all requests and answers have in common.

mod address;
mod audit;
mod body;
mod browser;
mod call;
mod capabilities;
mod channels;
mod exchange;
mod executors;
mod health;
mod invitations;
mod json;
mod keys;
mod method;
pub mod problem;
mod register;
pub mod reply;
mod requests;
mod router;

use serde::Serialize;
use worker::{Env, Request, web_sys};

use crate::app::App;
use crate::delivery::send::HOPS_HEADER;
use crate::domain::limits::HOPS;
use crate::runtime::background::Background;
use crate::runtime::clock::Clock;
use crate::runtime::log;
use browser::check_host;
use method::{GET, HEAD, OPTIONS};
use problem::ApiError;
use reply::Reply;
use router::{HEALTH, route};

/// What the server's log says about a request.
#[derive(Serialize)]
struct Logged<'a> {
    level: &'static str,
    message: &'static str,
    request_id: &'a str,
    method: &'a str,
    path: &'a str,
    status: u16,
    /// Milliseconds until the answer.
    ms: i64,
}

/// Answers a request.
///
/// # Errors
///
/// Fails if the runtime refuses the response.
pub async fn handle(
    request: Request,
    env: Env,
    clock: &dyn Clock,
    background: Background,
) -> worker::Result<web_sys::Response> {
    let started = clock.now();
    let request_id = request_id(&request, clock);
    let (method, path) = (request.inner().method(), request.path());
    let reply = match App::from_env(&env, background, hops(&request)) {
        Ok(_) if method == OPTIONS => Ok(Reply::preflight()),
        Ok(app) => match admit(&app, &request, &method, &path) {
            Ok(()) => route(app, request, env, &method, &path).await,
            Err(error) => Err(error),
        },
        Err(error) => Err(ApiError::Internal(error.to_string())),
    };
    let reply = reply.unwrap_or_else(|error| error.into_problem(&request_id).into());
    log::write(&Logged {
        level: "info",
        message: "request",
        request_id: &request_id,
        method: &method,
        path: &path,
        status: reply.status,
        ms: clock.now().since(started),
    });
    reply.into_response(&request_id, method == HEAD)
}

/// Refuses what no route should see.
fn admit(app: &App, request: &Request, method: &str, path: &str) -> Result<(), ApiError> {
    // A call that only reads leads to nothing more.
    if app.hops > HOPS && ![GET, HEAD].contains(&method) {
        return Err(ApiError::LoopDetected);
    }
    // `/health` still answers, because restarting an old version would not make it newer.
    if app.isolate.is_outdated.get() && path != HEALTH {
        return Err(ApiError::Outdated);
    }
    check_host(&app.config, &request.inner().url())
}

/// The client's `X-Request-Id`, if it is fit for a header and a log line. Otherwise a new id.
fn request_id(request: &Request, clock: &dyn Clock) -> String {
    let given = request.headers().get("X-Request-Id").ok().flatten();
    given
        .filter(|id| {
            (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        })
        .unwrap_or_else(|| clock.new_id().to_string())
}

/// How many deliveries led to this call. What is no number counts as the most: nobody who means well
/// sends it.
fn hops(request: &Request) -> u32 {
    let given = request.headers().get(HOPS_HEADER).ok().flatten();
    given.map_or(0, |text| text.trim().parse().unwrap_or(u32::MAX))
}
