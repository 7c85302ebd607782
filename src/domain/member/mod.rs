//! A member of an exchange: its record, its profile and how it is notified.

pub mod access;
pub mod address;
pub mod audit;
pub mod capability;
pub mod executor;
pub mod forms;
pub mod invitation;
pub mod profile;
pub mod quiet_hours;
pub mod sealed;
pub mod subscriptions;
pub mod template;
