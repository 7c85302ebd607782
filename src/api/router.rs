//! The routes: which handler answers which path and method.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use futures::future::LocalBoxFuture;
use worker::{Env, Request, Response, RouteContext, Router};

use super::call::Call;
use super::method::{DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT};
use super::problem::ApiError;
use super::reply::Reply;
use super::{
    audit, capabilities, channels, exchange, executors, health, invitations, keys, register,
    requests,
};
use crate::app::App;

/// The path under which this server reports its health.
pub const HEALTH: &str = "/health";

type Handler = fn(Call) -> LocalBoxFuture<'static, Result<Reply, ApiError>>;

/// A path with its parameters, and the handler of each of its methods.
struct Route {
    path: &'static str,
    methods: &'static [(&'static str, Handler)],
}

impl Route {
    /// Whether the path has the segments of the route, whatever stands for its parameters.
    fn may_match(&self, path: &str) -> bool {
        let (mut ours, mut theirs) = (self.path.split('/'), path.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(our), Some(their)) if our.starts_with(':') || our == their => {}
                _ => return false,
            }
        }
    }
}

/// Every path of the exchange. HEAD works wherever GET does, and OPTIONS works everywhere.
const ROUTES: &[Route] = &[
    Route {
        path: HEALTH,
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
            (DELETE, |call| Box::pin(executors::delete(call))),
        ],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/executors/:executor_id/keys",
        methods: &[
            (GET, |call| Box::pin(keys::list(call))),
            (POST, |call| Box::pin(keys::post(call))),
        ],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/executors/:executor_id/keys/:item_id",
        methods: &[(DELETE, |call| Box::pin(keys::delete(call)))],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/executors/:executor_id/channels",
        methods: &[(POST, |call| Box::pin(channels::post(call)))],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/executors/:executor_id/channels/:item_id",
        methods: &[(DELETE, |call| Box::pin(channels::delete(call)))],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/exchange",
        methods: &[
            (GET, |call| Box::pin(exchange::get(call))),
            (PATCH, |call| Box::pin(exchange::patch(call))),
        ],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/invitations",
        methods: &[
            (GET, |call| Box::pin(invitations::list(call))),
            (POST, |call| Box::pin(invitations::post(call))),
        ],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/invitations/lookup",
        methods: &[(POST, |call| Box::pin(invitations::look_up(call)))],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/invitations/:item_id",
        methods: &[(DELETE, |call| Box::pin(invitations::delete(call)))],
    },
    Route {
        path: "/api/v1/exchanges/:exchange_id/audit",
        methods: &[(GET, |call| Box::pin(audit::list(call)))],
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
        path: "/api/v1/exchanges/:exchange_id/requests/:ref/events",
        methods: &[(GET, |call| Box::pin(requests::events(call)))],
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

/// Every other path below an exchange. Only members are told that there is nothing.
const BELOW_AN_EXCHANGE: &str = "/api/v1/exchanges/:exchange_id/*rest";

/// The data that the router passes to a route.
struct Dispatch {
    app: Rc<App>,
    method: String,
    /// Where the route leaves its answer. It stays empty if no route matches.
    answer: Rc<RefCell<Option<Result<Reply, ApiError>>>>,
}

/// Finds the route of a request and runs its handler.
///
/// The router is made anew for each request, because it takes the request's own data. Making it is
/// most of its cost, so it contains only the route that may match, or else the one for paths at which
/// there is nothing.
///
/// # Errors
///
/// Fails with the error for which the request is refused.
pub async fn route(
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
    let router = Router::with_data(Dispatch {
        app,
        method: method.to_owned(),
        answer: Rc::clone(&answer),
    });
    let router = match ROUTES.iter().find(|route| route.may_match(path)) {
        Some(route) => router.or_else_any_method_async(route.path, |request, context| {
            dispatch(route.path, request, context, |call| {
                run(route.methods, call)
            })
        }),
        None => router.or_else_any_method_async(BELOW_AN_EXCHANGE, |request, context| {
            dispatch(BELOW_AN_EXCHANGE, request, context, nothing_here)
        }),
    };
    let run = router.run(request, env).await;
    let answer = answer.take();
    if answer.is_none() {
        run?;
    }
    answer.unwrap_or(Err(ApiError::NoPath))
}

/// Calls `handler` and leaves its answer where [`route`] finds it, because the router itself can
/// only return responses of the runtime.
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
    // Nobody looks at this result. Making a response would need a crossing to JavaScript.
    Err(worker::Error::RustError(String::new()))
}

/// Runs the handler for the call's method.
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

/// The exchange of a path that ends in a slash. For such a path the router may find no route at
/// all, not even the one for all other paths below an exchange.
fn exchange_of_folder(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/api/v1/exchanges/")?.strip_suffix('/')?;
    let (exchange, _) = rest.split_once('/')?;
    Some(exchange)
}

async fn nothing_here(call: Call) -> Result<Reply, ApiError> {
    call.caller_of_any_scope().await?;
    Err(ApiError::NoPath)
}
