//! Tests of the contract of [`ObjectStore`], one function for each clause. Every backend passes all
//! of them.

use std::future::Future;
use std::pin::Pin;

use futures::future::join_all;

use super::{Condition, List, ObjectStore, Page, Put, StoreError, Tag};

type Outcome = Result<(), String>;
/// A function that tries one clause and returns what does not hold.
pub type Clause = for<'a> fn(&'a dyn ObjectStore) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// Every clause, by name. Each clause works below a prefix of its own, which must be empty. It
/// leaves nothing behind if it succeeds.
pub const CLAUSES: &[(&str, Clause)] = &[
    ("reads_what_was_put", |s| Box::pin(reads_what_was_put(s))),
    ("absent_is_none", |s| Box::pin(absent_is_none(s))),
    ("put_replaces", |s| Box::pin(put_replaces(s))),
    ("absent_puts_once", |s| Box::pin(absent_puts_once(s))),
    ("matches_swaps", |s| Box::pin(matches_swaps(s))),
    ("matches_needs_an_object", |s| {
        Box::pin(matches_needs_an_object(s))
    }),
    ("one_creator_wins", |s| Box::pin(one_creator_wins(s))),
    ("one_swapper_wins", |s| Box::pin(one_swapper_wins(s))),
    ("delete_is_idempotent", |s| {
        Box::pin(delete_is_idempotent(s))
    }),
    ("lists_in_order", |s| Box::pin(lists_in_order(s))),
    ("lists_in_pages", |s| Box::pin(lists_in_pages(s))),
    ("list_sees_changes", |s| Box::pin(list_sees_changes(s))),
    ("keys_are_exact", |s| Box::pin(keys_are_exact(s))),
    ("long_keys", |s| Box::pin(long_keys(s))),
    ("summaries_are_whole_or_absent", |s| {
        Box::pin(summaries_are_whole_or_absent(s))
    }),
    ("large_bodies", |s| Box::pin(large_bodies(s))),
];

