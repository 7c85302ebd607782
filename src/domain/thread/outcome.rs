//! How a request ended: what whoever asked wants to know, in one place.
//!
//! Executors end requests in many ways: with a response, with a sentence beside the status, or with a
//! reason. The outcome is made of whichever it was, so that no client has to look for it.

use serde::Serialize;
use serde_json::Value;

use super::event::StatusChanged;
use super::status::Status;
use crate::domain::ids::ExecutorId;
use crate::domain::time::Timestamp;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The status in which it ended.
    pub status: Status,
    /// The answer in words, if there is one.
    pub text: Option<String>,
    /// The content of the response, if there was one: always a list.
    pub content: Option<Vec<Value>>,
    /// The data of the response, if it has any.
    pub data: Option<Value>,
    /// Who ended it.
    pub from: ExecutorId,
    /// When.
    pub ts: Timestamp,
}

impl Outcome {
    /// The outcome of a change that ended a request. `response` is what was delivered.
    pub fn of(
        change: &StatusChanged,
        from: ExecutorId,
        ts: Timestamp,
        response: Option<&Value>,
    ) -> Self {
        let content = response.and_then(|response| response.get("content"));
        let reason = change.extra.get("reason").and_then(Value::as_str);
        let said = || change.message.as_deref().or(reason).map(ToOwned::to_owned);
        Self {
            status: change.new_status,
            text: content.and_then(text_of).or_else(said),
            content: content.map(|content| match content {
                Value::Array(items) => items.clone(),
                one => vec![one.clone()],
            }),
            data: response.and_then(|response| response.get("data")).cloned(),
            from,
            ts,
        }
    }
}

/// The response that `blocks` deliver, if they deliver one: the last block that has content.
pub fn response_in(blocks: &[Value]) -> Option<&Value> {
    let responses = blocks.iter().filter_map(|block| block.get("response"));
    let delivers = |response: &&Value| {
        response
            .get("content")
            .is_some_and(|content| !content.is_null())
    };
    responses.rev().find(delivers)
}

/// The words of a response's content: its texts, a line each.
fn text_of(content: &Value) -> Option<String> {
    let words = |item: &Value| match item {
        Value::String(text) => Some(text.clone()),
        Value::Object(item) => item.get("text")?.as_str().map(ToOwned::to_owned),
        Value::Number(_) | Value::Bool(_) => Some(item.to_string()),
        Value::Null | Value::Array(_) => None,
    };
    let lines: Vec<String> = match content {
        Value::Array(items) => items.iter().filter_map(words).collect(),
        one => words(one).into_iter().collect(),
    };
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(change: Value, response: Option<&Value>) -> Value {
        let mut whole =
            json!({"old_status": "claimed", "new_status": "completed", "executor_id": "mom"});
        if let (Some(whole), Value::Object(change)) = (whole.as_object_mut(), change) {
            whole.extend(change);
        }
        let change: StatusChanged = serde_json::from_value(whole).unwrap();
        let from = ExecutorId::parse("mom", "").unwrap();
        let outcome = Outcome::of(&change, from, Timestamp::default(), response);
        json!([outcome.text, outcome.content, outcome.data])
    }

    #[test]
    fn an_ending_in_every_form() {
        let said = json!({"message": "It is locked"});
        for (change, response, expected) in [
            (json!({}), None, json!([null, null, null])),
            (said.clone(), None, json!(["It is locked", null, null])),
            (
                json!({"reason": "no key"}),
                None,
                json!(["no key", null, null]),
            ),
            (
                json!({"reason": {"code": 5}}),
                None,
                json!([null, null, null]),
            ),
            (
                said.clone(),
                Some(json!({"content": ["Yes", "locked"]})),
                json!(["Yes\nlocked", ["Yes", "locked"], null]),
            ),
            (
                json!({}),
                Some(json!({"content": "Yes"})),
                json!(["Yes", ["Yes"], null]),
            ),
            (
                json!({}),
                Some(json!({"content": 21.5})),
                json!(["21.5", [21.5], null]),
            ),
            (
                json!({}),
                Some(json!({"content": [{"text": "a"}, {"image": "x"}]})),
                json!(["a", [{"text": "a"}, {"image": "x"}], null]),
            ),
            (
                said,
                Some(json!({"content": [{"image": "x"}], "data": {"a": 1}})),
                json!(["It is locked", [{"image": "x"}], {"a": 1}]),
            ),
        ] {
            assert_eq!(
                outcome(change.clone(), response.as_ref()),
                expected,
                "{change} {response:?}"
            );
        }
    }

    #[test]
    fn the_last_response_with_content_counts() {
        let blocks = [
            json!({"note": 1}),
            json!({"response": {"content": ["a"]}}),
            json!({"response": {"content": ["b"]}}),
            json!({"response": {"content": null}}),
            json!({"response": 5}),
            json!("odd"),
        ];
        assert_eq!(response_in(&blocks), Some(&json!({"content": ["b"]})));
        assert_eq!(response_in(&blocks[..1]), None);
    }
}
