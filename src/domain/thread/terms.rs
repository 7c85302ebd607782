//! The terms of a request, fixed when it is posted: by when it is needed, which capabilities it
//! requires, whether a confirmation is needed, and what happens while nobody claims it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::domain::duration::Duration;
use crate::domain::ids::ExecutorId;
use crate::domain::limits::{ESCALATED, NAME_CHARS, REQUIRED};
use crate::domain::text::{Fields, Invalid, check_line};
use crate::domain::time::Timestamp;

/// The terms of a request. A plain request has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// When the request expires, unless an executor has claimed it.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub needed_by: Option<Timestamp>,
    /// Whether the requestor must confirm before the request is completed, even in part.
    #[serde(
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "or_default"
    )]
    pub confirm_before: bool,
    /// The ids of the capabilities that an executor must have to claim it.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub requires: Vec<String>,
    /// Executors that are notified as well when the request is announced again.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub escalate_to: Vec<ExecutorId>,
    /// How long the request stays open until each reminder, measured from when it became open.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub nudge_after: Vec<Duration>,
}

/// Reads a field. If another server wrote it in another form, it counts as not given.
pub(super) fn or_default<'de, T: DeserializeOwned + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

impl Terms {
    /// Reads the terms from the fields of a new request, which keeps those fields as they came.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is wrong.
    pub fn parse(request: &Map<String, Value>, now: Timestamp) -> Result<Self, Invalid> {
        // The rest of a request may be large, so only these fields are copied.
        let named = ["needed_by", "confirm_before", "requires", "escalate_to"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), request.get(name)?.clone())));
        let mut fields = Fields::new("", named.collect());
        Ok(Self {
            needed_by: match fields.take_string("needed_by")? {
                None => None,
                Some(text) => Some(parse_needed_by(&text, now)?),
            },
            confirm_before: fields.take_bool("confirm_before")?.unwrap_or(false),
            requires: match fields.take_list("requires")? {
                None => Vec::new(),
                Some(list) => parse_requires(&list)?,
            },
            escalate_to: match fields.take_list("escalate_to")? {
                None => Vec::new(),
                Some(list) => parse_escalate_to(&list)?,
            },
            nudge_after: Vec::new(),
        })
    }

    /// The required capabilities that are not among `capabilities`.
    pub fn missing_from(&self, capabilities: &[Value]) -> Vec<String> {
        let has = |id: &String| capability_ids(capabilities).any(|own| own == id);
        self.requires
            .iter()
            .filter(|id| !has(id))
            .cloned()
            .collect()
    }
}

/// The ids in a list of capabilities. Each item is an id, or an object that maps ids to metadata.
pub fn capability_ids(capabilities: &[Value]) -> impl Iterator<Item = &str> {
    capabilities.iter().flat_map(|item| {
        let named = item.as_object().into_iter().flat_map(Map::keys);
        item.as_str().into_iter().chain(named.map(String::as_str))
    })
}

fn parse_needed_by(text: &str, now: Timestamp) -> Result<Timestamp, Invalid> {
    let Some(moment) = Timestamp::parse(text) else {
        let problem = "must be a date-time with an offset, like 2025-02-01T23:00:00-08:00";
        return Err(Invalid::new("needed_by", problem));
    };
    if moment <= now {
        return Err(Invalid::new("needed_by", "must be in the future"));
    }
    Ok(moment)
}

fn parse_requires(list: &[Value]) -> Result<Vec<String>, Invalid> {
    for (at, item) in list.iter().enumerate() {
        let is_named = match item {
            Value::String(_) => true,
            Value::Object(ids) => !ids.is_empty(),
            _ => false,
        };
        if !is_named {
            let problem = "must be the id of a capability, or an object like {\"id\": metadata}";
            return Err(Invalid::new(format!("requires[{at}]"), problem));
        }
        for id in capability_ids(std::slice::from_ref(item)) {
            check_line(id, &format!("requires[{at}]"), NAME_CHARS)?;
        }
    }
    let mut ids: Vec<String> = capability_ids(list).map(str::to_owned).collect();
    ids.sort();
    ids.dedup();
    if ids.len() > REQUIRED {
        let problem = format!("may name at most {REQUIRED} capabilities");
        return Err(Invalid::new("requires", problem));
    }
    Ok(ids)
}

