//! How an executor wants to be notified: its channels, hooks and preferences.
//!
//! Each is checked when it is written and then kept whole, including fields that this server does
//! not know.

use serde_json::{Map, Value};

use super::forms::{Form, Kind, MASK, given};
use super::quiet_hours::parse_time_of_day;
use crate::domain::limits::{CHANNELS, HOOKS_PER_EVENT, NAME_CHARS};
use crate::domain::text::{Invalid, check_line};
use crate::domain::thread::status::Priority;
use crate::domain::time::Timestamp;

/// Returns the forms that an entry may have, one for each index from 0 on.
pub type FormList = fn(usize) -> Option<&'static Form>;

/// The forms of all types.
#[derive(Clone, Copy)]
pub struct Forms {
    /// The types of channels.
    pub channels: FormList,
    /// The types of hooks.
    pub hooks: FormList,
}

/// The rules that subscriptions are checked against.
pub struct Rules<'a> {
    /// The types of channels and hooks.
    pub forms: Forms,
    /// Whether private addresses may be called.
    pub allow_private: bool,
    /// Whether a time zone of this name exists.
    pub is_zone: &'a dyn Fn(&str) -> bool,
}

/// A moment in a request's life for which hooks can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookEvent {
    /// The request was posted.
    Created,
    /// An executor claimed it.
    Claimed,
    /// Its executor began to work.
    Started,
    /// It was completed.
    Completed,
    /// It was rejected.
    Rejected,
    /// It was cancelled.
    Cancelled,
}

impl HookEvent {
    /// Every event, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Created,
        Self::Claimed,
        Self::Started,
        Self::Completed,
        Self::Rejected,
        Self::Cancelled,
    ];

    /// Its short name, as templates show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Claimed => "claimed",
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }

    /// The field of a profile that holds its hooks.
    pub fn field(self) -> String {
        format!("on_request_{}", self.as_str())
    }

    /// The event whose hooks the field `field` holds.
    pub fn of_field(field: &str) -> Option<Self> {
        let name = field.strip_prefix("on_request_")?;
        Self::ALL.into_iter().find(|event| event.as_str() == name)
    }
}

/// Fields of an entry that only the exchange writes.
pub mod own {
    /// The entry's id. It stays the same when the entry is changed.
    pub const ID: &str = "id";
    /// When the entry was created.
    pub const CREATED_AT: &str = "created_at";
    /// The id of the key with which a channel was made. It goes with that key.
    pub const KEY: &str = "made_with";
    /// Since when and why the entry is disabled.
    pub const DISABLED: &str = "disabled";
    /// How its last delivery went. It is shown to the owner and never stored.
    pub const LAST: &str = "last";
}

/// Checks the list of notification channels.
///
/// # Errors
///
/// Fails with the path of the first thing that is wrong, such as `notifications[0].topic`.
pub fn check_channels(channels: &[Value], rules: &Rules) -> Result<(), Invalid> {
    check_entries(
        channels,
        "notifications",
        CHANNELS,
        rules.forms.channels,
        rules,
    )
}

/// Checks the hooks of each lifecycle event.
///
/// # Errors
///
/// Fails with the path of the first thing that is wrong, such as
/// `hooks.on_request_created[0].token`.
pub fn check_hooks(hooks: &Map<String, Value>, rules: &Rules) -> Result<(), Invalid> {
    for (field, list) in hooks {
        if HookEvent::of_field(field).is_none() {
            let known = HookEvent::ALL.map(HookEvent::field).join(", ");
            return Err(Invalid::new("hooks", format!("may only have {known}")));
        }
        let path = format!("hooks.{field}");
        let Value::Array(list) = list else {
            return Err(Invalid::new(path, "must be a list"));
        };
        check_entries(list, &path, HOOKS_PER_EVENT, rules.forms.hooks, rules)?;
    }
    Ok(())
}

fn check_entries(
    list: &[Value],
    path: &str,
    most: usize,
    forms: FormList,
    rules: &Rules,
) -> Result<(), Invalid> {
    if list.len() > most {
        return Err(Invalid::new(path, format!("may hold at most {most}")));
    }
    for (at, entry) in list.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let Value::Object(entry) = entry else {
            return Err(Invalid::new(path, "must be an object"));
        };
        let Some(form) = form_of(entry, forms) else {
            let names: Vec<_> = (0..).map_while(forms).map(|form| form.name).collect();
            let problem = format!("must be one of {}", names.join(", "));
            return Err(Invalid::new(format!("{path}.type"), problem));
        };
        form.check(entry, &path, rules.allow_private)?;
    }
    Ok(())
}

