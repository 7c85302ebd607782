//! Invitations, and the codes by which they are used.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::access::{Changes, Kind, Role, Scope, Scopes, Useless};
use crate::domain::duration::Duration;
use crate::domain::ids::{ALPHABET, ExecutorId};
use crate::domain::key::{KeyHash, to_hex};
use crate::domain::limits::{INVITATION_EXPIRES, INVITATION_USES, NAME_CHARS};
use crate::domain::text::{Fields, Invalid, check_name};
use crate::domain::time::Timestamp;

/// How many characters of a code name the invitation.
const ID: usize = 8;
/// How many characters of a code are secret: a hundred bits.
const SECRET: usize = 20;

/// The code of an invitation: 28 characters, in groups. `Debug` does not show it.
///
/// The first eight characters are the id of the invitation. Like refs, codes have no letters that are
/// easily misread, and they are read whatever their case and however they are grouped.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(String);

impl Code {
    /// A new code from random bytes, of which five bits count each.
    pub fn new(random: [u8; ID + SECRET]) -> Self {
        let digits = random
            .iter()
            .filter_map(|byte| ALPHABET.get(usize::from(byte % 32)));
        Self(digits.map(|digit| char::from(*digit)).collect())
    }

    /// Reads a code as somebody typed it. Returns `None` if it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        // A long text is no code, and is not worth a look.
        let text = (text.len() <= 100).then_some(text)?;
        let mut code = String::with_capacity(ID + SECRET);
        for c in text.chars() {
            match c.to_ascii_uppercase() {
                '-' | ' ' => {}
                'O' => code.push('0'),
                'I' | 'L' => code.push('1'),
                c if c.is_ascii() && ALPHABET.contains(&u8::try_from(c).ok()?) => code.push(c),
                _ => return None,
            }
        }
        (code.len() == ID + SECRET).then_some(Self(code))
    }

    /// The id of the invitation.
    pub fn id(&self) -> String {
        self.0.chars().take(ID).collect()
    }

    /// The SHA-256 of the code, which is all that is stored of it.
    pub fn hash(&self) -> String {
        to_hex(&Sha256::digest(&self.0))
    }

    /// The code itself in groups, to be shown once to who invites.
    pub fn reveal(&self) -> String {
        let digits: Vec<char> = self.0.chars().collect();
        let groups: Vec<String> = digits
            .chunks(4)
            .map(|group| group.iter().collect())
            .collect();
        groups.join("-")
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({}…)", self.id())
    }
}

/// Whether `text` can be the id of an invitation.
pub fn is_id(text: &str) -> bool {
    text.len() == ID && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// What an invitation offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// What it is for, in the words of who invites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The id that the invited will have. If it is that of a member, the invitation adds a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_id: Option<ExecutorId>,
    /// The name that the invited will have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// The role that the invited will have.
    pub role: Role,
    /// What the invited is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The scopes of the key that the invited will get.
    pub scopes: Scopes,
    /// Whether it adds a key to a member, who must be there then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adds_key: bool,
    /// How often it may be used.
    pub max_uses: usize,
    /// Whether its use ends all other keys of the member.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoke_others: bool,
}

impl Offer {
    /// Reads what an invitation is to offer, and how long. In `executor_id`, `me` stands for the
    /// caller. Without `scopes` it offers all that are usual for the kind, as far as `most` has them.
    ///
    /// # Errors
    ///
    /// Fails with the path of the first thing that is wrong.
    pub fn parse(
        mut fields: Fields,
        caller: Option<&ExecutorId>,
        most: &Scopes,
    ) -> Result<(Self, Duration), Invalid> {
        let fields = &mut fields;
        let label = fields.take_string("label")?;
        if let Some(label) = &label {
            check_name(label, &fields.path("label"), NAME_CHARS)?;
        }
        let executor_id = fields.take_string("executor_id")?;
        let executor_id = executor_id.map(|id| match caller {
            Some(caller) if id == ExecutorId::ME => Ok(caller.clone()),
            _ => ExecutorId::parse(&id, "executor_id"),
        });
        let display_name = fields.take_string("display_name")?;
        if let Some(name) = &display_name {
            check_name(name, "display_name", NAME_CHARS)?;
        }
        let kind = Kind::take(fields)?;
        let usual = match kind {
            Some(Kind::Software) => [Scope::Read, Scope::Request].into(),
            _ => Scopes::default(),
        };
        let given = Scopes::take(fields)?;
        let scopes = given.unwrap_or_else(|| usual.within(most));
        if scopes.is_empty() || !scopes.are_within(most) {
            let problem = "must be within the scopes of the key that asks";
            return Err(Invalid::new("scopes", problem));
        }
        let max_uses = take_number(fields, "max_uses", &INVITATION_USES)?.unwrap_or(1);
        let offer = Self {
            label,
            executor_id: executor_id.transpose()?,
            display_name,
            role: Role::take(fields)?.unwrap_or_default(),
            kind,
            scopes,
            adds_key: false,
            max_uses,
            revoke_others: fields.take_bool("revoke_others")?.unwrap_or(false),
        };
        if offer.executor_id.is_some() && offer.max_uses > 1 {
            let problem = "must be 1 where the invitation names an executor_id";
            return Err(Invalid::new("max_uses", problem));
        }
        let expires_in = take_duration(fields, "expires_in", &INVITATION_EXPIRES)?;
        Ok((offer, expires_in.unwrap_or(Duration::days(7))))
    }
}

