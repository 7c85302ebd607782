//! Lists: pages, filters, and the changes that a writer has just made.

use std::collections::HashSet;

use super::*;
use crate::domain::cursor::Cursor;
use crate::domain::limits::{LIST_EXAMINED, ROW_INTENT_CHARS};
use crate::domain::thread::row::Row;
use crate::service::members::{capabilities, executors};
use crate::service::requests::list::Listed;
use crate::service::requests::view::Reading;
use crate::storage::Condition;

fn page(world: &mut World, filter: &Filter, limit: usize, cursor: Option<&Cursor>) -> Listed {
    let (app, filter, cursor) = (world.app.clone(), filter.clone(), cursor.cloned());
    world
        .run(async move { list(&app, &home(), &filter, limit, cursor.as_ref()).await })
        .unwrap()
}

fn fill(world: &mut World, threads: usize) -> Vec<Ref> {
    world.register("agent").unwrap();
    (0..threads)
        .map(|_| {
            world.pass(7);
            world.create("agent").unwrap().reference
        })
        .collect()
}

#[test]
fn paging_skips_and_repeats_nothing_while_others_change() {
    for store in [Memory::like_r2(), Memory::like_s3()] {
        let mut world = World::over(store);
        let all = fill(&mut world, 2_500);
        let mut changed = HashSet::new();
        let mut seen = Vec::new();
        let mut cursor = None;
        let mut turn = 0;
        loop {
            let listed = page(&mut world, &Filter::default(), 73, cursor.as_ref());
            seen.extend(listed.threads.into_iter().map(|thread| thread.reference));
            cursor = listed.next;
            if cursor.is_none() {
                break;
            }
            // Between two pages, threads before and after the cursor change.
            for step in [3, 1_201] {
                let reference = &all[(turn * 61 + step) % all.len()];
                world.pass(5);
                world.update(reference, "phone", say("hello")).unwrap();
                changed.insert(reference.clone());
            }
            turn += 1;
        }
        assert!(turn > 30 && changed.len() > 60);
        let unchanged: Vec<_> = all.iter().filter(|one| !changed.contains(*one)).collect();
        for reference in &unchanged {
            let times = seen.iter().filter(|one| one == reference).count();
            assert_eq!(times, 1, "{reference}");
        }
        world.assert_sound("after paging");
    }
}

#[test]
fn newest_change_first() {
    let mut world = World::new();
    let refs = fill(&mut world, 4);
    world.pass(HOUR);
    world
        .update(&refs[1], "phone", set(Status::Claimed))
        .unwrap();
    world.pass(26 * HOUR);
    world.update(&refs[0], "phone", say("hello")).unwrap();
    let expected = [&refs[0], &refs[1], &refs[3], &refs[2]];
    assert_eq!(world.listed(None).iter().collect::<Vec<_>>(), expected);
}

#[test]
fn filters() {
    let mut world = World::new();
    let refs = fill(&mut world, 6);
    let before = world.now();
    world.pass(1);
    world
        .update(&refs[2], "phone", set(Status::Claimed))
        .unwrap();
    world
        .update(&refs[4], "tablet", set(Status::Completed))
        .unwrap();
    let refs_of = |world: &mut World, filter: Filter| -> Vec<Ref> {
        let listed = page(world, &filter, 100, None);
        assert!(listed.next.is_none());
        listed
            .threads
            .into_iter()
            .map(|thread| thread.reference)
            .collect()
    };
    let by_executor = Filter {
        executor: Some(id("phone")),
        ..Filter::default()
    };
    assert_eq!(refs_of(&mut world, by_executor), vec![refs[2].clone()]);
    let by_requestor = Filter {
        requestor: Some(id("phone")),
        ..Filter::default()
    };
    assert!(refs_of(&mut world, by_requestor).is_empty());
    let since = Filter {
        updated_since: Some(before),
        ..Filter::default()
    };
    // The bound is inclusive, so the list includes the last thread, which was created at that very
    // moment.
    let expected = [&refs[2], &refs[4], &refs[5]];
    let mut found = refs_of(&mut world, since);
    found.sort_by_key(|one| refs.iter().position(|r| r == one));
    assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    let ended = Filter {
        status: Some(Status::Completed),
        updated_since: Some(before),
        ..Filter::default()
    };
    assert_eq!(refs_of(&mut world, ended), vec![refs[4].clone()]);
}

#[test]
fn a_filter_that_matches_little_ends_a_call_with_a_cursor() {
    let mut world = World::new();
    let refs = fill(&mut world, LIST_EXAMINED + 50);
    let oldest = refs[0].clone();
    world.store.take_operations();
    let filter = Filter {
        executor: Some(id("nobody")),
        ..Filter::default()
    };
    let first = page(&mut world, &filter, 10, None);
    assert!(first.threads.is_empty());
    assert_eq!(world.store.take_operations().len(), LIST_EXAMINED / 100);
    let cursor = first.next.unwrap();
    let second = page(&mut world, &Filter::default(), 1_000, Some(&cursor));
    assert_eq!(second.threads.len(), 50);
    assert_eq!(second.threads.last().unwrap().reference, oldest);
    assert!(second.next.is_none());
}

