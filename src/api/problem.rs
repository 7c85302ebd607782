//! Every reason to refuse a request. Each error has one status and one code.

use serde_json::{Map, Value, json};

use crate::domain::member::access::{AccessRefusal, Dead, Useless};
use crate::domain::quota::{Exceeded, Quota};
use crate::domain::text::Invalid;
use crate::domain::thread::transition::Refusal;
use crate::runtime::log;
use crate::service::ServiceError;

/// Seconds after which a client should try again if the store does not answer.
const RETRY_SOON: u32 = 2;
/// Seconds after which a client should try again during an import or after a newer version took
/// over.
const RETRY_LATER: u32 = 5;

/// Why a request did not get what it asked for.
#[derive(Debug)]
pub enum ApiError {
    /// The body is not valid JSON.
    Malformed(String),
    /// A field, a parameter or an id is wrong.
    Invalid(Invalid),
    /// The key is missing or unknown.
    Unauthenticated,
    /// The key belongs to another exchange than that of the path.
    OtherExchange,
    /// The profile belongs to another executor.
    OtherExecutor,
    /// This deployment requires a registration token.
    RegistrationToken,
    /// The exchange is open, and the call uses a name that a web page may have given it.
    ForeignHost {
        /// The name.
        host: String,
    },
    /// The exchange is open, and a web page of another origin tries to register.
    ForeignOrigin,
    /// There is nothing at this path.
    NoPath,
    /// The path does not support this method.
    Method {
        /// The methods that it supports.
        allow: String,
    },
    /// The body is too large.
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body broke off, or its chunks are malformed.
    BodyBroken,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// Too many bodies are being received.
    Busy,
    /// The body contains too many values.
    TooManyValues {
        /// The limit.
        limit: usize,
    },
    /// The body is not declared as JSON.
    NotJson,
    /// Too many deliveries led to one another until this call.
    LoopDetected,
    /// A newer version has written to the bucket.
    Outdated,
    /// The service refused or failed.
    Service(ServiceError),
    /// The server itself failed. The text is for the log only.
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

/// A refusal or a failure as plain data, for any interface that reports it to a client.
#[derive(Debug)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The code by which programs recognize it. It does not change within a version of the
    /// interface.
    pub code: &'static str,
    /// A sentence for people.
    pub sentence: String,
    /// Further data, by name.
    pub data: Map<String, Value>,
    /// Further headers for HTTP.
    pub headers: Vec<(&'static str, String)>,
}

impl Problem {
    fn new(status: u16, code: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            status,
            code,
            sentence: sentence.into(),
            data: Map::new(),
            headers: Vec::new(),
        }
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }

    fn header(mut self, name: &'static str, value: &dyn std::fmt::Display) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// The body of the answer that reports it.
    pub fn to_json(&self) -> Value {
        let mut body = Map::new();
        body.insert("error".to_owned(), json!(self.sentence));
        body.insert("code".to_owned(), json!(self.code));
        body.extend(self.data.clone());
        Value::Object(body)
    }
}

impl ApiError {
    /// Returns what the client is told. If the server itself failed, logs the cause once, with the
    /// id of the request.
    pub fn into_problem(self, request_id: &str) -> Problem {
        if let Some(cause) = self.cause() {
            log::write(&json!({
                "level": "error", "message": "a request failed", "request_id": request_id, "error": cause,
            }));
        }
        self.problem()
    }

    /// Whether it says that a key, a token or a code is not valid.
    pub fn is_failed_login(&self) -> bool {
        matches!(
            self,
            Self::Unauthenticated
                | Self::OtherExchange
                | Self::RegistrationToken
                | Self::Service(ServiceError::Access(
                    AccessRefusal::Dead(_)
                        | AccessRefusal::Suspended
                        | AccessRefusal::Invitation(_)
                        | AccessRefusal::TokenNeeded
                ))
        )
    }

    /// The cause to log, if the error is the server's own.
    fn cause(&self) -> Option<String> {
        match self {
            Self::Internal(reason) => Some(reason.clone()),
            Self::Service(ServiceError::Store(error)) => Some(error.to_string()),
            Self::Service(ServiceError::Dropped(error)) => Some(error.to_string()),
            Self::Service(ServiceError::Contended) => Some("too many writers".to_owned()),
            _ => None,
        }
    }

