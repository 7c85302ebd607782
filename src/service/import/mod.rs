//! Importing the bucket of another MESS server, which holds only `events/` and `executors/`.
//!
//! Keys, threads and the index are derived from them, a bounded stretch at a time: after
//! requests that miss them, and in the tick. How far it has come lies in
//! `derived/exchange={id}.json`, moved by compare-and-swap; doing a stretch twice does no harm.
//! The other server must be stopped first.
//!
//! Other servers write several events with one time into objects named at random, so no thread
//! is put before the whole log was read: the log is first sorted by thread, into
//! `derived/exchange={id}/{ref}/`, then each thread is put from its parts.

pub mod advance;
mod keys;
mod log;
pub mod progress;
pub mod standing;
mod threads;
