//! The catalogue of an exchange: what its capabilities mean, and which executors have them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::ids::ExecutorId;
use crate::domain::limits::{DESCRIPTION_CHARS, ID_CHARS, NAME_CHARS, TAGS};
use crate::domain::text::{Fields, Invalid, check_line, check_text};
use crate::domain::thread::terms::capability_ids;

/// An entry of the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// The id, as executors and requests name it.
    pub id: String,
    /// What it means.
    pub description: String,
    /// Tags under which it can be found.
    pub tags: Vec<String>,
}

/// A capability as it appears in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The catalogue's entry. It has only the id if some executor has the capability but the
    /// catalogue does not describe it.
    #[serde(flatten)]
    pub capability: Capability,
    /// The executors that have it.
    pub executors: Vec<ExecutorId>,
}

impl Capability {
    /// Reads the entry for `id`.
    ///
    /// # Errors
    ///
    /// Fails with the first thing that is wrong.
    pub fn parse(id: String, mut fields: Fields) -> Result<Self, Invalid> {
        check_line(&id, "capability_id", NAME_CHARS)?;
        let description = fields.take_string("description")?.unwrap_or_default();
        check_text(&description, "description", DESCRIPTION_CHARS)?;
        let list = fields.take_list("tags")?.unwrap_or_default();
        if list.len() > TAGS {
            return Err(Invalid::new("tags", format!("may hold at most {TAGS}")));
        }
        let mut tags = Vec::new();
        for (at, tag) in list.into_iter().enumerate() {
            let path = format!("tags[{at}]");
            let Value::String(tag) = tag else {
                return Err(Invalid::new(path, "must be a string"));
            };
            check_line(&tag, &path, ID_CHARS)?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Ok(Self {
            id,
            description,
            tags,
        })
    }
}

/// Merges the catalogue with the capabilities of the executors, sorted by id. With `tag`, only
/// those that have the tag.
pub fn union(
    catalogue: impl IntoIterator<Item = Capability>,
    executors: &[(ExecutorId, Vec<Value>)],
    tag: Option<&str>,
) -> Vec<Listed> {
    let mut by_id: BTreeMap<String, Listed> = BTreeMap::new();
    for capability in catalogue {
        let listed = Listed {
            capability,
            executors: Vec::new(),
        };
        by_id.insert(listed.capability.id.clone(), listed);
    }
    for (executor, capabilities) in executors {
        for id in capability_ids(capabilities) {
            let listed = by_id.entry(id.to_owned()).or_default();
            id.clone_into(&mut listed.capability.id);
            if listed.executors.last() != Some(executor) {
                listed.executors.push(executor.clone());
            }
        }
    }
    let has_tag =
        |listed: &Listed| tag.is_none_or(|tag| listed.capability.tags.iter().any(|t| t == tag));
    by_id.into_values().filter(has_tag).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn capability(id: &str, body: Value) -> Result<Capability, Invalid> {
        Capability::parse(id.to_owned(), Fields::of("", body).unwrap())
    }

    #[test]
    fn what_is_catalogued_and_what_is_claimed_is_one_list() {
        let see = capability(
            "see",
            json!({"description": "Eyes", "tags": ["sense", "sense"]}),
        );
        let lift = capability("lift", json!({}));
        let id = |text| ExecutorId::parse(text, "").unwrap();
        let executors = [
            (
                id("phone"),
                vec![json!("see"), json!({"see": 1, "walk": {}})],
            ),
            (id("robot"), vec![json!("see")]),
        ];
        let catalogue = [see.unwrap(), lift.unwrap()];
        let all = union(catalogue.clone(), &executors, None);
        assert_eq!(
            json!(all),
            json!([
                {"id": "lift", "description": "", "tags": [], "executors": []},
                {"id": "see", "description": "Eyes", "tags": ["sense"], "executors": ["phone", "robot"]},
                {"id": "walk", "description": "", "tags": [], "executors": ["phone"]},
            ])
        );
        let tagged = union(catalogue.clone(), &executors, Some("sense"));
        assert_eq!(tagged.len(), 1);
        assert_eq!(union(catalogue, &executors, Some("Sense")), []);
    }

    #[test]
    fn entries_that_are_refused() {
        let many: Vec<String> = (0..=TAGS).map(|n| n.to_string()).collect();
        for (id, bad, path) in [
            ("", json!({}), "capability_id"),
            ("a\nb", json!({}), "capability_id"),
            ("see", json!({"description": 5}), "description"),
            (
                "see",
                json!({"description": "x".repeat(1_001)}),
                "description",
            ),
            ("see", json!({"tags": "sense"}), "tags"),
            ("see", json!({"tags": [1]}), "tags[0]"),
            ("see", json!({"tags": [""]}), "tags[0]"),
            ("see", json!({"tags": many}), "tags"),
        ] {
            assert_eq!(capability(id, bad.clone()).unwrap_err().path, path, "{bad}");
        }
    }
}
