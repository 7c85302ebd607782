//! Readings of single threads: long ones come one after the other.

use super::*;
use crate::domain::limits::THREAD_VALUES;
use crate::service::requests::view::Reading;
use crate::storage::memory::Verb;

/// Reads a thread as a client sees it.
async fn reading(app: Rc<App>, reference: Ref) -> Result<String, ServiceError> {
    let document = read::document(&app, &home(), &reference).await?;
    let thread = document.glance()?;
    let reading = Reading::of(&thread).map_err(|error| document.unreadable(&error))?;
    Ok(serde_json::to_string(&reading).unwrap())
}

fn read_now(world: &mut World, reference: &Ref) -> String {
    let work = reading(world.app.clone(), reference.clone());
    world.run(work).unwrap()
}

/// A short thread and a long one.
fn threads(world: &mut World) -> (Ref, Ref) {
    world.register("agent").unwrap();
    let short = world.ask("agent", json!({}));
    let long = world.ask("agent", json!({}));
    let change = say(&"x".repeat(300_000));
    world.update(&long, "agent", change).unwrap();
    world.store.take_operations();
    (short, long)
}

#[test]
fn what_is_shown_is_what_was_written_to_the_digit() {
    let mut world = World::new();
    world.register("agent").unwrap();
    let reference = world.ask("agent", json!({"intent": "Look"}));
    let block = r#"{"z":1,"a":[1.50,-0.0,1e300,18446744073709551615,"\u00e9\n"],"__proto__":{}}"#;
    let block: Value = serde_json::from_str(block).unwrap();
    let change = Update {
        mess: Some(vec![block.clone()]),
        ..Update::default()
    };
    world.update(&reference, "agent", change).unwrap();
    let shown = read_now(&mut world, &reference);
    assert!(shown.contains(&format!(r#""mess":[{block}]"#)), "{shown}");
    let thread: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(thread["thread"]["messages"][1]["from"], "agent");
}

#[test]
fn what_was_said_about_an_older_status_is_not_shown() {
    let mut world = World::new();
    world.register("agent").unwrap();
    let reference = world.ask("agent", json!({}));
    let waits = json!({"status": "waiting", "waiting_for": "parts", "lease": "PT1M"});
    world.update(&reference, "agent", call(waits)).unwrap();
    let (app, later) = (world.app.clone(), world.now().plus_millis(HOUR));
    let (now, then) = world.run(async move {
        let document = read::document(&app, &home(), &reference).await.unwrap();
        let mut thread = document.glance().unwrap();
        let now = thread.details().unwrap();
        thread.state = thread.state.as_of(later).unwrap();
        (now, thread.details().unwrap())
    });
    assert_eq!(now["waiting_for"], "parts");
    assert!(then.is_empty(), "the claim has lapsed: {then:?}");
}

/// A document with as many values as there may be is not parsed: its text is shown.
#[test]
fn a_thread_of_many_values_is_shown_from_its_text() {
    let values = format!("[{}0]", "0,".repeat(THREAD_VALUES - 1));
    let mut world = World::new();
    let (short, _) = threads(&mut world);
    let key = world.store.keys("threads/").into_iter();
    let key = key
        .into_iter()
        .find(|key| key.contains(short.as_str()))
        .unwrap();
    let mut thread: Value = serde_json::from_str(&world.store.text(&key)).unwrap();
    let events = thread["events"].as_array_mut().unwrap();
    let message = events
        .iter_mut()
        .find(|event| event["event_type"] == "message_added");
    // What is no JSON that this program would write stays as it is.
    message.unwrap()["payload"]["mess"] = json!("HERE");
    let text = thread
        .to_string()
        .replace(r#""HERE""#, &format!(" {values} "));
    world.store.plant(&key, &text);
    let shown = read_now(&mut world, &short);
    assert!(shown.contains(&format!(r#""mess":{values}"#)));
}

#[test]
fn a_long_thread_is_read_when_no_other_is() {
    let mut world = World::new();
    let (short, long) = threads(&mut world);
    for (reference, times) in [(&short, 0), (&long, 1)] {
        world.store.take_gave_way();
        read_now(&mut world, reference);
        assert_eq!(world.store.take_gave_way(), times);
        let gets = world.store.take_operations();
        assert_eq!(gets.len(), 1, "{gets:?}");
    }
    // Another call has a long one, and is forgotten meanwhile.
    let waited = |world: &mut World, reference: &Ref| {
        let (app, began) = (world.app.clone(), world.now());
        let place = app
            .isolate
            .busy
            .try_enter(world.clock.as_ref(), read::LONG, 1);
        assert!(place.is_some());
        read_now(world, reference);
        world.now().since(began)
    };
    assert_eq!(waited(&mut world, &short), 0);
    assert!(waited(&mut world, &long) >= 5_000);
    // The isolate knows that it is long, so it is not read before its turn comes.
    let gets = world.store.take_operations();
    assert_eq!(
        gets.iter().filter(|(verb, _)| *verb == Verb::Get).count(),
        2
    );
    // A new isolate learns it by reading it.
    world.restart();
    assert!(waited(&mut world, &long) >= 5_000);
    assert_eq!(world.store.take_operations().len(), 2);
}

#[test]
fn a_long_thread_is_changed_when_no_other_is_read_or_changed() {
    let mut world = World::new();
    let (short, long) = threads(&mut world);
    let changed = |world: &mut World, reference: &Ref| {
        let (app, began) = (world.app.clone(), world.now());
        let place = app
            .isolate
            .busy
            .try_enter(world.clock.as_ref(), read::LONG, 1);
        assert!(place.is_some());
        world.store.take_gave_way();
        world.update(reference, "agent", say("hello")).unwrap();
        (world.now().since(began), world.store.take_gave_way())
    };
    assert_eq!(changed(&mut world, &short), (0, 0));
    // The isolate has put it, so it knows that it is long.
    let (waited, times) = changed(&mut world, &long);
    assert!(waited >= 5_000, "{waited}");
    assert_eq!(times, 2);
    world.assert_settles("after changes of a long thread");
}

#[test]
fn a_reading_whose_client_hangs_up_keeps_nobody_waiting() {
    let mut world = World::new();
    let (_, long) = threads(&mut world);
    let key = "threads/";
    read_now(&mut world, &long);
    let mut held = world.store.hold(Verb::Get, key, 0, Moment::Before);
    let hung_up = world.start(reading(world.app.clone(), long.clone()));
    assert!(held.is_reached());
    drop(hung_up);
    world.go_on();
    let began = world.now();
    read_now(&mut world, &long);
    assert_eq!(world.now(), began);
}
