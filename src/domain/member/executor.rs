//! An executor's record.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::access::{Access, AccessRefusal, MemberKey, Role, add_key, revoke};
use super::forms::{given, text};
use super::subscriptions::{FormList, Forms, HookEvent, own};
use crate::domain::ids::ExecutorId;
use crate::domain::key::{KeyHash, checksum, to_hex};
use crate::domain::thread::event::ExecutorRegistered;
use crate::domain::thread::status::Priority;
use crate::domain::time::Timestamp;

/// The least time between two updates of a record's `last_seen`, in milliseconds.
pub const LAST_SEEN_STEP: i64 = 10 * 60 * 1000;

/// What is stored of an executor.
///
/// Records of other MESS servers can be read too. Fields that this server does not know are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Executor {
    /// Its id.
    pub id: ExecutorId,
    /// The name shown to people.
    #[serde(default, deserialize_with = "or_default")]
    pub display_name: String,
    /// The capabilities that it has.
    #[serde(default, deserialize_with = "or_default")]
    pub capabilities: Vec<Value>,
    /// How it is notified.
    #[serde(default, deserialize_with = "or_default")]
    pub notifications: Vec<Value>,
    /// The hooks that are called on lifecycle events.
    #[serde(default, deserialize_with = "or_default")]
    pub hooks: Map<String, Value>,
    /// What it wants to be notified of, and when.
    #[serde(default, deserialize_with = "or_default")]
    pub preferences: Map<String, Value>,
    /// When it registered.
    #[serde(default, deserialize_with = "or_default")]
    pub created_at: Timestamp,
    /// When it last called, accurate to within [`LAST_SEEN_STEP`].
    #[serde(default, deserialize_with = "or_default")]
    pub last_seen: Timestamp,
    /// The mutation that registered it. Records of other servers have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// What it may do.
    #[serde(
        default,
        skip_serializing_if = "Access::is_plain",
        deserialize_with = "access_or_default"
    )]
    pub access: Access,
    /// All other fields of the record.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Reads null as the default, because other servers may have written null.
fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads what an executor may do. A field of the same name that another server wrote says nothing of it:
/// only this server notes mutations there.
fn access_or_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Access, D::Error> {
    let value = Value::deserialize(deserializer)?;
    match Access::deserialize(&value) {
        Err(error) if value.get("changes").is_some() => Err(D::Error::custom(error)),
        read => Ok(read.unwrap_or_default()),
    }
}

/// The mutation that registered an executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// The batch of the mutation.
    pub batch_id: Uuid,
    /// The moment of the mutation.
    pub ts: Timestamp,
    /// The hash of the key that was issued.
    pub key_hash: KeyHash,
}

/// The field in which other MESS servers keep the hash of a key.
const OLDER_KEY: &str = "api_key_hash";

/// The field of a summary that says what an executor wants to be notified of.
pub const WANTS: &str = "wants";

/// The field of a summary that says since when somebody is no member any more.
pub const REMOVED: &str = "removed_at";

/// What an executor wants to be notified of, as far as a row of the list says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wants {
    /// The lowest priority that its channels are notified of, if it has a channel.
    pub channels: Option<Priority>,
    /// The events that it has hooks for.
    pub hooks: Vec<String>,
}

/// The id of a channel or hook; see [`Executor::name_entries`].
pub fn entry_id(entry: &Value) -> String {
    let id = entry.get(own::ID).and_then(Value::as_str);
    id.unwrap_or_default().to_owned()
}

/// Gives an id to each entry of a list that has none. The same entry gets the same id each time.
fn name(list: &str, entries: &mut [Value]) {
    for (at, entry) in entries.iter_mut().enumerate() {
        let id = checksum(&format!("{list}[{at}] {entry}"));
        if let Value::Object(entry) = entry
            && text(entry, own::ID).is_none()
        {
            entry.insert(own::ID.to_owned(), id.into());
        }
    }
}

/// Whether a channel or hook is enabled, so that deliveries may go to it.
pub fn is_enabled(entry: &Map<String, Value>) -> bool {
    given(entry, own::DISABLED).is_none()
}

impl Executor {
    /// A new executor, of which only the id is known.
    pub fn register(id: ExecutorId, registration: Registration) -> Self {
        let display_name = id.as_str().to_owned();
        Self {
            id,
            display_name,
            capabilities: Vec::new(),
            notifications: Vec::new(),
            hooks: Map::new(),
            preferences: Map::new(),
            created_at: registration.ts,
            last_seen: registration.ts,
            registration: Some(registration),
            access: Access::default(),
            extra: Map::new(),
        }
    }