fn check(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` wants")]
fn text(error: StoreError) -> String {
    error.to_string()
}

async fn put(
    store: &dyn ObjectStore,
    key: &str,
    body: &str,
    condition: Condition<'_>,
) -> Result<Put, String> {
    let body = body.as_bytes().to_vec();
    store.put(key, body, None, condition).await.map_err(text)
}

async fn body(store: &dyn ObjectStore, key: &str) -> Result<Option<String>, String> {
    let object = store.get(key).await.map_err(text)?;
    Ok(object.map(|object| String::from_utf8_lossy(&object.body).into_owned()))
}

async fn tag(store: &dyn ObjectStore, key: &str) -> Result<Tag, String> {
    let object = store.get(key).await.map_err(text)?;
    object
        .map(|object| object.tag)
        .ok_or_else(|| format!("{key} is missing"))
}

async fn delete(store: &dyn ObjectStore, key: &str) -> Outcome {
    store.delete(key).await.map_err(text)
}

async fn list(
    store: &dyn ObjectStore,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    summaries: bool,
) -> Result<Page, String> {
    let query = List {
        prefix,
        after,
        limit,
        summaries,
    };
    store.list(query).await.map_err(text)
}

async fn reads_what_was_put(store: &dyn ObjectStore) -> Outcome {
    let key = "conformance/read/a.json";
    for content in ["p", "plain", "ünï✓🚪\n\0\u{ff}"] {
        let Put::Stored(tag) = put(store, key, content, Condition::Always).await? else {
            return Err("an unconditional put failed".to_owned());
        };
        let object = store.get(key).await.map_err(text)?;
        let object = object.ok_or("the object is missing")?;
        check(object.body == content.as_bytes(), "the body differs")?;
        check(object.tag == tag, "put and get differ on the tag")?;
        let read = store.read(key).await.map_err(text)?;
        check(read.as_ref() == Some(&object.body), "get and read differ")?;
    }
    delete(store, key).await
}

async fn absent_is_none(store: &dyn ObjectStore) -> Outcome {
    let key = "conformance/absent/a";
    let read = store.read(key).await.map_err(text)?;
    check(
        body(store, key).await?.is_none() && read.is_none(),
        "an absent object was read",
    )
}

async fn put_replaces(store: &dyn ObjectStore) -> Outcome {
    let key = "conformance/replace/a";
    put(store, key, "first", Condition::Always).await?;
    let first = tag(store, key).await?;
    put(store, key, "second", Condition::Always).await?;
    check(
        body(store, key).await?.as_deref() == Some("second"),
        "not replaced",
    )?;
    check(
        tag(store, key).await? != first,
        "the tag did not change with the content",
    )?;
    delete(store, key).await
}

async fn absent_puts_once(store: &dyn ObjectStore) -> Outcome {
    let key = "conformance/create/a";
    let first = put(store, key, "first", Condition::Absent).await?;
    check(matches!(first, Put::Stored(_)), "the first was not stored")?;
    let second = put(store, key, "second", Condition::Absent).await?;
    check(second == Put::ConditionFailed, "the second was stored")?;
    check(
        body(store, key).await?.as_deref() == Some("first"),
        "the first was changed",
    )?;
    delete(store, key).await?;
    let third = put(store, key, "third", Condition::Absent).await?;
    check(matches!(third, Put::Stored(_)), "not stored after a delete")?;
    delete(store, key).await
}

async fn matches_swaps(store: &dyn ObjectStore) -> Outcome {
    let key = "conformance/swap/a";
    put(store, key, "first", Condition::Always).await?;
    let first = tag(store, key).await?;
    let swapped = put(store, key, "second", Condition::Matches(&first)).await?;
    check(
        matches!(swapped, Put::Stored(_)),
        "not swapped at the right tag",
    )?;
    let stale = put(store, key, "third", Condition::Matches(&first)).await?;
    check(stale == Put::ConditionFailed, "swapped at a stale tag")?;
    check(
        body(store, key).await?.as_deref() == Some("second"),
        "a failed swap changed it",
    )?;
    delete(store, key).await
}

async fn matches_needs_an_object(store: &dyn ObjectStore) -> Outcome {
    let key = "conformance/swap-absent/a";
    put(store, key, "first", Condition::Always).await?;
    let old = tag(store, key).await?;
    delete(store, key).await?;
    let swapped = put(store, key, "second", Condition::Matches(&old)).await?;
    check(swapped == Put::ConditionFailed, "swapped what is not there")?;
    check(
        body(store, key).await?.is_none(),
        "a failed swap made an object",
    )
}

async fn one_creator_wins(store: &dyn ObjectStore) -> Outcome {
    let key = "conformance/create-race/a";
    let bodies: Vec<String> = (0..8).map(|n| format!("writer {n}")).collect();
    let puts = bodies
        .iter()
        .map(|body| put(store, key, body, Condition::Absent));
    one_winner(store, key, &bodies, join_all(puts).await).await
}

async fn one_swapper_wins(store: &dyn ObjectStore) -> Outcome {
    let key = "conformance/swap-race/a";
    put(store, key, "first", Condition::Always).await?;
    let first = tag(store, key).await?;
    let bodies: Vec<String> = (0..8).map(|n| format!("writer {n}")).collect();
    let puts = bodies
        .iter()
        .map(|body| put(store, key, body, Condition::Matches(&first)));
    one_winner(store, key, &bodies, join_all(puts).await).await
}

async fn one_winner(
    store: &dyn ObjectStore,
    key: &str,
    bodies: &[String],
    puts: Vec<Result<Put, String>>,
) -> Outcome {
    let puts = puts.into_iter().collect::<Result<Vec<_>, _>>()?;
    let winners: Vec<_> = puts
        .iter()
        .zip(bodies)
        .filter(|(put, _)| matches!(put, Put::Stored(_)))
        .map(|(_, body)| body.clone())
        .collect();
    check(winners.len() == 1, &format!("{} winners", winners.len()))?;
    check(
        body(store, key).await? == winners.into_iter().next(),
        "another's body is stored",
    )?;
    delete(store, key).await
}

async fn delete_is_idempotent(store: &dyn ObjectStore) -> Outcome {
    let key = "conformance/delete/a";
    delete(store, key).await?;
    put(store, key, "x", Condition::Always).await?;
    put(store, "conformance/delete/ab", "x", Condition::Always).await?;
    delete(store, key).await?;
    delete(store, key).await?;
    check(body(store, key).await?.is_none(), "still there")?;
    let other = body(store, "conformance/delete/ab").await?;
    check(other.is_some(), "a longer key was deleted too")?;
    delete(store, "conformance/delete/ab").await
}

async fn lists_in_order(store: &dyn ObjectStore) -> Outcome {
    let prefix = "conformance/order/";
    let names = [
        "b", "a/2", "a/1", "a-1", "A", "a=1/x", "a.json", "0", "a_1", "z/y/x",
    ];
    for name in names {
        put(store, &format!("{prefix}{name}"), name, Condition::Always).await?;
    }
    let mut expected: Vec<_> = names.iter().map(|name| format!("{prefix}{name}")).collect();
    expected.sort();
    let listed = all(store, prefix, 1_000).await?;
    check(listed == expected, &format!("{listed:?}"))?;
    let inner = all(store, "conformance/order/a", 1_000).await?;
    check(inner.len() == 6, "a prefix need not end at a slash")?;
    for key in expected {
        delete(store, &key).await?;
    }
    Ok(())
}

/// All keys below `prefix`, collected in pages of `limit`.
async fn all(store: &dyn ObjectStore, prefix: &str, limit: usize) -> Result<Vec<String>, String> {
    let mut keys: Vec<String> = Vec::new();
    for _ in 0..1_000 {
        let page = list(store, prefix, keys.last().map(String::as_str), limit, false).await?;
        check(page.rows.len() <= limit, "a page is longer than asked for")?;
        let stuck = page.rows.is_empty();
        keys.extend(page.rows.into_iter().map(|row| row.key));
        if !page.more {
            return Ok(keys);
        }
        check(!stuck, "a page makes no progress")?;
    }
    Err("the list does not end".to_owned())
}

async fn lists_in_pages(store: &dyn ObjectStore) -> Outcome {
    let prefix = "conformance/pages/";
    let keys: Vec<_> = (0..23).map(|n| format!("{prefix}{n:03}")).collect();
    for key in &keys {
        put(store, key, "x", Condition::Always).await?;
    }
    for limit in [1, 7, 22, 23, 24] {
        check(
            all(store, prefix, limit).await? == keys,
            &format!("pages of {limit}"),
        )?;
    }
    let after = list(store, prefix, Some("conformance/pages/009x"), 3, false).await?;
    let after: Vec<_> = after.rows.into_iter().map(|row| row.key).collect();
    check(
        keys.get(10..13) == Some(&after),
        "`after` need not be a key",
    )?;
    for key in keys {
        delete(store, &key).await?;
    }
    check(
        all(store, prefix, 10).await?.is_empty(),
        "deleted keys are listed",
    )
}

async fn list_sees_changes(store: &dyn ObjectStore) -> Outcome {
    let prefix = "conformance/fresh/";
    let key = format!("{prefix}a");
    for _ in 0..5 {
        put(store, &key, "x", Condition::Always).await?;
        check(
            all(store, prefix, 10).await?.len() == 1,
            "a put is not listed at once",
        )?;
        delete(store, &key).await?;
        check(
            all(store, prefix, 10).await?.is_empty(),
            "a delete is not seen at once",
        )?;
    }
    Ok(())
}

async fn keys_are_exact(store: &dyn ObjectStore) -> Outcome {
    let (upper, lower) = ("conformance/case/Home", "conformance/case/home");
    put(store, upper, "upper", Condition::Always).await?;
    check(
        body(store, lower).await?.is_none(),
        "another case is the same key",
    )?;
    let created = put(store, lower, "lower", Condition::Absent).await?;
    check(matches!(created, Put::Stored(_)), "another case is taken")?;
    check(
        body(store, upper).await?.as_deref() == Some("upper"),
        "overwritten by another case",
    )?;
    delete(store, upper).await?;
    check(
        body(store, lower).await?.is_some(),
        "deleted with another case",
    )?;
    delete(store, lower).await
}

async fn long_keys(store: &dyn ObjectStore) -> Outcome {
    let key = format!("conformance/long/{}/{}", "a".repeat(180), "b".repeat(180));
    put(store, &key, "x", Condition::Absent).await?;
    check(body(store, &key).await?.is_some(), "a long key is lost")?;
    delete(store, &key).await
}

async fn summaries_are_whole_or_absent(store: &dyn ObjectStore) -> Outcome {
    let prefix = "conformance/summary/";
    let key = format!("{prefix}a");
    let long = "x".repeat(20_000);
    let wide = "✓".repeat(4_500);
    for summary in ["{\"intent\":\"Tür zu? ✓🚪\"}", &long, &wide] {
        let body = summary.as_bytes().to_vec();
        let stored = store
            .put(&key, body, Some(summary), Condition::Always)
            .await
            .map_err(text)?;
        check(
            matches!(stored, Put::Stored(_)),
            "a summary keeps a put from being stored",
        )?;
        let page = list(store, prefix, None, 10, true).await?;
        let listed = page.rows.first().ok_or("not listed")?.summary.clone();
        check(
            listed.is_none_or(|listed| listed == summary),
            "a summary came back changed",
        )?;
    }
    put(store, &key, "x", Condition::Always).await?;
    let page = list(store, prefix, None, 10, true).await?;
    let row = page.rows.first().ok_or("not listed")?;
    check(
        row.summary.is_none(),
        "a put without a summary left the old one",
    )?;
    delete(store, &key).await
}

async fn large_bodies(store: &dyn ObjectStore) -> Outcome {
    let key = "conformance/large/a";
    let content = "0123456789abcdef".repeat(300_000);
    put(store, key, &content, Condition::Always).await?;
    check(
        body(store, key).await?.as_deref() == Some(content.as_str()),
        "a large body differs",
    )?;
    delete(store, key).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::Memory;

    #[test]
    fn memory_passes() {
        for store in [Memory::like_r2(), Memory::like_s3()] {
            for (name, clause) in CLAUSES {
                let outcome = futures::executor::block_on(clause(&store));
                assert_eq!(outcome, Ok(()), "{name}");
            }
            assert!(store.keys("").is_empty(), "something is left behind");
        }
    }
}
