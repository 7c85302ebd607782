//! Hooks: calls to other services, in words that the executor chose.

pub mod google_tasks;
pub mod home_assistant;
pub mod ifttt;
pub mod linear;
pub mod todoist;
pub mod webhook;
pub mod zapier;
