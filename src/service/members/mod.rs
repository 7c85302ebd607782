//! The members of an exchange: registration, authentication, profiles and capabilities.

pub mod authenticate;
pub mod capabilities;
pub mod executors;
pub mod owner;
pub mod register;
