//! Identifiers. They are parsed once at the edge; from then on their type vouches for them.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::limits::ID_CHARS;
use super::text::{Invalid, is_like_exchange};
use super::time::Timestamp;

/// The digits of what people may have to read and type. I, L, O and U are left out because they are
/// easily misread or misheard.
pub const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Whether `text` matches `[A-Za-z0-9][A-Za-z0-9_-]{0,63}`.
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && text.len() <= ID_CHARS
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        ///
        /// An id that is read back from the bucket is not checked again.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            /// Reads an id given by a client in the field `path`.
            pub fn parse(text: &str, path: &str) -> Result<Self, Invalid> {
                if is_name(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Invalid::new(
                        path,
                        "must be 1 to 64 letters, digits, '_' or '-', beginning with a letter or digit",
                    ))
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Names an exchange: one household or team, separate from all others in the bucket.
    ExchangeId
}
name! {
    /// Names an executor (or requestor) of an exchange: a person, a robot, a device, an agent.
    ExecutorId
}

impl ExecutorId {
    /// The id of the exchange itself as an actor. Nobody can register under it.
    pub const EXCHANGE: &str = "exchange";

    /// What stands for the caller in paths and filters. Nobody can register under it.
    pub const ME: &str = "me";

    /// Reads an id under which somebody wants to register.
    ///
    /// # Errors
    ///
    /// Fails if it is no id, or if it stands for something else or looks like it.
    pub fn parse_new(text: &str, path: &str) -> Result<Self, Invalid> {
        let id = Self::parse(text, path)?;
        if is_like_exchange(text) {
            return Err(Invalid::new(
                path,
                "must not look like exchange: that is the server itself",
            ));
        }
        if text.eq_ignore_ascii_case(Self::ME) {
            return Err(Invalid::new(
                path,
                "must not be me: that stands for whoever calls",
            ));
        }
        Ok(id)
    }

    /// Makes an id from a name in any script: of its Latin letters and digits, or else of `random`.
    /// While `is_taken`, it is numbered.
    pub fn from_name(name: &str, random: [u8; 8], is_taken: impl Fn(&str) -> bool) -> Self {
        let mut base = String::new();
        for c in name.chars().flat_map(char::to_lowercase) {
            match latin(c) {
                Some(letters) => base.push_str(letters),
                None if c.is_ascii_alphanumeric() => base.push(c),
                None if !base.is_empty() && !base.ends_with('-') => base.push('-'),
                None => {}
            }
        }
        // Room for a number.
        base.truncate(ID_CHARS.saturating_sub(8));
        let mut base = base.trim_end_matches('-').to_owned();
        if base.is_empty() || Self::parse_new(&base, "").is_err() {
            let digits = random
                .iter()
                .filter_map(|byte| ALPHABET.get(usize::from(byte % 32)))
                .map(|digit| char::from(digit.to_ascii_lowercase()));
            base = "member-".chars().chain(digits).collect();
        }
        let numbered = (2..1_000_000).map(|number| format!("{base}-{number}"));
        let mut candidates = std::iter::once(base.clone()).chain(numbered);
        Self(candidates.find(|id| !is_taken(id)).unwrap_or(base))
    }

    /// The exchange itself, as the actor of what happens because a moment has come.
    pub fn exchange() -> Self {
        Self(Self::EXCHANGE.to_owned())
    }

    /// Whether this is the exchange itself.
    pub fn is_exchange(&self) -> bool {
        self.0 == Self::EXCHANGE
    }
}

/// A lower-case letter of a European alphabet in plain Latin letters.
fn latin(c: char) -> Option<&'static str> {
    Some(match c {
        'à' | 'á' | 'â' | 'ã' | 'å' | 'ā' | 'ă' | 'ą' => "a",
        'ä' | 'æ' => "ae",
        'ç' | 'ć' | 'č' | 'ĉ' | 'ċ' => "c",
        'ď' | 'đ' | 'ð' => "d",
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ė' | 'ę' | 'ě' => "e",
        'ğ' | 'ģ' | 'ĝ' | 'ġ' => "g",
        'ì' | 'í' | 'î' | 'ï' | 'ī' | 'į' | 'ı' => "i",
        'ķ' => "k",
        'ĺ' | 'ļ' | 'ľ' | 'ł' => "l",
        'ñ' | 'ń' | 'ņ' | 'ň' => "n",
        'ò' | 'ó' | 'ô' | 'õ' | 'ō' | 'ő' => "o",
        'ö' | 'ø' | 'œ' => "oe",
        'ŕ' | 'ř' => "r",
        'ś' | 'š' | 'ş' | 'ș' => "s",
        'ß' => "ss",
        'ť' | 'ţ' | 'ț' => "t",
        'þ' => "th",
        'ù' | 'ú' | 'û' | 'ū' | 'ů' | 'ű' | 'ų' => "u",
        'ü' => "ue",
        'ý' | 'ÿ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        _ => return None,
    })
}

