//! The server's own log: one JSON object per line, for people and for log search.

use serde::Serialize;

/// Writes a line. `line` is an object with a `level`, a `message` and further data. It must not
/// contain secrets.
pub fn write(line: &impl Serialize) {
    // Only a map whose names are not strings could fail, and no line contains one.
    let line = serde_json::to_string(line).unwrap_or_default();
    #[cfg(target_arch = "wasm32")]
    super::js::console_log(&line);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{line}");
}

/// Says what is wrong with a document without quoting its content, which may contain secrets.
pub fn describe(error: &serde_json::Error) -> String {
    let (kind, line, column) = (error.classify(), error.line(), error.column());
    format!("{kind:?} error in its JSON at line {line} column {column}")
}

/// Logs that something failed which the server will take care of again by itself.
pub fn warn(message: &str, error: &dyn std::fmt::Display) {
    write(&serde_json::json!({"level": "warn", "message": message, "error": error.to_string()}));
}
