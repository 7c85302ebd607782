//! Questions of an executor, and the requestor's replies to them.

use serde_json::{Map, Value};

use super::status::Status;
use crate::domain::limits::{NAME_CHARS, OPTIONS, QUESTIONS};
use crate::domain::text::{Fields, Invalid, check_line};

/// The detail of a `needs_input` status that holds its questions.
pub const FIELD: &str = "questions";

/// The requestor's reply to a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The answer itself.
    pub answer: Answer,
    /// The reason, in words.
    pub reason: Option<Value>,
    /// The path of the reply in the call.
    pub path: String,
}

/// The kinds of answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Answers to questions, by field.
    Answers(Map<String, Value>),
    /// Whether the executor should go on.
    Confirm(bool),
    /// Whether the requestor accepts a suggestion, or wants the executor to go on.
    Accept(bool),
}

/// What an executor has asked and the requestor has not answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// Questions to answer.
    Input(Vec<Question>),
    /// The question whether to go on.
    Confirmation,
}

/// One thing that an executor wants to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The name under which it is answered.
    field: String,
    /// The allowed answers. If there are none, any answer is allowed.
    options: Vec<Value>,
}

impl Reply {
    /// Reads the content of a `reply` block at `path`.
    ///
    /// # Errors
    ///
    /// Fails if the block does not have exactly one of `answers`, `confirm` and `accept`, or if
    /// that one has the wrong type.
    pub fn parse(content: Value, path: &str) -> Result<Self, Invalid> {
        let mut fields = Fields::of(path, content)?;
        let answers = fields.take_object("answers")?.map(Answer::Answers);
        let confirm = fields.take_bool("confirm")?.map(Answer::Confirm);
        let accept = fields.take_bool("accept")?.map(Answer::Accept);
        let mut given = [answers, confirm, accept].into_iter().flatten();
        let (Some(answer), None) = (given.next(), given.next()) else {
            let problem = "must have one of answers, confirm and accept";
            return Err(Invalid::new(path, problem));
        };
        Ok(Self {
            answer,
            reason: fields.take("reason"),
            path: path.to_owned(),
        })
    }

    /// The status that the reply leads to if it answers a question.
    pub fn leads_to(&self) -> Status {
        match self.answer {
            Answer::Confirm(false) | Answer::Accept(false) => Status::Held,
            Answer::Answers(_) | Answer::Confirm(true) | Answer::Accept(true) => Status::InProgress,
        }
    }

    /// Checks the reply against what was asked. Returns whether the requestor confirmed, if the
    /// executor asked for a confirmation.
    ///
    /// # Errors
    ///
    /// Fails if the reply does not answer what was asked.
    pub fn check(&self, asked: &Asked) -> Result<Option<bool>, Invalid> {
        let path = &self.path;
        match (asked, &self.answer) {
            (Asked::Input(questions), Answer::Answers(answers)) => {
                if answers.is_empty() {
                    return Err(Invalid::new(format!("{path}.answers"), "must not be empty"));
                }
                let check = |question: &Question| question.check(answers, path);
                questions.iter().try_for_each(check)?;
                Ok(None)
            }
            (Asked::Confirmation, Answer::Confirm(goes_on) | Answer::Accept(goes_on)) => {
                Ok(Some(*goes_on))
            }
            (Asked::Input(_), _) => {
                let problem = "is required: the executor has a question";
                Err(Invalid::new(format!("{path}.answers"), problem))
            }
            (Asked::Confirmation, _) => {
                let problem = "is required: the executor asks whether to go on";
                Err(Invalid::new(format!("{path}.confirm"), problem))
            }
        }
    }
}

impl Asked {
    /// What the executor asks in `status`, given the `details` of that status.
    pub fn of(status: Status, details: &Map<String, Value>) -> Option<Self> {
        match status {
            Status::NeedsConfirmation => Some(Self::Confirmation),
            Status::NeedsInput => {
                // This server checked its questions when they were asked. Those that another server
                // stored may be unreadable.
                let asked = details.get(FIELD);
                let questions = asked.and_then(|asked| parse_questions(asked, FIELD).ok());
                Some(Self::Input(questions.unwrap_or_default()))
            }
            _ => None,
        }
    }
}

impl Question {
    fn check(&self, answers: &Map<String, Value>, path: &str) -> Result<(), Invalid> {
        let field = &self.field;
        let path = format!("{path}.answers.{field}");
        match answers.get(field).filter(|answer| !answer.is_null()) {
            None => Err(Invalid::new(path, "is required: it was asked")),
            Some(answer) if self.options.is_empty() || self.options.contains(answer) => Ok(()),
            Some(_) => {
                let options: Vec<_> = self.options.iter().map(Value::to_string).collect();
                let problem = format!("must be one of {}", options.join(", "));
                Err(Invalid::new(path, problem))
            }
        }
    }
}

