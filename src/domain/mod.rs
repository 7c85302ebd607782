//! The rules of the exchange as plain data and functions.
//!
//! Nothing in here is async, reads a clock, draws a random number or knows where things are
//! stored: time and ids are passed in, so every rule runs in a native `cargo test`.

pub mod cursor;
pub mod duration;
pub mod ids;
pub mod json;
pub mod key;
pub mod limits;
pub mod member;
pub mod text;
pub mod thread;
pub mod time;