    /// Gives each error its status. This is the only place that does.
    fn problem(self) -> Problem {
        match self {
            Self::Malformed(problem) => {
                Problem::new(400, "malformed_json", format!("The body {problem}."))
            }
            Self::Invalid(invalid) => problem_of_invalid(invalid),
            Self::Unauthenticated => Problem::new(
                401,
                "unauthenticated",
                "Send a valid key in the header Authorization: Bearer mess_{exchange}_{token}.",
            )
            .header("WWW-Authenticate", &"Bearer"),
            Self::OtherExchange => Problem::new(
                403,
                "other_exchange",
                "This key belongs to another exchange.",
            ),
            Self::OtherExecutor => Problem::new(
                403,
                "other_executor",
                "An executor may see, test and change its own profile only.",
            ),
            Self::RegistrationToken => Problem::new(
                403,
                "registration_token",
                "Registration here needs the token of this deployment, as registration_token in the body or in the header X-Registration-Token.",
            ),
            Self::ForeignHost { host } => Problem::new(
                421,
                "foreign_host",
                format!("This server does not go by the name {host}. Whoever runs it can add the name to ALLOWED_HOSTS, or set PUBLIC_URL or a REGISTRATION_TOKEN."),
            ),
            Self::ForeignOrigin => Problem::new(
                403,
                "foreign_origin",
                "Web pages of other origins cannot register here, because anybody may join this exchange. Whoever runs it can set a REGISTRATION_TOKEN.",
            ),
            Self::NoPath => Problem::new(404, "no_such_path", "There is nothing at this path."),
            Self::Method { allow } => Problem::new(
                405,
                "method_not_allowed",
                format!("This path takes {allow}."),
            )
            .header("Allow", &allow),
            Self::BodyBroken => Problem::new(
                400,
                "body_broken",
                "The body broke off before its end, or its chunks are malformed; send the request again.",
            ),
            Self::BodyTooSlow => Problem::new(
                408,
                "body_timeout",
                "The body did not come in time: nothing more came for 30 seconds, or it took minutes in all. Send the request again.",
            ),
            Self::Busy => problem_of_service(ServiceError::Busy),
            Self::BodyTooLarge { limit } => too_large("the body", limit, "bytes"),
            Self::TooManyValues { limit } => too_large("the body", limit, "JSON values"),
            Self::NotJson => Problem::new(
                415,
                "not_json",
                "Send the body as JSON, with the header Content-Type: application/json.",
            ),
            Self::LoopDetected => Problem::new(
                508,
                "loop_detected",
                "Hooks have called one another in a circle until this call; it is refused to end that.",
            ),
            Self::Outdated => Problem::new(
                503,
                "outdated",
                "A newer version of this server has written to the bucket; this one answers no more.",
            )
            .header("Retry-After", &RETRY_LATER),
            Self::Service(error) => problem_of_service(error),
            Self::Internal(_) => Problem::new(
                500,
                "internal",
                "The server failed; its log has the cause under this X-Request-Id.",
            ),
        }
    }
}

fn too_large(what: &str, limit: usize, unit: &str) -> Problem {
    let error = format!("This would make {what} larger than {limit} {unit}.");
    Problem::new(413, "too_large", error).with("limit", limit)
}

fn problem_of_invalid(invalid: Invalid) -> Problem {
    Problem::new(400, "invalid", format!("{invalid}.")).with("field", invalid.path)
}

fn problem_of_service(error: ServiceError) -> Problem {
    match error {
        ServiceError::Invalid(invalid) => problem_of_invalid(invalid),
        ServiceError::NoThread => Problem::new(404, "no_such_request", "There is no such request."),
        ServiceError::NoExecutor => {
            Problem::new(404, "no_such_executor", "There is no such executor.")
        }
        ServiceError::NoExchange => {
            Problem::new(404, "no_such_exchange", "There is no such exchange.")
        }
        ServiceError::Refused(refusal) => problem_of_refusal(refusal),
        ServiceError::Access(refusal) => problem_of_access(refusal),
        ServiceError::Exceeded(exceeded) => problem_of_limit(exceeded),
        ServiceError::ProfileDiffers => Problem::new(
            412,
            "version_differs",
            "Your profile has changed since you read it; read it again.",
        ),
        ServiceError::AlreadyRegistered => Problem::new(
            409,
            "already_registered",
            "This executor id is registered already; choose another.",
        ),
        ServiceError::VersionDiffers { version } => Problem::new(
            412,
            "version_differs",
            format!("The request is at version {version} now; read it again."),
        )
        .with("version", version.number),
        ServiceError::TooLarge { what, limit, unit } => too_large(what, limit, unit),
        ServiceError::Importing => Problem::new(
            503,
            "taking_over",
            "The bucket of another server is being imported; try again soon.",
        )
        .header("Retry-After", &RETRY_LATER),
        ServiceError::Busy => Problem::new(
            503,
            "busy",
            "Too much is asked of this server at once; try again soon.",
        )
        .header("Retry-After", &RETRY_SOON),
        ServiceError::Contended | ServiceError::Store(_) | ServiceError::Dropped(_) => Problem::new(
            503,
            "unavailable",
            "The storage is not answering as it should; try again. Repeating the same call is safe for updates, and for a new request after a look at the list.",
        )
        .header("Retry-After", &RETRY_SOON),
    }
}

fn problem_of_refusal(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::HeldByOther {
            holder,
            status,
            lease_until,
        } => {
            let until = lease_until.map_or_else(String::new, |until| format!(" until {until}"));
            let error = format!("{holder} holds this request{until}; it is {status}.");
            let problem = Problem::new(409, "held_by_other", error)
                .with("status", status.as_str())
                .with("executor_id", holder.as_str());
            match lease_until {
                Some(until) => problem.with("lease_until", until.to_string()),
                None => problem,
            }
        }
        Refusal::AlreadyYours { holder, status } => Problem::new(
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
            Problem::new(409, "ended", error)
                .with("status", status.as_str())
                .with("executor_id", json!(holder))
        }
        Refusal::AlreadyPending => {
            Problem::new(409, "already_pending", "This request is pending already.")
                .with("status", "pending")
                .with("executor_id", Value::Null)
        }
        Refusal::NotClaimed => {
            let error = "Nobody holds this request: there is no claim to renew.";
            Problem::new(409, "not_claimed", error)
                .with("status", "pending")
                .with("executor_id", Value::Null)
        }
        Refusal::MissingCapabilities { missing } => {
            let error = format!(
                "This request requires capabilities that your profile does not have: {}.",
                missing.join(", ")
            );
            Problem::new(403, "missing_capabilities", error).with("missing", missing)
        }
        Refusal::Unconfirmed { status } => Problem::new(
            409,
            "unconfirmed",
            "The requestor wants to confirm first: set needs_confirmation, with what you are going to do as its action, and wait for the reply.",
        )
        .with("status", status.as_str()),
        Refusal::NotRequestor { requestor } => Problem::new(
            403,
            "not_requestor",
            format!("Only {requestor}, who asked for this, can reply."),
        )
        .with("requestor_id", requestor.as_str()),
        Refusal::NoOpenQuestion { status } => Problem::new(
            409,
            "no_open_question",
            format!("Nothing waits for a reply; the request is {status}."),
        )
        .with("status", status.as_str()),
        Refusal::Scope(scope) => problem_of_access(AccessRefusal::Scope(scope)),
        Refusal::NotAddressed => problem_of_service(ServiceError::NoThread),
        Refusal::Invalid(invalid) => problem_of_invalid(invalid),
    }
}

