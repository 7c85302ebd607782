//! ISO 8601 durations of a fixed length: weeks, days, hours, minutes and seconds.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A length of time in whole milliseconds. It is never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(i64);

impl Duration {
    /// A duration of `count` minutes.
    pub const fn minutes(count: u16) -> Self {
        Self((count as i64).saturating_mul(MINUTE))
    }

    /// A duration of `count` days of 24 hours.
    pub const fn days(count: u16) -> Self {
        Self((count as i64).saturating_mul(DAY))
    }

    /// The duration in milliseconds.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Reads a duration such as `P1DT2H30M`, `PT90S` or `P2W`. It has at least one part; each part
    /// is a whole number, and the units come in falling order. Returns `None` for anything else.
    /// Years and months are refused because they have no fixed length.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('P')?;
        let (date, time) = match rest.split_once('T') {
            Some((date, time)) if !time.is_empty() => (date, time),
            Some(_) => return None,
            None => (rest, ""),
        };
        if date.is_empty() && time.is_empty() {
            return None;
        }
        let date = sum(date, &[('W', 7 * DAY), ('D', DAY)])?;
        let time = sum(time, &[('H', HOUR), ('M', MINUTE), ('S', SECOND)])?;
        Some(Self(date.checked_add(time)?))
    }
}

/// Adds up `parts`: each is a number and one of the `units`, and the units come in the given order.
fn sum(parts: &str, units: &[(char, i64)]) -> Option<i64> {
    let mut units = units.iter();
    let (mut total, mut number) = (0_i64, None::<i64>);
    for c in parts.chars() {
        if let Some(digit) = c.to_digit(10) {
            let tens = number.unwrap_or(0).checked_mul(10)?;
            number = Some(tens.checked_add(i64::from(digit))?);
        } else {
            let (_, unit) = units.find(|(name, _)| *name == c)?;
            total = total.checked_add(number.take()?.checked_mul(*unit)?)?;
        }
    }
    number.is_none().then_some(total)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        f.write_str("P")?;
        if days > 0 {
            write!(f, "{days}D")?;
        }
        if rest == 0 && days > 0 {
            return Ok(());
        }
        f.write_str("T")?;
        let parts = [
            (rest.div_euclid(HOUR), 'H'),
            (rest.rem_euclid(HOUR).div_euclid(MINUTE), 'M'),
            (rest.rem_euclid(MINUTE).div_euclid(SECOND), 'S'),
        ];
        for (count, unit) in parts {
            if count > 0 || (rest == 0 && unit == 'S') {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a duration must be like PT30M or P1DT2H"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_has_a_fixed_length() {
        for (text, millis, written) in [
            ("PT45M", 45 * MINUTE, "PT45M"),
            ("PT90S", 90 * SECOND, "PT1M30S"),
            ("P1DT2H30M", DAY + 2 * HOUR + 30 * MINUTE, "P1DT2H30M"),
            ("P2W", 14 * DAY, "P14D"),
            ("P1W1D", 8 * DAY, "P8D"),
            ("PT0S", 0, "PT0S"),
            ("PT36H", 36 * HOUR, "P1DT12H"),
        ] {
            let duration = Duration::parse(text).unwrap();
            assert_eq!(duration.millis(), millis, "{text}");
            assert_eq!(duration.to_string(), written);
            assert_eq!(Duration::parse(written), Some(duration));
        }
    }

    #[test]
    fn refuses_everything_else() {
        for bad in [
            "",
            "P",
            "PT",
            "P1",
            "1D",
            "P1Y",
            "P1M",
            "PT1D",
            "P1H",
            "P1DT",
            "PT1M1H",
            "PT1M1M",
            "PT-1M",
            "-PT1M",
            "PT1.5H",
            "pt1m",
            "PT 1M",
            "PTM",
            "45m",
            "P99999999999999999999D",
            "P9223372036854775807D",
            "PT١M",
        ] {
            assert_eq!(Duration::parse(bad), None, "{bad}");
        }
    }
}
