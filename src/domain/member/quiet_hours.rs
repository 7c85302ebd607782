//! Quiet hours: the local times at which an executor does not want to be disturbed.

use serde_json::{Map, Value};

use crate::domain::time::Timestamp;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// Offsets of time zones from UTC.
pub trait Zones {
    /// Milliseconds by which clocks in `zone` (an IANA name) are ahead of UTC at `at`. Returns
    /// `None` if there is no such zone.
    fn offset(&self, zone: &str, at: Timestamp) -> Option<i64>;
}

/// A daily window from one minute of the day up to, but not including, another. It may cross
/// midnight. A window that starts and ends at the same minute is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuietHours {
    /// Milliseconds from midnight.
    start: i64,
    end: i64,
    zone: String,
}

impl QuietHours {
    /// The window that `preferences` set, in their time zone or else in `default_zone`. Returns
    /// `None` if they set none, or an invalid one that no server has checked.
    pub fn of(preferences: &Map<String, Value>, default_zone: &str) -> Option<Self> {
        let hours = preferences.get("quiet_hours")?;
        let text = |name: &str| hours.get(name).and_then(Value::as_str);
        if hours.get("enabled").and_then(Value::as_bool) != Some(true) {
            return None;
        }
        Some(Self {
            start: parse_time_of_day(text("start")?)?,
            end: parse_time_of_day(text("end")?)?,
            zone: text("timezone").unwrap_or(default_zone).to_owned(),
        })
    }

    /// Whether there are quiet hours that name no time zone.
    pub fn need_zone(preferences: &Map<String, Value>) -> bool {
        // With no zone by default, quiet hours have one only if they name it.
        Self::of(preferences, "").is_some_and(|hours| hours.zone.is_empty())
    }

    /// The end of the quiet hours around `now`: the first later moment that is not quiet. Returns
    /// `None` if `now` is not quiet or the zone is unknown.
    pub fn end_after(&self, now: Timestamp, zones: &dyn Zones) -> Option<Timestamp> {
        if self.start == self.end {
            return None;
        }
        let mut at = now;
        let mut offset = zones.offset(&self.zone, at)?;
        if !self.is_quiet(at, offset) {
            return None;
        }
        // If the offset does not change, a subtraction gives the end. Each change of the offset on
        // the way moves the local time, either out of the window or further into it.
        loop {
            let end = at.plus_millis(self.until_end(at, offset));
            let offset_then = zones.offset(&self.zone, end)?;
            if offset_then == offset {
                return Some(end);
            }
            at = self.change_between(at, end, offset, zones)?;
            offset = zones.offset(&self.zone, at)?;
            if !self.is_quiet(at, offset) {
                return Some(at);
            }
        }
    }

    fn is_quiet(&self, at: Timestamp, offset: i64) -> bool {
        let time = time_of_day(at, offset);
        if self.start < self.end {
            (self.start..self.end).contains(&time)
        } else {
            time >= self.start || time < self.end
        }
    }

    /// Milliseconds until the local time reaches the end.
    fn until_end(&self, at: Timestamp, offset: i64) -> i64 {
        self.end
            .saturating_sub(time_of_day(at, offset))
            .rem_euclid(DAY)
    }

    /// The first moment after `from`, to the millisecond, at which the offset is no longer
    /// `offset`. At `to` it has already changed.
    fn change_between(
        &self,
        from: Timestamp,
        to: Timestamp,
        offset: i64,
        zones: &dyn Zones,
    ) -> Option<Timestamp> {
        let (mut before, mut after) = (from, to);
        while after.since(before) > 1 {
            let middle = before.plus_millis(after.since(before) / 2);
            if zones.offset(&self.zone, middle)? == offset {
                before = middle;
            } else {
                after = middle;
            }
        }
        Some(after)
    }
}

fn time_of_day(at: Timestamp, offset: i64) -> i64 {
    at.millis().saturating_add(offset).rem_euclid(DAY)
}

