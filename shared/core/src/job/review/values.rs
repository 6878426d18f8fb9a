//! Values that stand in a list more than once.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Reviewer;
use crate::error::shorten;
use crate::json::{Kind, View};
use crate::warning::{Step, WarningKind};

/// Lists of values up to this length are compared value by value: that is faster than all else.
const SHORT: usize = 16;

/// A scalar as two of them are compared: its kind, and its text.
type Scalar<'a> = (u8, &'a str);

const TEXT: u8 = 0;

/// What was found in a list.
pub(super) struct Repeated<'a> {
    /// The first value that stood there before.
    value: Scalar<'a>,
    /// Where it stands again.
    index: usize,
    /// How many values stood there before.
    count: usize,
}

/// Looks for values that stand in a list twice: scalars, and the keys of objects. `room` is memory that is used again.
///
/// Almost no list has any, so the look is quick and may be wrong one way: what it suspects is looked at closely.
pub(super) fn repeated<'a>(value: View<'a>, room: &mut Vec<u64>) -> Option<Repeated<'a>> {
    // The keys of one object are different.
    if value.items_or_itself().len() < 2 || !is_suspicious(value, room) {
        return None;
    }
    let mut seen: HashSet<Scalar<'a>> = HashSet::new();
    let mut found: Option<Repeated<'a>> = None;
    let mut index = 0;
    each(value, |value| {
        if !seen.insert(value) {
            match &mut found {
                Some(found) => found.count += 1,
                None => {
                    found = Some(Repeated {
                        value,
                        index,
                        count: 1,
                    });
                }
            }
        }
        index += 1;
    });
    found
}

fn is_suspicious(value: View<'_>, room: &mut Vec<u64>) -> bool {
    room.clear();
    if value.is_list_of_scalars() && value.len() <= SHORT {
        each(value, |scalar| room.push(trait_of(scalar)));
        // Of sorted names these are mostly sorted, too.
        if room.is_sorted_by(|one, next| one < next) {
            return false;
        }
        return (room.iter().enumerate()).any(|(at, one)| room.iter().take(at).any(|other| one == other));
    }
    let (mut is_sorted, mut last) = (true, None);
    each(value, |scalar| {
        is_sorted = is_sorted && last.is_none_or(|last| last < scalar);
        last = Some(scalar);
    });
    // Many long lists are, and then this is all.
    if is_sorted {
        return false;
    }
    each(value, |scalar| {
        let mut hasher = DefaultHasher::new();
        scalar.hash(&mut hasher);
        room.push(hasher.finish());
    });
    room.sort_unstable();
    !room.is_sorted_by(|one, next| one < next)
}

/// What is quick to find out of a scalar, and mostly differs: its end and its length.
fn trait_of((kind, text): Scalar<'_>) -> u64 {
    let bytes = text.as_bytes();
    let end = match bytes.last_chunk() {
        Some(end) => u64::from_be_bytes(*end),
        None => bytes.iter().fold(0, |end, byte| (end << 8) | u64::from(*byte)),
    };
    end.wrapping_add(bytes.len() as u64) ^ (u64::from(kind) << 56)
}

/// The scalars of a list, and the keys of objects in it, in order.
fn each<'a>(value: View<'a>, mut take: impl FnMut(Scalar<'a>)) {
    for item in value.items_or_itself() {
        match scalar(item) {
            Some(scalar) => take(scalar),
            None => item.members().for_each(|(name, _)| take((TEXT, name))),
        }
    }
}

fn scalar(value: View<'_>) -> Option<Scalar<'_>> {
    match value.kind() {
        Kind::Text => Some((TEXT, value.as_text()?)),
        Kind::Number => Some((1, value.as_digits()?)),
        Kind::Bool => Some((2, if value.as_bool()? { "true" } else { "false" })),
        Kind::Null | Kind::List | Kind::Object => None,
    }
}

impl<'a> Reviewer<'a, '_> {
    pub(super) fn duplicates(&mut self, kind: WarningKind, key: &'a str, list: View<'a>) {
        let Some(repeated) = repeated(list, &mut self.room) else {
            return;
        };
        // In a list of objects the index of a name says nothing.
        let plain = list.items_or_itself().all(|item| !item.is_object());
        let index = plain.then_some(Step::Index(repeated.index));
        self.path.push(Step::Key(key));
        self.warn_at(kind, key, index, || {
            let others = match repeated.count {
                1 => String::new(),
                2 => " (and there is one more such value)".to_owned(),
                count => format!(" (and there are {} more such values)", count - 1),
            };
            let (kind, text) = repeated.value;
            let text = shorten(text);
            let shown = if kind == TEXT { format!("{text:?}") } else { text };
            format!(
                "{shown} stands in `{}` more than once{others}: take it out, or its work may be done again",
                shorten(key),
            )
        });
        self.path.pop();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::json::Document;

    fn found(value: &Value) -> Option<(String, usize, usize)> {
        let document = Document::from(value);
        repeated(document.root(), &mut Vec::new())
            .map(|found| (found.value.1.to_owned(), found.index, found.count))
    }

    #[test]
    fn a_value_is_found_where_it_stands_again() {
        assert_eq!(found(&json!(["a", "b", "c"])), None);
        assert_eq!(found(&json!(["c", "b", "a"])), None);
        assert_eq!(
            found(&json!(["a", "b", "a", "b", "a"])),
            Some(("a".to_owned(), 2, 3))
        );
        assert_eq!(found(&json!([1, "1", true, "true", 1.0])), None);
        assert_eq!(
            found(&json!([{"a": null}, {"b": {}, "a": {}}])),
            Some(("a".to_owned(), 2, 1))
        );
        assert_eq!(found(&json!("a")), None);
        assert_eq!(found(&json!([null, null, [], []])), None);
    }

    #[test]
    fn values_that_end_alike_are_different() {
        assert_eq!(found(&json!(["b/2024-03-06", "a/2024-03-06"])), None);
        assert_eq!(
            found(&json!(["b/milano-centrale", "a/milano-centrale", "x"])),
            None
        );
    }

    #[test]
    fn long_lists_are_searched_as_short_ones_are() {
        for length in [2, SHORT - 1, SHORT, SHORT + 1, 5_000] {
            let mut list: Vec<String> = (0..length).rev().map(|number| format!("n{number}")).collect();
            assert_eq!(found(&json!(list)), None, "{length}");
            list.push("n1".to_owned());
            list.push("n1".to_owned());
            assert_eq!(
                found(&json!(list)),
                Some(("n1".to_owned(), length, 2)),
                "{length}"
            );
        }
    }
}