/// Takes a whole number within `range`.
fn take_number(
    fields: &mut Fields,
    name: &str,
    range: &RangeInclusive<usize>,
) -> Result<Option<usize>, Invalid> {
    let Some(value) = fields.take(name) else {
        return Ok(None);
    };
    let number = value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok());
    let number = number.filter(|number| range.contains(number));
    number.map(Some).ok_or_else(|| {
        let problem = format!("must be a number from {} to {}", range.start(), range.end());
        Invalid::new(fields.path(name), problem)
    })
}

/// Takes a duration within `range`.
///
/// # Errors
///
/// Fails if it is given and is no such duration.
pub fn take_duration(
    fields: &mut Fields,
    name: &str,
    range: &RangeInclusive<Duration>,
) -> Result<Option<Duration>, Invalid> {
    let Some(text) = fields.take_string(name)? else {
        return Ok(None);
    };
    let duration = Duration::parse(&text).filter(|duration| range.contains(duration));
    duration.map(Some).ok_or_else(|| {
        let (start, end) = (range.start(), range.end());
        let problem = format!("must be an ISO 8601 duration from {start} to {end}");
        Invalid::new(fields.path(name), problem)
    })
}

/// A use of an invitation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Use {
    /// The mutation that used it.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Who registered or got a key by it.
    pub executor_id: ExecutorId,
    /// The hash of the key. Who asks again with the same key uses it only once.
    pub key_hash: KeyHash,
}

/// What is stored of an invitation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invitation {
    /// The SHA-256 of its code.
    pub code_hash: String,
    /// What it offers.
    #[serde(flatten)]
    pub offer: Offer,
    /// Who invites, or `None` if it is the operator.
    pub created_by: Option<ExecutorId>,
    /// The id of the key with which it was made. It can be used only as long as that is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_with: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it can be used.
    pub expires_at: Timestamp,
    /// Until when the key is valid that it gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_expires_at: Option<Timestamp>,
    /// Since when it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// Its uses.
    #[serde(default)]
    pub uses: Vec<Use>,
    /// The mutations that changed it, beside its uses.
    #[serde(default)]
    pub changes: Changes,
}

impl Invitation {
    /// Checks that `code` opens it, and that it can be used at `now`, or was used for this key.
    ///
    /// # Errors
    ///
    /// Fails with the reason if it cannot.
    pub fn check(&self, code: &Code, key: Option<&KeyHash>, now: Timestamp) -> Result<(), Useless> {
        // Both are digests, so how long the comparison takes tells nothing of the code.
        if self.code_hash != code.hash() {
            return Err(Useless::Unknown);
        }
        if self.revoked_at.is_some() {
            return Err(Useless::Revoked);
        }
        if self.expires_at <= now {
            return Err(Useless::Expired);
        }
        let is_ours = |used: &Use| Some(&used.key_hash) == key;
        if self.uses.len() >= self.offer.max_uses && !self.uses.iter().any(is_ours) {
            return Err(Useless::UsedUp);
        }
        Ok(())
    }

