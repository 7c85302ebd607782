//! A thread: one request and everything that happens to it.
//!
//! [`posted`] reads what clients post, [`steps`] and [`question`] what their blocks ask for;
//! [`transition`] decides, and [`due`] what happens because a moment has come. What was decided is
//! an [`event`]; events fold into a [`document`].

pub mod document;
pub mod due;
pub mod event;
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
