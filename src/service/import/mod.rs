//! Imports the bucket of another MESS server, which contains only `events/` and `executors/`.
//!
//! The import derives keys, threads and the index from them, one bounded stretch at a time. Calls
//! advance it after their answer, and so does the tick. The progress is stored in
//! `derived/exchange={id}.json` and advances by compare-and-swap. Importing a stretch twice does no
//! harm. The other server must be stopped first.
//!
//! Other servers write several events of the same time into objects with random names. Therefore no
//! thread is put before the whole log was read. The log is first sorted by thread into
//! `derived/exchange={id}/{ref}/`. Then each thread is put from its parts.

pub mod advance;
mod keys;
mod log;
pub mod progress;
pub mod standing;
mod threads;
