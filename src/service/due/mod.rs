//! What lies in `due/`: the obligations of mutations, and timers.

pub mod obligations;
pub mod timers;
