//! What is stored under `due/`: the obligations of mutations, and timers.

pub mod obligations;
pub mod timers;
