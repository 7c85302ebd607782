//! What an executor says about itself, and how that becomes part of its record.

use std::convert::Infallible;

use serde_json::{Map, Value};

use super::executor::Executor;
use super::sealed::{Seal, each};
use super::subscriptions::{
    Forms, Rules, adopt, check_channels, check_hooks, check_preferences, form_of, mask,
};
use crate::domain::json::count_all;
use crate::domain::limits::{CAPABILITIES, CAPABILITIES_BYTES, NAME_CHARS, PROFILE_VALUES};
use crate::domain::text::{Fields, Invalid, check_line, check_name};
use crate::domain::time::Timestamp;

/// What an executor says about itself, at registration or later. Every part may be left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    display_name: Option<String>,
    capabilities: Option<Vec<Value>>,
    notifications: Option<Vec<Value>>,
    hooks: Option<Map<String, Value>>,
    preferences: Option<Map<String, Value>>,
}

impl Profile {
    /// Reads the profile's fields from a body.
    ///
    /// # Errors
    ///
    /// Fails with the path of the first thing that is wrong.
    pub fn parse(fields: &mut Fields, rules: &Rules) -> Result<Self, Invalid> {
        let display_name = fields.take_string("display_name")?;
        if let Some(name) = &display_name {
            check_name(name, "display_name", NAME_CHARS)?;
        }
        let capabilities = fields.take_list("capabilities")?;
        if let Some(list) = &capabilities {
            check_capabilities(list)?;
        }
        let notifications = fields.take_list("notifications")?;
        if let Some(list) = &notifications {
            check_channels(list, rules)?;
        }
        let hooks = fields.take_object("hooks")?;
        if let Some(hooks) = &hooks {
            check_hooks(hooks, rules)?;
        }
        let preferences = fields.take_object("preferences")?;
        if let Some(preferences) = &preferences {
            check_preferences(preferences, rules)?;
        }
        let profile = Self {
            display_name,
            capabilities,
            notifications,
            hooks,
            preferences,
        };
        profile.check_size()?;
        Ok(profile)
    }

    fn check_size(&self) -> Result<(), Invalid> {
        let of_map = |map: &Option<Map<String, Value>>| count_all(map.iter().flat_map(Map::values));
        for (name, count) in [
            (
                "capabilities",
                count_all(self.capabilities.iter().flatten()),
            ),
            (
                "notifications",
                count_all(self.notifications.iter().flatten()),
            ),
            ("hooks", of_map(&self.hooks)),
            ("preferences", of_map(&self.preferences)),
        ] {
            if count > PROFILE_VALUES {
                let problem = format!("may hold at most {PROFILE_VALUES} JSON values");
                return Err(Invalid::new(name, problem));
            }
        }
        Ok(())
    }

    /// The name that was given.
    pub fn display_name(&self) -> Option<&str> {
        self.display_name.as_deref()
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Writes profiles into records.
pub struct Editor<'a> {
    /// The types of channels and hooks.
    pub forms: Forms,
    /// The keys that seal credentials, and the owner they are sealed for.
    pub seal: Seal<'a>,
    /// The moment of the change.
    pub now: Timestamp,
    /// Draws the id of a new channel or hook.
    pub new_id: &'a dyn Fn() -> String,
    /// Draws the nonce of a sealed credential.
    pub nonce: &'a dyn Fn() -> [u8; 12],
}

impl Editor<'_> {
    /// Writes what `profile` gives into the record. A list that is given replaces the old one.
    ///
    /// # Errors
    ///
    /// Fails if a masked credential has no credential behind it.
    pub fn change(&self, executor: &mut Executor, profile: Profile) -> Result<(), Invalid> {
        let Profile {
            display_name,
            capabilities,
            notifications,
            hooks,
            preferences,
        } = profile;
        replace(&mut executor.display_name, display_name);
        replace(&mut executor.capabilities, capabilities);
        replace(&mut executor.preferences, preferences);
        executor.name_entries();
        unseal(executor, self.forms, &self.seal);
        if let Some(list) = notifications {
            let forms = self.forms.channels;
            let old = &executor.notifications;
            executor.notifications =
                adopt(old, list, "notifications", forms, self.now, self.new_id)?;
        }
        if let Some(hooks) = hooks {
            let mut adopted = Map::new();
            for (event, list) in hooks {
                let list = match list {
                    Value::Array(list) => list,
                    _ => Vec::new(),
                };
                let old = executor.hooks.get(&event).and_then(Value::as_array);
                let old = old.map(Vec::as_slice).unwrap_or_default();
                let path = format!("hooks.{event}");
                let list = adopt(old, list, &path, self.forms.hooks, self.now, self.new_id)?;
                adopted.insert(event, Value::Array(list));
            }
            executor.hooks = adopted;
        }
        self.seal_credentials(executor);
        Ok(())
    }

    /// Seals every credential that is not sealed with the current key.
    fn seal_credentials(&self, executor: &mut Executor) {
        for (entry, forms) in executor.entries_mut(self.forms) {
            if let Value::Object(entry) = entry
                && let Some(form) = form_of(entry, forms)
            {
                self.seal.seal(entry, form, self.nonce);
            }
        }
    }
}

/// Unseals the credentials of a record. What cannot be unsealed stays sealed.
pub fn unseal(executor: &mut Executor, forms: Forms, seal: &Seal) {
    for (entry, forms) in executor.entries_mut(forms) {
        if let Value::Object(entry) = entry
            && let Some(form) = form_of(entry, forms)
        {
            // A delivery that needs a credential that stays sealed reports that itself.
            let _ = seal.unseal(entry, form);
        }
    }
}

/// Replaces every credential of an unsealed record with a mask.
pub fn mask_credentials(executor: &mut Executor, forms: Forms) {
    for (entry, forms) in executor.entries_mut(forms) {
        let Value::Object(entry) = entry else {
            continue;
        };
        // An entry of an unknown type may hold credentials anywhere.
        let Some(form) = form_of(entry, forms) else {
            entry.retain(|name, _| name == "type" || name == "id");
            continue;
        };
        let Ok(()) = each(entry, form, |_, value| -> Result<(), Infallible> {
            *value = Value::String(mask(value.as_str().unwrap_or_default()));
            Ok(())
        });
    }
}

fn replace<T>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

/// Checks that each capability is an id, or an object that maps ids to metadata.
fn check_capabilities(list: &[Value]) -> Result<(), Invalid> {
    let mut count: usize = 0;
    for (at, capability) in list.iter().enumerate() {
        let path = format!("capabilities[{at}]");
        match capability {
            Value::String(id) => {
                check_line(id, &path, NAME_CHARS)?;
                count = count.saturating_add(1);
            }
            Value::Object(ids) if !ids.is_empty() => {
                for id in ids.keys() {
                    check_line(id, &path, NAME_CHARS)?;
                    count = count.saturating_add(1);
                }
            }
            _ => {
                return Err(Invalid::new(
                    path,
                    "must be an id, or an object like {\"id\": metadata}",
                ));
            }
        }
    }
    let bytes: usize = list.iter().map(|item| item.to_string().len()).sum();
    if bytes > CAPABILITIES_BYTES {
        return Err(Invalid::new(
            "capabilities",
            format!("may hold at most {CAPABILITIES_BYTES} bytes of JSON"),
        ));
    }
    if count > CAPABILITIES {
        return Err(Invalid::new(
            "capabilities",
            format!("may hold at most {CAPABILITIES}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
