//! Deliveries: notifying executors outside of the exchange.
//!
//! A committed batch becomes a [`notice::Notice`]. [`plan`] matches it with an executor's channels
//! and hooks and returns the deliveries that are owed. A provider ([`provider`]) says what to send,
//! [`send`] sends it, and [`retry`] judges the answer and schedules the next attempt. Keeping the
//! deliveries until they are done, attempting them and recording the outcome is the business of
//! [`crate::service::deliveries`].
//!
//! A new type of channel or hook is a new file below `channels/` or `hooks/` and a line in the list
//! here.

pub mod channels;
pub mod hooks;
pub mod http;
pub mod notice;
pub mod plan;
pub mod provider;
pub mod retry;
pub mod send;
pub mod sign;
pub mod tokens;

use crate::domain::member::subscriptions::Forms;
use provider::Provider;

/// The types of notification channels.
pub static CHANNELS: &[Provider] = &[
    channels::ntfy::PROVIDER,
    channels::slack::PROVIDER,
    channels::google_chat::PROVIDER,
    channels::webhook::PROVIDER,
];

/// The types of hooks.
pub static HOOKS: &[Provider] = &[
    hooks::webhook::PROVIDER,
    hooks::ifttt::PROVIDER,
    hooks::zapier::PROVIDER,
    hooks::home_assistant::PROVIDER,
    hooks::todoist::PROVIDER,
    hooks::linear::PROVIDER,
    hooks::google_tasks::PROVIDER,
];

/// The forms of all channels and hooks.
pub const FORMS: Forms = Forms {
    channels: |at| CHANNELS.get(at).map(|provider| &provider.form),
    hooks: |at| HOOKS.get(at).map(|provider| &provider.form),
};
