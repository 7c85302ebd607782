//! The key layout: where every object of the bucket is stored.
//!
//! `events/` and `executors/` are the published layout that other tools read. Everything else is
//! private to this server.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::domain::ids::{ExchangeId, ExecutorId, Ref};
use crate::domain::key::KeyHash;
use crate::domain::thread::status::Status;
use crate::domain::time::Timestamp;

/// The folders that the exchange and its tools write. The start script has the same list, and
/// removes unfinished writes from these folders.
pub const FOLDERS: [&str; 15] = [
    "attempts",
    "audit",
    "capabilities",
    "conformance",
    "derived",
    "due",
    "events",
    "exchanges",
    "executors",
    "external",
    "index",
    "invitations",
    "keys",
    "streaks",
    "threads",
];

/// The object that says which versions may write the bucket.
pub const FORMAT: &str = "format.json";

/// All obligations. Those that recover come first, in the order in which they are due, and then
/// come the deliveries.
pub const DUE: &str = "due/";

/// Obligations to deliver, in the order in which they are due. They are separate from the others,
/// so that they do not hide any, however many deliveries there are.
pub const DELIVERIES: &str = "due/deliveries/";

/// Obligations of memberships that have ended, in the order in which they are due. They come last, so that
/// they hold up nothing else, however many members come and go.
pub const DEPARTURES: &str = "due/departures/";

/// An object for trying the store.
pub fn trial(id: Uuid) -> String {
    format!("conformance/{id}")
}

/// The log of one exchange.
pub fn events(exchange: &ExchangeId) -> String {
    format!("events/exchange={exchange}/")
}

/// The log object of one batch, with one line for each event, under the UTC date of its events.
pub fn event_batch(exchange: &ExchangeId, ts: Timestamp, batch: Uuid) -> String {
    let (year, month, day) = ts.date();
    format!("events/exchange={exchange}/{year:04}/{month:02}/{day:02}/{batch}.jsonl")
}

/// All executors of an exchange.
pub fn executors(exchange: &ExchangeId) -> String {
    format!("executors/exchange={exchange}/")
}

/// An executor's record.
pub fn executor(exchange: &ExchangeId, id: &ExecutorId) -> String {
    format!("executors/exchange={exchange}/{id}.json")
}

/// The document of an exchange.
pub fn exchange(exchange: &ExchangeId) -> String {
    format!("exchanges/exchange={exchange}.json")
}

/// All invitations of an exchange.
pub fn invitations(exchange: &ExchangeId) -> String {
    format!("invitations/exchange={exchange}/")
}

/// An invitation.
pub fn invitation(exchange: &ExchangeId, id: &str) -> String {
    format!("{}{id}.json", invitations(exchange))
}

/// The audit of an exchange, newest first.
pub fn audit(exchange: &ExchangeId) -> String {
    format!("audit/exchange={exchange}/")
}

/// The entry of one mutation in the audit.
pub fn audit_entry(exchange: &ExchangeId, at: Timestamp, id: Uuid) -> String {
    let time = Timestamp::MAX.since(at);
    format!("{}{time:013}-{id}.json", audit(exchange))
}

/// The object that says which executor a key belongs to.
pub fn key(exchange: &ExchangeId, hash: &KeyHash) -> String {
    format!("keys/exchange={exchange}/{}.json", hash.as_str())
}

/// The catalogue of an exchange's capabilities.
pub fn capabilities(exchange: &ExchangeId) -> String {
    format!("capabilities/exchange={exchange}/")
}

/// A capability in the catalogue. Its key is the hash of its id, because an id may be any text.
pub fn capability(exchange: &ExchangeId, id: &str) -> String {
    let hash = Sha256::digest(id);
    format!("{}{hash:x}.json", capabilities(exchange))
}

/// A thread document.
pub fn thread(exchange: &ExchangeId, reference: &Ref) -> String {
    format!("threads/exchange={exchange}/{reference}.json")
}

/// An obligation that is due at `at`.
pub fn due(at: Timestamp, id: Uuid) -> String {
    format!("due/{:013}-{id}.json", at.millis())
}

/// An obligation to deliver, due at `at`.
pub fn due_delivery(at: Timestamp, exchange: &ExchangeId, id: Uuid) -> String {
    format!("{DELIVERIES}{:013}-{exchange}-{id}.json", at.millis())
}

/// The obligation of a membership that has ended, due at `at`.
pub fn due_departure(at: Timestamp, id: Uuid) -> String {
    format!("{DEPARTURES}{:013}-{id}.json", at.millis())
}

