//! API keys: `mess_{exchange_id}_{token}`.
//!
//! A new token is 40 hex digits of randomness (160 bits) followed by 8 hex digits of a checksum
//! over everything before them. The checksum lets the server refuse a mistyped or invented key
//! without reading the bucket. Tokens of other MESS servers are 32 hex digits without a checksum.
//! The server only ever stores a SHA-256 of the whole key.

use std::fmt;

use sha2::{Digest, Sha256};

use super::ids::ExchangeId;

const RANDOM_DIGITS: usize = 40;
const CHECKSUM_DIGITS: usize = 8;
const OLDER_DIGITS: usize = 32;

/// A well-formed API key. `Debug` does not show its text, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    text: String,
    hash: KeyHash,
    exchange: ExchangeId,
    older: bool,
}

impl ApiKey {
    /// Makes a new key of `exchange` from 20 random bytes.
    pub fn new(exchange: &ExchangeId, random: [u8; 20]) -> Self {
        Self::of(exchange, &to_hex(&random))
    }

    /// Makes a key of `exchange` from a token that a client drew: 40 lower-case hex digits. Returns
    /// `None` if the token is none, or cannot have been drawn at random.
    pub fn from_token(exchange: &ExchangeId, token: &str) -> Option<Self> {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_hex = token.len() == RANDOM_DIGITS && token.as_bytes().iter().all(is_digit);
        // Of forty random digits, fewer than eight are different once in 10^12 times.
        let different: std::collections::BTreeSet<_> = token.bytes().collect();
        (is_hex && different.len() >= 8).then(|| Self::of(exchange, token))
    }

    fn of(exchange: &ExchangeId, token: &str) -> Self {
        let body = format!("mess_{exchange}_{token}");
        let text = format!("{body}{}", checksum(&body));
        Self {
            hash: KeyHash::of(&text),
            text,
            exchange: exchange.clone(),
            older: false,
        }
    }

    /// Reads a key. Returns `None` if it cannot be one of ours or its checksum is wrong.
    pub fn parse(text: &str) -> Option<Self> {
        let (exchange, token) = text.strip_prefix("mess_")?.rsplit_once('_')?;
        let exchange = ExchangeId::parse(exchange, "exchange_id").ok()?;
        let hex = token
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let older = token.len() == OLDER_DIGITS;
        let whole = older || {
            let body = text.len().checked_sub(CHECKSUM_DIGITS)?;
            token.len() == RANDOM_DIGITS.saturating_add(CHECKSUM_DIGITS)
                && text
                    .split_at_checked(body)
                    .is_some_and(|(body, sum)| checksum(body) == sum)
        };
        (hex && whole).then(|| Self {
            hash: KeyHash::of(text),
            text: text.to_owned(),
            exchange,
            older,
        })
    }

    /// The exchange that the key names.
    pub fn exchange(&self) -> &ExchangeId {
        &self.exchange
    }

    /// Whether the key was made by another MESS server and so has no checksum.
    pub fn is_older_form(&self) -> bool {
        self.older
    }

    /// The hash of the key, which is all that is stored of it.
    pub fn hash(&self) -> KeyHash {
        self.hash.clone()
    }

    /// Its last four characters, by which its owner may recognize it.
    pub fn last4(&self) -> String {
        let start = self.text.len().saturating_sub(4);
        self.text.get(start..).unwrap_or_default().to_owned()
    }

    /// The key itself, to be shown once to the executor that registered.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey(mess_{}_…)", self.exchange)
    }
}

/// The SHA-256 of an API key: 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct KeyHash(String);

impl KeyHash {
    fn of(key: &str) -> Self {
        Self(to_hex(&Sha256::digest(key.as_bytes())))
    }

    /// Reads the base64 hash found in a record of another MESS server.
    pub fn from_base64(text: &str) -> Option<Self> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .ok()?;
        (bytes.len() == 32).then(|| Self(to_hex(&bytes)))
    }

    /// The id of the key: the first twelve digits of its hash, which tell nothing of the key.
    pub fn id(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }

    /// The hash as hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first 32 bits of the SHA-256 of `text`, as eight hex digits.
///
/// It detects mistakes. It is not a secret: anyone can compute it.
pub(super) fn checksum(text: &str) -> String {
    let mut digits = to_hex(&Sha256::digest(text.as_bytes()));
    digits.truncate(CHECKSUM_DIGITS);
    digits
}

/// Bytes as lower-case hex digits.
pub fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(text: &str) -> ExchangeId {
        ExchangeId::parse(text, "exchange_id").unwrap()
    }

    #[test]
    fn round_trip_with_underscores_in_the_exchange() {
        let key = ApiKey::new(&exchange("my_home"), [7; 20]);
        let read = ApiKey::parse(key.reveal()).unwrap();
        assert_eq!(read.exchange().as_str(), "my_home");
        assert_eq!(read, key);
        assert!(!read.is_older_form());
        assert_eq!(key.hash().as_str().len(), 64);
    }

    #[test]
    fn every_single_change_of_a_character_is_found() {
        let key = ApiKey::new(&exchange("home"), [0x5a; 20]);
        let text = key.reveal();
        for at in 0..text.len() {
            let mut changed: Vec<char> = text.chars().collect();
            changed[at] = if changed[at] == '1' { '2' } else { '1' };
            let changed: String = changed.into_iter().collect();
            assert_eq!(ApiKey::parse(&changed), None, "{changed}");
        }
        assert_eq!(ApiKey::parse(&text.to_uppercase()), None);
        assert_eq!(ApiKey::parse(&text[..text.len() - 1]), None);
        assert_eq!(ApiKey::parse(&format!("{text}0")), None);
    }

    #[test]
    fn keys_of_which_the_client_drew_the_token() {
        let home = exchange("home");
        let drawn = "00112233445566778899aabbccddeeff01234567";
        let key = ApiKey::from_token(&home, drawn).unwrap();
        assert_eq!(ApiKey::parse(key.reveal()), Some(key.clone()));
        assert_eq!(Some(key), ApiKey::from_token(&home, drawn));
        for wrong in [
            "",
            &drawn[1..],
            &format!("{drawn}0"),
            &drawn.to_uppercase(),
            &drawn.replace('0', "g"),
            &"0".repeat(40),
            &"01234".repeat(8),
        ] {
            assert_eq!(ApiKey::from_token(&home, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn keys_of_other_servers() {
        let text = "mess_home_0123456789abcdef0123456789abcdef";
        let key = ApiKey::parse(text).unwrap();
        assert!(key.is_older_form());
        // printf '%s' "$text" | openssl dgst -sha256 -binary | base64
        let stored = KeyHash::from_base64("l8IrtyEC9czNArbNLt/4oE9y2+lh+6t2pl3kH6wXC8I=");
        assert_eq!(stored, Some(key.hash()));
        assert_eq!(KeyHash::from_base64("not base64"), None);
        assert_eq!(KeyHash::from_base64("AAAA"), None);
    }

    #[test]
    fn debug_does_not_show_the_token() {
        let key = ApiKey::new(&exchange("home"), [1; 20]);
        assert_eq!(format!("{key:?}"), "ApiKey(mess_home_…)");
    }

    #[test]
    fn never_panics_on_strange_text() {
        for text in [
            "",
            "mess_",
            "mess__",
            "mess_é_é",
            "mess_home_é",
            "Bearer",
            "mess_home_",
        ] {
            assert_eq!(ApiKey::parse(text), None, "{text}");
        }
    }
}
