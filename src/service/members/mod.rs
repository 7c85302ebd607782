//! The members of an exchange: registering, authenticating, profiles, capabilities.

pub mod authenticate;
pub mod capabilities;
pub mod executors;
pub mod owner;
pub mod register;
