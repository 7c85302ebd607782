//! Every limit of the exchange, each defined once. A test makes docs/limits.md from them.

use std::ops::RangeInclusive;

use super::duration::Duration;

/// Largest request body, in bytes.
pub const BODY_BYTES: usize = 8 * 1024 * 1024;
/// Most bytes of bodies that one isolate has in memory at once. Beyond that, calls are put off.
pub const BODIES_BYTES: usize = 64 * 1024 * 1024;
/// Most of these bytes that callers without a key may have. So strangers hold up strangers only.
pub const STRANGERS_BYTES: usize = 16 * 1024 * 1024;
/// Deepest nesting of arrays and objects in a request body.
pub const JSON_DEPTH: usize = 64;
/// Most values (objects, lists, strings, numbers, …) in a request body. A value of one byte in JSON
/// takes fifty bytes in memory, and an isolate has only 128 MB.
pub const JSON_VALUES: usize = 100_000;
/// Most JSON values written to one thread.
pub const THREAD_VALUES: usize = 400_000;
/// Largest thread document, in bytes of JSON. A change that would exceed it is refused.
pub const THREAD_BYTES: usize = 4 * 1024 * 1024;
/// Largest executor record, in bytes of JSON; and largest body about a capability.
pub const EXECUTOR_BYTES: usize = 256 * 1024;

/// How much larger a record may become by what owners and keys do to it. So a profile that fills its
/// record prevents nothing of that.
pub const RECORD_ROOM: usize = 64 * 1024;

/// Longest exchange or executor id, in characters.
pub const ID_CHARS: usize = 64;
/// Longest display name or capability id, in characters.
pub const NAME_CHARS: usize = 256;
/// Longest ntfy topic, in characters (ntfy's own limit).
pub const TOPIC_CHARS: usize = 64;
/// Longest URL of a channel or hook, in characters.
pub const URL_CHARS: usize = 2048;
/// Longest intent, and longest remark on a status change, in characters.
pub const INTENT_CHARS: usize = 10_000;
/// Most characters of an intent that lists show. A list reads up to a thousand rows.
pub const ROW_INTENT_CHARS: usize = 1_000;

/// Most capabilities of one executor.
pub const CAPABILITIES: usize = 100;
/// Most bytes of JSON in the capabilities of one executor.
pub const CAPABILITIES_BYTES: usize = 16 * 1024;
/// Most JSON values in each part of a profile. Finding whom to notify reads many profiles at once.
pub const PROFILE_VALUES: usize = 5_000;
/// Most capabilities that one request requires.
pub const REQUIRED: usize = 20;
/// Most executors that one request is escalated to.
pub const ESCALATED: usize = 20;
/// Most questions of one `needs_input`.
pub const QUESTIONS: usize = 20;
/// Most options of one question.
pub const OPTIONS: usize = 50;
/// Most blocks that act in one call.
pub const STEPS: usize = 50;
/// Most times that a request is announced again while nobody claims it.
pub const NUDGES: usize = 5;
/// Longest text about a capability in the catalogue, in characters.
pub const DESCRIPTION_CHARS: usize = 1_000;
/// Most tags of a capability in the catalogue.
pub const TAGS: usize = 20;
/// Shortest and longest lease of a claim.
pub const LEASE: RangeInclusive<Duration> = Duration::minutes(1)..=Duration::days(7);
/// Shortest and longest time until a request is announced again.
pub const NUDGE_AFTER: RangeInclusive<Duration> = Duration::minutes(1)..=Duration::days(7);

/// Most notification channels of one executor.
pub const CHANNELS: usize = 20;
/// Most hooks of one executor for one event.
pub const HOOKS_PER_EVENT: usize = 20;

/// Most valid keys of one member.
pub const KEYS: usize = 20;
/// Most keys that are no longer valid in the list of one member; older ones are forgotten.
pub const REVOKED_KEYS: usize = 20;
/// Shortest and longest time until a key expires that is made to expire.
pub const KEY_EXPIRES: RangeInclusive<Duration> = Duration::minutes(1)..=Duration::days(3_650);
/// Most invitations of one exchange that can still be used.
pub const INVITATIONS: usize = 200;
/// Most invitations of one member for itself that can still be used.
pub const OWN_INVITATIONS: usize = 5;
/// Fewest and most uses of an invitation.
pub const INVITATION_USES: RangeInclusive<usize> = 1..=100;
/// Shortest and longest time until an invitation expires.
pub const INVITATION_EXPIRES: RangeInclusive<Duration> = Duration::minutes(10)..=Duration::days(30);
/// Longest time until an invitation expires that a member makes for itself.
pub const OWN_INVITATION_EXPIRES: Duration = Duration::minutes(60);

/// Longest credential of a channel or hook, in characters.
pub const CREDENTIAL_CHARS: usize = 4096;
/// Longest value of a header of a webhook, in bytes.
pub const HEADER_BYTES: usize = 2048;
/// Most headers of one webhook.
pub const HEADERS: usize = 20;

/// Most deliveries that may lead to one another: a hook that posts to an exchange makes a call of its
/// own, which may trigger hooks. A call beyond it is refused, so that a circle of hooks ends.
pub const HOPS: u32 = 3;

/// Rows of a list page when the client does not give a number.
pub const PAGE_DEFAULT: usize = 100;
/// Most rows of a list page.
pub const PAGE_MAX: usize = 1000;
/// Bytes of rows at which a list page ends early, with a cursor.
pub const LIST_BYTES: usize = 2 * 1024 * 1024;
/// Most index entries that one list call examines, whatever its filters.
pub const LIST_EXAMINED: usize = 1000;
/// The same for a guest. A cursor names the last entry that was examined, and for a guest that should be
/// one of its own.
pub const GUEST_EXAMINED: usize = 10_000;

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
