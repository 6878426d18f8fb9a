//! What is accepted but may not be what was meant.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, shorten};

/// More warnings than these are noise: how many more there were is said instead.
pub const MAX_WARNINGS: usize = 20;

/// Something that was accepted, but is probably not what its author meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The stable type: what a program may branch on.
    #[serde(rename = "type")]
    pub kind: WarningKind,
    /// Which document it is about.
    pub document: Document,
    /// Where in that document: a JSON path (RFC 9535), `$` being the document.
    pub path: String,
    /// Names what was found, and says what to do.
    #[serde(rename = "message")]
    pub sentence: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.sentence)
    }
}

/// The documents that people write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Document {
    /// The job.
    Job,
    /// The configuration.
    Config,
    /// The event around the job.
    Event,
}

/// The stable types of warnings. `docs/job-language.md` says of each when it comes and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// A key that means nothing where it stands.
    IgnoredKey,
    /// The name of a labourer that no job can name.
    UnreachableLabourer,
    /// `job_schema` beside a variant `default`, which counts.
    MaskedSchema,
    /// `shutdown_period` is more than half of `timeout`.
    LongShutdownPeriod,
    /// `lease_seconds` is more than `timeout`.
    LongLease,
    /// An attribute that is called like a flag, or like a part of every job.
    AmbiguousAttribute,
    /// A limit of tasks at once that is not above 0.
    HeldLabourer,
    /// A number with a fraction where only whole ones count.
    CutFraction,
    /// A limit of tasks at once that leaves none at a health status that should leave some.
    LowLimit,
    /// Nobody could learn how the tasks of a labourer end.
    UnsetCompletion,
    /// A key that belongs beside `job` stands in the job, where it is payload.
    EnvelopeKey,
    /// A key of the job that is almost a known one.
    MisspeltKey,
    /// A key in a branch that counts only at the root.
    MisplacedKey,
    /// A key that looks like a flag, and names no attribute of the schema.
    UnknownFlag,
    /// A flag with no values to split where they are looked for.
    SplitsNothing,
    /// A `max_..._per_batch` that puts no values together.
    IdleBatchSize,
    /// A flag in both of its spellings.
    BothSpellings,
    /// `isolate_days` without dates.
    NoDates,
    /// A `period` that the worker gets as it is.
    UnexpandedPeriod,
    /// A `period` that the worker gets as it is, and that is of none of the forms.
    InvalidPeriod,
    /// `date_list` beside `period`, which replaces it.
    ReplacedDateList,
    /// A date that is none, or of another form.
    InvalidDate,
    /// A date that stands in its list more than once.
    DuplicateDate,
    /// A value that stands in its list more than once.
    DuplicateValue,
    /// A schema that the job names, and that has no effect.
    IdleSchema,
    /// So many warnings more than are kept.
    More,
}

impl WarningKind {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 26] = [
        Self::IgnoredKey,
        Self::UnreachableLabourer,
        Self::MaskedSchema,
        Self::LongShutdownPeriod,
        Self::LongLease,
        Self::AmbiguousAttribute,
        Self::HeldLabourer,
        Self::CutFraction,
        Self::LowLimit,
        Self::UnsetCompletion,
        Self::EnvelopeKey,
        Self::MisspeltKey,
        Self::MisplacedKey,
        Self::UnknownFlag,
        Self::SplitsNothing,
        Self::IdleBatchSize,
        Self::BothSpellings,
        Self::NoDates,
        Self::UnexpandedPeriod,
        Self::InvalidPeriod,
        Self::ReplacedDateList,
        Self::InvalidDate,
        Self::DuplicateDate,
        Self::DuplicateValue,
        Self::IdleSchema,
        Self::More,
    ];

    /// The name as it stands in JSON and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IgnoredKey => "ignored_key",
            Self::UnreachableLabourer => "unreachable_labourer",
            Self::MaskedSchema => "masked_schema",
            Self::LongShutdownPeriod => "long_shutdown_period",
            Self::LongLease => "long_lease",
            Self::AmbiguousAttribute => "ambiguous_attribute",
            Self::HeldLabourer => "held_labourer",
            Self::CutFraction => "cut_fraction",
            Self::LowLimit => "low_limit",
            Self::UnsetCompletion => "unset_completion",
            Self::EnvelopeKey => "envelope_key",
            Self::MisspeltKey => "misspelt_key",
            Self::MisplacedKey => "misplaced_key",
            Self::UnknownFlag => "unknown_flag",
            Self::SplitsNothing => "splits_nothing",
            Self::IdleBatchSize => "idle_batch_size",
            Self::BothSpellings => "both_spellings",
            Self::NoDates => "no_dates",
            Self::UnexpandedPeriod => "unexpanded_period",
            Self::InvalidPeriod => "invalid_period",
            Self::ReplacedDateList => "replaced_date_list",
            Self::InvalidDate => "invalid_date",
            Self::DuplicateDate => "duplicate_date",
            Self::DuplicateValue => "duplicate_value",
            Self::IdleSchema => "idle_schema",
            Self::More => "more",
        }
    }
}

