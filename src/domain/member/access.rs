//! What a member may do: its role, its kind, its keys and their scopes.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::ids::ExecutorId;
use crate::domain::key::KeyHash;
use crate::domain::limits::{KEYS, REVOKED_KEYS};
use crate::domain::text::{Fields, Invalid};
use crate::domain::thread::status::Priority;
use crate::domain::time::Timestamp;

/// How many of the mutations that changed a document it notes.
const CHANGES_NOTED: usize = 64;

/// What somebody is in an exchange. Who owns it is in the exchange's document; the other roles are in
/// the members' records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Invites, removes, and stands in for others.
    Owner,
    /// Sees and claims everything.
    #[default]
    Member,
    /// Sees and claims only what is addressed to it.
    Guest,
}

impl Role {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
            Self::Guest => "guest",
        }
    }

    /// Takes the field `role`.
    ///
    /// # Errors
    ///
    /// Fails if it is given and is no role.
    pub fn take(fields: &mut Fields) -> Result<Option<Self>, Invalid> {
        let roles = [Self::Owner, Self::Member, Self::Guest];
        take_word(fields, "role", &roles, Self::as_str)
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_member(&self) -> bool {
        *self == Self::Member
    }
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A human being.
    Person,
    /// A robot, a lock, a screen.
    Device,
    /// A program, such as an agent.
    Software,
}

impl Kind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Device => "device",
            Self::Software => "software",
        }
    }

    /// Takes the field `kind`.
    ///
    /// # Errors
    ///
    /// Fails if it is given and is no kind.
    pub fn take(fields: &mut Fields) -> Result<Option<Self>, Invalid> {
        let kinds = [Self::Person, Self::Device, Self::Software];
        take_word(fields, "kind", &kinds, Self::as_str)
    }
}

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Read and list requests, members and capabilities.
    Read,
    /// Post requests, reply, and cancel one's own.
    Request,
    /// Claim requests and work on them.
    Execute,
    /// Change one's profile, keys and invitations, and the catalogue.
    Manage,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Request, Self::Execute, Self::Manage];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Request => "request",
            Self::Execute => "execute",
            Self::Manage => "manage",
        }
    }
}

fn take_word<T: Copy>(
    fields: &mut Fields,
    name: &str,
    all: &[T],
    as_str: fn(T) -> &'static str,
) -> Result<Option<T>, Invalid> {
    let Some(text) = fields.take_string(name)? else {
        return Ok(None);
    };
    let found = all.iter().copied().find(|item| as_str(*item) == text);
    found
        .map(Some)
        .ok_or_else(|| Invalid::new(fields.path(name), one_of(all, as_str)))
}

fn one_of<T: Copy>(all: &[T], as_str: fn(T) -> &'static str) -> String {
    let names: Vec<_> = all.iter().map(|item| as_str(*item)).collect();
    format!("must be one of {}", names.join(", "))
}

/// A set of scopes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<Scope>);

impl Default for Scopes {
    /// All scopes.
    fn default() -> Self {
        Self(Scope::ALL.into())
    }
}

impl<const N: usize> From<[Scope; N]> for Scopes {
    fn from(scopes: [Scope; N]) -> Self {
        Self(scopes.into())
    }
}

impl Scopes {
    /// Takes the field `scopes`: a list of at least one.
    ///
    /// # Errors
    ///
    /// Fails if it is given and is no such list.
    pub fn take(fields: &mut Fields) -> Result<Option<Self>, Invalid> {
        let Some(list) = fields.take_list("scopes")? else {
            return Ok(None);
        };
        let path = fields.path("scopes");
        let mut scopes = BTreeSet::new();
        for (at, item) in list.iter().enumerate() {
            let found = Scope::ALL
                .into_iter()
                .find(|scope| item.as_str() == Some(scope.as_str()));
            let wrong =
                || Invalid::new(format!("{path}[{at}]"), one_of(&Scope::ALL, Scope::as_str));
            scopes.insert(found.ok_or_else(wrong)?);
        }
        if scopes.is_empty() {
            return Err(Invalid::new(path, "must name at least one scope"));
        }
        Ok(Some(Self(scopes)))
    }

