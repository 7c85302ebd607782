//! What the platform provides: time, randomness, background work, a gate for work that takes long,
//! the server's own log, and time zones.

pub mod background;
pub mod clock;
pub mod gate;
pub mod js;
pub mod log;
pub mod zones;