impl fmt::Display for WarningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where warnings are not wanted: the first one as an error, which says how many more there are.
///
/// # Errors
/// `InvalidJob`, `InvalidConfig` or `InvalidEvent`, by the document of the first warning.
pub fn refuse<'a>(warnings: impl IntoIterator<Item = &'a Warning>) -> Result<(), Error> {
    let mut warnings = warnings.into_iter();
    let Some(first) = warnings.next() else {
        return Ok(());
    };
    let kind = match first.document {
        Document::Job => ErrorKind::InvalidJob,
        Document::Config => ErrorKind::InvalidConfig,
        Document::Event => ErrorKind::InvalidEvent,
    };
    let (count, kept_all) = warnings.fold((0, true), |(count, kept_all), warning| {
        (count + 1, kept_all && warning.kind != WarningKind::More)
    });
    let more = match (count, kept_all) {
        (0, _) => String::new(),
        (1, true) => ", and there is one more".to_owned(),
        (count, true) => format!(", and there are {count} more"),
        (count, false) => format!(", and there are at least {count} more"),
    };
    Err(Error::new(
        kind,
        format!("{first} (a warning, which `strict` refuses{more})"),
    ))
}

/// Warnings as they are found: the first [`MAX_WARNINGS`] are kept, the others counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings {
    kept: Vec<Kept>,
    more: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    warning: Warning,
    /// What it is about, if it is said only once of that.
    subject: Option<String>,
    /// In how many places more it was found.
    repeated: usize,
}

impl Warnings {
    /// Adds one. Path and sentence are made only if it is kept.
    pub(crate) fn add(
        &mut self,
        kind: WarningKind,
        document: Document,
        path_and_sentence: impl FnOnce() -> (String, String),
    ) {
        self.keep(kind, document, None, path_and_sentence);
    }

    /// Adds one, unless one of this kind was added of that subject: then it is only counted.
    pub(crate) fn add_once(
        &mut self,
        kind: WarningKind,
        document: Document,
        subject: &str,
        path_and_sentence: impl FnOnce() -> (String, String),
    ) {
        let before = self
            .kept
            .iter_mut()
            .find(|kept| kept.warning.kind == kind && kept.subject.as_deref() == Some(subject));
        match before {
            Some(kept) => kept.repeated += 1,
            None => self.keep(kind, document, Some(subject), path_and_sentence),
        }
    }

    fn keep(
        &mut self,
        kind: WarningKind,
        document: Document,
        subject: Option<&str>,
        path_and_sentence: impl FnOnce() -> (String, String),
    ) {
        if self.kept.len() == MAX_WARNINGS {
            self.more += 1;
            return;
        }
        let (path, sentence) = path_and_sentence();
        self.kept.push(Kept {
            warning: Warning {
                kind,
                document,
                path,
                sentence,
            },
            subject: subject.map(str::to_owned),
            repeated: 0,
        });
    }

    /// The warnings, and one more that says how many were left out.
    pub(crate) fn finish(self, document: Document) -> Vec<Warning> {
        let say = |kept: Kept| {
            let Kept {
                mut warning,
                repeated,
                ..
            } = kept;
            match repeated {
                0 => {}
                1 => warning.sentence.push_str(" (and in one place more)"),
                // Writing into a text can't fail.
                count => drop(write!(warning.sentence, " (and in {count} places more)")),
            }
            warning
        };
        let mut warnings: Vec<Warning> = self.kept.into_iter().map(say).collect();
        if self.more > 0 {
            let noun = if self.more == 1 { "warning" } else { "warnings" };
            warnings.push(Warning {
                kind: WarningKind::More,
                document,
                path: "$".to_owned(),
                sentence: format!("{} {noun} more: mend these and look again", self.more),
            });
        }
        warnings
    }
}

/// A step of a JSON path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Into an object.
    Key(&'a str),
    /// Into a list.
    Index(usize),
    /// Into each member.
    Any,
}

