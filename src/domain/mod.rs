//! The rules of the exchange as plain data and functions.
//!
//! Nothing in here is async, reads a clock, draws a random number or knows where things are
//! stored: time and ids are passed in, so every rule runs in a native `cargo test`.

pub mod address;
pub mod blocks;
pub mod capability;
pub mod cursor;
pub mod due;
pub mod duration;
pub mod event;
pub mod executor;
pub mod forms;
pub mod ids;
pub mod key;
pub mod limits;
pub mod profile;
pub mod question;
pub mod quiet_hours;
pub mod request;
pub mod row;
pub mod sealed;
pub mod status;
pub mod subscriptions;
pub mod template;
pub mod terms;
pub mod text;
pub mod thread;
pub mod time;
pub mod transition;

#[cfg(test)]
mod tests;
