//! Profiles: what is refused, and what becomes of ids and credentials.

use serde_json::json;

use super::*;
use crate::domain::ids::ExecutorId;
use crate::domain::limits::CAPABILITIES;
use crate::domain::member::forms::{Field, Form, Kind};
use crate::domain::member::sealed::Keys;

static PHONE: Form = Form {
    name: "phone",
    fields: &[
        Field::required("number", Kind::Line(20)),
        Field::optional("pin", Kind::Line(99)).secret(),
        Field::optional("headers", Kind::Headers).secret(),
        Field::optional("url", Kind::Url).secret().template(),
        Field::optional("text", Kind::Any).template(),
    ],
    check: |entry| match entry.get("pin") {
        Some(pin) if pin == "1234" => Err(("pin", "is too simple")),
        _ => Ok(()),
    },
};
const FORMS: Forms = Forms {
    channels: |at| [&PHONE].get(at).copied(),
    hooks: |at| [&PHONE].get(at).copied(),
};

fn parse(value: Value) -> Result<Profile, Invalid> {
    let rules = Rules {
        forms: FORMS,
        allow_private: false,
        is_zone: &|zone| zone == "Europe/Berlin",
    };
    Profile::parse(&mut Fields::of("", value).unwrap(), &rules)
}

/// Registers an executor with one profile and changes it to others. Ids are e0, e1, …
struct Desk {
    keys: Keys,
    drawn: std::cell::Cell<u8>,
}

impl Desk {
    fn new(keys: &str) -> Self {
        Self {
            keys: Keys::parse(keys).unwrap(),
            drawn: std::cell::Cell::new(0),
        }
    }

    fn change(&self, executor: &mut Executor, profile: Value) -> Result<(), Invalid> {
        let draw = || self.drawn.replace(self.drawn.get() + 1);
        let editor = Editor {
            forms: FORMS,
            seal: self.seal(),
            now: Timestamp::from_millis(0),
            new_id: &|| format!("e{}", draw()),
            nonce: &|| [draw(); 12],
        };
        editor.change(executor, parse(profile)?)
    }

    fn seal(&self) -> Seal<'_> {
        Seal {
            keys: &self.keys,
            owner: "home/phone",
        }
    }
}

fn nobody() -> Executor {
    serde_json::from_value(json!({"id": ExecutorId::parse("phone", "").unwrap()})).unwrap()
}

fn ids(executor: &Executor) -> Vec<&str> {
    let id = |entry: &'_ Value| entry["id"].as_str().unwrap().to_owned().leak() as &str;
    executor.notifications.iter().map(id).collect()
}

#[test]
fn what_is_refused_is_named_by_its_path() {
    let many: Vec<_> = (0..=CAPABILITIES).map(|n| n.to_string()).collect();
    let channel = |more: Value| {
        let mut entry = json!({"type": "phone", "number": "1"});
        for (name, value) in more.as_object().unwrap() {
            entry[name] = value.clone();
        }
        json!({ "notifications": [entry] })
    };
    for (bad, path) in [
        (json!({"display_name": ""}), "display_name"),
        (json!({"display_name": "a\u{0}"}), "display_name"),
        (json!({"display_name": 7}), "display_name"),
        (json!({"capabilities": "see"}), "capabilities"),
        (json!({"capabilities": [1]}), "capabilities[0]"),
        (json!({"capabilities": ["see", {}]}), "capabilities[1]"),
        (json!({"capabilities": many}), "capabilities"),
        (json!({"hooks": []}), "hooks"),
        (json!({"hooks": {"on_anything": []}}), "hooks"),
        (json!({"hooks": {"__proto__": []}}), "hooks"),
        (
            json!({"hooks": {"on_request_created": {}}}),
            "hooks.on_request_created",
        ),
        (
            json!({"hooks": {"on_request_created": [{"type": "phone"}]}}),
            "hooks.on_request_created[0].number",
        ),
        (json!({"notifications": {}}), "notifications"),
        (json!({"notifications": ["phone"]}), "notifications[0]"),
        (json!({"notifications": [{}]}), "notifications[0].type"),
        (
            json!({"notifications": [{"type": "pager"}]}),
            "notifications[0].type",
        ),
        (
            json!({"notifications": [{"type": "phone"}]}),
            "notifications[0].number",
        ),
        (channel(json!({"number": 3})), "notifications[0].number"),
        (channel(json!({"pin": "1234"})), "notifications[0].pin"),
        (channel(json!({"url": "ftp://x"})), "notifications[0].url"),
        (
            channel(json!({"url": "http://10.0.0.1/"})),
            "notifications[0].url",
        ),
        (
            channel(json!({"url": "https://{{intent}}/"})),
            "notifications[0].url",
        ),
        (
            channel(json!({"url": "https://a.example/{{nonsense}}"})),
            "notifications[0].url",
        ),
        (
            channel(json!({"text": {"a": ["{{ref}}", "{{nope}}"]}})),
            "notifications[0].text.a[1]",
        ),
        (
            channel(json!({"headers": {"a b": "c"}})),
            "notifications[0].headers",
        ),
        (
            channel(json!({"headers": {"Host": "c"}})),
            "notifications[0].headers.Host",
        ),
        (
            channel(json!({"headers": {"A": 1}})),
            "notifications[0].headers.A",
        ),
    ] {
        assert_eq!(parse(bad.clone()).unwrap_err().path, path, "{bad}");
    }
    assert!(
        parse(channel(
            json!({"text": "{{ref}} {{ intent }}", "url": "https://a.example/{{ref}}"})
        ))
        .is_ok()
    );
}

