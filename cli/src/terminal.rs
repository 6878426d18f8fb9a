//! What a terminal shows: styles, warnings, text from outside made harmless.
//!
//! Styles are dropped by `anstream` where the output is no terminal or `NO_COLOR` is set.

use std::borrow::Cow;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};

/// The word "error".
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// The word "warning".
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// What matters most.
pub(crate) const STRONG: Style = Style::new().bold();
/// What matters least.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// Text from a job or a configuration without control characters, which could move the cursor or fake a line.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |character: char| {
        let plain = !character.is_control();
        plain
            .then_some(character)
            .into_iter()
            .chain((!plain).then(|| character.escape_default()).into_iter().flatten())
    };
    Cow::Owned(text.chars().flat_map(escape).collect())
}

/// Several lines, such as services write them, as one: each break and the blanks around it become one blank.
pub(crate) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// Warnings go to standard error, so that they disturb no output. Where nobody reads it, nothing is lost.
pub(crate) fn warn(warnings: impl IntoIterator<Item = impl ToString>) {
    let mut out = anstream::stderr().lock();
    for warning in warnings {
        let warning = warning.to_string();
        writeln!(out, "{WARNING}warning{WARNING:#}: {}", printable(&warning)).ok();
    }
}

/// The first characters of a text, with `…` where it was cut.
pub(crate) fn cut(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        Some((at, _)) => Cow::Owned(format!("{}…", text.get(..at).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(printable("plain ünïcode"), "plain ünïcode");
        assert_eq!(printable("a\u{1b}[31mb\nc\u{9b}d"), "a\\u{1b}[31mb\\nc\\u{9b}d");
    }

    #[test]
    fn lines_of_a_service_become_one() {
        assert_eq!(
            one_line("no credentials. Attempted:\n  Environment: no\r\n\n  Profile: no\n"),
            "no credentials. Attempted: Environment: no Profile: no"
        );
        assert_eq!(one_line("as it is"), "as it is");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äöü…");
    }
}
