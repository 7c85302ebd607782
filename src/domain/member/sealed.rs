//! Sealed credentials: encrypted in the bucket, with a key that the bucket does not hold.
//!
//! A sealed text is `{"sealed": "{key id}.{base64 of nonce and ciphertext}"}`, encrypted with
//! AES-256-GCM. Each has a random nonce of 96 bits and is bound to its owner and its field, so it
//! cannot be unsealed anywhere else. Clients cannot write a sealed text, because a credential that
//! they give is a string.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::forms::Form;

const SEALED: &str = "sealed";
const NONCE_BYTES: usize = 12;
const KEY_BYTES: usize = 32;

/// Why a sealed text cannot be unsealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It was sealed with a key that this deployment does not have.
    #[error("it is encrypted with a key that SECRETS_KEY does not hold")]
    UnknownKey,
    /// It was altered, or moved from another owner or field.
    #[error("it is encrypted, and was altered")]
    Altered,
}

/// The keys of a deployment. The first one seals, and each of them unseals. Without a key,
/// credentials stay plain text.
#[derive(Clone, Default)]
pub struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: String,
    cipher: Aes256Gcm,
}

/// Seals and unseals the credentials of one owner.
pub struct Seal<'a> {
    /// The keys.
    pub keys: &'a Keys,
    /// Whose credentials they are: `{exchange}/{executor}`.
    pub owner: &'a str,
}

impl Keys {
    /// Reads keys of 32 bytes in base64, separated by white space, the current one first.
    ///
    /// # Errors
    ///
    /// Fails if one of them is not such a key.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let key = |text: &str| {
            let bytes = STANDARD.decode(text).ok()?;
            if bytes.len() != KEY_BYTES {
                return None;
            }
            let mut id = crate::domain::key::to_hex(&Sha256::digest(&bytes));
            id.truncate(8);
            let cipher = Aes256Gcm::new_from_slice(&bytes).ok()?;
            Some(Key { id, cipher })
        };
        let keys: Option<Vec<_>> = text.split_whitespace().map(key).collect();
        keys.map(Self).ok_or("must be 32 bytes in base64")
    }
}

impl Seal<'_> {
    /// Seals the credentials of an entry. Those sealed with an older key are sealed again with the
    /// current one. A credential that cannot be unsealed is left unchanged.
    pub fn seal(
        &self,
        entry: &mut Map<String, Value>,
        form: &Form,
        nonce: &dyn Fn() -> [u8; NONCE_BYTES],
    ) {
        let Some(current) = self.keys.0.first() else {
            return;
        };
        each(entry, form, |name, value| -> Result<(), SealError> {
            let is_current = sealed(value).is_some_and(|text| text.starts_with(&current.id));
            let plain = match self.unseal_text(name, value) {
                Ok(plain) if !is_current => plain,
                _ => return Ok(()),
            };
            let nonce = nonce();
            let payload = Payload {
                msg: plain.as_bytes(),
                aad: &self.bond(name),
            };
            // Only a text beyond 64 GB could fail.
            let sealed = current
                .cipher
                .encrypt(Nonce::from_slice(&nonce), payload)
                .map_err(|_| SealError::Altered)?;
            let text = STANDARD.encode([&nonce[..], &sealed].concat());
            *value = json!({SEALED: format!("{}.{text}", current.id)});
            Ok(())
        })
        .unwrap_or_default();
    }

    /// Unseals the credentials of an entry.
    ///
    /// # Errors
    ///
    /// Fails if one of them cannot be unsealed.
    pub fn unseal(&self, entry: &mut Map<String, Value>, form: &Form) -> Result<(), SealError> {
        each(entry, form, |name, value| {
            if sealed(value).is_some() {
                *value = Value::String(self.unseal_text(name, value)?);
            }
            Ok(())
        })
    }

    /// The data that a sealed text is bound to: its owner and its field.
    fn bond(&self, name: &str) -> Vec<u8> {
        format!("{}/{name}", self.owner).into_bytes()
    }

    fn unseal_text(&self, name: &str, value: &Value) -> Result<String, SealError> {
        if let Value::String(plain) = value {
            return Ok(plain.clone());
        }
        let (id, text) = sealed(value)
            .and_then(|text| text.split_once('.'))
            .ok_or(SealError::Altered)?;
        let key = self.keys.0.iter().find(|key| key.id == id);
        let key = key.ok_or(SealError::UnknownKey)?;
        let bytes = STANDARD.decode(text).map_err(|_| SealError::Altered)?;
        let (nonce, msg) = bytes
            .split_at_checked(NONCE_BYTES)
            .ok_or(SealError::Altered)?;
        let payload = Payload {
            msg,
            aad: &self.bond(name),
        };
        let plain = key.cipher.decrypt(Nonce::from_slice(nonce), payload);
        let plain = plain.map_err(|_| SealError::Altered)?;
        String::from_utf8(plain).map_err(|_| SealError::Altered)
    }
}

/// Visits each credential of an entry, sealed or not, with the name of its field.
///
/// # Errors
///
/// Fails with the first error of `visit`; the remaining credentials are not visited.
pub fn each<E>(
    entry: &mut Map<String, Value>,
    form: &Form,
    mut visit: impl FnMut(&str, &mut Value) -> Result<(), E>,
) -> Result<(), E> {
    for field in form.fields.iter().filter(|field| field.is_secret) {
        let Some(value) = entry.get_mut(field.name) else {
            continue;
        };
        match value {
            Value::Object(values) if !values.contains_key(SEALED) => {
                for (name, value) in values.iter_mut() {
                    visit(&format!("{}.{name}", field.name), value)?;
                }
            }
            value => visit(field.name, value)?,
        }
    }
    Ok(())
}

/// The text of a sealed credential, if `value` is one.
fn sealed(value: &Value) -> Option<&str> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.get(SEALED)?.as_str()
}