/// Names a thread: the UTC date of its creation and 4 to 6 characters, as in `2025-02-01-XY1Z`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ref(String);

impl Ref {
    /// A new ref for a thread created at `now`, from five random bytes, of which 25 bits count.
    ///
    /// The random part has five characters, where other servers draw four, so a new ref never
    /// equals one of theirs.
    pub fn new(now: Timestamp, random: [u8; 5]) -> Self {
        let (year, month, day) = now.date();
        let tail: String = random
            .iter()
            .filter_map(|byte| ALPHABET.get(usize::from(byte % 32)))
            .map(|byte| char::from(*byte))
            .collect();
        Self(format!("{year:04}-{month:02}-{day:02}-{tail}"))
    }

    /// Reads a ref that a client gave. Its date need not exist: there is only no request of that day.
    ///
    /// # Errors
    ///
    /// Fails if `text` is not of the form.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut parts = text.splitn(4, '-');
        let mut is_number = |digits: usize| {
            let part = parts.next().unwrap_or_default();
            part.len() == digits && part.bytes().all(|b| b.is_ascii_digit())
        };
        let is_dated = is_number(4) && is_number(2) && is_number(2);
        let tail = parts.next().unwrap_or_default();
        let is_named = (4..=6).contains(&tail.len())
            && tail
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if is_dated && is_named {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("ref", "must look like 2025-02-01-XY1Z"))
        }
    }

    /// The ref as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Derives an id from `parts`: the same parts always give the same id.
pub fn derived_id(parts: &[&str]) -> Uuid {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    let mut bytes = [0; 16];
    for (byte, hashed) in bytes.iter_mut().zip(hash.finalize()) {
        *byte = hashed;
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["home", "my_home", "a", "0", "A-b_9", &"x".repeat(64)] {
            assert!(ExchangeId::parse(good, "exchange_id").is_ok(), "{good}");
        }
        for bad in [
            "",
            "_a",
            "-a",
            "a.b",
            "a/b",
            "a b",
            "é",
            "a\0",
            "..",
            &"x".repeat(65),
        ] {
            assert!(ExchangeId::parse(bad, "exchange_id").is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_that_stand_for_something_else() {
        for bad in [
            "exchange",
            "Exchange",
            "EX-CHANGE",
            "3xchange",
            "exch4ng3",
            "the_exchange",
            "me",
            "Me",
        ] {
            assert!(ExecutorId::parse_new(bad, "").is_err(), "{bad}");
        }
        for good in ["exchanger", "meg", "stock-exchange", "phone"] {
            assert!(ExecutorId::parse_new(good, "").is_ok(), "{good}");
        }
    }

    #[test]
    fn ids_from_names() {
        let id = |name: &str, taken: &[&str]| {
            let made = ExecutorId::from_name(name, [7; 8], |id| taken.contains(&id));
            assert!(ExecutorId::parse_new(made.as_str(), "").is_ok(), "{made}");
            made.as_str().to_owned()
        };
        assert_eq!(id("Anna", &[]), "anna");
        assert_eq!(id("Anna", &["anna", "anna-2"]), "anna-3");
        assert_eq!(id("  Jürgen  Groß (Küche) ", &[]), "juergen-gross-kueche");
        assert_eq!(id("Łukasz Żółć", &[]), "lukasz-zolc");
        assert_eq!(id("小明", &[]), "member-77777777");
        assert_eq!(id("Exchange", &[]), "member-77777777");
        assert_eq!(id("me", &[]), "member-77777777");
        assert_eq!(id("👋", &[]), "member-77777777");
        assert_eq!(id(&"x".repeat(200), &[]).len(), 56);
    }

    #[test]
    fn refs() {
        let made = Ref::new(
            Timestamp::parse("2025-02-01T23:59:59Z").unwrap(),
            [0, 31, 255, 10, 42],
        );
        assert_eq!(made.as_str(), "2025-02-01-0ZZAA");
        assert_eq!(Ref::parse(made.as_str()), Ok(made));
        for good in [
            "2025-02-01-XY1Z",
            "2025-02-01-ABCDEF",
            "2025-12-31-0000",
            // Days that there are not.
            "2025-02-31-XY1Z",
            "2025-13-00-XY1Z",
        ] {
            assert!(Ref::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "2025-02-01",
            "2025-02-01-",
            "2025-02-01-XYZ",
            "2025-02-01-ABCDEFG",
            "2025-02-01-xy1z",
            "25-02-01-XY1Z",
            "2025-02-01-XY-Z",
            "+025-02-01-XY1Z",
            "2025-02-01-XÉZZ",
            "2025-02-01-XY1Z/..",
        ] {
            assert!(Ref::parse(bad).is_err(), "{bad}");
        }
    }
}