    /// Whether it is of no use to anybody any more.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.revoked_at.is_some()
            || self.expires_at <= now
            || self.uses.len() >= self.offer.max_uses
    }

    /// What owners see of it: never the code.
    pub fn shown(&self, id: &str) -> Value {
        let uses: Vec<_> = self
            .uses
            .iter()
            .map(|used| json!({"executor_id": used.executor_id, "at": used.at}))
            .collect();
        let last = self.uses.last();
        json!({
            "id": id,
            "label": self.offer.label,
            "executor_id": self.offer.executor_id,
            "display_name": self.offer.display_name,
            "role": self.offer.role,
            "kind": self.offer.kind,
            "scopes": self.offer.scopes,
            "max_uses": self.offer.max_uses,
            "revoke_others": self.offer.revoke_others,
            "invited_by": self.created_by,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "revoked_at": self.revoked_at,
            "used_by": last.map(|used| &used.executor_id),
            "used_at": last.map(|used| used.at),
            "uses": uses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ExchangeId;
    use crate::domain::key::ApiKey;

    fn invitation(code: &Code) -> Invitation {
        let fields = Fields::of("", json!({"max_uses": 2})).unwrap();
        let (offer, expires_in) = Offer::parse(fields, None, &Scopes::default()).unwrap();
        Invitation {
            code_hash: code.hash(),
            offer,
            created_by: None,
            made_with: None,
            created_at: Timestamp::default(),
            expires_at: Timestamp::default().plus_millis(expires_in.millis()),
            key_expires_at: None,
            revoked_at: None,
            uses: Vec::new(),
            changes: Changes::default(),
        }
    }

    fn code(seed: u8) -> Code {
        Code::new(std::array::from_fn(|at| {
            u8::try_from(at).unwrap().wrapping_mul(7) ^ seed
        }))
    }

    #[test]
    fn a_code_is_read_as_people_write_it() {
        let code = code(3);
        let shown = code.reveal();
        assert_eq!(shown.len(), 28 + 6);
        for typed in [
            shown.clone(),
            shown.to_lowercase(),
            shown.replace('-', ""),
            shown.replace('-', " "),
            format!(" {shown} "),
            shown.replace('0', "o").replace('1', "l"),
        ] {
            assert_eq!(Code::parse(&typed), Some(code.clone()), "{typed}");
        }
        for wrong in [
            "",
            "-",
            &shown[1..],
            &format!("{shown}0"),
            &shown.replace('0', "é"),
            &"-".repeat(5_000),
        ] {
            assert_eq!(Code::parse(wrong), None, "{wrong}");
        }
        assert!(is_id(&code.id()) && !is_id("../../..") && !is_id(""));
        assert!(!format!("{code:?}").contains(&shown[10..]));
    }

    #[test]
    fn when_an_invitation_is_of_use() {
        let (code, now) = (code(3), Timestamp::from_millis(5));
        let mut invitation = invitation(&code);
        assert_eq!(invitation.check(&code, None, now), Ok(()));
        // The same id with another secret.
        let other = Code::parse(&format!("{}{}", code.id(), "0".repeat(20))).unwrap();
        assert_eq!(invitation.check(&other, None, now), Err(Useless::Unknown));
        assert_eq!(
            invitation.check(&code, None, invitation.expires_at),
            Err(Useless::Expired)
        );
        let home = ExchangeId::parse("home", "").unwrap();
        let key = ApiKey::new(&home, [1; 20]).hash();
        let used = Use {
            id: Uuid::nil(),
            at: now,
            executor_id: ExecutorId::parse("a", "").unwrap(),
            key_hash: key.clone(),
        };
        invitation.uses.push(used.clone());
        assert_eq!(
            invitation.check(&code, None, now),
            Ok(()),
            "it has two uses"
        );
        invitation.uses.push(used);
        assert_eq!(invitation.check(&code, None, now), Err(Useless::UsedUp));
        assert_eq!(
            invitation.check(&code, Some(&key), now),
            Ok(()),
            "the same key again"
        );
        invitation.revoked_at = Some(now);
        assert_eq!(invitation.check(&code, None, now), Err(Useless::Revoked));
        assert!(
            !invitation
                .shown("X")
                .to_string()
                .contains(&invitation.code_hash)
        );
    }

    #[test]
    fn what_an_invitation_offers_by_itself() {
        let parse = |value| Offer::parse(Fields::of("", value).unwrap(), None, &Scopes::default());
        let (offer, expires_in) = parse(json!({})).unwrap();
        assert_eq!((offer.role, offer.max_uses), (Role::Member, 1));
        assert_eq!(offer.scopes, Scopes::default());
        assert_eq!(expires_in, Duration::days(7));
        let (offer, _) = parse(json!({"kind": "software"})).unwrap();
        assert_eq!(json!(offer.scopes), json!(["read", "request"]));
        let (offer, _) = parse(json!({"kind": "software", "scopes": ["execute"]})).unwrap();
        assert_eq!(json!(offer.scopes), json!(["execute"]));
        for (wrong, path) in [
            (json!({"max_uses": 0}), "max_uses"),
            (json!({"max_uses": 101}), "max_uses"),
            (json!({"max_uses": 1.5}), "max_uses"),
            (json!({"max_uses": 2, "executor_id": "a"}), "max_uses"),
            (json!({"expires_in": "PT9M"}), "expires_in"),
            (json!({"expires_in": "P31D"}), "expires_in"),
            (json!({"expires_in": 5}), "expires_in"),
            (json!({"role": "admin"}), "role"),
            (json!({"kind": "cat"}), "kind"),
            (json!({"executor_id": "a/b"}), "executor_id"),
            (json!({"display_name": "a\u{202e}b"}), "display_name"),
            (json!({"label": ""}), "label"),
        ] {
            assert_eq!(parse(wrong).unwrap_err().path, path);
        }
    }
}
