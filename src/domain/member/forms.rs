//! Forms: what the configuration of a channel or hook must look like.
//!
//! Each provider has a form. It governs how a client's input is checked and how credentials are
//! masked and sealed.

use serde_json::{Map, Value};

use super::address::parse_address;
use super::template::{VARIABLES, render, variables};
use crate::domain::limits::{HEADER_BYTES, HEADERS, URL_CHARS};
use crate::domain::text::{Invalid, check_line};

/// What a field must be.
#[derive(Clone, Copy)]
pub enum Kind {
    /// One line of at most this many characters.
    Line(usize),
    /// An `http` or `https` URL that may be called.
    Url,
    /// Any text.
    Text,
    /// A list of strings.
    Texts,
    /// HTTP headers: an object whose values are strings.
    Headers,
    /// An object.
    Object,
    /// Any JSON.
    Any,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// A field of a form.
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it must be.
    pub kind: Kind,
    /// Whether it must be given.
    pub is_required: bool,
    /// Whether the field, or each value in it, is a credential. Credentials are never shown, and
    /// they are sealed if a key is configured.
    pub is_secret: bool,
    /// Whether `{{variables}}` in it are replaced.
    pub is_template: bool,
}

/// The form of one type of channel or hook.
pub struct Form {
    /// The type's name.
    pub name: &'static str,
    /// Its fields. An entry may hold others, which are kept but not used.
    pub fields: &'static [Field],
    /// Checks what no single field can show.
    pub check: Check,
}

/// What is wrong with an entry: the name of the field, and the problem.
pub type Complaint = (&'static str, &'static str);

/// A check of a whole entry.
pub type Check = fn(&Map<String, Value>) -> Result<(), Complaint>;

/// Shown in place of a credential.
pub const MASK: &str = "••••";

impl Field {
    /// A field that may be left out.
    pub const fn optional(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            is_required: false,
            is_secret: false,
            is_template: false,
        }
    }

    /// A field that must be given.
    pub const fn required(name: &'static str, kind: Kind) -> Self {
        Self {
            is_required: true,
            ..Self::optional(name, kind)
        }
    }

    /// The same field, marked as a credential.
    #[must_use]
    pub const fn secret(self) -> Self {
        Self {
            is_secret: true,
            ..self
        }
    }

    /// The same field, marked as a template.
    #[must_use]
    pub const fn template(self) -> Self {
        Self {
            is_template: true,
            ..self
        }
    }
}

impl Form {
    /// A check that accepts everything, for forms that need no check beyond their fields.
    pub const ANY: Check = |_| Ok(());

    /// Checks one entry at `path`. A mask in place of a credential passes; whether a credential
    /// stands behind it is checked when the profile is changed.
    ///
    /// # Errors
    ///
    /// Fails with the path of the first thing that is wrong.
    pub fn check(
        &self,
        entry: &Map<String, Value>,
        path: &str,
        allow_private: bool,
    ) -> Result<(), Invalid> {
        for field in self.fields {
            let path = format!("{path}.{}", field.name);
            match given(entry, field.name) {
                None if field.is_required => return Err(Invalid::new(path, "is required")),
                None => {}
                Some(Value::String(text)) if field.is_secret && text.starts_with(MASK) => {}
                Some(value) => {
                    if field.is_template {
                        check_variables(value, &path)?;
                    }
                    check_kind(value, field, &path, allow_private)?;
                }
            }
        }
        (self.check)(entry)
            .map_err(|(field, problem)| Invalid::new(format!("{path}.{field}"), problem))
    }
}

/// A field that is present and not null.
pub fn given<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    map.get(name).filter(|value| !value.is_null())
}

/// A field that is present and a string.
pub fn text<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    map.get(name).and_then(Value::as_str)
}

fn check_kind(
    value: &Value,
    field: &Field,
    path: &str,
    allow_private: bool,
) -> Result<(), Invalid> {
    let problem = match (field.kind, value) {
        (Kind::Line(max), Value::String(text)) => return check_line(text, path, max),
        (Kind::Url, Value::String(text)) => {
            return check_url(text, field.is_template, path, allow_private);
        }
        (Kind::Word(words), Value::String(text)) if !words.contains(&text.as_str()) => {
            format!("must be one of {}", words.join(", "))
        }
        (Kind::Headers, Value::Object(headers)) => return check_headers(headers, path),
        (Kind::Texts, Value::Array(items)) if !items.iter().all(Value::is_string) => {
            "must be a list of strings".to_owned()
        }
        (Kind::Text | Kind::Word(_), Value::String(_))
        | (Kind::Texts, Value::Array(_))
        | (Kind::Object, Value::Object(_))
        | (Kind::Any, _) => return Ok(()),
        (Kind::Line(_) | Kind::Url | Kind::Text | Kind::Word(_), _) => {
            "must be a string".to_owned()
        }
        (Kind::Texts, _) => "must be a list".to_owned(),
        (Kind::Object | Kind::Headers, _) => "must be an object".to_owned(),
    };
    Err(Invalid::new(path, problem))
}

fn check_url(
    text: &str,
    is_template: bool,
    path: &str,
    allow_private: bool,
) -> Result<(), Invalid> {
    check_line(text, path, URL_CHARS)?;
    let parse = |value: &str| {
        let example = if is_template {
            render(text, |_| value.to_owned())
        } else {
            text.to_owned()
        };
        parse_address(&example, allow_private).map_err(|problem| Invalid::new(path, problem))
    };
    if parse("x")?.origin() != parse("y")?.origin() {
        let problem =
            "must not have a template in its host: that would let a request choose whom to call";
        return Err(Invalid::new(path, problem));
    }
    Ok(())
}

/// Headers that a client may not set, because the runtime or the exchange sets them itself.
///
/// `sealed` is among them because that name tells a sealed credential from an object of headers.
const OWN_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
    "sealed",
];

fn check_headers(headers: &Map<String, Value>, path: &str) -> Result<(), Invalid> {
    if headers.len() > HEADERS {
        return Err(Invalid::new(path, format!("may hold at most {HEADERS}")));
    }
    for (name, value) in headers {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || name.len() > 128 || !name.bytes().all(is_token) {
            return Err(Invalid::new(path, "has a name that is no HTTP header name"));
        }
        let path = format!("{path}.{name}");
        let lower = name.to_ascii_lowercase();
        if OWN_HEADERS.contains(&lower.as_str()) || lower.starts_with("webhook-") {
            return Err(Invalid::new(path, "is set by the exchange itself"));
        }
        match value {
            Value::String(text) if text.len() <= HEADER_BYTES => {}
            Value::String(_) => {
                let problem = format!("must be at most {HEADER_BYTES} bytes long");
                return Err(Invalid::new(path, problem));
            }
            _ => return Err(Invalid::new(path, "must be a string")),
        }
    }
    Ok(())
}

/// Checks that every variable in every string of `value` is known.
fn check_variables(value: &Value, path: &str) -> Result<(), Invalid> {
    match value {
        Value::String(text) => match variables(text).find(|name| !VARIABLES.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(64).collect();
                let known = VARIABLES.join(", ");
                let problem = format!("has the unknown variable {{{{{name}}}}}; there are {known}");
                Err(Invalid::new(path, problem))
            }
        },
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(at, item)| check_variables(item, &format!("{path}[{at}]"))),
        Value::Object(fields) => fields
            .iter()
            .try_for_each(|(name, field)| check_variables(field, &format!("{path}.{name}"))),
        _ => Ok(()),
    }
}
