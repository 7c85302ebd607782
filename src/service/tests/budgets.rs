//! The operation budgets: how many operations each call asks of the bucket, and that this number
//! does not depend on the number of threads.

use super::*;
use crate::domain::key::ApiKey;
use crate::domain::member::capability::Capability;
use crate::service::members::authenticate::authenticate;
use crate::service::members::{capabilities, executors};
use crate::service::requests::list::Listed;
use crate::storage::memory::Verb;

/// Operations as (gets, puts, deletes, lists).
type Cost = (usize, usize, usize, usize);

fn cost(world: &World) -> Cost {
    let operations = world.store.take_operations();
    let count = |verb| operations.iter().filter(|(v, _)| *v == verb).count();
    (
        count(Verb::Get),
        count(Verb::Put),
        count(Verb::Delete),
        count(Verb::List),
    )
}

/// The cost of every call in a world with `threads` threads, in the order of the documentation.
fn costs(world: &mut World, threads: usize) -> Vec<(&'static str, Cost)> {
    world.register("agent").unwrap();
    let mut last = None;
    for _ in 0..threads {
        last = Some(world.create("agent").unwrap().reference);
        world.pass(7);
    }
    let reference = last.unwrap();
    let mut costs = Vec::new();
    cost(world);

    world.thread(&reference).unwrap();
    costs.push(("get", cost(world)));

    world.create("agent").unwrap();
    costs.push(("create", cost(world)));

    world
        .update(&reference, "agent", set(Status::Claimed))
        .unwrap();
    costs.push(("claim", cost(world)));

    world.update(&reference, "agent", say("hello")).unwrap();
    costs.push(("message", cost(world)));

    world
        .update(&reference, "agent", set(Status::Claimed))
        .unwrap();
    costs.push(("repeated claim", cost(world)));

    world
        .update(&reference, "other", set(Status::Completed))
        .unwrap_err();
    costs.push(("refused", cost(world)));

    world.register("agent").unwrap_err();
    costs.push(("register a taken id", cost(world)));

    world.register("phone").unwrap();
    costs.push(("register", cost(world)));

    world.register("tablet").unwrap();
    costs.push(("register one more", cost(world)));

    list_page(world, 10);
    costs.push(("list 10", cost(world)));

    let app = world.app.clone();
    world
        .run(async move { executors::list(&app, &home(), 1_000, None).await })
        .unwrap();
    costs.push(("list executors", cost(world)));
    costs
}

fn list_page(world: &mut World, limit: usize) -> Listed {
    let app = world.app.clone();
    world
        .run(async move { list(&app, &home(), &Filter::default(), limit, None).await })
        .unwrap()
}

#[test]
fn the_budgets_hold_at_10_and_at_2000_threads() {
    let expected = vec![
        ("get", (1, 0, 0, 0)),
        // After the answer: one get of the thread, one delete of the obligation, one list of the
        // executors.
        ("create", (1, 5, 1, 1)),
        // This also includes the work after the answer: 1 get, 2 deletes, 1 list.
        ("claim", (2, 5, 3, 1)),
        ("message", (2, 5, 3, 1)),
        ("repeated claim", (1, 1, 1, 0)),
        ("refused", (1, 1, 1, 0)),
        // The document of the exchange, and the ids that are taken. Nothing is written for a stranger.
        ("register a taken id", (1, 0, 0, 1)),
        // Once in an isolate, also the record of the founder.
        ("register", (2, 5, 1, 1)),
        ("register one more", (1, 5, 1, 1)),
        ("list 10", (0, 0, 0, 1)),
        ("list executors", (0, 0, 0, 1)),
    ];
    for threads in [10, 2_000] {
        let mut world = World::new();
        assert_eq!(costs(&mut world, threads), expected, "{threads} threads");
    }
}

#[test]
fn what_the_terms_of_a_request_cost() {
    let mut world = World::new();
    world.register("agent").unwrap();
    world.join("phone", json!({"capabilities": ["see"]}));
    cost(&world);
    let needed_by = world.now().plus_millis(HOUR).to_string();
    let terms = json!({"needed_by": needed_by, "requires": ["see"], "confirm_before": true});
    let fields = {
        let mut fields = json!({"intent": "Check front door"});
        fields
            .as_object_mut()
            .unwrap()
            .extend(terms.as_object().unwrap().clone());
        fields
    };
    let app = world.invoke();
    let new = request(&app, fields);
    let work = create(&app, home(), id("agent"), new);
    let reference = world.pool.run_until(work).unwrap().reference;
    assert_eq!(
        cost(&world),
        (0, 5, 0, 0),
        "as any other request, until the answer"
    );
    world.go_on();
    assert_eq!(
        cost(&world),
        (1, 1, 1, 1),
        "after it one put more: the timer"
    );
    let claim = call(json!({"status": "claimed", "lease": "PT30M"}));
    let work = change_of(world.invoke(), &reference, "phone", claim);
    world.pool.run_until(work).unwrap();
    assert_eq!(
        cost(&world),
        (2, 5, 1, 0),
        "one get more: the record of who claims it"
    );
    world.go_on();
    assert_eq!(cost(&world), (1, 1, 2, 1));
    let plain = world.ask("agent", json!({}));
    cost(&world);
    let steps =
        json!({"mess": [{"status": {"code": "claimed"}}, {"status": {"code": "needs_input"}}]});
    world.update(&plain, "phone", call(steps)).unwrap();
    assert_eq!(
        cost(&world),
        (2, 5, 3, 1),
        "several steps cost as much as one"
    );
    world
        .update(
            &plain,
            "phone",
            Update::renew(Some(crate::domain::duration::Duration::days(1))),
        )
        .unwrap();
    assert_eq!(
        cost(&world),
        (2, 6, 3, 0),
        "nobody is told of a renewal; here it has a timer"
    );
    world.update(&plain, "phone", Update::renew(None)).unwrap();
    assert_eq!(cost(&world), (2, 5, 3, 0));
}