#[test]
fn preferences_that_are_refused() {
    for (bad, path) in [
        (json!({"preferences": []}), "preferences"),
        (
            json!({"preferences": {"min_priority": "high"}}),
            "preferences.min_priority",
        ),
        (
            json!({"preferences": {"quiet_hours": []}}),
            "preferences.quiet_hours",
        ),
        (
            json!({"preferences": {"quiet_hours": {"enabled": "yes"}}}),
            "preferences.quiet_hours.enabled",
        ),
        (
            json!({"preferences": {"quiet_hours": {"enabled": true}}}),
            "preferences.quiet_hours.start",
        ),
        (
            json!({"preferences": {"quiet_hours": {"enabled": true, "start": "22:00", "end": "24:00"}}}),
            "preferences.quiet_hours.end",
        ),
        (
            json!({"preferences": {"quiet_hours": {"timezone": "Mars/Olympus"}}}),
            "preferences.quiet_hours.timezone",
        ),
    ] {
        assert_eq!(parse(bad.clone()).unwrap_err().path, path, "{bad}");
    }
}

#[test]
fn an_entry_keeps_its_id_while_it_is_changed() {
    let desk = Desk::new("");
    let mut executor = nobody();
    let phone = |number: &str| json!({"type": "phone", "number": number});
    let given = json!({"notifications": [phone("1"), phone("2")]});
    desk.change(&mut executor, given).unwrap();
    assert_eq!(ids(&executor), ["e0", "e1"]);
    // The same content moves to another place, with a new entry in between.
    let given = json!({"notifications": [phone("2"), phone("3"), phone("1")]});
    desk.change(&mut executor, given).unwrap();
    assert_eq!(ids(&executor), ["e1", "e2", "e0"]);
    // One entry has new content in its old place; another is moved by its id.
    let given =
        json!({"notifications": [phone("4"), {"type": "phone", "number": "5", "id": "e0"}]});
    desk.change(&mut executor, given).unwrap();
    assert_eq!(ids(&executor), ["e1", "e0"]);
    // Clients cannot choose ids.
    let given = json!({"notifications": [phone("4"), phone("5"), {"type": "phone", "number": "6", "id": "mine"}]});
    desk.change(&mut executor, given).unwrap();
    assert_eq!(ids(&executor), ["e1", "e0", "e3"]);
}

#[test]
fn a_disabled_entry_is_enabled_by_giving_it_again() {
    let desk = Desk::new("");
    let mut executor = nobody();
    let given = json!({"notifications": [{"type": "phone", "number": "1", "disabled": {"reason": "mine"}}]});
    desk.change(&mut executor, given).unwrap();
    assert_eq!(
        executor.notifications[0].get("disabled"),
        None,
        "not for clients to say"
    );
    executor.notifications[0]["disabled"] = json!({"reason": "410"});
    let shown = executor.notifications.clone();
    desk.change(&mut executor, json!({ "notifications": shown }))
        .unwrap();
    assert_eq!(executor.notifications[0]["disabled"]["reason"], "410");
    let mut mended = executor.notifications.clone();
    mended[0]["number"] = json!("2");
    let mut other = executor.clone();
    desk.change(&mut other, json!({ "notifications": mended }))
        .unwrap();
    assert_eq!(
        other.notifications[0].get("disabled"),
        None,
        "it is changed"
    );
    let given = json!({"notifications": [{"type": "phone", "number": "1"}]});
    desk.change(&mut executor, given).unwrap();
    assert_eq!(executor.notifications[0].get("disabled"), None);
    assert_eq!(ids(&executor), ["e0"]);
}

