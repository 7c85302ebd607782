//! A thread: one request with everything that happened to it.
//!
//! [`posted`] reads what clients post; [`steps`] and [`question`] read what its blocks ask for.
//! [`transition`] decides, and [`due`] decides what happens because a moment has come. Decisions
//! become [`event`]s, and events fold into a [`document`].

pub mod document;
pub mod due;
pub mod event;
pub mod glance;
pub mod outcome;
pub mod posted;
pub mod question;
pub mod row;
pub mod state;
pub mod status;
pub mod steps;
pub mod terms;
pub mod transition;

#[cfg(test)]
mod tests;
