//! Keys that are probably meant to be known ones.

use std::collections::HashMap;

use crate::error::shorten;
use crate::job::schema::{Meaning, Schema};
use crate::suggest::nearest;

/// What has a meaning at the root of a job beside attributes and flags.
pub(super) const OF_ROOT: [&str; 5] = [
    "lambda_name",
    "period",
    "date_list",
    "isolate_days",
    "job_schema_name",
];

/// No more keys than these are compared with the known ones, for each level: a job that has more has them from data.
const MAX_COMPARED: usize = 1_000;

/// Names up to this many characters must be the same but for case and separators.
const SHORT: usize = 4;
/// From so many characters on two of them may be wrong.
const LONG: usize = 10;

/// The known names of each level, and what other keys turned out to mean.
pub(super) struct Names<'a> {
    schema: &'a Schema,
    levels: Vec<Level<'a>>,
}

#[derive(Default)]
struct Level<'a> {
    /// Each name as it is compared, and as it is written. Made when it is needed.
    known: Vec<(String, &'a str)>,
    compared: HashMap<&'a str, Option<&'a str>>,
}

impl<'a> Names<'a> {
    pub(super) fn of(schema: &'a Schema) -> Self {
        Self {
            schema,
            levels: Vec::new(),
        }
    }

    /// The flags that count at a level.
    fn flags(&self, level: usize) -> impl Iterator<Item = &'a str> {
        let flags = self.schema.meanings.iter().filter_map(|(name, meaning)| {
            matches!(meaning, Meaning::Isolate(..) | Meaning::Max(..)).then_some(name.as_str())
        });
        // Sorted, so that of two equally alike always the same is named.
        let mut flags: Vec<&str> = flags.chain((level == 0).then_some("isolate_days")).collect();
        flags.sort_unstable();
        flags.into_iter()
    }

    /// ` (did you mean "isolate_stores"?)` of a key that looks like a flag, or nothing.
    pub(super) fn flag_meant(&self, key: &str, level: usize) -> String {
        // What all flags have in common says nothing about which one is meant.
        let size = key
            .strip_prefix("max_")
            .and_then(|rest| rest.strip_suffix("_per_batch"));
        let Some(wrong) = size.or_else(|| key.strip_prefix("isolate_")) else {
            return String::new();
        };
        let attributes = &self.schema.attributes;
        let words = attributes
            .iter()
            .flat_map(|attribute| [attribute.plural.as_str(), attribute.name.as_str()]);
        let days = (level == 0 && size.is_none()).then_some("days");
        match (nearest(wrong, words.chain(days), 0.85).map(shorten), size) {
            (None, _) => String::new(),
            (Some(word), None) => format!(" (did you mean `isolate_{word}`?)"),
            (Some(word), Some(_)) => format!(" (did you mean `max_{word}_per_batch`?)"),
        }
    }

    /// The known name that a key of a branch at `level` is probably meant to be.
    pub(super) fn meant(&mut self, key: &'a str, level: usize) -> Option<&'a str> {
        while self.levels.len() <= level {
            self.levels.push(Level::default());
        }
        let of_schema = |name: &str| {
            self.schema
                .attributes
                .iter()
                .any(|it| it.plural == name || it.name == name)
        };
        let here = self.levels.get(level)?;
        if let Some(meant) = here.compared.get(key) {
            return *meant;
        }
        if here.compared.len() == MAX_COMPARED {
            return None;
        }
        let known = if here.known.is_empty() {
            self.known(level)
        } else {
            Vec::new()
        };
        let here = self.levels.get_mut(level)?;
        here.known.extend(known);
        let plain = simplified(key);
        let meant = here
            .known
            .iter()
            .filter_map(|(name, written)| distance(&plain, name).map(|distance| (distance, *written)))
            .min()
            .map(|(_, written)| written)
            // The name of another level is no slip.
            .filter(|_| !of_schema(key));
        here.compared.insert(key, meant);
        meant
    }

    fn known(&self, level: usize) -> Vec<(String, &'a str)> {
        let attribute = self.schema.attributes.get(level);
        let values = attribute
            .into_iter()
            .flat_map(|attribute| [attribute.plural.as_str(), attribute.name.as_str()]);
        let of_root = OF_ROOT.into_iter().filter(|_| level == 0);
        values
            .chain(of_root)
            .chain(self.flags(level))
            .map(|name| (simplified(name), name))
            .collect()
    }
}

/// A name without what people vary: case and separators.
fn simplified(name: &str) -> String {
    name.chars()
        .filter(|letter| !matches!(letter, '_' | '-' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

/// How many letters were mistyped, if it is so few that one name was probably meant to be the other.
fn distance(key: &str, name: &str) -> Option<usize> {
    let allowed = match name.len() {
        0..=SHORT => 0,
        length if length < LONG => 1,
        _ => 2,
    };
    if key.len().abs_diff(name.len()) > allowed {
        return None;
    }
    let distance = strsim::osa_distance(key, name);
    (distance <= allowed).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told_from_other_words() {
        let same = |key: &str, name: &str| distance(&simplified(key), &simplified(name)).is_some();
        for (key, name) in [
            ("sectoins", "sections"),
            ("Stores", "stores"),
            ("strores", "stores"),
            ("isolateStores", "isolate_stores"),
            ("isolate-stores", "isolate_stores"),
            ("isolte_store", "isolate_store"),
            ("periods", "period"),
            ("date_lists", "date_list"),
            ("dateList", "date_list"),
            ("job_schema_nam", "job_schema_name"),
        ] {
            assert!(same(key, name), "{key}");
        }
        for (key, name) in [
            ("produced", "products"),
            ("store_id", "stores"),
            ("ip", "id"),
            ("dates", "date_list"),
            ("currency", "category"),
            ("days", "isolate_days"),
        ] {
            assert!(!same(key, name), "{key}");
        }
    }
}