    /// The payload of its `executor_registered` event.
    pub fn registered(&self) -> ExecutorRegistered {
        ExecutorRegistered {
            display_name: self.display_name.clone(),
            capabilities: self.capabilities.clone(),
            extra: Map::new(),
        }
    }

    /// What other members of the exchange may see: never the hash of a key, a channel or a hook.
    ///
    /// Says only where it differs from others that somebody is a guest or suspended.
    pub fn public(&self) -> Value {
        let mut shown = json!({
            "id": self.id,
            "display_name": self.display_name,
            "capabilities": self.capabilities,
            "last_seen": self.last_seen,
            "created_at": self.created_at,
        });
        let access = &self.access;
        let said = [
            ("kind", access.kind.map(|kind| json!(kind))),
            (
                "role",
                (access.role == Role::Guest).then(|| json!(Role::Guest)),
            ),
            ("suspended", access.suspended.then(|| json!(true))),
            (REMOVED, access.removed_at.map(|at| json!(at))),
        ];
        if let Value::Object(shown) = &mut shown {
            let said = said
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)));
            shown.extend(said);
        }
        shown
    }

    /// The summary in the executor's row of the list: what others may see, and what it wants to be
    /// notified of.
    pub fn summary(&self) -> String {
        let mut row = self.public();
        if let Value::Object(row) = &mut row {
            row.insert(WANTS.to_owned(), json!(self.wants()));
        }
        row.to_string()
    }

    /// What it wants to be notified of. Who is suspended is not told of anything.
    pub fn wants(&self) -> Wants {
        if !self.access.is_active() {
            return Wants {
                channels: None,
                hooks: Vec::new(),
            };
        }
        let is_on = |list: &[Value]| list.iter().filter_map(Value::as_object).any(is_enabled);
        Wants {
            channels: is_on(&self.notifications).then(|| self.min_priority()),
            hooks: HookEvent::ALL
                .into_iter()
                .filter(|event| is_on(self.hooks(*event)))
                .map(|event| event.as_str().to_owned())
                .collect(),
        }
    }

    /// The lowest priority that it wants to be notified of.
    pub fn min_priority(&self) -> Priority {
        text(&self.preferences, "min_priority")
            .and_then(|text| Priority::parse(text, "").ok())
            .unwrap_or(Priority::Normal)
    }

    /// Its hooks for one event.
    pub fn hooks(&self, event: HookEvent) -> &[Value] {
        let list = self.hooks.get(&event.field()).and_then(Value::as_array);
        list.map(Vec::as_slice).unwrap_or_default()
    }

    /// Gives an id to each channel and hook that has none from a server: the checksum of its place
    /// and content.
    pub fn name_entries(&mut self) {
        name("notifications", &mut self.notifications);
        for (event, entries) in &mut self.hooks {
            if let Value::Array(entries) = entries {
                name(event, entries);
            }
        }
    }

    /// Its channels and hooks as one list, each with the forms that it may have.
    pub fn entries_mut(&mut self, forms: Forms) -> impl Iterator<Item = (&mut Value, FormList)> {
        let channels = self.notifications.iter_mut();
        let hooks = self.hooks.values_mut().filter_map(Value::as_array_mut);
        channels
            .map(move |entry| (entry, forms.channels))
            .chain(hooks.flatten().map(move |entry| (entry, forms.hooks)))
    }

    /// The version of its profile: other profiles have others.
    pub fn profile_version(&self) -> String {
        let profile = json!([
            self.display_name,
            self.capabilities,
            self.notifications,
            self.hooks,
            self.preferences
        ]);
        let mut digits = to_hex(&Sha256::digest(profile.to_string()));
        digits.truncate(16);
        digits
    }

    /// The hash of the key that it registered with here or at another server.
    fn registered_key(&self) -> Option<KeyHash> {
        match &self.registration {
            Some(registration) => Some(registration.key_hash.clone()),
            None => KeyHash::from_base64(self.extra.get(OLDER_KEY)?.as_str()?),
        }
    }

    /// Its keys, valid or not, latest last.
    pub fn keys(&self) -> Vec<MemberKey> {
        if let Some(keys) = &self.access.keys {
            return keys.clone();
        }
        let first = self.registered_key().map(|hash| MemberKey {
            last_used_at: Some(self.last_seen),
            ..MemberKey::new(hash, "registration", self.created_at)
        });
        first.into_iter().collect()
    }

    fn keys_mut(&mut self) -> &mut Vec<MemberKey> {
        let keys = self.keys();
        self.access.keys.get_or_insert(keys)
    }

    /// The key with this hash, valid or not.
    pub fn find_key(&self, hash: &KeyHash) -> Option<MemberKey> {
        self.keys().into_iter().find(|key| key.hash == *hash)
    }

    /// Notes that a key was used.
    pub fn used(&mut self, hash: &KeyHash, now: Timestamp) {
        self.last_seen = self.last_seen.max(now);
        // As long as there is only the first key, `last_seen` says it.
        if self.access.keys.is_some()
            && let Some(key) = self.keys_mut().iter_mut().find(|key| key.hash == *hash)
        {
            key.last_used_at = Some(now);
        }
    }

    /// Whether a channel or hook may be used at `now`: it is enabled, and the key with which it was made,
    /// if any, is valid.
    pub fn is_on(&self, entry: &Value, now: Timestamp) -> bool {
        let made_with = entry.get(own::KEY).and_then(Value::as_str);
        entry.as_object().is_some_and(is_enabled)
            && made_with.is_none_or(|id| self.has_valid_key(id, now))
    }

    /// Whether the key with this id is valid at `now`.
    pub fn has_valid_key(&self, id: &str, now: Timestamp) -> bool {
        let keys = self.keys();
        let mut of_id = keys.iter().filter(|key| key.id() == id);
        of_id.any(|key| key.standing(now).is_ok())
    }

    /// Adds a key.
    ///
    /// # Errors
    ///
    /// Fails if it has too many.
    pub fn add_key(&mut self, key: MemberKey, now: Timestamp) -> Result<(), AccessRefusal> {
        add_key(self.keys_mut(), key, now)
    }

    /// Revokes a key with all that were made with it, and takes the channels away that were made with
    /// them. Returns whether there was anything to revoke.
    pub fn revoke_key(&mut self, id: &str, now: Timestamp) -> bool {
        let revoked = revoke(self.keys_mut(), id, now);
        let is_of = |entry: &Value| {
            let key = entry.get(own::KEY).and_then(Value::as_str);
            key.is_some_and(|key| revoked.contains(key))
        };
        self.notifications.retain(|entry| !is_of(entry));
        // Whatever reads the record must not take the key for valid.
        let older = self.extra.get(OLDER_KEY).and_then(Value::as_str);
        let older = older.and_then(KeyHash::from_base64);
        if older.is_some_and(|hash| revoked.contains(hash.id())) {
            self.extra.shift_remove(OLDER_KEY);
        }
        !revoked.is_empty()
    }

    /// Ends its membership. The record stays, so that nobody else gets the id.
    pub fn remove(&mut self, now: Timestamp) {
        let ids: Vec<_> = self.keys().iter().map(|key| key.id().to_owned()).collect();
        for id in ids {
            self.revoke_key(&id, now);
        }
        self.access.removed_at = Some(now);
        self.capabilities.clear();
        self.notifications.clear();
        self.hooks.clear();
        self.preferences.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ExchangeId;
    use crate::domain::key::ApiKey;

    fn executor() -> Executor {
        let record = json!({"id": "phone", "display_name": "My Phone", "capabilities": ["see", {"lift": {"kg": 10}}],
            "notifications": [{"type": "ntfy", "topic": "secret-topic"}],
            "hooks": {"on_request_created": [{"type": "todoist", "token": "x", "disabled": {"reason": "410"}}],
                "on_request_completed": [{"type": "todoist", "token": "x"}]},
            "preferences": {"min_priority": "elevated"},
            "api_key_hash": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "created_at": "2025-02-01T12:00:00.000Z", "last_seen": "2025-02-01T12:00:00.000Z", "shoe_size": 43});
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn the_public_view_has_no_secret() {
        assert_eq!(
            executor().public(),
            json!({"id": "phone", "display_name": "My Phone", "capabilities": ["see", {"lift": {"kg": 10}}],
                "last_seen": "2025-02-01T12:00:00.000Z", "created_at": "2025-02-01T12:00:00.000Z"})
        );
    }

    #[test]
    fn the_summary_tells_what_is_wanted_and_no_secret() {
        let summary: Value = serde_json::from_str(&executor().summary()).unwrap();
        assert_eq!(
            summary[WANTS],
            json!({"channels": "elevated", "hooks": ["completed"]})
        );
        assert!(!summary.to_string().contains("secret"), "{summary}");
    }

    #[test]
    fn a_record_of_another_server_is_read_and_kept() {
        let executor = executor();
        let hashes: Vec<_> = executor.keys().into_iter().map(|key| key.hash).collect();
        assert_eq!(hashes.len(), 1);
        assert_eq!(hashes[0].as_str(), "0".repeat(64));
        let written = serde_json::to_value(&executor).unwrap();
        assert_eq!(written["shoe_size"], 43);
        let again: Executor = serde_json::from_value(written).unwrap();
        assert_eq!(again, executor);
    }

    #[test]
    fn an_entry_without_an_id_is_named_by_its_place_and_content() {
        let (mut one, mut other) = (executor(), executor());
        one.name_entries();
        other.name_entries();
        assert_eq!(one, other);
        let ids: std::collections::BTreeSet<_> = [
            &one.notifications[0],
            &one.hooks(HookEvent::Created)[0],
            &one.hooks(HookEvent::Completed)[0],
        ]
        .map(entry_id)
        .into();
        assert_eq!(ids.len(), 3);
        let given =
            serde_json::from_value::<Executor>(json!({"id": "a", "notifications": [{"id": "x"}]}));
        let mut given = given.unwrap();
        given.name_entries();
        assert_eq!(entry_id(&given.notifications[0]), "x");
    }

    #[test]
    fn a_key_takes_its_channels_along_and_leaves_nothing_to_revive() {
        let mut executor = executor();
        let now = executor.created_at.plus_millis(5);
        let first = executor.keys()[0].clone();
        let second = ApiKey::new(&ExchangeId::parse("home", "").unwrap(), [2; 20]).hash();
        let second = MemberKey::new(second, "tablet", now);
        executor.add_key(second.clone(), now).unwrap();
        executor
            .notifications
            .push(json!({"type": "ntfy", "topic": "b", "made_with": second.id()}));
        assert!(executor.revoke_key(second.id(), now));
        assert!(!executor.revoke_key(second.id(), now), "once");
        assert_eq!(executor.notifications.len(), 1);
        assert_eq!(executor.find_key(&first.hash).unwrap().revoked_at, None);
        assert!(executor.extra.contains_key(OLDER_KEY));
        assert!(executor.revoke_key(first.id(), now));
        assert!(!executor.extra.contains_key(OLDER_KEY));
        let again: Executor = serde_json::from_value(json!(executor)).unwrap();
        assert_eq!(again.find_key(&first.hash).unwrap().revoked_at, Some(now));
    }

    #[test]
    fn who_is_gone_has_nothing_and_wants_nothing() {
        let mut executor = executor();
        executor.remove(executor.created_at.plus_millis(5));
        assert!(executor.keys().iter().all(|key| key.revoked_at.is_some()));
        assert_eq!(
            executor.wants(),
            Wants {
                channels: None,
                hooks: Vec::new()
            }
        );
        assert!(executor.public().get(REMOVED).is_some());
        let mut executor = self::executor();
        executor.access.suspended = true;
        assert_eq!(executor.wants().channels, None);
        assert_eq!(
            executor.notifications.len(),
            1,
            "a suspension can be lifted"
        );
    }

    #[test]
    fn what_another_server_calls_access_says_nothing() {
        for access in [
            json!(null),
            json!("public"),
            json!({"keys": {}}),
            json!({"level": 3}),
            json!([]),
        ] {
            let record = json!({"id": "a", "api_key_hash": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "access": access});
            let executor: Executor = serde_json::from_value(record).unwrap();
            assert!(executor.access.is_plain(), "{access}");
            assert_eq!(executor.keys().len(), 1);
        }
        // What this server wrote must be read, or nothing is.
        let odd = json!({"id": "a", "access": {"keys": {}, "changes": []}});
        assert!(serde_json::from_value::<Executor>(odd).is_err());
    }

    #[test]
    fn a_channel_ends_with_the_key_that_made_it() {
        let mut executor = executor();
        let now = executor.created_at;
        let key = ApiKey::new(&ExchangeId::parse("home", "").unwrap(), [2; 20]).hash();
        let key = MemberKey {
            expires_at: Some(now.plus_millis(10)),
            ..MemberKey::new(key, "tablet", now)
        };
        executor.add_key(key.clone(), now).unwrap();
        let entry = json!({"type": "ntfy", "topic": "b", "made_with": key.id()});
        assert!(executor.is_on(&entry, now.plus_millis(9)));
        assert!(!executor.is_on(&entry, now.plus_millis(10)));
        assert!(!executor.is_on(&json!({"made_with": "forgotten"}), now));
    }

    #[test]
    fn null_is_as_good_as_nothing() {
        let record = json!({"id": "a", "display_name": null, "capabilities": null, "notifications": null,
            "hooks": null, "preferences": null, "created_at": null, "last_seen": null});
        let executor: Executor = serde_json::from_value(record).unwrap();
        assert_eq!(executor.notifications.len(), 0);
    }
}