/// Reads a time from 00:00 to 23:59, written `HH:MM`, as milliseconds from midnight.
pub fn parse_time_of_day(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |part: &str, below: i64| {
        let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        let number: i64 = if digits {
            part.parse().ok()?
        } else {
            return None;
        };
        (number < below).then_some(number)
    };
    let minutes = number(hours, 24)?
        .checked_mul(60)?
        .checked_add(number(minutes, 60)?)?;
    minutes.checked_mul(MINUTE)
}

#[cfg(test)]
pub(crate) mod tests {
    use chrono::{Offset as _, TimeZone as _};
    use chrono_tz::{TZ_VARIANTS, Tz};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The zones of the IANA database, taken from a crate. The Worker asks its runtime instead.
    pub struct Iana;

    impl Zones for Iana {
        fn offset(&self, zone: &str, at: Timestamp) -> Option<i64> {
            let zone: Tz = zone.parse().ok()?;
            let moment = zone.timestamp_millis_opt(at.millis()).single()?;
            Some(i64::from(moment.offset().fix().local_minus_utc()) * 1_000)
        }
    }

    fn hours(start: &str, end: &str, zone: &str) -> QuietHours {
        let quiet = json!({"enabled": true, "start": start, "end": end, "timezone": zone});
        let preferences = json!({ "quiet_hours": quiet });
        QuietHours::of(preferences.as_object().unwrap(), "UTC").unwrap()
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn windows() {
        for (start, end, zone, now, expected) in [
            // The window crosses midnight; moments on both sides of it and at both edges.
            ("22:00", "07:00", "UTC", "2026-01-10T21:59:59.999Z", None),
            (
                "22:00",
                "07:00",
                "UTC",
                "2026-01-10T22:00:00Z",
                Some("2026-01-11T07:00:00Z"),
            ),
            (
                "22:00",
                "07:00",
                "UTC",
                "2026-01-11T06:59:59.999Z",
                Some("2026-01-11T07:00:00Z"),
            ),
            ("22:00", "07:00", "UTC", "2026-01-11T07:00:00Z", None),
            // The window lies within a day and lasts one minute.
            (
                "12:15",
                "12:16",
                "Asia/Kathmandu",
                "2026-01-10T06:30:30Z",
                Some("2026-01-10T06:31:00Z"),
            ),
            // Clocks go forward at 02:00 this night, so 07:00 comes an hour sooner.
            (
                "22:00",
                "07:00",
                "Europe/Berlin",
                "2026-03-28T21:30:00Z",
                Some("2026-03-29T05:00:00Z"),
            ),
            // Clocks go back, so 07:00 comes an hour later.
            (
                "22:00",
                "07:00",
                "Europe/Berlin",
                "2026-10-24T20:30:00Z",
                Some("2026-10-25T06:00:00Z"),
            ),
            // The end lies in the hour that is skipped: quiet ends when that hour would have begun.
            (
                "22:00",
                "02:30",
                "Europe/Berlin",
                "2026-03-29T00:30:00Z",
                Some("2026-03-29T01:00:00Z"),
            ),
            // The end lies in the hour that is repeated: quiet ends at it both times.
            (
                "22:00",
                "02:30",
                "Europe/Berlin",
                "2026-10-25T00:10:00Z",
                Some("2026-10-25T00:30:00Z"),
            ),
            (
                "22:00",
                "02:30",
                "Europe/Berlin",
                "2026-10-25T01:10:00Z",
                Some("2026-10-25T01:30:00Z"),
            ),
            // Daylight saving shifts clocks by half an hour.
            (
                "22:00",
                "07:00",
                "Australia/Lord_Howe",
                "2026-10-03T12:00:00Z",
                Some("2026-10-03T20:00:00Z"),
            ),
        ] {
            let end = hours(start, end, zone).end_after(at(now), &Iana);
            assert_eq!(end, expected.map(at), "{start}-{end:?} {zone} at {now}");
        }
    }

    #[test]
    fn no_window() {
        for quiet in [
            json!({"enabled": false, "start": "22:00", "end": "07:00"}),
            json!({"start": "22:00", "end": "07:00"}),
            json!({"enabled": true, "start": 22, "end": 7}),
            json!({"enabled": true, "start": "22", "end": "07:00"}),
            json!([]),
            json!(null),
        ] {
            let preferences = json!({ "quiet_hours": quiet });
            assert_eq!(
                QuietHours::of(preferences.as_object().unwrap(), "UTC"),
                None
            );
        }
        let empty = hours("08:00", "08:00", "UTC");
        assert_eq!(empty.end_after(at("2026-01-10T08:00:00Z"), &Iana), None);
        let nowhere = hours("00:00", "23:59", "Mars/Olympus");
        assert_eq!(nowhere.end_after(at("2026-01-10T08:00:00Z"), &Iana), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

        /// In every zone, a moment is quiet exactly if the local time lies in the window, and the
        /// end is the first whole minute after it whose local time does not.
        #[test]
        fn the_end_is_the_first_moment_that_is_not_quiet(
            zone in 0..TZ_VARIANTS.len(),
            minute in 0_i64..(10 * 365 * 24 * 60),
            seconds in 0_i64..60_000,
            start in 0_i64..(24 * 60),
            end in 0_i64..(24 * 60),
            near_change in any::<bool>(),
        ) {
            let zone = TZ_VARIANTS[zone].name();
            let mut now = at("2017-01-01T00:00:00Z").plus_millis(minute * MINUTE + seconds);
            if near_change {
                now = before_next_change(zone, now).unwrap_or(now);
            }
            let clock = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
            let window = hours(&clock(start), &clock(end), zone);
            let found = window.end_after(now, &Iana);
            prop_assert_eq!(found, scan(&window, now), "{}", zone);
        }
    }

    /// The same around every change of the offset in 2026, in every zone. The windows cross
    /// midnight, end in the hour that is skipped or repeated, cover nearly the whole day, or are
    /// empty.
    #[test]
    fn every_zone_at_its_changes() {
        let start = at("2026-01-01T00:00:00Z");
        let mut changes = 0;
        for zone in TZ_VARIANTS {
            let zone = zone.name();
            let mut now = start;
            while let Some(before) = before_next_change(zone, now) {
                changes += 1;
                for (from, to) in [
                    ("22:00", "07:00"),
                    ("23:30", "02:30"),
                    ("02:15", "01:45"),
                    ("00:00", "23:59"),
                    ("08:00", "08:00"),
                ] {
                    let window = hours(from, to, zone);
                    for moment in [before, before.plus_millis(90 * MINUTE)] {
                        let found = window.end_after(moment, &Iana);
                        assert_eq!(found, scan(&window, moment), "{zone} {from} {moment}");
                    }
                }
                now = before.plus_millis(DAY);
            }
        }
        assert!(changes > 300, "{changes}");
    }

    /// A moment less than nine hours before the next change of the offset, if one comes before
    /// 2027.
    fn before_next_change(zone: &str, now: Timestamp) -> Option<Timestamp> {
        let offset = |at| Iana.offset(zone, at);
        let hour = |n: i64| now.plus_millis(n * 60 * MINUTE);
        let end = at("2027-01-01T00:00:00Z");
        let (mut before, mut after) = (0, 0);
        // Searches by days first, then by hours.
        while offset(hour(after)) == offset(now) {
            before = after;
            after += 24;
            if hour(after) > end {
                return None;
            }
        }
        let change = (before..=after).find(|n| offset(hour(*n)) != offset(now))?;
        Some(hour((change - 1 - now.millis() / MINUTE % 8).max(0)))
    }

    /// Finds the end by trying every minute.
    fn scan(window: &QuietHours, now: Timestamp) -> Option<Timestamp> {
        let quiet = |at: Timestamp| {
            window.start != window.end
                && window.is_quiet(at, Iana.offset(&window.zone, at).unwrap())
        };
        if !quiet(now) {
            return None;
        }
        let minute = |n: i64| Timestamp::from_millis((now.millis() / MINUTE + n) * MINUTE);
        (1..3 * 24 * 60).map(minute).find(|at| !quiet(*at))
    }
}
