//! Signatures of webhooks: Standard Webhooks 1.0.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use serde_json::{Map, Value};
use sha2::Sha256;
use uuid::Uuid;

use super::http::Request;
use crate::domain::member::forms::{Complaint, MASK, text};
use crate::domain::time::Timestamp;

/// How many bytes the key in a secret may have.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What is wrong with a secret.
const PROBLEM: &str = "must be whsec_ and the base64 of 24 to 64 bytes; while one is being replaced, the new and the old one separated by a space";

/// Checks the `secret` of a webhook's entry. A masked secret passes.
///
/// # Errors
///
/// Fails if the secret is not one of Standard Webhooks.
pub fn check_secret(entry: &Map<String, Value>) -> Result<(), Complaint> {
    match text(entry, "secret") {
        Some(secret) if !secret.starts_with(MASK) && keys(secret).is_none() => {
            Err(("secret", PROBLEM))
        }
        _ => Ok(()),
    }
}

/// Adds the headers with which the receiver can verify the sender. There is one signature for each
/// secret. Without a secret, only the id is added.
///
/// # Errors
///
/// Fails if a secret cannot sign.
pub fn sign(
    request: Request,
    secret: Option<&str>,
    id: Uuid,
    now: Timestamp,
) -> Result<Request, &'static str> {
    let request = request.header("webhook-id", &id.to_string());
    let Some(secret) = secret else {
        return Ok(request);
    };
    let keys = keys(secret).ok_or("the secret cannot sign: it must be whsec_ and base64")?;
    let timestamp = now.millis() / 1_000;
    let body = request.body.as_deref().unwrap_or_default();
    let signatures: Vec<_> = keys
        .iter()
        .map(|key| signature(key, &id.to_string(), timestamp, body))
        .collect();
    Ok(request
        .header("webhook-timestamp", &timestamp.to_string())
        .header("webhook-signature", &signatures.join(" ")))
}

/// The keys of one secret, or of several separated by white space.
fn keys(secret: &str) -> Option<Vec<Vec<u8>>> {
    let keys: Option<Vec<_>> = secret.split_whitespace().map(key).collect();
    keys.filter(|keys| !keys.is_empty())
}

fn key(secret: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
    SECRET_BYTES.contains(&key.len()).then_some(key)
}

fn signature(key: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    // HMAC accepts keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_published_vector() {
        let signed = signature(
            &key(SECRET).unwrap(),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn both_secrets_sign_during_a_rotation() {
        let request = Request::json("POST", "https://a.example/", &json!({}));
        let both = format!("{SECRET} whsec_{}", STANDARD.encode([7; 64]));
        let signed = sign(
            request,
            Some(&both),
            Uuid::nil(),
            Timestamp::from_millis(5_999),
        )
        .unwrap();
        let header = |name: &str| &signed.headers.iter().find(|(n, _)| n == name).unwrap().1;
        assert_eq!(header("webhook-timestamp"), "5");
        assert_eq!(header("webhook-id"), &Uuid::nil().to_string());
        let parts: Vec<_> = header("webhook-signature").split(' ').collect();
        assert_eq!(parts.len(), 2);
        assert!(
            parts
                .iter()
                .all(|part| part.starts_with("v1,") && part.len() == 47)
        );
    }

    #[test]
    fn secrets_that_are_refused() {
        for bad in [
            "",
            " ",
            "abc",
            "whsec_",
            "whsec_AAAA",
            "whsec_!!!!",
            &format!("{SECRET} x"),
        ] {
            assert!(
                check_secret(json!({"secret": bad}).as_object().unwrap()).is_err(),
                "{bad}"
            );
        }
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        assert!(check_secret(json!({"secret": long}).as_object().unwrap()).is_err());
        for good in [
            json!({}),
            json!({"secret": SECRET}),
            json!({"secret": "••••LaSw"}),
        ] {
            assert!(check_secret(good.as_object().unwrap()).is_ok());
        }
    }
}
