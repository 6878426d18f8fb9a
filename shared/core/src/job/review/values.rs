//! Values that stand in a list more than once.

use std::collections::HashSet;

use serde_json::Value;

use super::Reviewer;
use crate::error::shorten;
use crate::json::items;
use crate::warning::{Step, WarningKind};

/// Lists up to this length are compared value by value: faster than hashing them.
const SHORT: usize = 16;

/// A scalar as two of them are compared: its kind, and its text.
type Scalar<'a> = (u8, &'a str);

/// Looks for values that stand in a list twice. Its memory is used again for each list.
#[derive(Default)]
pub(super) struct Duplicates<'a> {
    list: Vec<Scalar<'a>>,
    seen: HashSet<Scalar<'a>>,
}

/// What was found in a list.
pub(super) struct Repeated<'a> {
    /// The first value that stood there before, as a sentence shows it.
    value: Scalar<'a>,
    /// Where it stands again.
    index: usize,
    /// How many values stood there before.
    count: usize,
}

impl<'a> Duplicates<'a> {
    /// The values in order that stand there a second time. Only scalars and the keys of objects are compared.
    pub(super) fn of(&mut self, value: &'a Value) -> Option<Repeated<'a>> {
        self.list.clear();
        // The keys of one object are different.
        if items(value).len() < 2 {
            return None;
        }
        for item in items(value) {
            match item.as_object() {
                Some(object) => self.list.extend(object.keys().map(|key| (TEXT, key.as_str()))),
                None => self.list.extend(scalar(item)),
            }
        }
        // Most lists are sorted, and then this is all.
        if self.list.is_sorted_by(|one, next| one < next) {
            return None;
        }
        let Self { list, seen } = self;
        let mut found: Option<Repeated<'a>> = None;
        let mut add = |index: usize, value: Scalar<'a>| match &mut found {
            Some(found) => found.count += 1,
            None => {
                found = Some(Repeated {
                    value,
                    index,
                    count: 1,
                });
            }
        };
        if list.len() <= SHORT {
            for (index, value) in list.iter().enumerate() {
                if list.iter().take(index).any(|earlier| earlier == value) {
                    add(index, *value);
                }
            }
            return found;
        }
        // To empty a set costs as much as it is large: after a large one a small list gets a set of its own.
        if seen.capacity() > list.len() * 8 {
            *seen = HashSet::new();
        }
        seen.clear();
        for (index, value) in list.iter().enumerate() {
            if !seen.insert(*value) {
                add(index, *value);
            }
        }
        found
    }
}

const TEXT: u8 = 0;

fn scalar(value: &Value) -> Option<Scalar<'_>> {
    match value {
        Value::String(text) => Some((TEXT, text)),
        Value::Number(number) => Some((1, number.as_str())),
        Value::Bool(false) => Some((2, "false")),
        Value::Bool(true) => Some((2, "true")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl<'a> Reviewer<'a, '_> {
    pub(super) fn duplicate_values(&mut self, key: &'a str, value: &'a Value) {
        let Some(repeated) = self.duplicates.of(value) else {
            return;
        };
        self.repeated(WarningKind::DuplicateValue, key, value, &repeated);
    }

    pub(super) fn repeated(
        &mut self,
        kind: WarningKind,
        key: &'a str,
        list: &'a Value,
        repeated: &Repeated<'a>,
    ) {
        // In a list of objects the index of a name says nothing.
        let plain = items(list).all(|item| !item.is_object());
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
    use serde_json::json;

    use super::*;

    fn found(value: &Value) -> Option<(String, usize, usize)> {
        Duplicates::default()
            .of(value)
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
    fn long_lists_and_short_ones_after_them_are_searched_alike() {
        let mut duplicates = Duplicates::default();
        let long: Vec<u32> = (0..10_000).rev().chain([17, 17]).collect();
        let (long, short) = (json!(long), json!((0..20).rev().chain([3]).collect::<Vec<u32>>()));
        assert_eq!(
            duplicates.of(&long).map(|found| (found.index, found.count)),
            Some((10_000, 2))
        );
        assert_eq!(
            duplicates.of(&short).map(|found| (found.index, found.count)),
            Some((20, 1))
        );
        let none = json!((0..20).rev().collect::<Vec<u32>>());
        assert!(duplicates.of(&none).is_none());
    }
}
