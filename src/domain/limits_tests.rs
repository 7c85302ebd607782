//! The tables of docs/limits.md, made from the limits and compared with the file:
//! `UPDATE_DOCS=1 cargo test limits` writes it again.

use std::fmt::Write as _;

use super::*;
use crate::domain::quota::{Limits, Quota};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/limits.md");

const HEAD: &str = "\
# Limits

A test makes this page from `src/domain/limits.rs` and fails if the two differ
(`UPDATE_DOCS=1 cargo test limits` writes it again).

A call beyond a limit is refused and changes nothing: with status 413 and the code `too_large` if
the body or the document would be too large, otherwise with status 400 and the field that is wrong.
How often you may call is at [the end](#how-often); how often notifications are
retried is in [notifications.md](notifications.md).
";

/// A row: the name of the constant, what it limits, and the limit in words.
type Row = (&'static str, &'static str, String);

fn number(value: usize) -> String {
    let digits = value.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

fn bytes(value: usize) -> String {
    const MIB: usize = 1024 * 1024;
    match value {
        _ if value.is_multiple_of(MIB) => format!("{} MiB", value / MIB),
        _ if value.is_multiple_of(1024) => format!("{} KiB", value / 1024),
        _ => format!("{} bytes", number(value)),
    }
}

fn characters(value: usize) -> String {
    format!("{} characters", number(value))
}

fn between(range: &RangeInclusive<Duration>) -> String {
    format!("`{}` to `{}`", range.start(), range.end())
}

#[rustfmt::skip]
fn groups() -> Vec<(&'static str, Vec<Row>)> {
    vec![
        ("Bodies and documents", vec![
            ("BODY_BYTES", "the body of a call", bytes(BODY_BYTES)),
            ("BODIES_BYTES", "the bodies that are being received at one moment, in one process; beyond that a call answers 503", bytes(BODIES_BYTES)),
            ("STRANGERS_BYTES", "of these, the bodies of callers without a key", bytes(STRANGERS_BYTES)),
            ("EXECUTOR_BYTES", "the body about a profile or a capability, and an executor's record", bytes(EXECUTOR_BYTES)),
            ("RECORD_ROOM", "what keys, roles and the like may add to a full record", bytes(RECORD_ROOM)),
            ("JSON_VALUES", "JSON values (objects, lists, strings, numbers, …) in a body", number(JSON_VALUES)),
            ("JSON_DEPTH", "nested objects and lists in a body", format!("{} levels", number(JSON_DEPTH))),
            ("THREAD_BYTES", "a request with all its messages, as JSON", bytes(THREAD_BYTES)),
            ("THREAD_VALUES", "JSON values in a request with all its messages", number(THREAD_VALUES)),
        ]),
        ("Names and texts", vec![
            ("ID_CHARS", "the id of an exchange or of an executor, a tag of a capability", characters(ID_CHARS)),
            ("NAME_CHARS", "a display name, the id of a capability, a field or an option of a question", characters(NAME_CHARS)),
            ("INTENT_CHARS", "`intent`, and the `message` of a status", characters(INTENT_CHARS)),
            ("ROW_INTENT_CHARS", "what lists show of an `intent`", characters(ROW_INTENT_CHARS)),
            ("DESCRIPTION_CHARS", "the description of a capability", characters(DESCRIPTION_CHARS)),
        ]),
        ("Requests", vec![
            ("REQUIRED", "capabilities that one request requires", number(REQUIRED)),
            ("ESCALATED", "executors that one request is escalated to", number(ESCALATED)),
            ("NUDGES", "reminders while nobody claims a request", number(NUDGES)),
            ("NUDGE_AFTER", "the time until a reminder", between(&NUDGE_AFTER)),
            ("LEASE", "the lease of a claim", between(&LEASE)),
            ("STEPS", "blocks that act in one call", number(STEPS)),
            ("QUESTIONS", "questions of one `needs_input`", number(QUESTIONS)),
            ("OPTIONS", "options of one question", number(OPTIONS)),
        ]),
        ("Executors, channels and hooks", vec![
            ("CAPABILITIES", "capabilities of one executor", number(CAPABILITIES)),
            ("CAPABILITIES_BYTES", "the capabilities of one executor, as JSON", bytes(CAPABILITIES_BYTES)),
            ("PROFILE_VALUES", "JSON values in each part of a profile", number(PROFILE_VALUES)),
            ("TAGS", "tags of one capability", number(TAGS)),
            ("CHANNELS", "notification channels of one executor", number(CHANNELS)),
            ("HOOKS_PER_EVENT", "hooks of one executor for one event", number(HOOKS_PER_EVENT)),
            ("URL_CHARS", "the URL of a channel or hook", characters(URL_CHARS)),
            ("TOPIC_CHARS", "an ntfy topic", characters(TOPIC_CHARS)),
            ("CREDENTIAL_CHARS", "a credential of a channel or hook", characters(CREDENTIAL_CHARS)),
            ("HEADERS", "headers of one webhook", number(HEADERS)),
            ("HOPS", "hooks and relays that lead from one call to the next", number(HOPS as usize)),
            ("HEADER_BYTES", "the value of such a header", bytes(HEADER_BYTES)),
        ]),
        ("Access", vec![
            ("KEYS", "valid keys of one member", number(KEYS)),
            ("REVOKED_KEYS", "keys of one member that are no longer valid and are still listed", number(REVOKED_KEYS)),
            ("KEY_EXPIRES", "`expires_in` of a key", between(&KEY_EXPIRES)),
            ("INVITATIONS", "invitations of one exchange for others that can still be used", number(INVITATIONS)),
            ("OWN_INVITATIONS", "invitations of one member for itself that can still be used", number(OWN_INVITATIONS)),
            ("INVITATION_USES", "uses of one invitation", format!("{} to {}", INVITATION_USES.start(), INVITATION_USES.end())),
            ("INVITATION_EXPIRES", "`expires_in` of an invitation", between(&INVITATION_EXPIRES)),
            ("OWN_INVITATION_EXPIRES", "the same where members invite themselves", format!("at most `{OWN_INVITATION_EXPIRES}`")),
        ]),
        ("Lists", vec![
            ("PAGE_DEFAULT", "rows of a page when you do not say", number(PAGE_DEFAULT)),
            ("PAGE_MAX", "rows of a page", number(PAGE_MAX)),
            ("LIST_EXAMINED", "index entries that one call examines", number(LIST_EXAMINED)),
            ("GUEST_EXAMINED", "index entries that one call of a guest examines", number(GUEST_EXAMINED)),
            ("LIST_BYTES", "what the rows of a page hold, about", bytes(LIST_BYTES)),
        ]),
    ]
}

fn document() -> String {
    let mut text = HEAD.to_owned();
    for (title, rows) in groups() {
        write!(text, "\n## {title}\n\n| What | Limit |\n| --- | --- |\n").unwrap();
        for (_, what, limit) in rows {
            writeln!(text, "| {what} | {limit} |").unwrap();
        }
    }
    text + &quotas()
}

/// The limits that a deployment can set.
fn quotas() -> String {
    let limits = Limits::default();
    let rows = [
        (Quota::Calls, "calls with one key"),
        (Quota::Changes, "of these, calls that change something"),
        (Quota::Tests, "tests of channels by one executor"),
        (Quota::Requests, "requests that one executor posts"),
        (
            Quota::Registrations,
            "registrations without an invitation from one address",
        ),
        (
            Quota::FailedLogins,
            "calls with a wrong key, token or code from one address",
        ),
    ];
    let mut text =
        "\n## How often\n\nYou can set these with [`LIMITS`](configuration.md#limits). Beyond \
        one of them a call answers 429, and `Retry-After` says when to try again.\n\n\
        | Name | What | Limit |\n| --- | --- | --- |\n"
            .to_owned();
    let number = |limit: u32| number(usize::try_from(limit).unwrap());
    for (quota, what) in rows {
        let (name, period) = (quota.as_str(), quota.period());
        let limit = number(limits.of(quota).unwrap());
        writeln!(text, "| `{name}` | {what} | {limit} in `{period}` |").unwrap();
    }
    let members = number(limits.members.unwrap());
    writeln!(text, "| `members` | members of one exchange | {members} |").unwrap();
    text
}

#[test]
fn the_documented_limits_are_those_of_the_code() {
    let made = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(FILE, &made).unwrap();
    }
    let committed = std::fs::read_to_string(FILE).unwrap_or_default();
    assert_eq!(committed, made, "run UPDATE_DOCS=1 cargo test limits");
}

#[test]
fn every_limit_is_documented() {
    let source = include_str!("limits.rs");
    let mut defined: Vec<_> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .collect();
    let groups = groups();
    let rows = groups.iter().flat_map(|(_, rows)| rows);
    let mut documented: Vec<_> = rows.map(|(name, ..)| *name).collect();
    defined.sort_unstable();
    documented.sort_unstable();
    assert_eq!(documented, defined);
}
