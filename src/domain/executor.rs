//! An executor's record and profile.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::event::ExecutorRegistered;
use super::ids::ExecutorId;
use super::key::KeyHash;
use super::limits::{CAPABILITIES, CAPABILITIES_BYTES, NAME_CHARS};
use super::subscriptions::{check_channels, check_hooks, check_preferences};
use super::text::{Fields, Invalid, check_line};
use super::time::Timestamp;

/// How long a record's `last_seen` stands before it is moved, in milliseconds.
pub const LAST_SEEN_STEP: i64 = 10 * 60 * 1000;

/// What is stored of an executor.
///
/// Records of other MESS servers are read too; what this server does not know is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Executor {
    /// Its id.
    pub id: ExecutorId,
    /// The name shown to people.
    #[serde(default)]
    pub display_name: String,
    /// What it says it can do.
    #[serde(default)]
    pub capabilities: Vec<Value>,
    /// How it is notified.
    #[serde(default)]
    pub notifications: Vec<Value>,
    /// What is called on lifecycle events.
    #[serde(default)]
    pub hooks: Map<String, Value>,
    /// What it wants to be told of, and when.
    #[serde(default)]
    pub preferences: Map<String, Value>,
    /// When it registered.
    #[serde(default)]
    pub created_at: Timestamp,
    /// When it last called, to within [`LAST_SEEN_STEP`].
    #[serde(default)]
    pub last_seen: Timestamp,
    /// The mutation that registered it; absent in records of other servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// What else the record holds.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The mutation that registered an executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// Its batch.
    pub batch_id: Uuid,
    /// Its moment.
    pub ts: Timestamp,
    /// The key that was given out.
    pub key_hash: KeyHash,
}

impl Executor {
    /// A new executor.
    pub fn register(id: ExecutorId, profile: Profile, registration: Registration) -> Self {
        let display_name = id.as_str().to_owned();
        let mut executor = Self {
            id,
            display_name,
            capabilities: Vec::new(),
            notifications: Vec::new(),
            hooks: Map::new(),
            preferences: Map::new(),
            created_at: registration.ts,
            last_seen: registration.ts,
            registration: Some(registration),
            extra: Map::new(),
        };
        executor.change(profile);
        executor
    }

    /// Takes over what `profile` gives; a given list replaces the old one.
    pub fn change(&mut self, profile: Profile) {
        let Profile {
            display_name,
            capabilities,
            notifications,
            hooks,
            preferences,
        } = profile;
        replace(&mut self.display_name, display_name);
        replace(&mut self.capabilities, capabilities);
        replace(&mut self.notifications, notifications);
        replace(&mut self.hooks, hooks);
        replace(&mut self.preferences, preferences);
    }

    /// The payload of its `executor_registered` event.
    pub fn registered(&self) -> ExecutorRegistered {
        ExecutorRegistered {
            display_name: self.display_name.clone(),
            capabilities: self.capabilities.clone(),
            extra: Map::new(),
        }
    }

    /// What other members of the exchange may see: never a key's hash, a channel or a hook.
    pub fn public(&self) -> Value {
        json!({
            "id": self.id,
            "display_name": self.display_name,
            "capabilities": self.capabilities,
            "last_seen": self.last_seen,
            "created_at": self.created_at,
        })
    }

    /// The key that was given out for this executor, by this server or another.
    pub fn key_hash(&self) -> Option<KeyHash> {
        match &self.registration {
            Some(registration) => Some(registration.key_hash.clone()),
            None => KeyHash::from_base64(self.extra.get("api_key_hash")?.as_str()?),
        }
    }
}

fn replace<T>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

/// What an executor says of itself, at registration or later; every part may be left out.
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
    /// The path of the first thing that is wrong.
    pub fn parse(fields: &mut Fields) -> Result<Self, Invalid> {
        let display_name = fields.take_string("display_name")?;
        if let Some(name) = &display_name {
            check_line(name, "display_name", NAME_CHARS)?;
        }
        let capabilities = fields.take_list("capabilities")?;
        if let Some(list) = &capabilities {
            check_capabilities(list)?;
        }
        let notifications = fields.take_list("notifications")?;
        if let Some(list) = &notifications {
            check_channels(list)?;
        }
        let hooks = fields.take_object("hooks")?;
        if let Some(hooks) = &hooks {
            check_hooks(hooks)?;
        }
        let preferences = fields.take_object("preferences")?;
        if let Some(preferences) = &preferences {
            check_preferences(preferences)?;
        }
        Ok(Self {
            display_name,
            capabilities,
            notifications,
            hooks,
            preferences,
        })
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Each capability is an id, or an object of ids with what is to be said of each.
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
mod tests {
    use super::*;

    fn profile(value: Value) -> Result<Profile, Invalid> {
        Profile::parse(&mut Fields::of("", value).unwrap())
    }

    fn executor() -> Executor {
        let registration = Registration {
            batch_id: Uuid::nil(),
            ts: Timestamp::from_millis(1_738_411_200_000),
            key_hash: KeyHash::from_base64("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap(),
        };
        let given = profile(json!({"capabilities": ["see", {"lift": {"kg": 10}}],
            "notifications": [{"type": "ntfy", "topic": "secret-topic"}]}));
        Executor::register(
            ExecutorId::parse("phone", "").unwrap(),
            given.unwrap(),
            registration,
        )
    }

    #[test]
    fn the_public_view_has_no_secret() {
        assert_eq!(
            executor().public(),
            json!({"id": "phone", "display_name": "phone", "capabilities": ["see", {"lift": {"kg": 10}}],
                "last_seen": "2025-02-01T12:00:00.000Z", "created_at": "2025-02-01T12:00:00.000Z"})
        );
    }

    #[test]
    fn a_record_of_another_server_is_read_and_kept() {
        let foreign = json!({"id": "tablet", "display_name": "Tablet", "capabilities": [],
            "notifications": [], "hooks": {}, "preferences": {},
            "api_key_hash": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "created_at": "2025-02-01T12:00:00.000Z", "last_seen": "2025-02-01T12:00:00.000Z", "shoe_size": 43});
        let executor: Executor = serde_json::from_value(foreign.clone()).unwrap();
        assert_eq!(executor.key_hash().unwrap().as_str(), "0".repeat(64));
        assert_eq!(serde_json::to_value(executor).unwrap(), foreign);
    }

    #[test]
    fn profiles_that_are_refused() {
        let many: Vec<_> = (0..=CAPABILITIES).map(|n| n.to_string()).collect();
        for (bad, path) in [
            (json!({"display_name": ""}), "display_name"),
            (json!({"display_name": "a\u{0}"}), "display_name"),
            (json!({"display_name": 7}), "display_name"),
            (json!({"capabilities": "see"}), "capabilities"),
            (json!({"capabilities": [1]}), "capabilities[0]"),
            (json!({"capabilities": ["see", {}]}), "capabilities[1]"),
            (json!({"capabilities": many}), "capabilities"),
            (json!({"hooks": []}), "hooks"),
            (json!({"preferences": []}), "preferences"),
        ] {
            assert_eq!(profile(bad.clone()).unwrap_err().path, path, "{bad}");
        }
    }
}
