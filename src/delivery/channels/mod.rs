//! Notification channels: how people are notified.

pub mod google_chat;
pub mod ntfy;
pub mod slack;
pub mod webhook;
