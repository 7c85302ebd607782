//! Moments in time: UTC, in whole milliseconds.

use std::fmt;

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment, in milliseconds since 1970-01-01T00:00:00Z.
///
/// It always lies between 0 and [`Timestamp::MAX`]. So it has a fixed width of 13 digits in keys
/// and can always be written as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last moment that has 13 digits: 2286-11-20T17:46:39.999Z.
    pub const MAX: Self = Self(9_999_999_999_999);

    /// The moment `millis` after the epoch, clamped to the valid range.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(0, Self::MAX.0))
    }

    /// Milliseconds since the epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// This moment moved by `millis`, which may be negative.
    #[must_use]
    pub fn plus_millis(self, millis: i64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this moment; negative if `earlier` is in fact later.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Reads an RFC 3339 date-time. Fractions beyond the millisecond are cut off.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = DateTime::parse_from_rfc3339(text).ok()?;
        Some(Self::from_millis(moment.timestamp_millis()))
    }

    /// Reads a date in the format of HTTP headers: `Wed, 21 Oct 2015 07:28:00 GMT`.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let moment = DateTime::parse_from_rfc2822(text).ok()?;
        Some(Self::from_millis(moment.timestamp_millis()))
    }

    /// Year, month and day in UTC.
    pub fn date(self) -> (i32, u32, u32) {
        let moment = self.to_chrono();
        (moment.year(), moment.month(), moment.day())
    }

    /// The moment in the basic format of ISO 8601, in whole seconds: `20250201T120000Z`.
    pub fn basic(self) -> String {
        let text = self.to_chrono().to_rfc3339_opts(SecondsFormat::Secs, true);
        text.replace(['-', ':'], "")
    }

    fn to_chrono(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            &self
                .to_chrono()
                .to_rfc3339_opts(SecondsFormat::Millis, true),
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a timestamp must be an RFC 3339 date-time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads_milliseconds() {
        let moment = Timestamp::parse("2025-02-01T14:00:00.1239+02:00").unwrap();
        assert_eq!(moment.to_string(), "2025-02-01T12:00:00.123Z");
        assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
    }

    #[test]
    fn stays_within_thirteen_digits() {
        assert_eq!(Timestamp::from_millis(-5).millis(), 0);
        assert_eq!(Timestamp::from_millis(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.to_string(), "2286-11-20T17:46:39.999Z");
        assert_eq!(Timestamp::MAX.plus_millis(i64::MAX), Timestamp::MAX);
    }
}
