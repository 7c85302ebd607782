//! The log of the server itself: one JSON object a line, for people and for log search.

use serde_json::Value;

/// Writes a line. `line` is an object with a `message` and what belongs to it; no secret.
pub fn write(line: &Value) {
    #[cfg(target_arch = "wasm32")]
    worker::console_log!("{line}");
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{line}");
}

/// Writes that something went wrong which the server itself will see to again.
pub fn warn(message: &str, error: &dyn std::fmt::Display) {
    write(&serde_json::json!({"level": "warn", "message": message, "error": error.to_string()}));
}