#[expect(clippy::too_many_lines, reason = "it has an arm for each refusal")]
fn problem_of_access(refusal: AccessRefusal) -> Problem {
    match refusal {
        AccessRefusal::Dead(dead) => {
            let (code, sentence) = words_for(dead);
            Problem::new(401, code, sentence).header("WWW-Authenticate", &"Bearer")
        }
        AccessRefusal::KeyIsDead(dead) => {
            let (code, sentence) = words_for(dead);
            Problem::new(
                409,
                code,
                format!("You have registered already. {sentence}"),
            )
        }
        AccessRefusal::Suspended => Problem::new(
            403,
            "suspended",
            "An owner of this exchange has suspended you for the time being.",
        ),
        AccessRefusal::Scope(scope) => {
            let scope = scope.as_str();
            let error = format!("This key is not good for that: it lacks the scope {scope}.");
            Problem::new(403, "scope", error).with("scope", scope)
        }
        AccessRefusal::OwnersOnly => Problem::new(
            403,
            "owners_only",
            "Only an owner of this exchange may do this.",
        ),
        AccessRefusal::NotForGuests => Problem::new(
            403,
            "not_for_guests",
            "A guest of this exchange may not do this.",
        ),
        AccessRefusal::MaxPriority(priority) => {
            let priority = priority.as_str();
            let error = format!("Your requests may have the priority {priority} at most.");
            Problem::new(403, "max_priority", error).with("max_priority", priority)
        }
        AccessRefusal::LastOwner => Problem::new(
            409,
            "last_owner",
            "This is the last owner of the exchange: make somebody else an owner first.",
        ),
        AccessRefusal::LastKey => Problem::new(
            409,
            "last_key",
            "With this key the last owner would lose the exchange: register another one first.",
        ),
        AccessRefusal::FullKeyNeeded => Problem::new(
            403,
            "full_key_needed",
            "This needs a key with all scopes that does not expire.",
        ),
        AccessRefusal::IsOwner => Problem::new(
            409,
            "is_owner",
            "An owner cannot be suspended: give it another role first.",
        ),
        AccessRefusal::Invitation(useless) => {
            let sentence = match useless {
                Useless::Unknown => "There is no invitation with this code.",
                Useless::Expired => "The time of this invitation is over; ask for another.",
                Useless::UsedUp => "This invitation was used already; ask for another.",
                Useless::Revoked => "This invitation was taken back; ask for another.",
            };
            Problem::new(403, "invitation", sentence).with("reason", useless.as_str())
        }
        AccessRefusal::TokenNeeded => ApiError::RegistrationToken.problem(),
        AccessRefusal::InvitationNeeded => Problem::new(
            403,
            "invitation_needed",
            "Who joins this exchange needs an invitation: give its code as invitation.",
        ),
        AccessRefusal::NotFounded => Problem::new(
            403,
            "not_founded",
            "There is no such exchange, and this deployment founds others only.",
        ),
        AccessRefusal::Full { limit } => Problem::new(
            409,
            "exchange_full",
            format!("This exchange has {limit} members, as many as it may have."),
        )
        .with("limit", limit),
        AccessRefusal::SameButForCase { other } => Problem::new(
            409,
            "already_registered",
            format!("{other} is registered already, which differs in case only; choose another."),
        ),
        AccessRefusal::TokenUsed => Problem::new(
            409,
            "token_used",
            "This token was used for another registration; draw a new one.",
        ),
        AccessRefusal::NoKey => Problem::new(404, "no_such_key", "There is no such key."),
        AccessRefusal::NoInvitation => {
            Problem::new(404, "no_such_invitation", "There is no such invitation.")
        }
        AccessRefusal::NoChannel => {
            Problem::new(404, "no_such_channel", "There is no such channel.")
        }
        AccessRefusal::TooMany { what, limit } => Problem::new(
            409,
            "too_many",
            format!("There may be at most {limit} {what}; end some that are not needed."),
        )
        .with("limit", limit),
    }
}

