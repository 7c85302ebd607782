//! How much a JSON value holds.

use serde_json::Value;

/// How many values `value` consists of, itself included.
pub fn count_values(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => count_all(items.iter()),
        Value::Object(fields) => count_all(fields.values()),
        _ => 0,
    };
    inner.saturating_add(1)
}

/// How many values `values` consist of, all together.
pub fn count_all<'a>(values: impl Iterator<Item = &'a Value>) -> usize {
    values.fold(0, |count, value| count.saturating_add(count_values(value)))
}
