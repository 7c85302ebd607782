//! AWS Signature Version 4, in the `Authorization` header.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use std::fmt::Write as _;

use hmac::{Hmac, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::wire::Outgoing;
use crate::domain::key::to_hex;
use crate::domain::time::Timestamp;

/// All characters except the unreserved ones of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// The same for a path, in which slashes are not encoded.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// Who signs, and for which region.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key id.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: String,
    /// The region, such as `eu-central-1`.
    pub region: String,
}

/// Encodes a key for the path of a signed request.
pub fn encode_path(key: &str) -> String {
    utf8_percent_encode(key, RESERVED_IN_PATH).to_string()
}

/// Encodes and sorts the parameters of a signed request.
pub fn encode_query(parameters: &[(&str, &str)]) -> String {
    let encode = |text| utf8_percent_encode(text, RESERVED);
    let mut pairs: Vec<_> = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    pairs.sort();
    pairs.join("&")
}

/// Adds the headers to `request` that sign it at the moment `at`. They sign its method, its URL
/// (with path and query encoded by the functions above), its headers and its body.
pub fn sign(request: &mut Outgoing, url: &Url, credentials: &Credentials, at: Timestamp) {
    let time = at.basic();
    let day = time.split('T').next().unwrap_or_default();
    let hash = to_hex(&Sha256::digest(request.body.as_deref().unwrap_or_default()));
    request.headers.push(("x-amz-content-sha256", hash.clone()));
    request.headers.push(("x-amz-date", time.clone()));

    let host = url.host_str().unwrap_or_default();
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let mut headers: Vec<(&str, &str)> = vec![("host", &host)];
    headers.extend(
        request
            .headers
            .iter()
            .map(|(name, value)| (*name, value.trim())),
    );
    headers.sort_unstable();
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut canonical = format!(
        "{}\n{}\n{}\n",
        request.method,
        url.path(),
        url.query().unwrap_or_default()
    );
    for (name, value) in headers {
        let _ = writeln!(canonical, "{name}:{value}");
    }
    let _ = write!(canonical, "\n{names}\n{hash}");

    let region = &credentials.region;
    let scope = format!("{day}/{region}/s3/aws4_request");
    let digest = to_hex(&Sha256::digest(canonical));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
    let mut key = format!("AWS4{}", credentials.secret_key).into_bytes();
    for part in [day, region, "s3", "aws4_request"] {
        key = authenticate(&key, part);
    }
    let signature = to_hex(&authenticate(&key, &text));
    let id = &credentials.access_key;
    request.headers.push((
        "authorization",
        format!(
            "AWS4-HMAC-SHA256 Credential={id}/{scope},SignedHeaders={names},Signature={signature}"
        ),
    ));
}

fn authenticate(key: &[u8], text: &str) -> Vec<u8> {
    // A key may have any length, so this never fails.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new();
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples on the page linked above, with its credentials.
    #[test]
    fn the_published_examples() {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            region: "us-east-1".to_owned(),
        };
        let at = Timestamp::parse("2013-05-24T00:00:00Z").unwrap();
        let header = |name, value: &str| (name, value.to_owned());
        let list = encode_query(&[("prefix", "J"), ("max-keys", "2")]);
        let put = vec![
            header("date", "Fri, 24 May 2013 00:00:00 GMT"),
            header("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        let examples = [
            (
                "GET",
                "test.txt",
                String::new(),
                vec![header("range", "bytes=0-9")],
                None,
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "PUT",
                "test$file.text",
                String::new(),
                put,
                Some(b"Welcome to Amazon S3.".to_vec()),
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                "GET",
                "",
                encode_query(&[("lifecycle", "")]),
                vec![],
                None,
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "GET",
                "",
                list,
                vec![],
                None,
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ];
        for (method, key, query, headers, body, expected) in examples {
            let mut url = Url::parse("https://examplebucket.s3.amazonaws.com").unwrap();
            url.set_path(&encode_path(key));
            url.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));
            let mut request = Outgoing {
                method,
                url: url.to_string(),
                headers,
                body,
            };
            sign(&mut request, &url, &credentials, at);
            let (name, value) = request.headers.pop().unwrap();
            assert_eq!(name, "authorization");
            assert!(value.ends_with(&format!("Signature={expected}")), "{value}");
            assert!(value.contains("Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"));
        }
    }

    #[test]
    fn keys_and_queries_are_encoded_as_they_are_signed() {
        assert_eq!(
            encode_path("events/exchange=home/a~b.c_d-e+f g"),
            "events/exchange%3Dhome/a~b.c_d-e%2Bf%20g"
        );
        assert_eq!(
            encode_query(&[("start-after", "a/b=c"), ("list-type", "2")]),
            "list-type=2&start-after=a%2Fb%3Dc"
        );
    }

    #[test]
    fn a_port_belongs_to_the_host() {
        let url = Url::parse("http://127.0.0.1:9000/bucket/key").unwrap();
        let credentials = Credentials {
            access_key: "a".to_owned(),
            secret_key: "b".to_owned(),
            region: "auto".to_owned(),
        };
        let at = Timestamp::from_millis(0);
        let signature = |url: &Url| {
            let mut request = Outgoing {
                method: "GET",
                ..Outgoing::default()
            };
            sign(&mut request, url, &credentials, at);
            request.headers.pop().unwrap().1
        };
        let other = Url::parse("http://127.0.0.1:9001/bucket/key").unwrap();
        assert_ne!(signature(&url), signature(&other));
    }
}
