//! Deliveries: telling executors what happened, outside of the exchange.
//!
//! A committed batch is a [`notice::Notice`]; [`plan`] meets it with an executor's channels and
//! hooks and gives the deliveries that are owed; [`attempt`] works through them: a provider
//! says what to send ([`provider`]), [`send`] sends it, [`retry`] judges and schedules,
//! [`record`] writes down what came of it. Where deliveries are kept until they are done is the
//! business of [`crate::service`].
//!
//! A new type of channel or hook is a new file below `channels/` or `hooks/` and a line in the
//! list here.

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

/// The forms of all of them.
pub const FORMS: Forms = Forms {
    channels: |at| CHANNELS.get(at).map(|provider| &provider.form),
    hooks: |at| HOOKS.get(at).map(|provider| &provider.form),
};
