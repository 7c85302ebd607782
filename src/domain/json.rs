//! Counts the values in JSON.

use serde_json::Value;

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
