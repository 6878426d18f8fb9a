//! Which known name a wrong one was probably meant to be.

use crate::error::shorten;

/// Names longer than this are not compared: nobody mistypes them, and comparing is quadratic.
const MAX_LENGTH: usize = 200;

/// Below that a suggestion is a guess.
const LIKENESS: f64 = 0.8;

/// The known name that is most like a wrong one, if any is as like it as that (from 0 to 1, by Jaro and Winkler).
pub(crate) fn nearest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
    likeness: f64,
) -> Option<&'a str> {
    if wrong.len() > MAX_LENGTH {
        return None;
    }
    known
        .into_iter()
        .filter(|name| name.len() <= MAX_LENGTH)
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(like, _)| *like > likeness)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The same as a part of a sentence: ` (did you mean "report"?)`, or nothing.
pub(crate) fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, known, LIKENESS).map_or_else(String::new, |name| {
        format!(" (did you mean {:?}?)", shorten(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_alike_is_suggested() {
        assert_eq!(
            suggestion("reprot", ["export", "report"]),
            " (did you mean \"report\"?)"
        );
        assert_eq!(suggestion("ledger", ["export", "report"]), "");
    }

    #[test]
    fn long_names_are_not_compared() {
        let long = "a".repeat(MAX_LENGTH + 1);
        assert_eq!(nearest(&long, [long.as_str()], 0.0), None);
    }
}
