//! The cursor of a list: where the next page begins.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::ids::{ExchangeId, Ref};
use super::key::checksum;
use super::text::Invalid;
use super::thread::status::Status;
use super::time::Timestamp;

/// The last entry that a page examined. A cursor is valid only for the list that it was made for:
/// the same exchange and the same `status` filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the entry's thread last changed.
    pub updated_at: Timestamp,
    /// The entry's thread.
    pub reference: Ref,
}

impl Cursor {
    /// The text that stands in `next_cursor`.
    pub fn encode(&self, exchange: &ExchangeId, status: Option<Status>) -> String {
        let millis = self.updated_at.millis();
        let body = format!("{millis}/{}", self.reference);
        let sum = checksum(&format!("{}/{body}", list_name(exchange, status)));
        BASE64.encode(format!("{body}/{sum}"))
    }

    /// Reads a cursor back.
    ///
    /// # Errors
    ///
    /// Fails if this server did not make `cursor`, or made it for another list.
    pub fn decode(
        text: &str,
        exchange: &ExchangeId,
        status: Option<Status>,
    ) -> Result<Self, Invalid> {
        Self::read(text, exchange, status).ok_or_else(|| {
            Invalid::new(
                "cursor",
                "must be the next_cursor of the same list with the same status filter",
            )
        })
    }

    fn read(text: &str, exchange: &ExchangeId, status: Option<Status>) -> Option<Self> {
        let text = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
        let (body, sum) = text.rsplit_once('/')?;
        if checksum(&format!("{}/{body}", list_name(exchange, status))) != sum {
            return None;
        }
        let (millis, reference) = body.split_once('/')?;
        Some(Self {
            updated_at: Timestamp::from_millis(millis.parse().ok()?),
            reference: Ref::parse(reference).ok()?,
        })
    }
}

fn list_name(exchange: &ExchangeId, status: Option<Status>) -> String {
    format!("{exchange}/{}", status.map_or("all", Status::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_and_nothing_else() {
        let home = ExchangeId::parse("home", "").unwrap();
        let work = ExchangeId::parse("work", "").unwrap();
        let cursor = Cursor {
            updated_at: Timestamp::from_millis(1_738_411_200_000),
            reference: Ref::parse("2025-02-01-XY1Z").unwrap(),
        };
        let text = cursor.encode(&home, Some(Status::Pending));
        assert_eq!(
            Cursor::decode(&text, &home, Some(Status::Pending)),
            Ok(cursor)
        );
        assert!(Cursor::decode(&text, &home, None).is_err());
        assert!(Cursor::decode(&text, &work, Some(Status::Pending)).is_err());
        for bad in ["", "x", "é", "AAAA", &text[1..], &format!("{text}AAAA")] {
            assert!(
                Cursor::decode(bad, &home, Some(Status::Pending)).is_err(),
                "{bad}"
            );
        }
    }
}
