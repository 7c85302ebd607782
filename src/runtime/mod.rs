//! What the platform gives: time and randomness, work after the answer, the server's own log,
//! time zones.

pub mod background;
pub mod clock;
pub mod js;
pub mod log;
pub mod zones;
