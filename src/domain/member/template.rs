//! Templates: texts of a hook in which `{{name}}` stands for a property of the request.
//!
//! A value is inserted as it is, or escaped by the caller, and is not scanned again: braces in it
//! have no meaning.

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

/// The id that the provider returned to the hook of an earlier event.
pub const EXTERNAL_ID: &str = "external_id";

/// A piece of a template.
enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

/// Replaces each `{{name}}` with `value(name)`.
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
        // The text runs at least one character, up to the next place where a variable may begin.
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

/// The variable at the beginning of `text`, and what follows it. A variable is `{{`, a name without
/// braces and `}}`.
fn leading_variable(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix("{{")?;
    // Looks no further than the first brace, so that no text is scanned over and over.
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
        /// Whatever a value contains, it arrives once and unchanged.
        #[test]
        fn values_are_data(value in "[{}a\"\\\\\r\n✓]{0,40}", around in "[a-z]{0,5}") {
            let rendered = render(&format!("{around}{{{{intent}}}}{around}"), |_| value.clone());
            prop_assert_eq!(rendered, format!("{around}{value}{around}"));
        }

        /// A template without variables renders to itself.
        #[test]
        fn text_is_kept(text in "[{}a✓ ]{0,40}") {
            prop_assert_eq!(render(&text, |name| format!("{{{{{name}}}}}")).replace(' ', ""), text.replace(' ', ""));
        }
    }
}