/// Posts a request with a long intent, which a webhook is told of. Returns the intent.
fn ask_at_length(world: &mut World) -> (Ref, String) {
    let channel = json!({"type": "webhook", "url": "https://hooks.example/mess"});
    world.join("agent", json!({}));
    world.join("phone", json!({"notifications": [channel]}));
    let intent = "✓".repeat(10_000);
    (world.ask("agent", json!({ "intent": intent })), intent)
}

#[test]
fn rows_show_the_beginning_of_a_long_intent() {
    for store in [Memory::like_r2(), Memory::like_s3()] {
        let mut world = World::over(store);
        let (reference, intent) = ask_at_length(&mut world);
        let listed = page(&mut world, &Filter::default(), 10, None);
        let row = json!(Row::of(&listed.threads[0]));
        assert_eq!(row["intent"], "✓".repeat(ROW_INTENT_CHARS));
        assert_eq!(row["intent_truncated"], true);
        for key in world.store.keys("index/") {
            assert!(world.store.text(&key).len() < 3_500, "{key}");
        }
        let (app, of) = (world.app.clone(), reference.clone());
        let document = world.run(async move {
            let document = read::document(&app, &home(), &of).await.unwrap();
            json!(Reading::of(&document.glance().unwrap()).unwrap())
        });
        let reading = document;
        assert_eq!(reading["thread"]["intent"], intent);
        assert_eq!(reading["thread"].get("intent_truncated"), None);
        let told = world.sent();
        let told: Value = serde_json::from_str(told[0].1.body.as_ref().unwrap()).unwrap();
        assert_eq!(told["thread"]["intent"], intent);
        world.assert_settles("a long intent");
    }
}

#[test]
fn an_intent_of_just_the_length_of_a_row_is_whole() {
    let mut world = World::new();
    world.register("agent").unwrap();
    let intent = "✓".repeat(ROW_INTENT_CHARS);
    world.ask("agent", json!({ "intent": intent }));
    let listed = page(&mut world, &Filter::default(), 10, None);
    let row = json!(Row::of(&listed.threads[0]));
    assert_eq!(row["intent"], intent);
    assert_eq!(row.get("intent_truncated"), None);
}

/// Older versions wrote the whole state into the index.
#[test]
fn entries_of_older_versions_are_read_and_accepted() {
    for store in [Memory::like_r2(), Memory::like_s3()] {
        let mut world = World::over(store);
        let (reference, _) = ask_at_length(&mut world);
        let state = world.thread(&reference).unwrap().state;
        let older = serde_json::to_string(&state).unwrap();
        for key in world.store.keys("index/") {
            let store = world.store.clone();
            let put = store.put(&key, older.clone().into(), Some(&older), Condition::Always);
            world.run(put).unwrap();
        }
        world.restart();
        world.assert_settles("entries of an older version");
        // From the bucket, and then from what the isolate keeps.
        for _ in 0..2 {
            let listed = page(&mut world, &Filter::default(), 10, None);
            let shown = &listed.threads[0];
            assert_eq!(shown.intent.chars().count(), ROW_INTENT_CHARS);
            assert!(shown.intent_truncated);
        }
    }
}

/// A list of many rows does not hold up everybody else until it is done.
#[test]
fn work_over_many_rows_gives_way_to_others() {
    for store in [Memory::like_r2(), Memory::like_s3()] {
        let mut world = World::over(store);
        world.register("agent").unwrap();
        let intent = "x".repeat(ROW_INTENT_CHARS);
        for _ in 0..1_000 {
            world.ask("agent", json!({ "intent": intent }));
        }
        for _ in 0..2 {
            world.store.take_gave_way();
            page(&mut world, &Filter::default(), 20, None);
            assert_eq!(world.store.take_gave_way(), 0, "a short list need not");
            page(&mut world, &Filter::default(), 1_000, None);
            let times = world.store.take_gave_way();
            assert!((5..20).contains(&times), "{times}");
        }
    }
}

/// Occupies all places for those who read many rows, and returns for how long `work` waits.
fn waits<T, F: Future<Output = Result<T, ServiceError>>>(
    world: &mut World,
    work: impl FnOnce(Rc<App>) -> F,
) -> i64 {
    let app = world.app.clone();
    let (gate, began) = (&app.isolate.busy, world.now());
    let places: Vec<_> = (0..4)
        .map(|_| gate.try_enter(world.clock.as_ref(), "home", 4).unwrap())
        .collect();
    let work = work(app.clone());
    world.run(work).map(|_| ()).unwrap();
    drop(places);
    world.now().since(began)
}

#[test]
fn a_fifth_who_reads_many_rows_waits() {
    let mut world = World::new();
    fill(&mut world, 1);
    let all = Filter::default();
    let waited = [
        waits(&mut world, async |app: Rc<App>| {
            list(&app, &home(), &all, 10, None).await
        }),
        waits(&mut world, async |app: Rc<App>| {
            executors::list(&app, &home(), 1_000, None).await
        }),
        waits(&mut world, async |app: Rc<App>| {
            capabilities::list(&app, &home(), None).await
        }),
    ];
    // Until the others count as gone.
    assert!(waited.iter().all(|waited| *waited >= 5_000), "{waited:?}");
    let elsewhere = ExchangeId::parse("office", "").unwrap();
    let others = async |app: Rc<App>| list(&app, &elsewhere, &all, 10, None).await;
    assert_eq!(waits(&mut world, others), 0);
}
