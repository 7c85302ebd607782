//! A request as a handler sees it. It is parsed step by step, with errors that name what is wrong.

use std::collections::HashMap;
use std::rc::Rc;

use percent_encoding::percent_decode_str;
use url::form_urlencoded;
use worker::Request;

use super::problem::ApiError;
use super::{body, json};
use crate::app::App;
use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::key::ApiKey;
use crate::domain::text::{Fields, Invalid};
use crate::domain::thread::state::Version;
use crate::service::ServiceError;
use crate::service::members::authenticate::{Login, authenticate};

/// A request with its path parameters.
pub struct Call {
    /// What services need.
    pub app: Rc<App>,
    /// The request.
    pub request: Request,
    /// Its method. It is kept as text, because the runtime's own type turns unknown methods into
    /// GET.
    pub method: String,
    /// The parameters of the path, still percent-encoded.
    pub params: HashMap<&'static str, String>,
}

/// Who makes the call.
pub struct Caller {
    /// The exchange of the path and of the key.
    pub exchange: ExchangeId,
    /// The executor that the key belongs to.
    pub executor: ExecutorId,
    /// Whether the exchange is complete. It is not while another server's bucket is being imported.
    pub is_imported: bool,
}

impl Caller {
    /// Corrects the outcome of a call about one thread. While another server's bucket is being
    /// imported, a missing thread may just not be imported yet.
    pub fn found<T>(&self, outcome: Result<T, ServiceError>) -> Result<T, ServiceError> {
        match outcome {
            Err(ServiceError::NoThread) if !self.is_imported => Err(ServiceError::Importing),
            outcome => outcome,
        }
    }
}

impl Call {
    /// Returns a header, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.request.headers().get(name).ok().flatten()
    }

    /// The exchange of the path.
    pub fn exchange(&self) -> Result<ExchangeId, ApiError> {
        Ok(ExchangeId::parse(
            &self.param("exchange_id")?,
            "exchange_id",
        )?)
    }

    /// The executor of the path.
    pub fn executor(&self) -> Result<ExecutorId, ApiError> {
        Ok(ExecutorId::parse(
            &self.param("executor_id")?,
            "executor_id",
        )?)
    }

    /// The capability of the path, which may be any text.
    pub fn capability(&self) -> Result<String, ApiError> {
        self.param("capability_id")
    }

    /// The thread of the path.
    pub fn reference(&self) -> Result<Ref, ApiError> {
        Ok(Ref::parse(&self.param("ref")?)?)
    }

    fn param(&self, name: &'static str) -> Result<String, ApiError> {
        let raw = self
            .params
            .get(name)
            .map(String::as_str)
            .unwrap_or_default();
        match percent_decode_str(raw).decode_utf8() {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(Invalid::new(name, "must be UTF-8").into()),
        }
    }

    /// Authenticates the caller: the executor that the bearer key belongs to, in the exchange of
    /// the path.
    pub async fn caller(&self) -> Result<Caller, ApiError> {
        let exchange = self.exchange()?;
        let header = self.header("Authorization").unwrap_or_default();
        let key = header
            .strip_prefix("Bearer ")
            .and_then(|key| ApiKey::parse(key.trim()))
            .ok_or(ApiError::Unauthenticated)?;
        if *key.exchange() != exchange {
            return Err(ApiError::OtherExchange);
        }
        let login = authenticate(&self.app, &key).await?;
        let Login {
            executor,
            is_imported,
        } = login.ok_or(ApiError::Unauthenticated)?;
        Ok(Caller {
            exchange,
            executor,
            is_imported,
        })
    }

    /// The query's parameters that are among `known`. Others are ignored.
    ///
    /// # Errors
    ///
    /// Fails if one of them is given twice.
    pub fn query(&self, known: &[&'static str]) -> Result<HashMap<&'static str, String>, ApiError> {
        let mut given = HashMap::new();
        let url = self.request.inner().url();
        let query = url.split_once('?').map_or("", |(_, query)| query);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(name) = known.iter().find(|known| **known == name) else {
                continue;
            };
            if given.insert(*name, value.into_owned()).is_some() {
                return Err(Invalid::new(*name, "is given twice").into());
            }
        }
        Ok(given)
    }

    /// The fields of the body, which must be a JSON object of at most `limit` bytes.
    pub async fn fields(&mut self, limit: usize) -> Result<Fields, ApiError> {
        self.check_json()?;
        let body = body::read(&self.app, &mut self.request, limit).await?;
        parse_fields(&body.bytes)
    }

    /// The same, but a request without a body has no fields.
    pub async fn optional_fields(&mut self, limit: usize) -> Result<Fields, ApiError> {
        let body = body::read(&self.app, &mut self.request, limit).await?;
        if body.bytes.is_empty() {
            return Ok(Fields::new("", serde_json::Map::new()));
        }
        self.check_json()?;
        parse_fields(&body.bytes)
    }

    fn check_json(&self) -> Result<(), ApiError> {
        let content_type = self.header("Content-Type");
        if content_type.is_some_and(|text| is_json(&text)) {
            Ok(())
        } else {
            Err(ApiError::NotJson)
        }
    }
}

fn parse_fields(body: &[u8]) -> Result<Fields, ApiError> {
    let fields = Fields::of("", json::parse(body)?);
    Ok(fields.map_err(|invalid| Invalid {
        path: "body".to_owned(),
        ..invalid
    })?)
}

/// Whether a media type is JSON: `application/json`, or a type with the suffix `+json`.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The versions that an `If-Match` or `If-None-Match` header names, or `None` for `*`.
///
/// A tag that is not one of this server's matches nothing. `weak` says whether `W/` tags count.
pub fn versions(header: &str, weak: bool) -> Option<Vec<Version>> {
    if header.trim() == "*" {
        return None;
    }
    let parse = |tag: &str| -> Option<Version> {
        let tag = tag.trim();
        let tag = match tag.strip_prefix("W/") {
            Some(tag) if weak => tag,
            Some(_) => return None,
            None => tag,
        };
        let tag = tag.strip_prefix('"')?.strip_suffix('"')?;
        let (digits, is_due) = match tag.strip_suffix("-due") {
            Some(digits) => (digits, true),
            None => (tag, false),
        };
        let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        let number = if canonical { digits.parse().ok() } else { None };
        number.map(|number| Version { number, is_due })
    };
    Some(header.split(',').filter_map(parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/mess+json",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["", "text/plain", "application/jsonx", "text/json", "json"] {
            assert!(!is_json(bad), "{bad}");
        }
    }

    #[test]
    fn entity_versions() {
        let version = |number, is_due| Version { number, is_due };
        assert_eq!(versions("*", false), None);
        assert_eq!(versions("\"3\"", false), Some(vec![version(3, false)]));
        let list = "\"3\", \"12-due\"";
        assert_eq!(
            versions(list, false),
            Some(vec![version(3, false), version(12, true)])
        );
        assert_eq!(versions("W/\"3\"", false), Some(vec![]));
        assert_eq!(versions("W/\"3\"", true), Some(vec![version(3, false)]));
        for bad in [
            "",
            "3",
            "\"x\"",
            "\"03\"",
            "\"+3\"",
            "\"\"",
            "\"3",
            "\"-due\"",
            "\"3-DUE\"",
            "\"3-due-due\"",
        ] {
            assert_eq!(versions(bad, true), Some(vec![]), "{bad}");
        }
    }
}
