//! The rules of the exchange as plain data and functions.
//!
//! Nothing here is async, reads a clock, draws a random number or knows where things are stored.
//! Callers pass in the time and the ids, so every rule runs in a native `cargo test`.

pub mod cursor;
pub mod duration;
pub mod exchange;
pub mod ids;
pub mod json;
pub mod key;
pub mod limits;
pub mod member;
pub mod quota;
pub mod text;
pub mod thread;
pub mod time;
