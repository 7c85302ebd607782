//! Identifiers. They are parsed once at the edge; from then on their type vouches for them.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::limits::ID_CHARS;
use super::text::Invalid;
use super::time::Timestamp;

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

    /// The exchange itself, as the actor of what happens because a moment has come.
    pub fn exchange() -> Self {
        Self(Self::EXCHANGE.to_owned())
    }

    /// Whether this is the exchange itself.
    pub fn is_exchange(&self) -> bool {
        self.0 == Self::EXCHANGE
    }
}

/// Names a thread: the UTC date of its creation and 4 to 6 characters, as in `2025-02-01-XY1Z`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ref(String);

impl Ref {
    /// The characters of a new ref's random part. I, L, O and U are left out because they are
    /// easily misread or misheard.
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    /// A new ref for a thread created at `now`, from five random bytes, of which 25 bits count.
    ///
    /// The random part has five characters, where other servers draw four, so a new ref never
    /// equals one of theirs.
    pub fn new(now: Timestamp, random: [u8; 5]) -> Self {
        let (year, month, day) = now.date();
        let tail: String = random
            .iter()
            .filter_map(|byte| Self::ALPHABET.get(usize::from(byte % 32)))
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
