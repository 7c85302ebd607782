//! Lists: pages, filters, and the changes that a writer has just made.

use std::collections::HashSet;

use super::*;
use crate::domain::cursor::Cursor;
use crate::domain::limits::LIST_EXAMINED;
use crate::service::requests::list::Listed;

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

#[test]
fn a_long_intent_is_listed_whole() {
    let mut world = World::new();
    world.register("agent").unwrap();
    let intent = "✓".repeat(10_000);
    let app = world.app.clone();
    let request = request(&app, json!({ "intent": intent }));
    world
        .run(async move { create(&app, home(), id("agent"), request).await })
        .unwrap();
    let listed = page(&mut world, &Filter::default(), 10, None);
    assert_eq!(listed.threads[0].intent, intent);
}