/// The exchange of the delivery obligation under `key`.
pub fn delivery_exchange(key: &str) -> Option<&str> {
    let name = key.strip_prefix(DELIVERIES)?.get(14..)?;
    let id = "-00000000-0000-0000-0000-000000000000.json".len();
    name.get(..name.len().checked_sub(id)?)
}

/// The key of the obligation under `key` if it is due at `at` instead.
pub fn due_moved(key: &str, at: Timestamp) -> Option<String> {
    let (folder, name) = due_name(key)?;
    Some(format!("{folder}{:013}-{}", at.millis(), name.get(14..)?))
}

/// When the obligation under `key` is due, or `None` if the key is not that of an obligation.
pub fn due_at(key: &str) -> Option<Timestamp> {
    let millis = due_name(key)?.1.get(..13)?;
    Some(Timestamp::from_millis(millis.parse().ok()?))
}

fn due_name(key: &str) -> Option<(&'static str, &str)> {
    let split = |folder| Some((folder, key.strip_prefix(folder)?));
    split(DELIVERIES)
        .or_else(|| split(DEPARTURES))
        .or_else(|| split(DUE))
}

/// The progress of importing another MESS server's bucket.
pub fn import_progress(exchange: &ExchangeId) -> String {
    format!("derived/exchange={exchange}.json")
}

/// The parts of another server's log, sorted by thread during an import.
pub fn import_parts(exchange: &ExchangeId) -> String {
    format!("derived/exchange={exchange}/")
}

/// The events of one thread in stretch `part` of the log.
pub fn import_part(exchange: &ExchangeId, reference: &Ref, part: u64) -> String {
    format!("derived/exchange={exchange}/{reference}/{part:012}.jsonl")
}

/// The thread that the part under `key` belongs to.
pub fn import_ref(exchange: &ExchangeId, key: &str) -> Option<Ref> {
    let rest = key.strip_prefix(&import_parts(exchange))?;
    Ref::parse(rest.split_once('/')?.0).ok()
}

/// An executor's attempts at deliveries, newest first.
pub fn attempts(exchange: &ExchangeId, executor: &ExecutorId) -> String {
    format!("attempts/exchange={exchange}/{executor}/")
}

/// One attempt at a delivery.
pub fn attempt(
    exchange: &ExchangeId,
    executor: &ExecutorId,
    at: Timestamp,
    delivery: Uuid,
) -> String {
    let before = attempts_before(exchange, executor, at);
    format!("{before}-{delivery}.json")
}

/// The position among an executor's attempts after which every attempt was made before `at`.
pub fn attempts_before(exchange: &ExchangeId, executor: &ExecutorId, at: Timestamp) -> String {
    let time = Timestamp::MAX.since(at);
    format!("{}{time:013}", attempts(exchange, executor))
}

/// The moment since when a channel or hook has failed.
pub fn streak(exchange: &ExchangeId, executor: &ExecutorId, subscription: &str) -> String {
    format!("streaks/exchange={exchange}/{executor}/{subscription}.json")
}

/// The id that an executor's hook got from its provider for a thread.
pub fn external(
    exchange: &ExchangeId,
    reference: &Ref,
    executor: &ExecutorId,
    hook: &str,
) -> String {
    format!("external/exchange={exchange}/{reference}/{executor}-{hook}.json")
}

/// The name of the object under `key` in the folder `prefix`, without `.json`.
pub fn name_in<'a>(prefix: &str, key: &'a str) -> Option<&'a str> {
    key.strip_prefix(prefix)?.strip_suffix(".json")
}

/// The exchange of a key in a folder that has a part for each exchange.
pub fn exchange_of(key: &str) -> Option<&str> {
    let rest = key.split_once("exchange=")?.1;
    let end = rest.find(['/', '.']).unwrap_or(rest.len());
    rest.get(..end)
}

/// The index of all threads, or of those with one status, newest change first.
pub fn index(exchange: &ExchangeId, status: Option<Status>) -> String {
    match status {
        None => format!("index/exchange={exchange}/all/"),
        Some(status) => format!("index/exchange={exchange}/status={status}/"),
    }
}

