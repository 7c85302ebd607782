//! Errors in a client's input, and the rules for text.

use std::fmt;

use serde_json::{Map, Value};

/// Input that the exchange refuses: where the problem is and what a person can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The path of the field, such as `notifications[0].topic`.
    pub path: String,
    /// What is wrong, phrased as the rest of a sentence that begins with the path.
    pub problem: String,
}

impl Invalid {
    /// Reports `problem` for the field at `path`.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.problem)
    }
}

/// Whether free text holds a control character other than a tab or a newline (LF or CR LF).
pub fn has_control(text: &str) -> bool {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let newline = c == '\r' && chars.peek() == Some(&'\n');
        if c.is_control() && c != '\t' && c != '\n' && !newline {
            return true;
        }
    }
    false
}

/// Checks a name: one line of 1 to `max` characters, not only white space and without control
/// characters.
pub fn check_line(text: &str, path: &str, max: usize) -> Result<(), Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::new(path, "must not be empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(path, "must not contain control characters"));
    }
    check_length(text, path, max)
}

/// Checks free text: at most `max` characters, and no control characters other than tab and
/// newline.
pub fn check_text(text: &str, path: &str, max: usize) -> Result<(), Invalid> {
    if has_control(text) {
        return Err(Invalid::new(
            path,
            "must not contain control characters other than tab and newline",
        ));
    }
    check_length(text, path, max)
}

fn check_length(text: &str, path: &str, max: usize) -> Result<(), Invalid> {
    if text.chars().count() > max {
        return Err(Invalid::new(
            path,
            format!("must be at most {max} characters long"),
        ));
    }
    Ok(())
}

/// The fields of one JSON object, to be taken out by name and type.
///
/// A field that is absent or null counts as not given.
#[derive(Debug)]
pub struct Fields {
    prefix: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The fields of the object at `prefix`, which is empty for the body itself.
    pub fn new(prefix: impl Into<String>, map: Map<String, Value>) -> Self {
        Self {
            prefix: prefix.into(),
            map,
        }
    }

    /// The fields of `value` at `path`, which must be an object.
    pub fn of(path: impl Into<String>, value: Value) -> Result<Self, Invalid> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Self::new(path, map)),
            _ => Err(Invalid::new(path, "must be an object")),
        }
    }

    /// The full path of field `name`.
    pub fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// Takes field `name`, whatever its type.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        // `shift_remove` keeps the order of the remaining fields.
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes field `name`, which must be a string if it is given.
    pub fn take_string(&mut self, name: &str) -> Result<Option<String>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Invalid::new(self.path(name), "must be a string")),
        }
    }

    /// Takes field `name`, which must be given and be a string.
    pub fn require_string(&mut self, name: &str) -> Result<String, Invalid> {
        self.take_string(name)?
            .ok_or_else(|| Invalid::new(self.path(name), "is required"))
    }

    /// Takes field `name`, which must be a list if it is given.
    pub fn take_list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(Invalid::new(self.path(name), "must be a list")),
        }
    }

    /// Takes field `name`, which must be an object if it is given.
    pub fn take_object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(Invalid::new(self.path(name), "must be an object")),
        }
    }

    /// Takes field `name`, which must be a boolean if it is given.
    pub fn take_bool(&mut self, name: &str) -> Result<Option<bool>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(Invalid::new(self.path(name), "must be true or false")),
        }
    }

    /// The fields that nobody took, in their original order.
    pub fn rest(self) -> Map<String, Value> {
        self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newlines_are_text_and_other_controls_are_not() {
        assert!(!has_control("a\tb\nc\r\nd ✓"));
        for bad in ["\0", "\r", "a\rb", "\u{7f}", "\u{85}", "\u{1b}[31m"] {
            assert!(has_control(bad), "{bad:?}");
        }
    }

    #[test]
    fn fields_name_the_whole_path() {
        let value = serde_json::json!({"topic": 5});
        let mut fields = Fields::of("notifications[0]", value).unwrap();
        let refused = fields.take_string("topic").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "notifications[0].topic must be a string"
        );
    }
}
