//! Errors in a client's input, and the rules for text.

use std::fmt;

use serde_json::{Map, Value};

/// Input that the exchange refuses: where the problem is and what a person can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The path of the field, such as `notifications[0].topic`.
    pub path: String,
    /// What is wrong, phrased as the rest of a sentence that begins with the path.
    pub problem: String,
}

impl Invalid {
    /// Reports `problem` for the field at `path`.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.problem)
    }
}

/// Whether free text holds a control character other than a tab or a newline (LF or CR LF).
pub fn has_control(text: &str) -> bool {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let newline = c == '\r' && chars.peek() == Some(&'\n');
        if c.is_control() && c != '\t' && c != '\n' && !newline {
            return true;
        }
    }
    false
}

/// Checks a name: one line of 1 to `max` characters, not only white space and without control
/// characters.
pub fn check_line(text: &str, path: &str, max: usize) -> Result<(), Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::new(path, "must not be empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(path, "must not contain control characters"));
    }
    check_length(text, path, max)
}

/// Whether a character is invisible, or changes the direction of what stands beside it.
fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180d}'
            | '\u{180f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{ffa0}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Checks the name of a member or of a thing of it: one line as in [`check_line`] by which nobody can
/// pass for another. It holds nothing invisible, and it does not look like the name of the exchange
/// itself.
///
/// A joiner may stand between two characters that are not ASCII: emoji and several scripts need it,
/// and there it is visible.
pub fn check_name(text: &str, path: &str, max: usize) -> Result<(), Invalid> {
    check_line(text, path, max)?;
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let joins = matches!(c, '\u{200c}' | '\u{200d}')
            && !before.is_ascii()
            && chars.peek().is_some_and(|after| !after.is_ascii());
        // What chooses the form of the character before it, such as an emoji's.
        let chooses = matches!(c, '\u{fe00}'..='\u{fe0f}') && before.is_ascii();
        if is_hidden(c) || chooses || (matches!(c, '\u{200c}' | '\u{200d}') && !joins) {
            let problem = "must not contain invisible characters or ones that change the direction of writing";
            return Err(Invalid::new(path, problem));
        }
        before = c;
    }
    if is_like_exchange(text) {
        return Err(Invalid::new(path, "must not look like the exchange itself"));
    }
    Ok(())
}

/// Whether a name or id looks like that of the exchange itself, in whatever case and script.
pub fn is_like_exchange(text: &str) -> bool {
    let plain: String = text
        .chars()
        .flat_map(char::to_lowercase)
        .filter(|c| c.is_alphanumeric())
        .map(plain)
        .collect();
    plain == "exchange" || plain == "theexchange"
}

/// The Latin letter that a character looks like, among those of "the exchange".
fn plain(c: char) -> char {
    match c {
        // Letters of mathematics, in circles, and of full width.
        '\u{1d400}'..='\u{1d6a3}' => letter(c, '\u{1d400}', 52),
        '\u{24b6}'..='\u{24e9}' => letter(c, '\u{24b6}', 26),
        '\u{ff21}'..='\u{ff3a}' => letter(c, '\u{ff21}', 26),
        '\u{ff41}'..='\u{ff5a}' => letter(c, '\u{ff41}', 26),
        '3' | 'е' | 'ε' | 'є' | 'ё' | 'é' | 'è' | 'ê' | 'ë' | 'ē' | 'ė' | 'ę' | 'ℯ' | 'ℰ' => {
            'e'
        }
        'х' | 'χ' | 'ⅹ' => 'x',
        'с' | 'ϲ' | 'ⅽ' | 'ç' | 'ć' | 'č' => 'c',
        'һ' | 'ℎ' | 'н' => 'h',
        '4' | 'а' | 'α' | 'ɑ' | 'á' | 'à' | 'â' | 'ä' | 'ã' | 'å' => 'a',
        'п' | 'ո' | 'η' | 'ñ' | 'ń' => 'n',
        'ɡ' | 'ց' | 'ğ' | '9' => 'g',
        'т' | 'τ' => 't',
        c => c,
    }
}

/// The letter at the place of `c` in alphabets of so many letters that begin at `first`, upper case before
/// lower.
fn letter(c: char, first: char, count: u32) -> char {
    let place = u32::from(c)
        .saturating_sub(u32::from(first))
        .checked_rem(count);
    let place = place
        .and_then(|place| place.checked_rem(26))
        .unwrap_or_default();
    let letter = u32::from('a').saturating_add(place);
    char::from_u32(letter).unwrap_or(c)
}