/// The form for the type of an entry.
pub fn form_of(entry: &Map<String, Value>, forms: FormList) -> Option<&'static Form> {
    let name = entry.get("type")?.as_str()?;
    (0..).map_while(forms).find(|form| form.name == name)
}

/// Checks preferences: `min_priority`, and `quiet_hours {enabled, start, end, timezone?}`.
///
/// # Errors
///
/// Fails with the path of the first thing that is wrong.
pub fn check_preferences(preferences: &Map<String, Value>, rules: &Rules) -> Result<(), Invalid> {
    match given(preferences, "min_priority") {
        None => {}
        Some(Value::String(text)) => {
            Priority::parse(text, "preferences.min_priority")?;
        }
        Some(_) => {
            return Err(Invalid::new("preferences.min_priority", "must be a string"));
        }
    }
    let hours = match given(preferences, "quiet_hours") {
        None => return Ok(()),
        Some(Value::Object(hours)) => hours,
        Some(_) => return Err(Invalid::new("preferences.quiet_hours", "must be an object")),
    };
    let path = |name: &str| format!("preferences.quiet_hours.{name}");
    let enabled = match given(hours, "enabled") {
        None => false,
        Some(Value::Bool(enabled)) => *enabled,
        Some(_) => return Err(Invalid::new(path("enabled"), "must be true or false")),
    };
    for name in ["start", "end"] {
        match given(hours, name) {
            Some(Value::String(text)) if parse_time_of_day(text).is_some() => {}
            None if !enabled => {}
            _ => {
                return Err(Invalid::new(path(name), "must be a time of day like 22:00"));
            }
        }
    }
    match given(hours, "timezone") {
        None => Ok(()),
        Some(Value::String(zone)) => {
            check_line(zone, &path("timezone"), NAME_CHARS)?;
            if (rules.is_zone)(zone) {
                return Ok(());
            }
            let problem = "must be an IANA time zone like Europe/Berlin";
            Err(Invalid::new(path("timezone"), problem))
        }
        Some(_) => Err(Invalid::new(path("timezone"), "must be a string")),
    }
}

/// Replaces the list `old` with a new one. Each new entry that continues an old one keeps its id,
/// and gets back the credentials that it shows masked.
///
/// An entry continues the old entry of its type whose `id` it gives; else the one with the same
/// content; else the one of the same type in the same place of the list.
///
/// # Errors
///
/// Fails if a mask has no credential behind it, or if an entry with masked credentials changes its
/// URL.
pub fn adopt(
    old: &[Value],
    new: Vec<Value>,
    path: &str,
    forms: FormList,
    now: Timestamp,
    new_id: &dyn Fn() -> String,
) -> Result<Vec<Value>, Invalid> {
    let mut left: Vec<Option<&Map<String, Value>>> = old.iter().map(Value::as_object).collect();
    let mut entries: Vec<_> = new.into_iter().map(Entry::new).collect();
    let by_id = |entry: &Entry, _: usize, old: &Map<String, Value>, _: usize| {
        entry.id.is_some()
            && entry.id.as_ref() == old.get(own::ID)
            && entry.fields.get("type") == old.get("type")
    };
    let by_content = |entry: &Entry, _: usize, old: &Map<String, Value>, _: usize| {
        entry.fields == without_own(old)
    };
    let by_place = |entry: &Entry, at: usize, old: &Map<String, Value>, place: usize| {
        at == place && entry.fields.get("type") == old.get("type")
    };
    let rules: [Same; 3] = [&by_id, &by_content, &by_place];
    for same in rules {
        for (at, entry) in entries.iter_mut().enumerate() {
            if entry.continues.is_some() {
                continue;
            }
            let found = left
                .iter_mut()
                .enumerate()
                .find(|(place, old)| old.is_some_and(|old| same(entry, at, old, *place)));
            entry.continues = found.and_then(|(_, old)| old.take()).cloned();
        }
    }
    entries
        .into_iter()
        .enumerate()
        .map(|(at, entry)| entry.finish(&format!("{path}[{at}]"), forms, now, new_id))
        .collect()
}

