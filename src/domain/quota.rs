//! How much one may take: limits of calls by key and by address.
//!
//! A limit of `n` in a period lets `n` calls through at once, and then one for each `n`-th part of the
//! period (the generic cell rate algorithm). So all that has to be remembered of a caller is one
//! moment.

use std::collections::{BTreeMap, HashMap};

use super::duration::Duration;
use super::time::Timestamp;

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quota {
    /// All calls with a key.
    Calls,
    /// The calls with a key that change something.
    Changes,
    /// The tests of channels with a key.
    Tests,
    /// The requests that an executor posts.
    Requests,
    /// The registrations without an invitation from an address.
    Registrations,
    /// The registrations with an invitation from an address.
    Joins,
    /// The failed authentications from an address.
    FailedLogins,
}

impl Quota {
    /// Its name in the setting and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Changes => "changes",
            Self::Tests => "tests",
            Self::Requests => "requests",
            Self::Registrations => "registrations",
            Self::Joins => "joins",
            Self::FailedLogins => "failed_logins",
        }
    }

    /// The time in which its limit may be taken.
    pub fn period(self) -> Duration {
        match self {
            Self::Requests => Duration::minutes(60),
            _ => Duration::minutes(1),
        }
    }
}

/// How much of each one may take. What is `None` has no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    calls: Option<u32>,
    changes: Option<u32>,
    tests: Option<u32>,
    requests: Option<u32>,
    registrations: Option<u32>,
    joins: Option<u32>,
    failed_logins: Option<u32>,
    /// How many members an exchange may have.
    pub members: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: Some(3_000),
            changes: Some(600),
            tests: Some(10),
            requests: Some(600),
            registrations: Some(20),
            joins: Some(100),
            failed_logins: Some(20),
            members: Some(1_000),
        }
    }
}

impl Limits {
    const NONE: Self = Self {
        calls: None,
        changes: None,
        tests: None,
        requests: None,
        registrations: None,
        joins: None,
        failed_logins: None,
        members: None,
    };

    /// Reads the setting: `off`, or JSON with the limits that differ from the default.
    ///
    /// # Errors
    ///
    /// Fails with what is wrong with it.
    pub fn read(given: Option<&str>) -> Result<Self, String> {
        let text = match given {
            None => return Ok(Self::default()),
            Some("off") => return Ok(Self::NONE),
            Some(text) => text,
        };
        let given: BTreeMap<String, Option<u32>> = serde_json::from_str(text).map_err(|_| {
            "must be off, or JSON like {\"calls\": 3000, \"requests\": null}".to_owned()
        })?;
        let mut limits = Self::default();
        for (name, limit) in given {
            let Some(slot) = limits.slot(&name) else {
                return Err(format!("knows no limit {name:?}"));
            };
            if limit.is_some_and(|limit| !(1..=1_000_000).contains(&limit)) {
                let problem = format!("must have a number from 1 to 1000000 for {name}, or null");
                return Err(problem);
            }
            *slot = limit;
        }
        Ok(limits)
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<u32>> {
        Some(match name {
            "calls" => &mut self.calls,
            "changes" => &mut self.changes,
            "tests" => &mut self.tests,
            "requests" => &mut self.requests,
            "registrations" => &mut self.registrations,
            "joins" => &mut self.joins,
            "failed_logins" => &mut self.failed_logins,
            "members" => &mut self.members,
            _ => return None,
        })
    }

    /// How much may be taken in the period of `quota`.
    pub fn of(&self, quota: Quota) -> Option<u32> {
        match quota {
            Quota::Calls => self.calls,
            Quota::Changes => self.changes,
            Quota::Tests => self.tests,
            Quota::Requests => self.requests,
            Quota::Registrations => self.registrations,
            Quota::Joins => self.joins,
            Quota::FailedLogins => self.failed_logins,
        }
    }
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// What was taken too often.
    pub quota: Quota,
    /// How often it may be taken in its period.
    pub limit: u32,
    /// Milliseconds until it may be taken once more.
    pub wait: i64,
}

/// How many callers are remembered. If there are more, those are forgotten who may take everything,
/// and if that is not enough, all.
const REMEMBERED: usize = 20_000;

/// What has been taken: for each caller, the moment in microseconds until which it has used up what it
/// may take.
#[derive(Debug, Default)]
pub struct Meter(HashMap<(Quota, String), i64>);

impl Meter {
    /// Takes once from what `who` may take, unless its limit is reached.
    ///
    /// # Errors
    ///
    /// Fails if it is.
    pub fn take(
        &mut self,
        limits: &Limits,
        quota: Quota,
        who: &str,
        now: Timestamp,
    ) -> Result<(), Exceeded> {
        let Some(limit) = limits.of(quota) else {
            return Ok(());
        };
        let taker = (quota, who.to_owned());
        let (used_until, part) = self.next(&taker, limit, now)?;
        if self.0.len() >= REMEMBERED {
            let now = micros(now);
            self.0.retain(|_, until| *until > now);
            if self.0.len() >= REMEMBERED {
                self.0.clear();
            }
        }
        let used_until = used_until.saturating_add(part);
        self.0.insert(taker, used_until);
        Ok(())
    }