/// Reads a list of questions at `path`, each of the form `{field, question, options?}`.
///
/// # Errors
///
/// Fails with the first thing that is wrong.
pub fn parse_questions(list: &Value, path: &str) -> Result<Vec<Question>, Invalid> {
    let Value::Array(list) = list else {
        return Err(Invalid::new(path, "must be a list"));
    };
    if list.len() > QUESTIONS {
        let problem = format!("may hold at most {QUESTIONS}");
        return Err(Invalid::new(path, problem));
    }
    let mut questions: Vec<Question> = Vec::new();
    for (at, item) in list.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let mut fields = Fields::of(&path, item.clone())?;
        let field = fields.require_string("field")?;
        check_line(&field, &fields.path("field"), NAME_CHARS)?;
        if questions.iter().any(|question| question.field == field) {
            return Err(Invalid::new(fields.path("field"), "is asked twice"));
        }
        fields.require_string("question")?;
        let options = fields.take_list("options")?.unwrap_or_default();
        let is_plain = |option: &Value| match option {
            Value::String(text) => text.chars().count() <= NAME_CHARS,
            Value::Number(_) | Value::Bool(_) => true,
            _ => false,
        };
        if options.len() > OPTIONS || !options.iter().all(is_plain) {
            let problem = format!(
                "must be at most {OPTIONS} strings (of up to {NAME_CHARS} characters), numbers or booleans"
            );
            return Err(Invalid::new(fields.path("options"), problem));
        }
        questions.push(Question { field, options });
    }
    Ok(questions)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn questions_of(questions: &Value) -> Asked {
        let details = Map::from_iter([(FIELD.to_owned(), questions.clone())]);
        Asked::of(Status::NeedsInput, &details).unwrap()
    }

    fn reply(content: Value) -> Result<Reply, Invalid> {
        Reply::parse(content, "mess[0].reply")
    }

    #[test]
    fn answers_are_held_against_the_options() {
        let asked = questions_of(&json!([
            {"field": "area", "question": "Which?", "options": ["sink", "stove", 3, true]},
            {"field": "when", "question": "When?"},
        ]));
        for good in [
            json!({"area": "sink", "when": "now"}),
            json!({"area": 3, "when": {"any": "thing"}, "unasked": 1}),
            json!({"area": true, "when": false}),
        ] {
            let reply = reply(json!({"answers": good})).unwrap();
            assert_eq!(reply.check(&asked), Ok(None));
            assert_eq!(reply.leads_to(), Status::InProgress);
        }
        for (bad, path) in [
            (json!({}), "answers"),
            (json!({"when": "now"}), "answers.area"),
            (json!({"area": null, "when": "now"}), "answers.area"),
            (json!({"area": "Sink", "when": "now"}), "answers.area"),
            (json!({"area": ["sink"], "when": "now"}), "answers.area"),
            (json!({"area": "sink"}), "answers.when"),
        ] {
            let refused = reply(json!({"answers": bad})).unwrap().check(&asked);
            let expected = format!("mess[0].reply.{path}");
            assert_eq!(refused.unwrap_err().path, expected, "{bad}");
        }
        let confirmed = reply(json!({"confirm": true})).unwrap();
        let refused = confirmed.check(&asked).unwrap_err();
        assert_eq!(refused.path, "mess[0].reply.answers");
    }

    #[test]
    fn a_question_without_questions_takes_any_answer() {
        let asked = Asked::of(Status::NeedsInput, &Map::new()).unwrap();
        let reply = reply(json!({"answers": {"it": "the left one"}})).unwrap();
        assert_eq!(reply.check(&asked), Ok(None));
    }

    #[test]
    fn a_confirmation_is_given_or_refused() {
        let asked = Asked::of(Status::NeedsConfirmation, &Map::new()).unwrap();
        for (content, goes_on, status) in [
            (json!({"confirm": true}), true, Status::InProgress),
            (
                json!({"accept": true, "reason": "fine"}),
                true,
                Status::InProgress,
            ),
            (json!({"confirm": false}), false, Status::Held),
            (json!({"accept": false}), false, Status::Held),
        ] {
            let reply = reply(content).unwrap();
            assert_eq!(reply.check(&asked), Ok(Some(goes_on)));
            assert_eq!(reply.leads_to(), status);
        }
        let refused = reply(json!({"answers": {"a": 1}})).unwrap().check(&asked);
        assert_eq!(refused.unwrap_err().path, "mess[0].reply.confirm");
    }

    #[test]
    fn replies_that_are_refused() {
        for bad in [
            json!(null),
            json!("yes"),
            json!({}),
            json!({"re": "last"}),
            json!({"confirm": true, "accept": true}),
            json!({"confirm": "yes"}),
            json!({"answers": ["sink"]}),
        ] {
            assert!(reply(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn questions_that_are_refused() {
        let many: Vec<_> = (0..=QUESTIONS)
            .map(|n| json!({"field": n.to_string(), "question": "?"}))
            .collect();
        for (bad, path) in [
            (json!("which?"), "questions"),
            (json!(many), "questions"),
            (json!(["which?"]), "questions[0]"),
            (json!([{"question": "?"}]), "questions[0].field"),
            (
                json!([{"field": "", "question": "?"}]),
                "questions[0].field",
            ),
            (json!([{"field": "a"}]), "questions[0].question"),
            (
                json!([{"field": "a", "question": "?", "options": "b"}]),
                "questions[0].options",
            ),
            (
                json!([{"field": "a", "question": "?", "options": [{}]}]),
                "questions[0].options",
            ),
            (
                json!([{"field": "a", "question": "?", "options": vec![1; OPTIONS + 1]}]),
                "questions[0].options",
            ),
            (
                json!([{"field": "a", "question": "?", "options": ["x".repeat(NAME_CHARS + 1)]}]),
                "questions[0].options",
            ),
            (
                json!([{"field": "a", "question": "?"}, {"field": "a", "question": "!"}]),
                "questions[1].field",
            ),
        ] {
            let refused = parse_questions(&bad, FIELD).unwrap_err();
            assert_eq!(refused.path, path, "{bad}");
        }
    }
}