    /// Whether `scope` is among them.
    pub fn has(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// The scopes that are in both sets.
    #[must_use]
    pub fn within(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these are all that there are.
    pub fn are_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all of them are in `other`.
    pub fn are_within(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }
}

/// A key of a member, as its record knows it. The key itself is stored nowhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberKey {
    /// The hash of the key.
    pub hash: KeyHash,
    /// What it is for, in the words of who made it.
    pub label: String,
    /// What it is good for.
    #[serde(default)]
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, accurate to ten minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// From when on it is no longer valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Its last four characters, by which somebody may recognize it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last4: Option<String>,
    /// The id of the key with which it was made. It is revoked with that key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Since when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

impl MemberKey {
    /// A key with all scopes that never expires.
    pub fn new(hash: KeyHash, label: impl Into<String>, now: Timestamp) -> Self {
        Self {
            hash,
            label: label.into(),
            scopes: Scopes::default(),
            created_at: now,
            last_used_at: None,
            expires_at: None,
            last4: None,
            parent: None,
            revoked_at: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.hash.id()
    }

    /// Whether it can do everything, for ever.
    pub fn is_full(&self) -> bool {
        self.scopes.are_all() && self.expires_at.is_none()
    }

    /// Whether it is valid at `now`.
    pub fn standing(&self, now: Timestamp) -> Result<(), Dead> {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => Err(Dead::Revoked),
            (None, Some(end)) if end <= now => Err(Dead::Expired),
            _ => Ok(()),
        }
    }

    /// What its owner may see of it.
    pub fn shown(&self) -> Value {
        serde_json::json!({
            "id": self.id(),
            "label": self.label,
            "scopes": self.scopes,
            "created_at": self.created_at,
            "last_used_at": self.last_used_at,
            "expires_at": self.expires_at,
            "revoked_at": self.revoked_at,
            "made_with": self.parent,
            "last4": self.last4,
        })
    }
}

/// Why a key that was once valid is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
}

/// The part of a member's record that says what it may do. No member changes it by its profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// Its role, unless it is an owner.
    #[serde(default, skip_serializing_if = "Role::is_member")]
    pub role: Role,
    /// What it is, if somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The highest priority that its requests may have, if there is a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_priority: Option<Priority>,
    /// Whether it is stopped for the time being.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Since when it is no member any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Timestamp>,
    /// Its keys, latest last. `None` if it has the key that it registered with and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<MemberKey>>,
    /// The mutations that changed any of this.
    #[serde(default, skip_serializing_if = "Changes::is_empty")]
    pub changes: Changes,
}

impl Access {
    /// Whether nothing has been said, so that the field need not be written.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it may call and be called at all.
    pub fn is_active(&self) -> bool {
        !self.suspended && self.removed_at.is_none()
    }
}

/// Adds a key. Old revoked ones are dropped if there are too many: what is not in the list is not
/// valid either.
///
/// # Errors
///
/// Fails if there are too many valid keys.
pub fn add_key(
    keys: &mut Vec<MemberKey>,
    key: MemberKey,
    now: Timestamp,
) -> Result<(), AccessRefusal> {
    let is_live = |key: &MemberKey| key.standing(now).is_ok();
    if keys.iter().filter(|key| is_live(key)).count() >= KEYS {
        return Err(AccessRefusal::TooMany {
            what: "keys",
            limit: KEYS,
        });
    }
    keys.push(key);
    let dead = keys.iter().filter(|key| !is_live(key)).count();
    let mut spare = dead.saturating_sub(REVOKED_KEYS);
    keys.retain(|key| {
        let drop = spare > 0 && !is_live(key);
        spare = spare.saturating_sub(usize::from(drop));
        !drop
    });
    Ok(())
}

/// Revokes the key `id` and all keys that were made with it. Returns the ids of the keys that this
/// revoked.
pub fn revoke(keys: &mut [MemberKey], id: &str, now: Timestamp) -> BTreeSet<String> {
    let mut revoked = BTreeSet::new();
    let mut todo: VecDeque<String> = [id.to_owned()].into();
    while let Some(id) = todo.pop_front() {
        for key in keys.iter_mut() {
            let is_of = key.id() == id || key.parent.as_ref() == Some(&id);
            if is_of && key.revoked_at.is_none() {
                key.revoked_at = Some(now);
                revoked.insert(key.id().to_owned());
                todo.push_back(key.id().to_owned());
            }
        }
    }
    revoked
}

/// The ids of the mutations that changed a document, latest last. By them, the tick finds out whether
/// a mutation was committed whose writer died.
///
/// Only the last ones are noted. A writer that dies leaves its obligation to a tick a minute later.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Changes(VecDeque<Uuid>);

impl Changes {
    /// Notes a mutation.
    pub fn note(&mut self, id: Uuid) {
        self.0.push_back(id);
        if self.0.len() > CHANGES_NOTED {
            self.0.pop_front();
        }
    }

    /// Whether the mutation `id` was committed.
    pub fn have(&self, id: Uuid) -> bool {
        self.0.contains(&id)
    }

    /// Their ids.
    pub fn iter(&self) -> impl Iterator<Item = Uuid> {
        self.0.iter().copied()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why the rules of access forbid something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessRefusal {
    /// The key is no longer valid.
    Dead(Dead),
    /// The key that a registration got is no longer valid.
    KeyIsDead(Dead),
    /// The member is suspended.
    Suspended,
    /// The key lacks a scope.
    Scope(Scope),
    /// Only an owner may do this.
    OwnersOnly,
    /// A guest may not do this.
    NotForGuests,
    /// The priority is higher than this member's requests may have.
    MaxPriority(Priority),
    /// The last owner cannot go.
    LastOwner,
    /// It is the last key with which the last owner can govern the exchange.
    LastKey,
    /// An owner must become a member first.
    IsOwner,
    /// The code of an invitation is of no use.
    Invitation(Useless),
    /// Who registers needs the registration token.
    TokenNeeded,
    /// Who registers needs an invitation.
    InvitationNeeded,
    /// The key is too little for this: it needs all scopes and no end.
    FullKeyNeeded,
    /// The exchange cannot be founded here.
    NotFounded,
    /// The exchange has as many members as it may have.
    Full {
        /// How many that are.
        limit: u32,
    },
    /// Another id differs from this one in case only.
    SameButForCase {
        /// The other id.
        other: ExecutorId,
    },
    /// The token was used for another registration.
    TokenUsed,
    /// There is no such key.
    NoKey,
    /// There is no such invitation.
    NoInvitation,
    /// There is no such channel.
    NoChannel,
    /// There are too many of something.
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}

impl From<Useless> for AccessRefusal {
    fn from(useless: Useless) -> Self {
        Self::Invitation(useless)
    }
}

/// Why the code of an invitation is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Useless {
    /// There is no invitation with this code.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was used as often as it may be.
    UsedUp,
    /// It was taken back, or who invited is no member any more.
    Revoked,
}

impl Useless {
    /// The word for it in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::UsedUp => "used_up",
            Self::Revoked => "revoked",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::ids::ExchangeId;
    use crate::domain::key::ApiKey;