/// The entry of one version of a thread in an index.
///
/// The index of all threads, and those of the statuses that end a thread, have a folder for each
/// day, because they grow for ever and a file system lists a folder only as a whole.
pub fn index_entry(
    exchange: &ExchangeId,
    status: Option<Status>,
    updated_at: Timestamp,
    reference: &Ref,
) -> String {
    let list = index(exchange, status);
    let time = Timestamp::MAX.since(updated_at);
    let days = status.is_none_or(Status::is_terminal);
    if days {
        let (year, month, day) = updated_at.date();
        // The numbers descend, so that the newest day is listed first.
        let (year, month, day) = (
            9_999_i32.saturating_sub(year),
            99_u32.saturating_sub(month),
            99_u32.saturating_sub(day),
        );
        format!("{list}{year:04}{month:02}{day:02}/{time:013}-{reference}")
    } else {
        format!("{list}{time:013}-{reference}")
    }
}

/// The moment of the last change and the thread that an index entry is about.
pub fn index_position(key: &str) -> Option<(Timestamp, Ref)> {
    let (_, name) = key.rsplit_once('/')?;
    let (time, reference) = name.split_once('-')?;
    let updated_at = Timestamp::MAX.plus_millis(time.parse::<i64>().ok()?.checked_neg()?);
    Some((updated_at, Ref::parse(reference).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> ExchangeId {
        ExchangeId::parse("home", "").unwrap()
    }

    #[test]
    fn the_start_script_knows_the_same_folders() {
        let script = include_str!("../../selfhost/directory.js");
        let (_, list) = script.split_once("FOLDERS = [").unwrap();
        let (list, _) = list.split_once(']').unwrap();
        let names: Vec<_> = list.split('"').skip(1).step_by(2).collect();
        assert_eq!(names, FOLDERS);
    }

    #[test]
    fn the_published_keys() {
        let ts = Timestamp::parse("2025-02-01T23:59:59.999Z").unwrap();
        let phone = ExecutorId::parse("phone", "").unwrap();
        assert_eq!(
            event_batch(&home(), ts, Uuid::nil()),
            "events/exchange=home/2025/02/01/00000000-0000-0000-0000-000000000000.jsonl"
        );
        assert_eq!(
            executor(&home(), &phone),
            "executors/exchange=home/phone.json"
        );
    }

    #[test]
    fn newer_changes_come_first_in_an_index() {
        let reference = Ref::parse("2025-02-01-XY1Z").unwrap();
        let moments = [
            "2025-02-01T00:00:00Z",
            "2025-02-01T23:59:59.999Z",
            "2025-02-02T00:00:00Z",
            "2025-12-31T23:59:59Z",
            "2026-01-01T00:00:00Z",
        ];
        for status in [None, Some(Status::Pending), Some(Status::Completed)] {
            let keys: Vec<_> = moments
                .iter()
                .map(|text| Timestamp::parse(text).unwrap())
                .map(|ts| index_entry(&home(), status, ts, &reference))
                .collect();
            assert!(keys.is_sorted_by(|a, b| a > b), "{keys:?}");
            for (key, text) in keys.iter().zip(moments) {
                let position = (Timestamp::parse(text).unwrap(), reference.clone());
                assert_eq!(index_position(key), Some(position));
            }
            assert!(
                keys.iter()
                    .all(|key| key.starts_with(&index(&home(), status)))
            );
        }
    }

    #[test]
    fn due_keys_sort_by_time_and_tell_it() {
        let early = due(Timestamp::from_millis(999), Uuid::max());
        let late = due(Timestamp::from_millis(1_000), Uuid::nil());
        assert!(early < late);
        assert_eq!(due_at(&late), Some(Timestamp::from_millis(1_000)));
        assert_eq!(due_at("due/x"), None);
        let delivery = due_delivery(Timestamp::from_millis(5), &home(), Uuid::nil());
        assert!(late < delivery, "deliveries come after all that recovers");
        assert_eq!(due_at(&delivery), Some(Timestamp::from_millis(5)));
        assert_eq!(delivery_exchange(&delivery), Some("home"));
        let departure = due_departure(Timestamp::from_millis(5), Uuid::nil());
        assert!(delivery < departure, "departures come last");
        assert_eq!(due_at(&departure), Some(Timestamp::from_millis(5)));
        let odd = ExchangeId::parse("a-1_b-2", "").unwrap();
        let delivery = due_delivery(Timestamp::from_millis(5), &odd, Uuid::max());
        assert_eq!(delivery_exchange(&delivery), Some("a-1_b-2"));
        let moved = due_moved(&delivery, Timestamp::from_millis(7)).unwrap();
        assert_eq!(
            moved,
            due_delivery(Timestamp::from_millis(7), &odd, Uuid::max())
        );
    }
}