/// Whether an entry at one place of the new list continues an old entry at another place.
type Same<'a> = &'a dyn Fn(&Entry, usize, &Map<String, Value>, usize) -> bool;

/// An entry given by a client.
struct Entry {
    fields: Map<String, Value>,
    id: Option<Value>,
    stays_disabled: bool,
    continues: Option<Map<String, Value>>,
}

impl Entry {
    fn new(value: Value) -> Self {
        let given = match value {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        Self {
            id: given.get(own::ID).cloned(),
            stays_disabled: given.get(own::DISABLED).is_some_and(Value::is_object),
            fields: without_own(&given),
            continues: None,
        }
    }

    fn finish(
        mut self,
        path: &str,
        forms: FormList,
        now: Timestamp,
        new_id: &dyn Fn() -> String,
    ) -> Result<Value, Invalid> {
        let old = self.continues.unwrap_or_default();
        if let Some(form) = form_of(&self.fields, forms) {
            let masked = form.fields.iter().any(|field| {
                let is_url = matches!(field.kind, Kind::Url);
                !is_url && self.fields.get(field.name).is_some_and(has_mask)
            });
            for field in form.fields.iter().filter(|field| field.is_secret) {
                let path = format!("{path}.{}", field.name);
                if let Some(value) = self.fields.get_mut(field.name) {
                    unmask(value, old.get(field.name), &path)?;
                }
            }
            // Someone who sees only masks must not be able to redirect the credentials behind them.
            let moved = form.fields.iter().find(|field| {
                matches!(field.kind, Kind::Url)
                    && given(&self.fields, field.name) != given(&old, field.name)
            });
            if let Some(field) = moved.filter(|_| masked) {
                let problem = "is another address than before: give the credentials whole";
                return Err(Invalid::new(format!("{path}.{}", field.name), problem));
            }
        }
        let is_same = self.fields == without_own(&old);
        let mut entry = self.fields;
        let kept = |name| old.get(name).cloned();
        let id = kept(own::ID).unwrap_or_else(|| new_id().into());
        let created_at = kept(own::CREATED_AT).unwrap_or_else(|| now.to_string().into());
        entry.insert(own::ID.to_owned(), id);
        entry.insert(own::CREATED_AT.to_owned(), created_at);
        if let Some(key) = kept(own::KEY) {
            entry.insert(own::KEY.to_owned(), key);
        }
        if let Some(disabled) = kept(own::DISABLED).filter(|_| self.stays_disabled && is_same) {
            entry.insert(own::DISABLED.to_owned(), disabled);
        }
        Ok(Value::Object(entry))
    }
}

fn without_own(entry: &Map<String, Value>) -> Map<String, Value> {
    let mut entry = entry.clone();
    for name in [own::ID, own::CREATED_AT, own::KEY, own::DISABLED, own::LAST] {
        entry.shift_remove(name);
    }
    entry
}

/// What is shown of a credential: only a mask, followed by the last four characters if the
/// credential has at least twelve.
pub fn mask(credential: &str) -> String {
    let count = credential.chars().count();
    if count < 12 {
        return MASK.to_owned();
    }
    let last: String = credential.chars().skip(count.saturating_sub(4)).collect();
    format!("{MASK}{last}")
}

fn has_mask(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with(MASK),
        Value::Object(values) => values.values().any(has_mask),
        _ => false,
    }
}

/// Replaces a mask with the credential that `old` has in its place.
fn unmask(value: &mut Value, old: Option<&Value>, path: &str) -> Result<(), Invalid> {
    match value {
        Value::String(text) if text.starts_with(MASK) => {
            let kept = old.and_then(Value::as_str).filter(|old| mask(old) == *text);
            let Some(kept) = kept else {
                let problem = "is a masked credential that was not here before; give it whole";
                return Err(Invalid::new(path, problem));
            };
            kept.clone_into(text);
            Ok(())
        }
        Value::Object(values) => values.iter_mut().try_for_each(|(name, value)| {
            unmask(
                value,
                old.and_then(|old| old.get(name)),
                &format!("{path}.{name}"),
            )
        }),
        _ => Ok(()),
    }
}
