//! The one parser of request bodies. It accepts strict JSON within the limits, and keeps it as it
//! came.
//!
//! It refuses deeper nesting or more values than the limits allow, control characters in a string
//! or name, and a name that is given twice in an object (RFC 7493, section 2.3). Another reader of
//! the log might use the other one of the two. An error names the path of what is wrong, except for
//! too many values.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::problem::ApiError;
use crate::domain::limits::{JSON_DEPTH, JSON_VALUES};
use crate::domain::text::{Invalid, has_control};

/// Parses a body.
///
/// # Errors
///
/// Fails if the body is not JSON, or breaks one of the rules above.
pub fn parse(body: &[u8]) -> Result<Value, ApiError> {
    let (refused, values) = (RefCell::new(None), Cell::new(0));
    let seed = Strict {
        path: &Path::Root,
        depth: 0,
        refused: &refused,
        values: &values,
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = seed.deserialize(&mut json).and_then(|value| {
        json.end()?;
        Ok(value)
    });
    parsed.map_err(|error| match refused.take() {
        Some(invalid) => ApiError::Invalid(invalid),
        None if values.get() > JSON_VALUES => ApiError::TooManyValues { limit: JSON_VALUES },
        None => ApiError::Malformed(format!("is not valid JSON: {error}")),
    })
}

/// The position of a value in the body.
enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Path::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(Path::Root, at) => write!(f, "body[{at}]"),
            Self::Item(parent, at) => write!(f, "{parent}[{at}]"),
        }
    }
}

/// Reads one value by the rules.
#[derive(Clone, Copy)]
struct Strict<'a> {
    path: &'a Path<'a>,
    depth: usize,
    refused: &'a RefCell<Option<Invalid>>,
    values: &'a Cell<usize>,
}

impl Strict<'_> {
    fn refuse<E: de::Error>(&self, problem: impl Into<String>) -> E {
        let path = match self.path.to_string() {
            path if path.is_empty() => "body".to_owned(),
            path => path,
        };
        self.refused.replace(Some(Invalid::new(path, problem)));
        E::custom("refused")
    }

    fn enter<E: de::Error>(&self) -> Result<usize, E> {
        if self.depth >= JSON_DEPTH {
            return Err(self.refuse(format!("is nested deeper than {JSON_DEPTH} levels")));
        }
        Ok(self.depth.saturating_add(1))
    }

    fn text<E: de::Error>(&self, text: String) -> Result<Value, E> {
        if has_control(&text) {
            return Err(
                self.refuse("must not contain control characters other than tab and newline")
            );
        }
        Ok(Value::String(text))
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.values.set(self.values.get().saturating_add(1));
        if self.values.get() > JSON_VALUES {
            return Err(de::Error::custom("too many values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| self.refuse("is no finite number"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.text(text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        self.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.enter()?;
        let mut list = Vec::new();
        loop {
            let path = Path::Item(self.path, list.len());
            let seed = Strict {
                path: &path,
                depth,
                ..self
            };
            match items.next_element_seed(seed)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let depth = self.enter()?;
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if name.chars().any(char::is_control) {
                return Err(self.refuse("has a field whose name contains control characters"));
            }
            let path = Path::Field(self.path, &name);
            let seed = Strict {
                path: &path,
                depth,
                ..self
            };
            if map.contains_key(&name) {
                return Err(seed.refuse("is given twice"));
            }
            let value = fields.next_value_seed(seed)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        match parse(body.as_bytes()) {
            Err(ApiError::Invalid(invalid)) => invalid.to_string(),
            Err(ApiError::Malformed(_)) => "malformed".to_owned(),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn keeps_order_and_numbers() {
        let text = r#"{"z":1,"a":[9007199254740993,-0.1,1e300,18446744073709551615],"__proto__":{"x":null},"t":"a\tb\n✓"}"#;
        let value = parse(text.as_bytes()).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        let names: Vec<_> = value.as_object().unwrap().keys().collect();
        assert_eq!(names, ["z", "a", "__proto__", "t"]);
    }

    #[test]
    fn refuses_what_is_no_json() {
        for bad in [
            "",
            " ",
            "{",
            "{}}",
            "{'a':1}",
            "nul",
            "[1,]",
            "\u{feff}{}",
            "{\"a\":1e999}",
            "NaN",
            "\"\\ud800\"",
            "\"a\nb\"",
            "{\"a\":1} {\"a\":1}",
        ] {
            assert_eq!(refused(bad), "malformed", "{bad:?}");
        }
        assert!(matches!(parse(b"\"\xff\""), Err(ApiError::Malformed(_))));
    }

    #[test]
    fn refuses_what_breaks_the_rules() {
        for (bad, path) in [
            (r#"{"a":{"b":1,"b":2}}"#, "a.b is given twice"),
            (r#"{"a":1,"\u0061":2}"#, "a is given twice"),
            (r#"[["\u0000"]]"#, "body[0][0] must not contain"),
            (
                r#"{"mess":[{"x":"\u001b[2J"}]}"#,
                "mess[0].x must not contain",
            ),
            (r#"{"a":{"\u0000":1}}"#, "a has a field whose name"),
        ] {
            let refused = refused(bad);
            assert!(refused.starts_with(path), "{bad}: {refused}");
        }
    }

    #[test]
    fn holds_a_bounded_number_of_values() {
        let list = |items: usize| format!("[{}0]", "0,".repeat(items - 1));
        assert!(parse(list(JSON_VALUES - 1).as_bytes()).is_ok());
        let outcome = parse(list(4_000_000).as_bytes());
        assert!(matches!(outcome, Err(ApiError::TooManyValues { .. })));
    }

    #[test]
    fn nests_to_the_limit_and_no_further() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(JSON_DEPTH).as_bytes()).is_ok());
        assert!(refused(&nested(JSON_DEPTH + 1)).contains("is nested deeper than 64 levels"));
        // Even far beyond the limit, the parser stops just as early.
        assert!(refused(&nested(1_000_000)).contains("nested deeper"));
    }
}