    /// Whether `who` may take once more, without taking anything.
    ///
    /// # Errors
    ///
    /// Fails if its limit is reached.
    pub fn check(
        &self,
        limits: &Limits,
        quota: Quota,
        who: &str,
        now: Timestamp,
    ) -> Result<(), Exceeded> {
        match limits.of(quota) {
            None => Ok(()),
            Some(limit) => self.next(&(quota, who.to_owned()), limit, now).map(drop),
        }
    }

    /// Until when `taker` has used up what it may take, and by how much taking once moves that.
    fn next(
        &self,
        taker: &(Quota, String),
        limit: u32,
        now: Timestamp,
    ) -> Result<(i64, i64), Exceeded> {
        let quota = taker.0;
        let (now, period) = (micros(now), quota.period().millis().saturating_mul(1_000));
        let part = period.checked_div(i64::from(limit)).unwrap_or(period);
        let known = self.0.get(taker).copied();
        let used_until = known.unwrap_or(now).max(now);
        let over = used_until
            .saturating_add(part)
            .saturating_sub(now)
            .saturating_sub(period);
        if over > 0 {
            let wait = over.saturating_add(999).checked_div(1_000).unwrap_or(over);
            return Err(Exceeded { quota, limit, wait });
        }
        Ok((used_until, part))
    }
}

fn micros(at: Timestamp) -> i64 {
    at.millis().saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_738_411_200_000 + millis)
    }

    #[test]
    fn a_limit_can_be_taken_at_once_and_then_bit_by_bit() {
        let (limits, mut meter) = (Limits::default(), Meter::default());
        let mut take = |who: &str, millis| meter.take(&limits, Quota::Tests, who, at(millis));
        for _ in 0..10 {
            assert_eq!(take("a", 0), Ok(()));
        }
        let exceeded = |wait| {
            Err(Exceeded {
                quota: Quota::Tests,
                limit: 10,
                wait,
            })
        };
        assert_eq!(take("a", 0), exceeded(6_000));
        assert_eq!(take("a", 5_999), exceeded(1));
        assert_eq!(take("b", 5_999), Ok(()), "each for itself");
        assert_eq!(take("a", 6_000), Ok(()));
        assert_eq!(take("a", 6_001), exceeded(5_999));
        // After the whole period everything is there again.
        for _ in 0..10 {
            assert_eq!(take("a", 66_001), Ok(()));
        }
        assert_eq!(take("a", 66_001), exceeded(6_000));
    }

    #[test]
    fn odd_limits_give_no_less_than_they_say() {
        for limit in [1, 7, 999, 1_000_000] {
            let limits = Limits {
                calls: Some(limit),
                ..Limits::NONE
            };
            let mut meter = Meter::default();
            let taken = (0..2_000_000)
                .take_while(|_| meter.take(&limits, Quota::Calls, "a", at(0)).is_ok())
                .count();
            assert_eq!(taken, usize::try_from(limit).unwrap());
        }
    }

    #[test]
    fn looking_takes_nothing() {
        let (limits, mut meter) = (Limits::default(), Meter::default());
        for _ in 0..20 {
            assert_eq!(
                meter.check(&limits, Quota::FailedLogins, "a", at(0)),
                Ok(())
            );
            meter
                .take(&limits, Quota::FailedLogins, "a", at(0))
                .unwrap();
        }
        assert!(
            meter
                .check(&limits, Quota::FailedLogins, "a", at(0))
                .is_err()
        );
    }

    #[test]
    fn many_callers_do_not_fill_the_memory() {
        let (limits, mut meter) = (Limits::default(), Meter::default());
        for who in 0..50_000 {
            meter
                .take(&limits, Quota::Calls, &who.to_string(), at(who))
                .unwrap();
        }
        assert!(meter.0.len() <= REMEMBERED);
    }

    #[test]
    fn the_setting() {
        assert_eq!(Limits::read(None), Ok(Limits::default()));
        assert_eq!(Limits::read(Some("off")), Ok(Limits::NONE));
        let given = Limits::read(Some(r#"{"calls": 5, "requests": null}"#)).unwrap();
        assert_eq!(given.of(Quota::Calls), Some(5));
        assert_eq!(given.of(Quota::Requests), None);
        assert_eq!(given.of(Quota::Tests), Some(10));
        for wrong in [
            "",
            "on",
            "[]",
            "{\"call\": 5}",
            "{\"calls\": 0}",
            "{\"calls\": -1}",
            "{\"calls\": \"5\"}",
        ] {
            assert!(Limits::read(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