/// The code and the sentence for a key that is no longer valid.
fn words_for(dead: Dead) -> (&'static str, &'static str) {
    match dead {
        Dead::Revoked => ("key_revoked", "This key was revoked."),
        Dead::Expired => ("key_expired", "The time of this key is over."),
    }
}

/// Says what was taken too often, and when it may be taken again.
fn problem_of_limit(exceeded: Exceeded) -> Problem {
    let Exceeded { quota, limit, wait } = exceeded;
    let period = quota.period().to_string();
    let seconds = wait.saturating_add(999).checked_div(1_000).unwrap_or(wait);
    let error = match quota {
        Quota::Registrations => {
            format!("There may be {limit} registrations in {period} from one address.")
        }
        Quota::Joins => {
            let what = "registrations with an invitation";
            format!("There may be {limit} {what} in {period} from one address.")
        }
        Quota::FailedLogins => {
            format!("There may be {limit} failed authentications in {period} from one address.")
        }
        Quota::Calls | Quota::Changes | Quota::Tests | Quota::Requests => {
            format!("There may be {limit} {} in {period}.", quota.as_str())
        }
    };
    Problem::new(
        429,
        "too_many_requests",
        format!("{error} Try again in {seconds} s."),
    )
    .with("limit", limit)
    .with("of", quota.as_str())
    .with("period", period)
    .with("retry_after", seconds)
    .header("Retry-After", &seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StoreError;

    #[test]
    fn a_failing_store_says_nothing_of_itself() {
        let error = StoreError::new("get", "keys/exchange=home/abc.json", &"socket /var/run/x");
        let problem = ApiError::Service(ServiceError::Store(error)).into_problem("r1");
        let text = problem.to_json().to_string();
        assert_eq!(problem.status, 503);
        assert!(
            !text.contains("keys/") && !text.contains("socket"),
            "{text}"
        );
        let retry = ("Retry-After", "2".to_owned());
        assert!(problem.headers.contains(&retry));
    }
}
