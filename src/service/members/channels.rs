//! The channels of a member one by one, so that two phones do not overwrite each other's.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::executors::{change_record, edit, parse_profile};
use crate::app::App;
use crate::delivery::FORMS;
use crate::domain::ids::{ExchangeId, ExecutorId};
use crate::domain::limits::CHANNELS;
use crate::domain::member::access::{AccessRefusal, Dead, MemberKey};
use crate::domain::member::executor::{Executor, entry_id};
use crate::domain::member::profile::{Profile, mask_credentials};
use crate::domain::member::subscriptions::{adopt, own};
use crate::domain::text::{Fields, Invalid};
use crate::service::ServiceError;

/// Reads a channel by the rules of this deployment.
///
/// # Errors
///
/// Fails with the path of the first thing that is wrong.
pub fn parse(app: &App, fields: Fields) -> Result<Value, Invalid> {
    let channel = Value::Object(fields.rest());
    let list = json!([channel]);
    let mut fields = Fields::new("", Map::from_iter([("notifications".to_owned(), list)]));
    parse_profile(app, &mut fields)?;
    Ok(channel)
}

/// Adds a channel to a member. It goes with the key `with` by which it was made. Returns the channel
/// with its id. Its credentials are masked.
///
/// # Errors
///
/// Fails if there are too many channels, or with the store's error.
pub async fn add(
    app: &Rc<App>,
    exchange: ExchangeId,
    executor: ExecutorId,
    with: &MemberKey,
    channel: Value,
) -> Result<Value, ServiceError> {
    let (id, key) = (app.clock.new_entry_id(), with.id().to_owned());
    let (at_work, named) = (app.clone(), exchange.clone());
    change_record(app, exchange, executor, move |record: &mut Executor| {
        record.name_entries();
        // The key may have been revoked meanwhile.
        if !record.has_valid_key(&key, at_work.clock.now()) {
            return Err(AccessRefusal::Dead(Dead::Revoked).into());
        }
        if record.notifications.len() >= CHANNELS {
            return Err(AccessRefusal::TooMany {
                what: "channels",
                limit: CHANNELS,
            }
            .into());
        }
        // It continues no other channel, so a masked credential is refused.
        let (now, new_id) = (at_work.clock.now(), || id.clone());
        let given = vec![channel.clone()];
        let added = adopt(&[], given, "notifications", FORMS.channels, now, &new_id);
        for mut channel in added.map_err(ServiceError::Invalid)? {
            if let Value::Object(fields) = &mut channel {
                fields.insert(own::KEY.to_owned(), json!(key));
            }
            record.notifications.push(channel);
        }
        // Seals the credentials.
        edit(&at_work, &named, record, Profile::default())?;
        let mut shown = record.clone();
        mask_credentials(&mut shown, FORMS);
        Ok(shown.notifications.pop().unwrap_or_default())
    })
    .await
}

/// Takes a channel away.
///
/// # Errors
///
/// Fails if there is no such channel, or with the store's error.
pub async fn remove(
    app: &Rc<App>,
    exchange: ExchangeId,
    executor: ExecutorId,
    id: String,
) -> Result<(), ServiceError> {
    change_record(app, exchange, executor, move |record: &mut Executor| {
        record.name_entries();
        let before = record.notifications.len();
        record.notifications.retain(|entry| entry_id(entry) != id);
        if record.notifications.len() == before {
            return Err(AccessRefusal::NoChannel.into());
        }
        Ok(())
    })
    .await
}