/// Checks free text: at most `max` characters, and no control characters other than tab and
/// newline.
pub fn check_text(text: &str, path: &str, max: usize) -> Result<(), Invalid> {
    if has_control(text) {
        return Err(Invalid::new(
            path,
            "must not contain control characters other than tab and newline",
        ));
    }
    check_length(text, path, max)
}

fn check_length(text: &str, path: &str, max: usize) -> Result<(), Invalid> {
    if text.chars().count() > max {
        return Err(Invalid::new(
            path,
            format!("must be at most {max} characters long"),
        ));
    }
    Ok(())
}

/// The fields of one JSON object, to be taken out by name and type.
///
/// A field that is absent or null counts as not given.
#[derive(Debug)]
pub struct Fields {
    prefix: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The fields of the object at `prefix`, which is empty for the body itself.
    pub fn new(prefix: impl Into<String>, map: Map<String, Value>) -> Self {
        Self {
            prefix: prefix.into(),
            map,
        }
    }

    /// The fields of `value` at `path`, which must be an object.
    pub fn of(path: impl Into<String>, value: Value) -> Result<Self, Invalid> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Self::new(path, map)),
            _ => Err(Invalid::new(path, "must be an object")),
        }
    }

    /// The full path of field `name`.
    pub fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// Takes field `name`, whatever its type.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        // `shift_remove` keeps the order of the remaining fields.
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes field `name`, which must be a string if it is given.
    pub fn take_string(&mut self, name: &str) -> Result<Option<String>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Invalid::new(self.path(name), "must be a string")),
        }
    }

    /// Takes field `name`, which must be given and be a string.
    pub fn require_string(&mut self, name: &str) -> Result<String, Invalid> {
        self.take_string(name)?
            .ok_or_else(|| Invalid::new(self.path(name), "is required"))
    }

    /// Takes field `name`, which must be a list if it is given.
    pub fn take_list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(Invalid::new(self.path(name), "must be a list")),
        }
    }

    /// Takes field `name`, which must be an object if it is given.
    pub fn take_object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(Invalid::new(self.path(name), "must be an object")),
        }
    }

    /// Takes field `name`, which must be a boolean if it is given.
    pub fn take_bool(&mut self, name: &str) -> Result<Option<bool>, Invalid> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(Invalid::new(self.path(name), "must be true or false")),
        }
    }

    /// The fields that nobody took, in their original order.
    pub fn rest(self) -> Map<String, Value> {
        self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newlines_are_text_and_other_controls_are_not() {
        assert!(!has_control("a\tb\nc\r\nd ✓"));
        for bad in ["\0", "\r", "a\rb", "\u{7f}", "\u{85}", "\u{1b}[31m"] {
            assert!(has_control(bad), "{bad:?}");
        }
    }

    #[test]
    fn names_by_which_nobody_passes_for_another() {
        let long = "x".repeat(21);
        for good in [
            "Anna",
            "Anna-Lena Müller",
            "Анна",
            "阿明",
            "👨\u{200d}👩\u{200d}👧",
            "❤\u{fe0f} Anna",
            "نمی\u{200c}خواهم",
            "Exchange desk",
            "exchanger",
        ] {
            assert_eq!(check_name(good, "n", 20), Ok(()), "{good:?}");
        }
        for bad in [
            "",
            "  ",
            "a\nb",
            "a\u{202e}b",
            "An\u{200d}na",
            "Anna\u{200d}",
            "An\u{200b}na",
            "\u{feff}Anna",
            "An\u{ad}na",
            "a\u{2066}b",
            "exchange",
            "EXCHANGE",
            "the exchange",
            "The Exchange!",
            "ехсhаnge",
            "3xchang3",
            "𝐞𝐱𝐜𝐡𝐚𝐧𝐠𝐞",
            "ⓔⓧⓒⓗⓐⓝⓖⓔ",
            "ＥＸＣＨＡＮＧＥ",
            "exchɑnge",
            "\u{3164}",
            "\u{2800}",
            "An\u{34f}na",
            "Anna\u{fe0f}",
            &long,
        ] {
            assert!(check_name(bad, "n", 20).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn fields_name_the_whole_path() {
        let value = serde_json::json!({"topic": 5});
        let mut fields = Fields::of("notifications[0]", value).unwrap();
        let refused = fields.take_string("topic").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "notifications[0].topic must be a string"
        );
    }
}
