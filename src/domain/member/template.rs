//! Templates: text of a hook in which `{{name}}` stands for something of the request.
//!
//! A value is inserted as it is or as `escape` makes it, and never looked at again: braces in it
//! are only braces.

/// Every variable, in the order of the documentation.
pub const VARIABLES: [&str; 13] = [
    "ref",
    "intent",
    "status",
    "priority",
    "requestor_id",
    "executor_id",
    "event",
    "executor_name",
    "created_at",
    "updated_at",
    "old_status",
    "actor_id",
    "external_id",
];

/// The id that the hook of an earlier event got from its provider.
pub const EXTERNAL_ID: &str = "external_id";

/// A piece of a template.
enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

/// Puts `value(name)` in the place of each `{{name}}`.
pub fn render(template: &str, value: impl Fn(&str) -> String) -> String {
    pieces(template)
        .map(|piece| match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Variable(name) => value(name),
        })
        .collect()
}

/// The names of the variables in `template`, known or not.
pub fn variables(template: &str) -> impl Iterator<Item = &str> {
    pieces(template).filter_map(|piece| match piece {
        Piece::Text(_) => None,
        Piece::Variable(name) => Some(name),
    })
}

fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some((name, after)) = leading_variable(rest) {
            rest = after;
            return Some(Piece::Variable(name));
        }
        // Up to the next place where a variable may begin, at least one character on.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let next = rest
            .get(first..)
            .and_then(|tail| tail.find("{{"))
            .map_or(rest.len(), |at| at.saturating_add(first));
        let (text, after) = rest.split_at_checked(next)?;
        rest = after;
        Some(Piece::Text(text))
    })
}

/// The variable that `text` begins with, and what follows it: `{{`, a name without braces, `}}`.
fn leading_variable(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix("{{")?;
    // No further than the first brace: what is no variable must not be read over and over.
    let (name, rest) = inside.split_at_checked(inside.find(['{', '}'])?)?;
    Some((name.trim(), rest.strip_prefix("}}")?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shout(template: &str) -> String {
        render(template, |name| format!("<{name}>"))
    }

    #[test]
    fn variables_are_replaced_and_all_else_stays() {
        for (template, expected) in [
            ("", ""),
            ("plain ✓", "plain ✓"),
            ("{{ref}}", "<ref>"),
            ("a {{ ref }}{{intent}} b", "a <ref><intent> b"),
            ("{{{ref}}}", "{<ref>}"),
            ("{{{{ref}}}}", "{{<ref>}}"),
            ("{ {ref} } }} {{", "{ {ref} } }} {{"),
            ("{{ref} {{intent}}", "{{ref} <intent>"),
            ("✓{{ref}}✓{{", "✓<ref>✓{{"),
            ("{{}}", "<>"),
            ("{{a|b}}", "<a|b>"),
        ] {
            assert_eq!(shout(template), expected, "{template}");
        }
    }

    proptest! {
        /// Whatever a value holds, it arrives once and unchanged.
        #[test]
        fn values_are_data(value in "[{}a\"\\\\\r\n✓]{0,40}", around in "[a-z]{0,5}") {
            let rendered = render(&format!("{around}{{{{intent}}}}{around}"), |_| value.clone());
            prop_assert_eq!(rendered, format!("{around}{value}{around}"));
        }

        /// Without variables a template is what it is.
        #[test]
        fn text_is_kept(text in "[{}a✓ ]{0,40}") {
            prop_assert_eq!(render(&text, |name| format!("{{{{{name}}}}}")).replace(' ', ""), text.replace(' ', ""));
        }
    }
}