const SECRET: &str = "abcdefghijkl-mnop";

#[test]
fn a_masked_profile_can_be_given_back() {
    for keys in ["", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
        let desk = Desk::new(keys);
        let mut executor = nobody();
        let entry = json!({"type": "phone", "number": "1", "pin": SECRET, "headers": {"Authorization": SECRET}});
        desk.change(&mut executor, json!({ "notifications": [entry] }))
            .unwrap();
        let mut shown = executor.clone();
        unseal(&mut shown, FORMS, &desk.seal());
        mask_credentials(&mut shown, FORMS);
        let mut shown = shown.notifications[0].clone();
        assert_eq!(shown["pin"], "••••mnop");
        assert_eq!(shown["headers"], json!({"Authorization": "••••mnop"}));
        shown["number"] = json!("2");
        desk.change(&mut executor, json!({ "notifications": [shown.clone()] }))
            .unwrap();
        unseal(&mut executor, FORMS, &desk.seal());
        assert_eq!(executor.notifications[0]["number"], "2");
        assert_eq!(executor.notifications[0]["pin"], SECRET);
        assert_eq!(
            executor.notifications[0]["headers"]["Authorization"],
            SECRET
        );
        // A masked credential is not sent to another address.
        let mut elsewhere = shown.clone();
        elsewhere["url"] = json!("https://elsewhere.example/");
        let refused = desk.change(&mut executor, json!({ "notifications": [elsewhere] }));
        assert_eq!(refused.unwrap_err().path, "notifications[0].url");
        // A mask of some other credential has nothing behind it.
        for wrong in ["••••", "••••xxxx"] {
            shown["pin"] = json!(wrong);
            let refused = desk.change(&mut executor, json!({ "notifications": [shown.clone()] }));
            assert_eq!(refused.unwrap_err().path, "notifications[0].pin");
        }
    }
}

#[test]
fn credentials_are_sealed_where_there_is_a_key() {
    let (first, second) = (
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=",
    );
    let desk = Desk::new(first);
    let mut executor = nobody();
    let entry = json!({"type": "phone", "number": "1", "pin": SECRET, "headers": {"A": SECRET}});
    desk.change(
        &mut executor,
        json!({"notifications": [entry], "hooks": {"on_request_created": [entry]}}),
    )
    .unwrap();
    let stored = serde_json::to_string(&executor).unwrap();
    assert!(
        !stored.contains(SECRET) && stored.contains("sealed"),
        "{stored}"
    );
    let sealed = executor.clone();
    // After another change no two credentials share a nonce, and a rotated key set still unseals
    // the old ones.
    let rotated = Desk {
        drawn: std::cell::Cell::new(100),
        ..Desk::new(&format!("{second} {first}"))
    };
    rotated.change(&mut executor, json!({})).unwrap();
    assert_ne!(executor.notifications, sealed.notifications);
    let mut opened = executor.clone();
    unseal(&mut opened, FORMS, &rotated.seal());
    assert_eq!(opened.notifications[0]["pin"], SECRET);
    // Without the key, or for another owner, a credential stays sealed.
    for (keys, owner) in [
        (first, "home/phone"),
        ("", "home/phone"),
        (second, "home/other"),
    ] {
        let keys = Keys::parse(keys).unwrap();
        let mut closed = executor.clone();
        unseal(&mut closed, FORMS, &Seal { keys: &keys, owner });
        assert_eq!(
            closed.notifications[0]["pin"],
            executor.notifications[0]["pin"]
        );
        mask_credentials(&mut closed, FORMS);
        assert_eq!(closed.notifications[0]["pin"], "••••");
    }
    assert!(Keys::parse("c2hvcnQ=").is_err());
    assert!(Keys::parse("no base64!").is_err());
}
