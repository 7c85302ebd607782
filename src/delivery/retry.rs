//! Retries: what an answer means, and when to try again.

use serde_json::Value;

use super::http::{Answer, Response, Turn, Unreachable};
use crate::domain::time::Timestamp;

/// Milliseconds from each failed attempt to the next one; 27 hours in all. This is the schedule of
/// Standard Webhooks without its last two days.
const DELAYS: [i64; 7] = [
    5_000,
    5 * 60_000,
    30 * 60_000,
    2 * 3_600_000,
    5 * 3_600_000,
    10 * 3_600_000,
    10 * 3_600_000,
];
/// The largest share by which a delay is lengthened, so that deliveries that failed together are
/// not retried together.
const JITTER: f64 = 0.1;
/// The longest wait that a receiver can ask for, in milliseconds.
const LONGEST_WAIT: i64 = 24 * 3_600_000;

/// Milliseconds of nothing but failures after which a channel or hook is disabled.
pub const GIVEN_UP_AFTER: i64 = 5 * 24 * 3_600_000;

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// As the schedule says.
    Schedule,
    /// After exactly this many milliseconds. The receiver counts requests, so it knows.
    Exactly(i64),
    /// As the schedule says, but not before this many milliseconds. The receiver has trouble and
    /// can only guess.
    AtLeast(i64),
}

/// What a provider's answer means for the delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has the delivery.
    Delivered {
        /// The receiver's own id for it, if it gave one.
        external_id: Option<String>,
    },
    /// A later attempt may succeed.
    Retry {
        /// Why this attempt failed.
        reason: String,
        /// When to try again.
        wait: Wait,
    },
    /// No attempt will succeed.
    Failed {
        /// Why.
        reason: String,
    },
    /// The receiver wants no more deliveries at all.
    Gone {
        /// What it said.
        reason: String,
    },
}

impl Verdict {
    /// A delivery without an id of the receiver.
    pub fn delivered() -> Self {
        Self::Delivered { external_id: None }
    }

    /// A permanent failure for this reason.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed {
            reason: reason.into(),
        }
    }

    /// A failure for this reason that a later attempt may overcome, retried by the schedule.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry {
            reason: reason.into(),
            wait: Wait::Schedule,
        }
    }

    /// Adds the provider's error word to the reason.
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

/// What an answer means, unless the provider has a better rule.
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
        // Loop detected (RFC 5842): it would be the same again.
        508 => Verdict::failed(reason),
        408 | 425 | 500..=599 => Verdict::Retry {
            reason,
            wait: response.retry_after.map_or(Wait::Schedule, Wait::AtLeast),
        },
        _ => Verdict::failed(reason),
    }
}

/// The word by which a provider names an error, or an empty string if it could contain a secret.
pub fn error_word(value: &Value) -> &str {
    let word = value.as_str().unwrap_or_default();
    let is_plain = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b' ';
    if word.len() <= 48 && word.bytes().all(is_plain) {
        word
    } else {
        ""
    }
}

/// When to try again after attempt number `attempt` (counted from 1) failed at `now`. `share` is a
/// random number from 0 to 1. Returns `None` if that was the last attempt.
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

/// Reads a `Retry-After` header (RFC 9110, section 10.2.3), which holds seconds or a date. Returns
/// milliseconds from `now`.
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
        // The receiver's wish wins within limits, but never adds attempts.
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
        for status in [301, 302, 307, 400, 401, 403, 404, 405, 409, 413, 422, 508] {
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
