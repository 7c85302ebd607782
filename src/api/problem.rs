//! Everything that a request can be refused for: one error, one status each.

use serde_json::{Map, Value, json};

use super::reply::Reply;
use crate::domain::text::Invalid;
use crate::domain::thread::transition::Refusal;
use crate::service::ServiceError;

/// Seconds after which a client should ask again when the bucket does not answer.
const RETRY_SOON: u32 = 2;
/// Seconds after which a client should ask again while a bucket is imported.
const RETRY_LATER: u32 = 5;

/// Why a request was not answered with what it asked for.
#[derive(Debug)]
pub enum ApiError {
    /// The body is no JSON.
    Malformed(String),
    /// A field, a parameter or an id is wrong.
    Invalid(Invalid),
    /// There is no key, or none that is known.
    Unauthenticated,
    /// The key belongs to another exchange.
    OtherExchange,
    /// The profile belongs to another executor.
    OtherExecutor,
    /// This deployment asks for a registration token.
    RegistrationToken,
    /// There is nothing at this path.
    NoPath,
    /// The path does not take this method.
    Method {
        /// The methods that it takes.
        allow: String,
    },
    /// The body is too large.
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body holds too many values.
    TooManyValues {
        /// The limit.
        limit: usize,
    },
    /// The body is not declared as JSON.
    NotJson,
    /// The service refused or failed.
    Service(ServiceError),
    /// The server itself failed; the text is for the log only.
    Internal(String),
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

impl From<worker::Error> for ApiError {
    fn from(error: worker::Error) -> Self {
        Self::Internal(error.to_string())
    }
}

/// What a client is told.
struct Answer {
    status: u16,
    code: &'static str,
    error: String,
    more: Map<String, Value>,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    fn new(status: u16, code: &'static str, error: impl Into<String>) -> Self {
        Self {
            status,
            code,
            error: error.into(),
            more: Map::new(),
            headers: Vec::new(),
        }
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    fn header(mut self, name: &'static str, value: &dyn std::fmt::Display) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

impl ApiError {
    /// The answer; what went wrong inside is logged, once, with the request's id.
    pub fn into_reply(self, request_id: &str) -> Reply {
        if let Some(cause) = self.cause() {
            crate::runtime::log::write(&json!({
                "level": "error", "message": "a request failed", "request_id": request_id, "error": cause,
            }));
        }
        let answer = self.answer();
        let mut body = Map::new();
        body.insert("error".to_owned(), json!(answer.error));
        body.insert("code".to_owned(), json!(answer.code));
        body.extend(answer.more);
        let mut reply = Reply::json(answer.status, &Value::Object(body));
        for (name, value) in answer.headers {
            reply = reply.header(name, value);
        }
        reply
    }

    /// What the log needs to know of an error that is the server's own.
    fn cause(&self) -> Option<String> {
        match self {
            Self::Internal(reason) => Some(reason.clone()),
            Self::Service(ServiceError::Store(error)) => Some(error.to_string()),
            Self::Service(ServiceError::Dropped(error)) => Some(error.to_string()),
            Self::Service(ServiceError::Contended) => Some("too many writers".to_owned()),
            _ => None,
        }
    }

    /// The one place where errors get their status.
    fn answer(self) -> Answer {
        match self {
            Self::Malformed(problem) => {
                Answer::new(400, "malformed_json", format!("The body {problem}."))
            }
            Self::Invalid(invalid) => answer_invalid(invalid),
            Self::Unauthenticated => Answer::new(
                401,
                "unauthenticated",
                "Send a valid key in the header Authorization: Bearer mess_{exchange}_{token}.",
            )
            .header("WWW-Authenticate", &"Bearer"),
            Self::OtherExchange => Answer::new(
                403,
                "other_exchange",
                "This key belongs to another exchange.",
            ),
            Self::OtherExecutor => Answer::new(
                403,
                "other_executor",
                "An executor may see, test and change its own profile only.",
            ),
            Self::RegistrationToken => Answer::new(
                403,
                "registration_token",
                "Registration here needs the token of this deployment, as registration_token in the body or in the header X-Registration-Token.",
            ),
            Self::NoPath => Answer::new(404, "no_such_path", "There is nothing at this path."),
            Self::Method { allow } => Answer::new(
                405,
                "method_not_allowed",
                format!("This path takes {allow}."),
            )
            .header("Allow", &allow),
            Self::BodyTooLarge { limit } => too_large("the body", limit, "bytes"),
            Self::TooManyValues { limit } => too_large("the body", limit, "JSON values"),
            Self::NotJson => Answer::new(
                415,
                "not_json",
                "Send the body as JSON, with the header Content-Type: application/json.",
            ),
            Self::Service(error) => answer_service(error),
            Self::Internal(_) => Answer::new(
                500,
                "internal",
                "The server failed; its log has the cause under this X-Request-Id.",
            ),
        }
    }
}

fn too_large(what: &str, limit: usize, unit: &str) -> Answer {
    let error = format!("This would make {what} larger than {limit} {unit}.");
    Answer::new(413, "too_large", error).with("limit", limit)
}

fn answer_invalid(invalid: Invalid) -> Answer {
    Answer::new(400, "invalid", format!("{invalid}.")).with("field", invalid.path)
}

fn answer_service(error: ServiceError) -> Answer {
    match error {
        ServiceError::Invalid(invalid) => answer_invalid(invalid),
        ServiceError::NoThread => Answer::new(404, "no_such_request", "There is no such request."),
        ServiceError::NoExecutor => {
            Answer::new(404, "no_such_executor", "There is no such executor.")
        }
        ServiceError::Refused(refusal) => answer_refusal(refusal),
        ServiceError::AlreadyRegistered => Answer::new(
            409,
            "already_registered",
            "This executor id is registered already; choose another.",
        ),
        ServiceError::VersionDiffers { version } => Answer::new(
            412,
            "version_differs",
            format!("The request is at version {version} now; read it again."),
        )
        .with("version", version.number),
        ServiceError::TooLarge { what, limit, unit } => too_large(what, limit, unit),
        ServiceError::Importing => Answer::new(
            503,
            "taking_over",
            "The bucket of another server is being imported; try again soon.",
        )
        .header("Retry-After", &RETRY_LATER),
        ServiceError::Contended | ServiceError::Store(_) | ServiceError::Dropped(_) => Answer::new(
            503,
            "unavailable",
            "The storage is not answering as it should; try again. Repeating the same call is safe for updates, and for a new request after a look at the list.",
        )
        .header("Retry-After", &RETRY_SOON),
    }
}

fn answer_refusal(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::HeldByOther {
            holder,
            status,
            lease_until,
        } => {
            let until = lease_until.map_or_else(String::new, |until| format!(" until {until}"));
            let error = format!("{holder} holds this request{until}; it is {status}.");
            let answer = Answer::new(409, "held_by_other", error)
                .with("status", status.as_str())
                .with("executor_id", holder.as_str());
            match lease_until {
                Some(until) => answer.with("lease_until", until.to_string()),
                None => answer,
            }
        }
        Refusal::AlreadyYours { holder, status } => Answer::new(
            409,
            "already_yours",
            format!("You hold this request already; it is {status}."),
        )
        .with("status", status.as_str())
        .with("executor_id", holder.as_str()),
        Refusal::Ended { status, holder } => {
            let by = holder
                .as_ref()
                .map_or_else(String::new, |holder| format!(", held by {holder}"));
            let error = format!("This request is over: {status}{by}. Messages can still be added.");
            Answer::new(409, "ended", error)
                .with("status", status.as_str())
                .with("executor_id", json!(holder))
        }
        Refusal::AlreadyPending => {
            Answer::new(409, "already_pending", "This request is pending already.")
                .with("status", "pending")
                .with("executor_id", Value::Null)
        }
        Refusal::NotClaimed => {
            let error = "Nobody holds this request: there is no claim to renew.";
            Answer::new(409, "not_claimed", error)
                .with("status", "pending")
                .with("executor_id", Value::Null)
        }
        Refusal::MissingCapabilities { missing } => {
            let error = format!(
                "This request requires what your profile does not claim: {}.",
                missing.join(", ")
            );
            Answer::new(403, "missing_capabilities", error).with("missing", missing)
        }
        Refusal::Unconfirmed { status } => Answer::new(
            409,
            "unconfirmed",
            "The requestor wants to confirm first: set needs_confirmation, with what you are going to do as its action, and wait for the reply.",
        )
        .with("status", status.as_str()),
        Refusal::NotRequestor { requestor } => Answer::new(
            403,
            "not_requestor",
            format!("Only {requestor}, who asked for this, can reply."),
        )
        .with("requestor_id", requestor.as_str()),
        Refusal::NoOpenQuestion { status } => Answer::new(
            409,
            "no_open_question",
            format!("Nothing waits for a reply; the request is {status}."),
        )
        .with("status", status.as_str()),
        Refusal::Invalid(invalid) => answer_invalid(invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StoreError;

    #[test]
    fn a_failing_store_says_nothing_of_itself() {
        let error = StoreError::new("get", "keys/exchange=home/abc.json", &"socket /var/run/x");
        let reply = ApiError::Service(ServiceError::Store(error)).into_reply("r1");
        let text = String::from_utf8(reply.body.clone().unwrap()).unwrap();
        assert_eq!(reply.status, 503);
        assert!(
            !text.contains("keys/") && !text.contains("socket"),
            "{text}"
        );
        assert!(reply.headers.contains(&("Retry-After", "2".to_owned())));
    }
}
