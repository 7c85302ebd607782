//! Retry policy: what an answer means, and when to try again.

use serde_json::Value;

use super::http::{Answer, Response, Turn, Unreachable};
use crate::domain::time::Timestamp;

/// Milliseconds after each failed attempt until the next one; 27 hours in all. The schedule of
/// Standard Webhooks, without its last two days.
const DELAYS: [i64; 7] = [
    5_000,
    5 * 60_000,
    30 * 60_000,
    2 * 3_600_000,
    5 * 3_600_000,
    10 * 3_600_000,
    10 * 3_600_000,
];
/// By how much of itself a delay is lengthened at most, so that what failed together does not
/// come back together.
const JITTER: f64 = 0.1;
/// The longest wait that a receiver can ask for.
const LONGEST_WAIT: i64 = 24 * 3_600_000;

/// Milliseconds of nothing but failures after which a channel or hook is disabled.
pub const GIVEN_UP_AFTER: i64 = 5 * 24 * 3_600_000;

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// As the schedule says.
    Schedule,
    /// After so many milliseconds: the receiver counts requests and knows.
    Exactly(i64),
    /// As the schedule says, but not before so many milliseconds: the receiver has trouble, and
    /// hopes.
    AtLeast(i64),
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it, under this id of its own if it gave one.
    Delivered {
        /// The receiver's id.
        external_id: Option<String>,
    },
    /// It may succeed later.
    Retry {
        /// Why it did not now.
        reason: String,
        /// When to try again.
        wait: Wait,
    },
    /// It will not succeed.
    Failed {
        /// Why.
        reason: String,
    },
    /// The receiver wants nothing more at all.
    Gone {
        /// What it said.
        reason: String,
    },
}

impl Verdict {
    /// Delivered, without an id.
    pub fn delivered() -> Self {
        Self::Delivered { external_id: None }
    }

    /// It will not succeed, for this reason.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed {
            reason: reason.into(),
        }
    }

    /// It may succeed later; for now it did not for this reason.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry {
            reason: reason.into(),
            wait: Wait::Schedule,
        }
    }

    /// The same for a better known reason.
    #[must_use]
    pub fn because(self, word: &str) -> Self {
        let add = |reason: String| {
            if word.is_empty() {
                reason
            } else {
                format!("{reason}: {word}")
            }
        };
        match self {
            Self::Delivered { .. } => self,
            Self::Retry { reason, wait } => Self::Retry {
                reason: add(reason),
                wait,
            },
            Self::Failed { reason } => Self::Failed {
                reason: add(reason),
            },
            Self::Gone { reason } => Self::Gone {
                reason: add(reason),
            },
        }
    }
}

/// What an answer means where the provider has no better rule.
pub fn judge(answer: &Answer) -> Verdict {
    let response = match answer {
        Ok(response) => response,
        Err(error @ (Unreachable::Forbidden | Unreachable::TooLong | Unreachable::Unsendable)) => {
            return Verdict::failed(error.to_string());
        }
        Err(error) => return Verdict::retry(error.to_string()),
    };
    let reason = format!("answered {}", response.status);
    match response.status {
        200..=299 => Verdict::delivered(),
        300..=399 => Verdict::failed(format!("{reason}, a redirect, which is not followed")),
        410 => Verdict::Gone { reason },
        429 => Verdict::Retry {
            reason,
            wait: response.retry_after.map_or(Wait::Schedule, Wait::Exactly),
        },
        408 | 425 | 500..=599 => Verdict::Retry {
            reason,
            wait: response.retry_after.map_or(Wait::Schedule, Wait::AtLeast),
        },
        _ => Verdict::failed(reason),
    }
}

/// A word by which a provider names an error, fit to be shown: nothing that could be a secret.
pub fn error_word(value: &Value) -> &str {
    let word = value.as_str().unwrap_or_default();
    let is_plain = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b' ';
    if word.len() <= 48 && word.bytes().all(is_plain) {
        word
    } else {
        ""
    }
}

/// When to try again after attempt number `attempt` (from 1) failed at `now`. `share`, from 0 to
/// 1, is drawn at random. `None` when it was the last.
pub fn next_attempt(attempt: u32, now: Timestamp, wait: Wait, share: f64) -> Option<Timestamp> {
    let at = usize::try_from(attempt.checked_sub(1)?).ok()?;
    let delay = *DELAYS.get(at)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a tenth of some hours in milliseconds"
    )]
    let jitter = (delay as f64 * JITTER * share) as i64;
    let scheduled = delay.saturating_add(jitter);
    Some(now.plus_millis(match wait {
        Wait::Schedule => scheduled,
        Wait::Exactly(millis) => millis.clamp(1_000, LONGEST_WAIT),
        Wait::AtLeast(millis) => scheduled.max(millis.min(LONGEST_WAIT)),
    }))
}

