//! The HTTP interface: routes, and what is common to every request and answer.

mod call;
mod capabilities;
mod executors;
mod health;
mod json;
pub mod problem;
mod register;
mod reply;
mod requests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use futures::future::LocalBoxFuture;
use serde_json::json;
use worker::{Env, Request, Response, RouteContext, Router};

use crate::app::App;
use crate::runtime::background::Background;
use crate::runtime::clock::Clock;
use call::Call;
use problem::ApiError;
use reply::Reply;

const GET: &str = "GET";
const HEAD: &str = "HEAD";
const OPTIONS: &str = "OPTIONS";
const PATCH: &str = "PATCH";
const POST: &str = "POST";
const PUT: &str = "PUT";

type Handler = fn(Call) -> LocalBoxFuture<'static, Result<Reply, ApiError>>;

/// A path with its parameters, and what each method does there.
struct Route {
    path: &'static str,
    methods: &'static [(&'static str, Handler)],
}

/// Every path of the exchange. HEAD works where GET does, OPTIONS everywhere.
const ROUTES: &[Route] = &[
    Route {
        path: "/health",
        methods: &[(GET, |call| Box::pin(health::get(call)))],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/register",
        methods: &[(POST, |call| Box::pin(register::post(call)))],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/executors",
        methods: &[(GET, |call| Box::pin(executors::list(call)))],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/executors/:executor_id",
        methods: &[
            (GET, |call| Box::pin(executors::get(call))),
            (PATCH, |call| Box::pin(executors::patch(call))),
        ],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/executors/:executor_id/deliveries",
        methods: &[(GET, |call| Box::pin(executors::deliveries(call)))],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/executors/:executor_id/test",
        methods: &[(POST, |call| Box::pin(executors::test(call)))],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/requests",
        methods: &[
            (GET, |call| Box::pin(requests::list(call))),
            (POST, |call| Box::pin(requests::post(call))),
        ],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/requests/:ref",
        methods: &[
            (GET, |call| Box::pin(requests::get(call))),
            (PATCH, |call| Box::pin(requests::patch(call))),
        ],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/requests/:ref/lease",
        methods: &[(POST, |call| Box::pin(requests::renew(call)))],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/capabilities",
        methods: &[(GET, |call| Box::pin(capabilities::list(call)))],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/capabilities/:capability_id",
        methods: &[(PUT, |call| Box::pin(capabilities::put(call)))],
    },
];

/// Paths below an exchange at which there is nothing: only its members are told so.
const BELOW_AN_EXCHANGE: &str = "/api/v1/exchanges/:exchange_id/*rest";

/// What the router hands to a route.
struct Dispatch {
    app: Rc<App>,
    method: String,
    /// Where the route leaves its answer; stays empty when no route matched.
    answer: Rc<RefCell<Option<Result<Reply, ApiError>>>>,
}

/// Answers a request.
///
/// # Errors
///
/// The runtime refuses the response.
pub async fn handle(
    request: Request,
    env: Env,
    clock: &dyn Clock,
    background: Background,
) -> worker::Result<Response> {
    let started = clock.now();
    let request_id = request_id(&request, clock);
    let (method, path) = (request.inner().method(), request.path());
    let reply = match App::from_env(&env, background) {
        Ok(_) if method == OPTIONS => Ok(Reply::empty(204)),
        Ok(app) => route(app, request, env, &method, &path).await,
        Err(error) => Err(ApiError::Internal(error.to_string())),
    };
    let reply = reply.unwrap_or_else(|error| error.into_reply(&request_id));
    crate::runtime::log::write(&json!({
        "level": "info",
        "message": "request",
        "request_id": request_id,
        "method": method,
        "path": path,
        "status": reply.status,
        "ms": clock.now().since(started),
    }));
    reply.into_response(&request_id, method == HEAD)
}

async fn route(
    app: Rc<App>,
    request: Request,
    env: Env,
    method: &str,
    path: &str,
) -> Result<Reply, ApiError> {
    if let Some(exchange) = exchange_of_folder(path) {
        let call = Call {
            app,
            method: method.to_owned(),
            params: HashMap::from([("exchange_id", exchange.to_owned())]),
            request,
        };
        return nothing_here(call).await;
    }
    let answer = Rc::default();
    let mut router = Router::with_data(Dispatch {
        app,
        method: method.to_owned(),
        answer: Rc::clone(&answer),
    });
    for route in ROUTES {
        router = router.or_else_any_method_async(route.path, |request, context| {
            dispatch(route.path, request, context, |call| {
                run(route.methods, call)
            })
        });
    }
    router = router.or_else_any_method_async(BELOW_AN_EXCHANGE, |request, context| {
        dispatch(BELOW_AN_EXCHANGE, request, context, nothing_here)
    });
    router.run(request, env).await?;
    answer.take().unwrap_or(Err(ApiError::NoPath))
}

/// Calls `handler` and leaves its answer where [`route`] finds it: the router itself knows
/// only responses of the runtime.
async fn dispatch<F>(
    path: &'static str,
    request: Request,
    context: RouteContext<Dispatch>,
    handler: impl FnOnce(Call) -> F,
) -> worker::Result<Response>
where
    F: Future<Output = Result<Reply, ApiError>>,
{
    let params = path
        .split('/')
        .filter_map(|segment| segment.strip_prefix(':'))
        .filter_map(|name| Some((name, context.param(name)?.clone())))
        .collect();
    let Dispatch {
        app,
        method,
        answer,
    } = context.data;
    let call = Call {
        app,
        request,
        method,
        params,
    };
    let replied = handler(call).await;
    answer.replace(Some(replied));
    Response::empty()
}

/// Runs the handler of the call's method.
async fn run(methods: &'static [(&'static str, Handler)], call: Call) -> Result<Reply, ApiError> {
    let wanted = match call.method.as_str() {
        HEAD => GET,
        method => method,
    };
    match methods.iter().find(|(method, _)| *method == wanted) {
        Some((_, handler)) => handler(call).await,
        None => Err(ApiError::Method {
            allow: allow(methods),
        }),
    }
}

fn allow(methods: &[(&str, Handler)]) -> String {
    let mut names = Vec::new();
    for (method, _) in methods {
        names.push(*method);
        if *method == GET {
            names.push(HEAD);
        }
    }
    names.push(OPTIONS);
    names.join(", ")
}

/// The exchange of a path that ends in a slash: the router would match it with nothing at all.
fn exchange_of_folder(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/api/v1/exchanges/")?.strip_suffix('/')?;
    let (exchange, _) = rest.split_once('/')?;
    Some(exchange)
}

async fn nothing_here(call: Call) -> Result<Reply, ApiError> {
    call.caller().await?;
    Err(ApiError::NoPath)
}

/// The client's `X-Request-Id` if it is fit for a header and a log line, else a new one.
fn request_id(request: &Request, clock: &dyn Clock) -> String {
    let given = request.headers().get("X-Request-Id").ok().flatten();
    given
        .filter(|id| {
            (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        })
        .unwrap_or_else(|| clock.new_id().to_string())
}