    fn key(n: u8) -> MemberKey {
        let home = ExchangeId::parse("home", "").unwrap();
        let hash = ApiKey::new(&home, [n; 20]).hash();
        MemberKey::new(hash, format!("key {n}"), Timestamp::from_millis(0))
    }

    fn made_with(n: u8, parent: &MemberKey) -> MemberKey {
        MemberKey {
            parent: Some(parent.id().to_owned()),
            ..key(n)
        }
    }

    #[test]
    fn a_key_takes_those_that_were_made_with_it_along() {
        let first = key(1);
        let second = made_with(2, &first);
        let third = made_with(3, &second);
        let other = key(4);
        let mut keys = vec![first.clone(), second, third, other.clone()];
        let now = Timestamp::from_millis(5);
        let revoked = revoke(&mut keys, first.id(), now);
        assert_eq!(revoked.len(), 3);
        let live: Vec<_> = keys
            .iter()
            .filter(|key| key.standing(now).is_ok())
            .collect();
        assert_eq!(live, [&other]);
        assert!(revoke(&mut keys, first.id(), now).is_empty(), "once");
        assert!(revoke(&mut keys, "nobody", now).is_empty());
    }

    #[test]
    fn keys_that_were_made_with_each_other_end_too() {
        let (first, second) = (key(1), key(2));
        let mut keys = vec![made_with(1, &second), made_with(2, &first)];
        assert_eq!(
            revoke(&mut keys, first.id(), Timestamp::from_millis(5)).len(),
            2
        );
    }

    #[test]
    fn a_key_ends_at_its_moment() {
        let mut key = key(1);
        key.expires_at = Some(Timestamp::from_millis(10));
        assert_eq!(key.standing(Timestamp::from_millis(9)), Ok(()));
        assert_eq!(key.standing(Timestamp::from_millis(10)), Err(Dead::Expired));
        key.revoked_at = Some(Timestamp::from_millis(1));
        assert_eq!(key.standing(Timestamp::from_millis(9)), Err(Dead::Revoked));
    }

    #[test]
    fn revoked_keys_are_forgotten_before_valid_ones_are_refused() {
        let (mut keys, now) = (Vec::new(), Timestamp::from_millis(5));
        for n in 0..100 {
            add_key(&mut keys, key(n), now).unwrap();
            let id = key(n).id().to_owned();
            revoke(&mut keys, &id, now);
        }
        assert!(keys.len() <= REVOKED_KEYS + 1);
        keys.clear();
        for n in 0..u8::try_from(KEYS).unwrap() {
            add_key(&mut keys, key(n), now).unwrap();
        }
        assert!(add_key(&mut keys, key(200), now).is_err());
        assert_eq!(keys.len(), KEYS);
    }

    #[test]
    fn scopes_are_read_with_the_path_of_what_is_wrong() {
        let take = |value: Value| {
            let mut fields = Fields::of("", json!({ "scopes": value })).unwrap();
            Scopes::take(&mut fields).map_err(|invalid| invalid.path)
        };
        let some = take(json!(["read", "request", "read"])).unwrap().unwrap();
        assert_eq!(json!(some), json!(["read", "request"]));
        assert!(some.are_within(&Scopes::default()) && !Scopes::default().are_within(&some));
        assert!(some.has(Scope::Read) && !some.has(Scope::Manage));
        assert_eq!(take(json!(null)), Ok(None));
        for (wrong, path) in [
            (json!([]), "scopes"),
            (json!("read"), "scopes"),
            (json!(["read", "Read"]), "scopes[1]"),
            (json!([null]), "scopes[0]"),
        ] {
            assert_eq!(take(wrong), Err(path.to_owned()));
        }
    }

    #[test]
    fn access_of_which_nothing_was_said_is_not_written() {
        assert!(Access::default().is_plain());
        assert_eq!(json!(Access::default()), json!({}));
        let mut changes = Changes::default();
        for n in 0..200 {
            changes.note(Uuid::from_u128(n));
        }
        assert!(changes.have(Uuid::from_u128(199)) && !changes.have(Uuid::from_u128(0)));
    }
}