fn parse_escalate_to(list: &[Value]) -> Result<Vec<ExecutorId>, Invalid> {
    if list.len() > ESCALATED {
        let problem = format!("may name at most {ESCALATED} executors");
        return Err(Invalid::new("escalate_to", problem));
    }
    let ids = list.iter().enumerate().map(|(at, item)| {
        let path = format!("escalate_to[{at}]");
        match item {
            Value::String(text) => ExecutorId::parse(text, &path),
            _ => Err(Invalid::new(path, "must be the id of an executor")),
        }
    });
    ids.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2025-02-01T12:00:00Z").unwrap()
    }

    fn parse(request: &Value) -> Result<Terms, Invalid> {
        Terms::parse(request.as_object().unwrap(), now())
    }

    #[test]
    fn reads_every_term() {
        let terms = parse(&json!({
            "intent": "x", "needed_by": "2025-02-01T23:00:00-08:00", "confirm_before": true,
            "requires": ["see", {"lift": {"kg": 10}, "walk": null}, "see"], "escalate_to": ["boss"],
        }))
        .unwrap();
        let needed_by = terms.needed_by.map(|moment| moment.to_string());
        assert_eq!(needed_by.as_deref(), Some("2025-02-02T07:00:00.000Z"));
        assert!(terms.confirm_before);
        assert_eq!(terms.requires, ["lift", "see", "walk"]);
        assert_eq!(terms.escalate_to, [ExecutorId::parse("boss", "").unwrap()]);
        assert_eq!(parse(&json!({})), Ok(Terms::default()));
        assert_eq!(
            parse(&json!({"needed_by": null, "requires": [], "confirm_before": false})),
            Ok(Terms::default())
        );
    }

    #[test]
    fn terms_that_are_refused() {
        let many: Vec<String> = (0..=REQUIRED).map(|n| n.to_string()).collect();
        for (bad, path) in [
            (json!({"needed_by": 5}), "needed_by"),
            (json!({"needed_by": "tomorrow"}), "needed_by"),
            (json!({"needed_by": "2025-02-01T23:00:00"}), "needed_by"),
            (json!({"needed_by": "2025-02-01"}), "needed_by"),
            (json!({"needed_by": "2025-02-01T12:00:00Z"}), "needed_by"),
            (
                json!({"needed_by": "2025-02-01T12:30:00+01:00"}),
                "needed_by",
            ),
            (json!({"confirm_before": "yes"}), "confirm_before"),
            (json!({"requires": "see"}), "requires"),
            (json!({"requires": ["see", 5]}), "requires[1]"),
            (json!({"requires": [{}]}), "requires[0]"),
            (json!({"requires": [""]}), "requires[0]"),
            (json!({"requires": many}), "requires"),
            (json!({"escalate_to": "boss"}), "escalate_to"),
            (json!({"escalate_to": ["a b"]}), "escalate_to[0]"),
            (json!({"escalate_to": [1]}), "escalate_to[0]"),
        ] {
            assert_eq!(parse(&bad).unwrap_err().path, path, "{bad}");
        }
    }

    #[test]
    fn what_another_server_wrote_does_not_matter() {
        let foreign = json!({"needed_by": "45m", "requires": {"a": 1}, "confirm_before": 1,
            "escalate_to": null, "nudge_after": ["soon"]});
        assert_eq!(
            serde_json::from_value::<Terms>(foreign).unwrap(),
            Terms::default()
        );
    }

    #[test]
    fn capabilities_are_held_against_what_is_required() {
        let terms = parse(&json!({"requires": ["lift", "see"]})).unwrap();
        let has = |capabilities: Value| terms.missing_from(capabilities.as_array().unwrap());
        assert_eq!(has(json!([])), ["lift", "see"]);
        assert_eq!(has(json!(["see", "Lift"])), ["lift"]);
        assert!(has(json!([{"see": {}, "lift": 5}])).is_empty());
    }
}
