//! `format.json`: the least version of this program that may write the bucket.
//!
//! A version that introduces a rule raises it if older versions would break that rule. From then
//! on, an older version refuses to start on the bucket, and one that is running stops at its next
//! tick. So no version breaks a rule that it does not know, even during a roll-out.

use serde::{Deserialize, Serialize};

use super::cas::load;
use super::{Condition, ObjectStore, StoreError, encode, layout};

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The least version that may write a bucket that this version has written.
const LEAST_VERSION: &str = "0.2.0";
/// How often this version tries to raise the number while others are raising it too.
const TRIES: usize = 3;

#[derive(Debug, Serialize, Deserialize)]
struct Format {
    least_version: String,
}

/// Why this version may not use the bucket.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The bucket is for newer versions only.
    #[error(
        "a newer version of MESS Exchange has written to this bucket: it needs at least {needed}, this is {VERSION}"
    )]
    Outdated {
        /// The least version that may write it.
        needed: String,
    },
    /// The store failed, or `format.json` cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes sure that this version may write the bucket, and that versions that are too old for this
/// one no longer may.
///
/// # Errors
///
/// Fails if this version may not write the bucket, or with the store's error.
pub async fn ensure(store: &dyn ObjectStore) -> Result<(), FormatError> {
    ensure_for(store, VERSION, LEAST_VERSION).await
}

/// Whether `text` is a valid `format.json`.
pub fn is_format(text: &str) -> bool {
    serde_json::from_str::<Format>(text).is_ok()
}

async fn ensure_for(
    store: &dyn ObjectStore,
    version: &str,
    least: &str,
) -> Result<(), FormatError> {
    for _ in 0..TRIES {
        let stored = load::<Format>(store, layout::FORMAT).await?;
        let condition = match &stored {
            None => Condition::Absent,
            Some(stored) => {
                let needed = &stored.document.least_version;
                if number(needed) > number(version) {
                    let needed = needed.clone();
                    return Err(FormatError::Outdated { needed });
                }
                if number(needed) >= number(least) {
                    return Ok(());
                }
                Condition::Matches(&stored.tag)
            }
        };
        let format = Format {
            least_version: least.to_owned(),
        };
        let body = encode(layout::FORMAT, &format)?;
        store.put(layout::FORMAT, body, None, condition).await?;
        // Reads again, whatever happened: another may have been faster and raised it higher.
    }
    let reason = &"it is written by many at once";
    Err(StoreError::new("put", layout::FORMAT, reason).into())
}

/// A version as numbers that can be compared. A text that is not a version counts as the highest,
/// so that it is refused.
fn number(version: &str) -> [u64; 3] {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = plain
        .splitn(3, '.')
        .map(|part| part.parse().unwrap_or(u64::MAX));
    [(); 3].map(|()| parts.next().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::storage::memory::Memory;

    fn ensured(store: &Memory, version: &str, least: &str) -> Result<(), String> {
        let outcome = block_on(ensure_for(store, version, least));
        outcome.map_err(|error| error.to_string())
    }

    fn stored(store: &Memory) -> String {
        let object = block_on(store.get(layout::FORMAT)).unwrap().unwrap();
        String::from_utf8(object.body).unwrap()
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(number("0.10.0") > number("0.9.9"));
        assert!(number("1.0.0-rc.1") > number("0.99.0"));
        assert!(number("") > number("9.9.9") && number("soon") > number("9.9.9"));
    }

    #[test]
    fn a_newer_version_raises_it_and_an_older_one_is_refused() {
        let store = Memory::like_r2();
        assert_eq!(ensured(&store, "0.1.0", "0.1.0"), Ok(()));
        assert_eq!(stored(&store), r#"{"least_version":"0.1.0"}"#);
        assert_eq!(ensured(&store, "0.3.1", "0.3.0"), Ok(()));
        assert_eq!(stored(&store), r#"{"least_version":"0.3.0"}"#);
        // A version that knows the rule may write, and does not lower the number.
        assert_eq!(ensured(&store, "0.3.0", "0.1.0"), Ok(()));
        assert_eq!(stored(&store), r#"{"least_version":"0.3.0"}"#);
        let refused = ensured(&store, "0.2.9", "0.1.0").unwrap_err();
        assert!(refused.contains("at least 0.3.0"), "{refused}");
    }

    #[test]
    fn what_cannot_be_read_is_not_written_over() {
        for broken in ["{", "[]", r#"{"least_version":"soon"}"#] {
            let store = Memory::like_r2();
            store.plant(layout::FORMAT, broken);
            ensured(&store, "0.1.0", "0.1.0").unwrap_err();
            assert_eq!(stored(&store), broken);
        }
    }
}