/// Reads a `Retry-After` header (RFC 9110, section 10.2.3): seconds, or a date. In milliseconds
/// from `now`.
pub fn parse_retry_after(header: &str, now: Timestamp) -> Option<i64> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u32>() {
        return Some(i64::from(seconds).saturating_mul(1_000));
    }
    let at = Timestamp::parse_http_date(header)?;
    Some(at.since(now).max(0))
}

/// What the last answer of a conversation means by the common rules.
pub fn judge_last(turns: &[Turn]) -> Verdict {
    turns.last().map_or_else(
        || Verdict::retry("nothing was sent"),
        |turn| judge(&turn.answer),
    )
}

/// The last answer of a conversation, if it is a response.
pub fn last_response(turns: &[Turn]) -> Option<&Response> {
    turns.last()?.answer.as_ref().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_schedule() {
        let now = Timestamp::from_millis(1_000_000);
        let waits: Vec<_> = (1..)
            .map_while(|attempt| next_attempt(attempt, now, Wait::Schedule, 0.0))
            .map(|at| at.since(now) / 1_000)
            .collect();
        assert_eq!(waits, [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000]);
        assert_eq!(
            next_attempt(1, now, Wait::Schedule, 1.0),
            Some(now.plus_millis(5_500))
        );
        assert_eq!(next_attempt(0, now, Wait::Schedule, 0.0), None);
        // The receiver's wish wins, within reason, and never lengthens the number of attempts.
        let asked = |wait| next_attempt(3, now, wait, 0.0).map(|at| at.since(now));
        assert_eq!(asked(Wait::Exactly(90_000)), Some(90_000));
        assert_eq!(asked(Wait::AtLeast(90_000)), Some(1_800_000));
        assert_eq!(asked(Wait::AtLeast(9_000_000)), Some(9_000_000));
        assert_eq!(asked(Wait::Exactly(-5)), Some(1_000));
        assert_eq!(asked(Wait::Exactly(i64::MAX)), Some(LONGEST_WAIT));
        assert_eq!(next_attempt(8, now, Wait::Exactly(5), 0.0), None);
    }

    #[test]
    fn answers() {
        let of = |status, retry_after| {
            judge(&Ok(Response {
                status,
                retry_after,
                ..Response::default()
            }))
        };
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(of(status, None), Verdict::delivered());
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            let verdict = of(status, Some(7));
            let expected = if status == 429 {
                Wait::Exactly(7)
            } else {
                Wait::AtLeast(7)
            };
            assert!(
                matches!(verdict, Verdict::Retry { wait, .. } if wait == expected),
                "{status}"
            );
        }
        for status in [301, 302, 307, 400, 401, 403, 404, 405, 409, 413, 422] {
            assert!(
                matches!(of(status, Some(7)), Verdict::Failed { .. }),
                "{status}"
            );
        }
        assert!(matches!(of(410, None), Verdict::Gone { .. }));
        for error in [Unreachable::Timeout, Unreachable::Connection] {
            assert!(matches!(judge(&Err(error)), Verdict::Retry { .. }));
        }
        assert!(matches!(
            judge(&Err(Unreachable::Forbidden)),
            Verdict::Failed { .. }
        ));
    }

    #[test]
    fn retry_after() {
        let now = Timestamp::parse("2026-10-21T07:27:00Z").unwrap();
        for (header, expected) in [
            ("120", Some(120_000)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2026 07:28:00 GMT", Some(60_000)),
            ("Wed, 21 Oct 2020 07:28:00 GMT", Some(0)),
            ("-5", None),
            ("soon", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_retry_after(header, now), expected, "{header}");
        }
    }

    #[test]
    fn only_words_are_shown() {
        assert_eq!(error_word(&json!("invalid_grant")), "invalid_grant");
        for hidden in [
            json!("tk_a1b2"),
            json!("https://x"),
            json!("a".repeat(49)),
            json!(5),
            json!("<b>"),
        ] {
            assert_eq!(error_word(&hidden), "");
        }
    }
}
