//! The command that goes on with a run: the one that was given, with the id of the run.

use std::ffi::OsString;
use std::fmt;

/// A command line, to be copied into a shell.
#[derive(Debug, Clone)]
pub(super) struct CommandLine(Vec<String>);

impl CommandLine {
    /// From the words behind `jobmill`.
    pub(super) fn new(words: &[OsString]) -> Self {
        Self(
            words
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
        )
    }

    /// The same with these words added.
    pub(super) fn with<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        // Behind a `--` nothing is a flag.
        let end = self
            .0
            .iter()
            .position(|word| word == "--")
            .unwrap_or(self.0.len());
        self.0.splice(end..end, words.into_iter().map(str::to_owned));
        self
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("jobmill")?;
        self.0.iter().try_for_each(|word| write!(f, " {}", quoted(word)))
    }
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str], added: &[&str]) -> String {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        CommandLine::new(&words).with(added.iter().copied()).to_string()
    }

    #[test]
    fn what_is_added_stands_behind_the_words_that_were_given() {
        assert_eq!(
            line(&["run", "job.json", "--cloud", "aws"], &["--run-id", "r-1"]),
            "jobmill run job.json --cloud aws --run-id r-1"
        );
        assert_eq!(line(&["run", "job.json"], &[]), "jobmill run job.json");
        assert_eq!(
            line(&["run", "--", "-job.json"], &["--wait"]),
            "jobmill run --wait -- -job.json"
        );
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_read_them_otherwise() {
        assert_eq!(
            line(&["run", "my job's.json", "", "a\"b", "$x"], &[]),
            r#"jobmill run 'my job'\''s.json' '' 'a"b' '$x'"#
        );
    }
}
