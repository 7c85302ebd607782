//! How an executor wants to be told: the shape of channels, hooks and preferences.
//!
//! Each is checked where it is written and then kept whole, with fields that this server does
//! not know.

use serde_json::{Map, Value};

use super::limits::{CHANNELS, HOOKS_PER_EVENT, NAME_CHARS, TOPIC_CHARS, URL_CHARS};
use super::status::Priority;
use super::text::{Invalid, check_line};

/// What a field of a channel or hook must be.
#[derive(Clone, Copy)]
enum Kind {
    /// A name on one line of at most so many characters.
    Line(usize),
    /// An `http` or `https` URL.
    Url,
    /// Any text; it may hold a template.
    Text,
    /// A list.
    List,
    /// An object.
    Object,
    /// Any JSON.
    Any,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// One type of channel or hook: its name, and its fields with whether each must be given.
type Form = (&'static str, &'static [(&'static str, Kind, bool)]);

const REQUIRED: bool = true;
const OPTIONAL: bool = false;
const CREDENTIAL: Kind = Kind::Line(4096);

const CHANNEL_FORMS: &[Form] = &[
    (
        "ntfy",
        &[
            ("topic", Kind::Line(TOPIC_CHARS), REQUIRED),
            ("server", Kind::Url, OPTIONAL),
            ("token", CREDENTIAL, OPTIONAL),
        ],
    ),
    ("slack", &[("webhook_url", Kind::Url, REQUIRED)]),
    ("google_chat", &[("webhook_url", Kind::Url, REQUIRED)]),
    (
        "webhook",
        &[
            ("url", Kind::Url, REQUIRED),
            ("secret", CREDENTIAL, OPTIONAL),
            ("headers", Kind::Object, OPTIONAL),
        ],
    ),
];

const CREATE_OR_COMPLETE: Kind = Kind::Word(&["create", "complete"]);

const HOOK_FORMS: &[Form] = &[
    (
        "webhook",
        &[
            ("url", Kind::Url, REQUIRED),
            (
                "method",
                Kind::Word(&["GET", "POST", "PUT", "PATCH", "DELETE"]),
                OPTIONAL,
            ),
            ("headers", Kind::Object, OPTIONAL),
            ("body", Kind::Any, OPTIONAL),
            ("secret", CREDENTIAL, OPTIONAL),
        ],
    ),
    (
        "ifttt",
        &[
            ("key", CREDENTIAL, REQUIRED),
            ("event", Kind::Line(NAME_CHARS), OPTIONAL),
            ("value1", Kind::Text, OPTIONAL),
            ("value2", Kind::Text, OPTIONAL),
            ("value3", Kind::Text, OPTIONAL),
        ],
    ),
    (
        "zapier",
        &[
            ("webhook_url", Kind::Url, REQUIRED),
            ("body", Kind::Any, OPTIONAL),
        ],
    ),
    (
        "home_assistant",
        &[
            ("url", Kind::Url, OPTIONAL),
            ("base_url", Kind::Url, OPTIONAL),
            ("webhook_id", Kind::Line(NAME_CHARS), OPTIONAL),
            ("token", CREDENTIAL, OPTIONAL),
            ("body", Kind::Any, OPTIONAL),
        ],
    ),
    (
        "todoist",
        &[
            ("token", CREDENTIAL, REQUIRED),
            ("content", Kind::Text, OPTIONAL),
            ("description", Kind::Text, OPTIONAL),
            ("project_id", Kind::Line(NAME_CHARS), OPTIONAL),
            ("labels", Kind::List, OPTIONAL),
            ("due_string", Kind::Text, OPTIONAL),
            ("priority_map", Kind::Object, OPTIONAL),
            ("action", CREATE_OR_COMPLETE, OPTIONAL),
            ("task_id", Kind::Text, OPTIONAL),
        ],
    ),
    (
        "linear",
        &[
            ("token", CREDENTIAL, REQUIRED),
            ("team_id", Kind::Line(NAME_CHARS), OPTIONAL),
            ("title", Kind::Text, OPTIONAL),
            ("description", Kind::Text, OPTIONAL),
            ("action", CREATE_OR_COMPLETE, OPTIONAL),
            ("state_id", Kind::Line(NAME_CHARS), OPTIONAL),
        ],
    ),
    (
        "google_tasks",
        &[
            ("client_id", CREDENTIAL, REQUIRED),
            ("client_secret", CREDENTIAL, REQUIRED),
            ("refresh_token", CREDENTIAL, REQUIRED),
            ("tasklist", Kind::Line(NAME_CHARS), OPTIONAL),
            ("title", Kind::Text, OPTIONAL),
            ("notes", Kind::Text, OPTIONAL),
            ("due", Kind::Text, OPTIONAL),
            ("action", CREATE_OR_COMPLETE, OPTIONAL),
            ("task_id", Kind::Text, OPTIONAL),
        ],
    ),
];

/// The lifecycle events that a hook can be set on.
const HOOK_EVENTS: [&str; 6] = [
    "on_request_created",
    "on_request_claimed",
    "on_request_started",
    "on_request_completed",
    "on_request_rejected",
    "on_request_cancelled",
];

/// Checks the list of notification channels.
///
/// # Errors
///
/// The path of the first thing that is wrong, such as `notifications[0].topic`.
pub fn check_channels(channels: &[Value]) -> Result<(), Invalid> {
    check_forms(channels, "notifications", CHANNELS, CHANNEL_FORMS)
}

/// Checks the hooks of each lifecycle event.
///
/// # Errors
///
/// The path of the first thing that is wrong, such as `hooks.on_request_created[0].token`.
pub fn check_hooks(hooks: &Map<String, Value>) -> Result<(), Invalid> {
    for (event, list) in hooks {
        let path = format!("hooks.{event}");
        if !HOOK_EVENTS.contains(&event.as_str()) {
            return Err(Invalid::new(
                "hooks",
                format!("may only have {}", HOOK_EVENTS.join(", ")),
            ));
        }
        let Value::Array(list) = list else {
            return Err(Invalid::new(path, "must be a list"));
        };
        check_forms(list, &path, HOOKS_PER_EVENT, HOOK_FORMS)?;
        for (at, hook) in list.iter().enumerate() {
            check_home_assistant(hook, &format!("{path}[{at}]"))?;
        }
    }
    Ok(())
}

/// Checks preferences: `min_priority`, and `quiet_hours {enabled, start, end, timezone?}`.
///
/// # Errors
///
/// The path of the first thing that is wrong.
pub fn check_preferences(preferences: &Map<String, Value>) -> Result<(), Invalid> {
    match given(preferences, "min_priority") {
        None => {}
        Some(Value::String(text)) => {
            Priority::parse(text, "preferences.min_priority")?;
        }
        Some(_) => {
            return Err(Invalid::new("preferences.min_priority", "must be a string"));
        }
    }
    let hours = match given(preferences, "quiet_hours") {
        None => return Ok(()),
        Some(Value::Object(hours)) => hours,
        Some(_) => return Err(Invalid::new("preferences.quiet_hours", "must be an object")),
    };
    let path = |name: &str| format!("preferences.quiet_hours.{name}");
    let enabled = match given(hours, "enabled") {
        None => false,
        Some(Value::Bool(enabled)) => *enabled,
        Some(_) => return Err(Invalid::new(path("enabled"), "must be true or false")),
    };
    for name in ["start", "end"] {
        match given(hours, name) {
            Some(Value::String(text)) if is_time_of_day(text) => {}
            None if !enabled => {}
            _ => {
                return Err(Invalid::new(path(name), "must be a time of day like 22:00"));
            }
        }
    }
    match given(hours, "timezone") {
        None => Ok(()),
        Some(Value::String(text)) => check_line(text, &path("timezone"), NAME_CHARS),
        Some(_) => Err(Invalid::new(path("timezone"), "must be a string")),
    }
}

fn check_forms(list: &[Value], path: &str, most: usize, forms: &[Form]) -> Result<(), Invalid> {
    if list.len() > most {
        return Err(Invalid::new(path, format!("may hold at most {most}")));
    }
    for (at, item) in list.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let Value::Object(item) = item else {
            return Err(Invalid::new(path, "must be an object"));
        };
        let form = forms
            .iter()
            .find(|(name, _)| item.get("type").and_then(Value::as_str) == Some(name));
        let Some((_, fields)) = form else {
            let names: Vec<_> = forms.iter().map(|(name, _)| *name).collect();
            return Err(Invalid::new(
                format!("{path}.type"),
                format!("must be one of {}", names.join(", ")),
            ));
        };
        for (name, kind, required) in *fields {
            match given(item, name) {
                Some(value) => check_kind(value, *kind, &format!("{path}.{name}"))?,
                None if *required => {
                    return Err(Invalid::new(format!("{path}.{name}"), "is required"));
                }
                None => {}
            }
        }
    }
    Ok(())
}

fn check_kind(value: &Value, kind: Kind, path: &str) -> Result<(), Invalid> {
    let problem = match (kind, value) {
        (Kind::Line(max), Value::String(text)) => return check_line(text, path, max),
        (Kind::Url, Value::String(text)) => {
            check_line(text, path, URL_CHARS)?;
            let web = text
                .strip_prefix("https://")
                .or_else(|| text.strip_prefix("http://"));
            if web.is_some_and(|rest| !rest.is_empty()) {
                return Ok(());
            }
            "must be an http or https URL".to_owned()
        }
        (Kind::Word(words), Value::String(text)) => {
            if words.contains(&text.as_str()) {
                return Ok(());
            }
            format!("must be one of {}", words.join(", "))
        }
        (Kind::Text, Value::String(_))
        | (Kind::List, Value::Array(_))
        | (Kind::Object, Value::Object(_))
        | (Kind::Any, _) => return Ok(()),
        (Kind::Line(_) | Kind::Url | Kind::Text | Kind::Word(_), _) => {
            "must be a string".to_owned()
        }
        (Kind::List, _) => "must be a list".to_owned(),
        (Kind::Object, _) => "must be an object".to_owned(),
    };
    Err(Invalid::new(path, problem))
}

/// A Home Assistant hook needs its whole URL, or the base and the webhook's id.
fn check_home_assistant(hook: &Value, path: &str) -> Result<(), Invalid> {
    let has = |name: &str| hook.get(name).is_some_and(|value| !value.is_null());
    let is_ours = hook.get("type").and_then(Value::as_str) == Some("home_assistant");
    if is_ours && !has("url") && !(has("base_url") && has("webhook_id")) {
        return Err(Invalid::new(
            format!("{path}.url"),
            "is required, or base_url and webhook_id",
        ));
    }
    Ok(())
}

fn given<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    map.get(name).filter(|value| !value.is_null())
}

/// Whether `text` is `HH:MM`, from 00:00 to 23:59.
fn is_time_of_day(text: &str) -> bool {
    let Some((hours, minutes)) = text.split_once(':') else {
        return false;
    };
    let number = |part: &str, below: u8| {
        part.len() == 2
            && part.bytes().all(|b| b.is_ascii_digit())
            && part.parse::<u8>().is_ok_and(|n| n < below)
    };
    number(hours, 24) && number(minutes, 60)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn the_seed_examples_are_accepted() {
        let channels = json!([
            {"type": "ntfy", "topic": "mess-alerts"},
            {"type": "slack", "webhook_url": "https://hooks.slack.com/x"},
            {"type": "google_chat", "webhook_url": "https://chat.googleapis.com/x"},
            {"type": "webhook", "url": "https://my-server.example/notify"},
        ]);
        assert_eq!(check_channels(channels.as_array().unwrap()), Ok(()));
        let hook = json!({"type": "google_tasks", "client_id": "x", "client_secret": "x",
            "refresh_token": "x", "action": "complete", "task_id": "{{external_id}}"});
        assert_eq!(
            check_hooks(&object(json!({"on_request_completed": [hook]}))),
            Ok(())
        );
        let preferences = json!({"min_priority": "normal",
            "quiet_hours": {"enabled": true, "start": "22:00", "end": "07:00"}});
        assert_eq!(check_preferences(&object(preferences)), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        for (bad, path) in [
            (json!([{"type": "ntfy"}]), "notifications[0].topic"),
            (
                json!([{"type": "ntfy", "topic": 3}]),
                "notifications[0].topic",
            ),
            (json!([{"type": "pager"}]), "notifications[0].type"),
            (json!([{}]), "notifications[0].type"),
            (json!(["ntfy"]), "notifications[0]"),
            (
                json!([{"type": "ntfy", "topic": "a"}, {"type": "slack", "webhook_url": "ftp://x"}]),
                "notifications[1].webhook_url",
            ),
        ] {
            let refused = check_channels(bad.as_array().unwrap()).unwrap_err();
            assert_eq!(refused.path, path, "{bad}");
        }
        for (bad, path) in [
            (json!({"on_anything": []}), "hooks"),
            (json!({"__proto__": []}), "hooks"),
            (
                json!({"on_request_created": {}}),
                "hooks.on_request_created",
            ),
            (
                json!({"on_request_created": [{"type": "todoist"}]}),
                "hooks.on_request_created[0].token",
            ),
            (
                json!({"on_request_created": [{"type": "home_assistant", "base_url": "http://ha"}]}),
                "hooks.on_request_created[0].url",
            ),
            (
                json!({"on_request_created": [{"type": "linear", "token": "x", "action": "burn"}]}),
                "hooks.on_request_created[0].action",
            ),
        ] {
            assert_eq!(
                check_hooks(&object(bad.clone())).unwrap_err().path,
                path,
                "{bad}"
            );
        }
        for (bad, path) in [
            (json!({"min_priority": "high"}), "preferences.min_priority"),
            (json!({"quiet_hours": []}), "preferences.quiet_hours"),
            (
                json!({"quiet_hours": {"enabled": "yes"}}),
                "preferences.quiet_hours.enabled",
            ),
            (
                json!({"quiet_hours": {"enabled": true}}),
                "preferences.quiet_hours.start",
            ),
            (
                json!({"quiet_hours": {"enabled": true, "start": "22:00", "end": "24:00"}}),
                "preferences.quiet_hours.end",
            ),
        ] {
            let refused = check_preferences(&object(bad.clone())).unwrap_err();
            assert_eq!(refused.path, path, "{bad}");
        }
    }
}
