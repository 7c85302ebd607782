//! What the platform provides: time, randomness, background work, the server's own log, and time
//! zones.

pub mod background;
pub mod clock;
pub mod js;
pub mod log;
pub mod zones;
