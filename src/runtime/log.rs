//! The log of the server itself: one JSON object a line, for people and for log search.

use serde::Serialize;

/// Writes a line. `line` is an object with a `level`, a `message` and what belongs to it; no secret.
pub fn write(line: &impl Serialize) {
    // Only a map with names that are no strings could fail, and no line has one.
    let line = serde_json::to_string(line).unwrap_or_default();
    #[cfg(target_arch = "wasm32")]
    super::js::console_log(&line);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{line}");
}

/// What is wrong with a document, without a word of its content: that may hold secrets.
pub fn describe(error: &serde_json::Error) -> String {
    let (kind, line, column) = (error.classify(), error.line(), error.column());
    format!("{kind:?} error in its JSON at line {line} column {column}")
}

/// Writes that something went wrong which the server itself will see to again.
pub fn warn(message: &str, error: &dyn std::fmt::Display) {
    write(&serde_json::json!({"level": "warn", "message": message, "error": error.to_string()}));
}