/// A JSON path as text: `$.sections['new york'][3]`. Long keys are cut, control characters escaped.
pub fn json_path<'a>(steps: impl IntoIterator<Item = Step<'a>>) -> String {
    let mut path = String::from("$");
    for step in steps {
        match step {
            // Writing into a text can't fail.
            Step::Index(index) => drop(write!(path, "[{index}]")),
            Step::Any => path.push_str(".*"),
            Step::Key(key) => push_key(&mut path, &shorten(key)),
        }
    }
    path
}

fn push_key(path: &mut String, key: &str) {
    let plain = |(at, letter): (usize, char)| {
        letter == '_'
            || letter.is_ascii_alphabetic()
            || (at > 0 && letter.is_ascii_digit())
            || letter > '\u{9f}'
    };
    if !key.is_empty() && key.char_indices().all(plain) {
        path.push('.');
        path.push_str(key);
        return;
    }
    path.push_str("['");
    for letter in key.chars() {
        match letter {
            '\'' | '\\' => path.extend(['\\', letter]),
            letter if letter.is_control() => drop(write!(path, "\\u{:04x}", u32::from(letter))),
            letter => path.push(letter),
        }
    }
    path.push_str("']");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_read_by_other_programs() {
        let path = |steps: &[Step<'_>]| json_path(steps.iter().copied());
        assert_eq!(path(&[]), "$");
        assert_eq!(
            path(&[Step::Key("sections"), Step::Index(2), Step::Key("molkerei_ä1")]),
            "$.sections[2].molkerei_ä1"
        );
        assert_eq!(path(&[Step::Key("new york"), Step::Key("")]), "$['new york']['']");
        assert_eq!(path(&[Step::Key("1st"), Step::Key("a-b")]), "$['1st']['a-b']");
        assert_eq!(path(&[Step::Key("it's\\\n")]), "$['it\\'s\\\\\\u000a']");
        assert_eq!(path(&[Step::Key(&"x".repeat(100))]).chars().count(), 63);
    }

    #[test]
    fn twenty_are_kept_and_the_rest_is_counted() {
        let found = |count: usize| {
            let mut warnings = Warnings::default();
            for number in 0..count {
                warnings.add(WarningKind::UnknownFlag, Document::Job, || {
                    ("$".to_owned(), number.to_string())
                });
            }
            warnings.finish(Document::Job)
        };
        assert_eq!(found(20).len(), 20);
        let many = found(23);
        assert_eq!(many.len(), 21);
        assert_eq!(many[19].sentence, "19");
        assert_eq!(many[20].kind, WarningKind::More);
        assert!(many[20].sentence.starts_with("3 warnings more"));
    }

    #[test]
    fn what_is_said_once_is_counted() {
        let mut warnings = Warnings::default();
        for place in ["$.a", "$.b", "$.c"] {
            for subject in ["x", "y"] {
                warnings.add_once(WarningKind::MisspeltKey, Document::Job, subject, || {
                    (place.to_owned(), subject.to_owned())
                });
            }
        }
        warnings.add_once(WarningKind::SplitsNothing, Document::Job, "x", || {
            ("$.d".to_owned(), "x".to_owned())
        });
        let said: Vec<String> = warnings
            .finish(Document::Job)
            .iter()
            .map(Warning::to_string)
            .collect();
        assert_eq!(
            said,
            [
                "$.a: x (and in 2 places more)",
                "$.a: y (and in 2 places more)",
                "$.d: x"
            ]
        );
    }

    #[test]
    fn the_first_one_is_refused_by_its_document() {
        let warning = |document| Warning {
            kind: WarningKind::UnknownFlag,
            document,
            path: "$.a".to_owned(),
            sentence: "why".to_owned(),
        };
        assert_eq!(refuse(&[]), Ok(()));
        for (document, kind) in [
            (Document::Job, ErrorKind::InvalidJob),
            (Document::Event, ErrorKind::InvalidEvent),
            (Document::Config, ErrorKind::InvalidConfig),
        ] {
            let error = refuse(&[warning(document), warning(Document::Job)]).unwrap_err();
            assert_eq!(error.kind, kind);
            assert_eq!(
                error.sentence,
                "$.a: why (a warning, which `strict` refuses, and there is one more)"
            );
        }
    }

    #[test]
    fn the_names_are_those_of_the_json() {
        for kind in WarningKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn the_json_is_stable() {
        let warning = Warning {
            kind: WarningKind::UnknownFlag,
            document: Document::Job,
            path: "$.isolate_planets".to_owned(),
            sentence: "why".to_owned(),
        };
        assert_eq!(
            serde_json::to_value(&warning).unwrap(),
            serde_json::json!({
                "type": "unknown_flag", "document": "job", "path": "$.isolate_planets", "message": "why",
            })
        );
        assert_eq!(warning.to_string(), "$.isolate_planets: why");
    }
}
