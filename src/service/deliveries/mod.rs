//! Deliveries: obligations for what a commit owes to executors, attempts, and the record of their
//! outcomes.

pub mod announce;
pub mod attempt;
pub mod chunk;
pub mod record;