#[test]
fn what_the_catalogue_costs() {
    let mut world = World::new();
    world.join("phone", json!({"capabilities": ["see"]}));
    cost(&world);
    for n in 0..120 {
        let fields = Fields::of("", json!({"tags": ["t"]})).unwrap();
        let capability = Capability::parse(format!("c{n}"), fields).unwrap();
        let app = world.invoke();
        world
            .run(async move { capabilities::put(&app, &home(), &capability).await })
            .unwrap();
        assert_eq!(cost(&world), (0, 1, 0, 0));
    }
    let app = world.invoke();
    let listed = world
        .run(async move { capabilities::list(&app, &home(), None).await })
        .unwrap();
    assert_eq!(listed.len(), 121);
    assert_eq!(cost(&world), (0, 0, 0, 3), "one list per hundred of each");
    world.assert_sound("catalogue");
}

#[test]
fn until_the_answer_it_does_not_matter_who_wants_to_be_told() {
    let mut world = World::new();
    for name in ["agent", "phone"] {
        let channel = json!({"type": "ntfy", "topic": name});
        let hook = json!({"type": "ifttt", "key": name});
        let hooks = json!({"on_request_created": [hook], "on_request_claimed": [hook]});
        world.join(name, json!({"notifications": [channel], "hooks": hooks}));
    }
    cost(&world);
    let work = creation(world.invoke(), "agent");
    let created = world.pool.run_until(work).unwrap();
    assert_eq!(cost(&world), (0, 5, 0, 0));
    world.go_on();
    cost(&world);
    let work = change_of(
        world.invoke(),
        &created.reference,
        "phone",
        set(Status::Claimed),
    );
    world.pool.run_until(work).unwrap();
    assert_eq!(cost(&world), (1, 5, 1, 0));
    world.go_on();
    assert_eq!(world.sent().len(), 6, "all are told all the same");
}

#[test]
fn a_list_examines_a_hundred_entries_with_one_operation() {
    let mut world = World::new();
    world.register("agent").unwrap();
    for _ in 0..250 {
        world.create("agent").unwrap();
        world.pass(7);
    }
    cost(&world);
    assert_eq!(list_page(&mut world, 100).threads.len(), 100);
    assert_eq!(cost(&world), (0, 0, 0, 1));
    assert_eq!(list_page(&mut world, 250).threads.len(), 250);
    assert_eq!(cost(&world), (0, 0, 0, 3));
}

#[test]
fn a_backend_that_lists_no_summaries_is_asked_for_each_row_once() {
    let mut world = World::over(Memory::like_s3());
    world.register("agent").unwrap();
    for _ in 0..30 {
        world.create("agent").unwrap();
        world.pass(7);
    }
    cost(&world);
    assert_eq!(list_page(&mut world, 30).threads.len(), 30);
    assert_eq!(cost(&world), (30, 0, 0, 1));
    assert_eq!(list_page(&mut world, 30).threads.len(), 30);
    assert_eq!(cost(&world), (0, 0, 0, 1));
    world.create("agent").unwrap();
    cost(&world);
    assert_eq!(list_page(&mut world, 31).threads.len(), 31);
    assert_eq!(cost(&world), (1, 0, 0, 1));
}

#[test]
fn what_a_key_costs() {
    let mut world = World::new();
    let app = world.app.clone();
    let key = world
        .run(async move {
            register(
                &app,
                home(),
                Joining::plain(id("phone"), Profile::default()),
            )
            .await
        })
        .unwrap()
        .key;
    let ask = |world: &mut World, key: &ApiKey| {
        let (app, key) = (world.app.clone(), key.clone());
        let found = world
            .run(async move { authenticate(&app, &key).await })
            .unwrap();
        (found.map(|login| login.executor), cost(world))
    };
    cost(&world);
    // The isolate knows nothing yet. It reads whose key it is, and the record.
    assert_eq!(ask(&mut world, &key), (Some(id("phone")), (2, 0, 0, 0)));
    assert_eq!(ask(&mut world, &key), (Some(id("phone")), (0, 0, 0, 0)));
    world.pass(59 * SECOND);
    assert_eq!(ask(&mut world, &key).1, (0, 0, 0, 0));
    // Whose key it is never changes; what it is good for is in the record.
    world.pass(2 * SECOND);
    assert_eq!(ask(&mut world, &key).1, (1, 0, 0, 0));
    // Ten minutes after the executor was last seen, `last_seen` is written again.
    world.pass(10 * MINUTE);
    assert_eq!(ask(&mut world, &key).1, (1, 1, 0, 0));
    // This key is well-formed but belongs to nobody.
    let nobody = ApiKey::new(&home(), [9; 20]);
    assert_eq!(ask(&mut world, &nobody), (None, (1, 0, 0, 0)));
}
