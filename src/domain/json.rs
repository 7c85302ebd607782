//! Counts the values in JSON.

use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Error, Value};

/// How many JSON values `value` contains, counting itself.
pub fn count_values(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => count_all(items.iter()),
        Value::Object(fields) => count_all(fields.values()),
        _ => 0,
    };
    inner.saturating_add(1)
}

/// How many JSON values `values` contain together.
pub fn count_all<'a>(values: impl Iterator<Item = &'a Value>) -> usize {
    values.fold(0, |count, value| count.saturating_add(count_values(value)))
}

/// Reads a document from its JSON.
///
/// Everything reads JSON as text, because reading it from bytes as well would compile each kind of
/// document twice.
///
/// # Errors
///
/// Fails if it is no such document.
pub fn from_bytes<D: DeserializeOwned>(bytes: &[u8]) -> Result<D, Error> {
    let text = std::str::from_utf8(bytes).map_err(Error::custom)?;
    serde_json::from_str(text)
}
