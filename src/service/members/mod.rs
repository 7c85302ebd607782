//! The members of an exchange: registration, authentication, profiles and capabilities.

pub mod admit;
pub mod amend;
pub mod audit;
pub mod authenticate;
pub mod capabilities;
pub mod channels;
pub mod exchange;
pub mod executors;
pub mod invitations;
pub mod keys;
pub mod owner;
pub mod register;
pub mod removal;
pub mod roles;
