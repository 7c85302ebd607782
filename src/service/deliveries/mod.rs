//! Deliveries as obligations: whom a commit concerns, attempts, and the record of them.

pub mod announce;
pub mod attempt;
pub mod chunk;
pub mod record;
