//! Reading an object of the configuration.
//!
//! Each key is named once, where it is read, with its default, its bounds and its meaning. The section checks the value
//! and keeps what was said of the key: known keys, problems, the JSON Schema and the tables of the documents all come
//! from that one line.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::{excerpt, shorten};
use crate::json::kind;
use crate::suggest::suggestion;
use crate::warning::{Document, Step, Warning, WarningKind, Warnings, json_path};

/// A configuration with more problems than these is no configuration.
const MAX_PROBLEMS: usize = 500;

/// Why a configuration is refused: one of its problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: a JSON path (RFC 9535), `$` being the configuration.
    pub path: String,
    /// Names key and value, and says what to do.
    pub sentence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// What is known of a key of the configuration.
#[derive(Debug, Clone)]
pub struct Key {
    /// How it is called.
    pub name: Name,
    /// What it may hold.
    pub kind: Kind,
    /// What it is for, in Markdown.
    pub meaning: &'static str,
}

/// How a key is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Exactly so.
    Is(&'static str),
    /// It begins so, and goes on somehow.
    Begins(&'static str),
    /// It ends so.
    Ends(&'static str),
}

impl Name {
    fn fits(self, key: &str) -> bool {
        match self {
            Self::Is(name) => key == name,
            Self::Begins(start) => key.starts_with(start),
            Self::Ends(end) => key.ends_with(end),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(name) => f.write_str(name),
            Self::Begins(start) => write!(f, "{start}..."),
            Self::Ends(end) => write!(f, "...{end}"),
        }
    }
}

/// What a key may hold. `null` always stands for "not set".
#[derive(Debug, Clone)]
pub enum Kind {
    /// A whole number, or text of its digits.
    Number {
        /// Where it is not set.
        default: Option<u64>,
        /// The smallest one.
        min: u64,
        /// The largest one.
        max: u64,
    },
    /// A number that may have a fraction, or text of its digits.
    Decimal {
        /// Where it is not set.
        default: f64,
        /// The smallest one.
        min: f64,
        /// The largest one.
        max: f64,
    },
    /// Text.
    Text {
        /// Where it is not set.
        default: Option<String>,
        /// Whether it must be set.
        required: bool,
        /// Which texts.
        form: &'static Form,
    },
    /// True or false.
    Switch {
        /// Where it is not set.
        default: bool,
    },
    /// One of some texts.
    Choice {
        /// Where it is not set.
        default: Option<&'static str>,
        /// Which texts.
        options: Vec<&'static str>,
    },
    /// An object.
    Object(Keys),
    /// An object that holds objects by name.
    ByName(Keys),
    /// A value of a form of its own.
    Own(&'static OwnForm),
    /// Anything: it has no effect here.
    Unread {
        /// Whether a warning says so.
        warned: bool,
    },
}

/// The keys of an object.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Those that are known.
    pub known: Vec<Key>,
    /// What becomes of others.
    pub others: Others,
}

/// What becomes of a key that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// It is a problem.
    Refused,
    /// It draws a warning.
    Warned,
    /// It is passed over.
    Ignored,
}

/// Which texts a key takes.
#[derive(Debug)]
pub struct Form {
    /// In words, for tables.
    pub bounds: &'static str,
    /// As a regular expression that takes each of them. (It may take others too.)
    pub pattern: &'static str,
    /// What to do with another text: "write ...".
    pub advice: &'static str,
    /// Whether a text is one of them.
    pub fits: fn(&str) -> bool,
}

/// A name that some service knows.
pub(super) static NAME: Form = Form {
    bounds: "1 to 255 characters",
    pattern: r"^[\s\S]{1,255}$",
    advice: "write a name of 1 to 255 characters",
    fits: is_name,
};

/// Whether a text is short enough for a name, and not empty.
pub(super) fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
}

/// A value of a form of its own, whose reader checks it.
#[derive(Debug)]
pub struct OwnForm {
    /// In words, for tables.
    pub default: &'static str,
    /// In words, for tables.
    pub bounds: &'static str,
    /// Its JSON Schema.
    pub schema: fn() -> Value,
}

/// What was found while reading.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Unknown keys, which may be the cause of what comes behind them.
    unknown: Vec<Problem>,
    others: Vec<Problem>,
    warnings: Warnings,
    left_out: usize,
}

impl Report {
    fn has_room(&mut self) -> bool {
        let room = self.unknown.len() + self.others.len() < MAX_PROBLEMS;
        self.left_out += usize::from(!room);
        room
    }

    /// All problems, unknown keys first, and all warnings.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Warning>) {
        let mut problems = self.unknown;
        problems.extend(self.others);
        if self.left_out > 0 {
            problems.push(Problem {
                path: "$".to_owned(),
                sentence: format!(
                    "{} problems more: mend the first ones and look again",
                    self.left_out
                ),
            });
        }
        (problems, self.warnings.finish(Document::Config))
    }
}

/// An object that is being read.
pub(super) struct Section<'a, 'r> {
    path: Vec<Step<'a>>,
    /// None: not set.
    map: Option<&'a Map<String, Value>>,
    report: &'r mut Report,
    keys: Keys,
}

impl<'a> Section<'a, '_> {
    /// Reads an object: all that `read` asks for, then what nobody asked for.
    pub(super) fn read<T>(
        path: Vec<Step<'a>>,
        map: Option<&'a Map<String, Value>>,
        report: &mut Report,
        read: impl FnOnce(&mut Section<'a, '_>) -> T,
    ) -> (T, Keys) {
        let place = report.unknown.len();
        let mut section = Section {
            path,
            map,
            report,
            keys: Keys {
                known: Vec::new(),
                others: Others::Refused,
            },
        };
        let value = read(&mut section);
        section.look_at_others(place);
        (value, section.keys)
    }

    /// What a reader asks for, by letting it read nothing.
    pub(super) fn keys_of<T>(read: impl FnOnce(&mut Section<'_, '_>) -> T) -> Keys {
        Section::read(Vec::new(), None, &mut Report::default(), read).1
    }

    /// Whether the object is there at all.
    pub(super) fn is_set(&self) -> bool {
        self.map.is_some()
    }

    /// Whether the object has any key.
    pub(super) fn says_something(&self) -> bool {
        self.map.is_some_and(|map| !map.is_empty())
    }

    /// What shall become of keys that the reader does not ask for; without it they are refused.
    pub(super) fn others(&mut self, others: Others) {
        self.keys.others = others;
    }

    /// A problem with a value of this object, or with what lies inside; `why` goes on behind its name.
    pub(super) fn refuse(&mut self, steps: &[Step<'a>], why: impl fmt::Display) {
        if self.report.has_room() {
            let problem = self.problem(steps, why);
            self.report.others.push(problem);
        }
    }

    fn problem(&self, steps: &[Step<'a>], why: impl fmt::Display) -> Problem {
        let steps = || self.path.iter().chain(steps).copied();
        let mut field = String::new();
        for step in steps() {
            match step {
                Step::Index(index) => field += &format!("[{index}]"),
                Step::Any => field += ".*",
                Step::Key(key) => {
                    if !field.is_empty() {
                        field.push('.');
                    }
                    field += &shorten(key);
                }
            }
        }
        Problem {
            path: json_path(steps()),
            sentence: format!("`{field}` {why}"),
        }
    }

    /// A warning about a value of this object, or about what lies inside.
    pub(super) fn warn(&mut self, kind: WarningKind, steps: &[Step<'a>], sentence: impl FnOnce() -> String) {
        let steps = self.path.iter().chain(steps).copied();
        self.report
            .warnings
            .add(kind, Document::Config, || (json_path(steps), sentence()));
    }

    /// Unknown keys go in at `place`, before those of the objects inside: from the outside in.
    fn look_at_others(&mut self, mut place: usize) {
        let Some(map) = self.map else { return };
        for key in map.keys() {
            if self.keys.others == Others::Ignored || self.keys.known.iter().any(|known| known.name.fits(key))
            {
                continue;
            }
            let names = self.keys.known.iter().filter_map(|known| match known.name {
                Name::Is(name) => Some(name),
                Name::Begins(_) | Name::Ends(_) => None,
            });
            let meant = suggestion(key, names);
            if self.keys.others == Others::Warned {
                self.warn(WarningKind::IgnoredKey, &[Step::Key(key)], || {
                    format!(
                        "`{}` means nothing to jobmill or to sosw{meant}: correct it or take it out",
                        shorten(key)
                    )
                });
            } else if self.report.has_room() {
                let why = format_args!("is unknown{meant}: correct it or take it out");
                let problem = self.problem(&[Step::Key(key)], why);
                self.report.unknown.insert(place, problem);
                place += 1;
            }
        }
    }

    /// Whether the object is there, and a key that it must have is not.
    pub(super) fn lacks(&self, name: &str) -> bool {
        self.map
            .is_some_and(|map| map.get(name).is_none_or(Value::is_null))
    }

    /// The value of a key that was asked for before.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map?.get(name)
    }

    /// The value of a key, unless it is not set.
    fn value(&mut self, name: &'static str, kind: Kind, meaning: &'static str) -> Option<&'a Value> {
        self.keys.known.push(Key {
            name: Name::Is(name),
            kind,
            meaning,
        });
        self.map?.get(name).filter(|value| !value.is_null())
    }

    /// A value of a form of its own, for the caller to check.
    pub(super) fn own(
        &mut self,
        name: &'static str,
        form: &'static OwnForm,
        meaning: &'static str,
    ) -> Option<&'a Value> {
        self.value(name, Kind::Own(form), meaning)
    }

    /// A whole number.
    pub(super) fn number<T: Copy + Into<u64> + TryFrom<u64>>(
        &mut self,
        name: &'static str,
        default: T,
        bounds: RangeInclusive<u64>,
        meaning: &'static str,
    ) -> T {
        self.any_number(name, Some(default), bounds, meaning)
            .unwrap_or(default)
    }

    /// A whole number that may be missing.
    pub(super) fn optional_number<T: Copy + Into<u64> + TryFrom<u64>>(
        &mut self,
        name: &'static str,
        bounds: RangeInclusive<u64>,
        meaning: &'static str,
    ) -> Option<T> {
        self.any_number(name, None, bounds, meaning)
    }

    fn any_number<T: Copy + Into<u64> + TryFrom<u64>>(
        &mut self,
        name: &'static str,
        default: Option<T>,
        bounds: RangeInclusive<u64>,
        meaning: &'static str,
    ) -> Option<T> {
        let kind = Kind::Number {
            default: default.map(Into::into),
            min: *bounds.start(),
            max: *bounds.end(),
        };
        let value = self.value(name, kind, meaning)?;
        self.whole(&[Step::Key(name)], value, bounds)
    }

    /// Whole numbers by their keys, which begin alike.
    pub(super) fn numbers_at<T: TryFrom<u64>>(
        &mut self,
        start: &'static str,
        bounds: RangeInclusive<u64>,
        meaning: &'static str,
    ) -> BTreeMap<&'a str, T> {
        self.keys.known.push(Key {
            name: Name::Begins(start),
            kind: Kind::Number {
                default: None,
                min: *bounds.start(),
                max: *bounds.end(),
            },
            meaning,
        });
        let mut numbers = BTreeMap::new();
        for (key, value) in self.map.into_iter().flatten() {
            if key.starts_with(start) && !value.is_null() {
                let number = self.whole(&[Step::Key(key)], value, bounds.clone());
                numbers.extend(number.map(|number| (key.as_str(), number)));
            }
        }
        numbers
    }

    fn whole<T: TryFrom<u64>>(
        &mut self,
        steps: &[Step<'a>],
        value: &Value,
        bounds: RangeInclusive<u64>,
    ) -> Option<T> {
        let number = match value {
            Value::Number(number) => number.as_u64(),
            // sosw's table of configurations keeps numbers as text.
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| bounds.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let (min, max) = bounds.into_inner();
            self.refuse(
                steps,
                format_args!("is {}: write a whole number from {min} to {max}", excerpt(value)),
            );
        }
        number
    }

    /// A number that may have a fraction.
    pub(super) fn decimal(
        &mut self,
        name: &'static str,
        default: f64,
        bounds: RangeInclusive<f64>,
        meaning: &'static str,
    ) -> f64 {
        self.optional_decimal(name, default, bounds, meaning)
            .unwrap_or(default)
    }

    /// A number that may have a fraction, or nothing where it is not set and the default counts.
    pub(super) fn optional_decimal(
        &mut self,
        name: &'static str,
        default: f64,
        bounds: RangeInclusive<f64>,
        meaning: &'static str,
    ) -> Option<f64> {
        let (min, max) = (*bounds.start(), *bounds.end());
        let value = self.value(name, Kind::Decimal { default, min, max }, meaning)?;
        let number = decimal(value).filter(|number| bounds.contains(number));
        if number.is_none() {
            let shown = excerpt(value);
            self.refuse(
                &[Step::Key(name)],
                format_args!("is {shown}: write a number from {min} to {max}"),
            );
        }
        number
    }

    /// Text that has a default.
    pub(super) fn text(
        &mut self,
        name: &'static str,
        default: &str,
        form: &'static Form,
        meaning: &'static str,
    ) -> String {
        self.any_text(name, Some(default), false, form, meaning)
            .unwrap_or_else(|| default.to_owned())
    }

    /// Text that may be missing.
    pub(super) fn optional_text(
        &mut self,
        name: &'static str,
        form: &'static Form,
        meaning: &'static str,
    ) -> Option<String> {
        self.any_text(name, None, false, form, meaning)
    }

    /// Text that must be there.
    pub(super) fn required_text(
        &mut self,
        name: &'static str,
        form: &'static Form,
        meaning: &'static str,
    ) -> String {
        self.any_text(name, None, true, form, meaning).unwrap_or_default()
    }

    fn any_text(
        &mut self,
        name: &'static str,
        default: Option<&str>,
        required: bool,
        form: &'static Form,
        meaning: &'static str,
    ) -> Option<String> {
        let kind = Kind::Text {
            default: default.map(str::to_owned),
            required,
            form,
        };
        let why = match self.value(name, kind, meaning) {
            Some(Value::String(text)) if (form.fits)(text) => return Some(text.clone()),
            Some(other) => format!("is {}", excerpt(other)),
            // An object that is not there lacks nothing.
            None if required && self.map.is_some() => "is missing".to_owned(),
            None => return None,
        };
        self.refuse(&[Step::Key(name)], format_args!("{why}: {}", form.advice));
        None
    }

    /// True or false.
    pub(super) fn switch(&mut self, name: &'static str, default: bool, meaning: &'static str) -> bool {
        match self.value(name, Kind::Switch { default }, meaning) {
            None => default,
            Some(Value::Bool(set)) => *set,
            Some(other) => {
                let shown = excerpt(other);
                self.refuse(
                    &[Step::Key(name)],
                    format_args!("is {shown}: write true or false"),
                );
                default
            }
        }
    }

    /// One of some texts, the first of which is the default.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        default: (&'static str, T),
        others: &[(&'static str, T)],
        meaning: &'static str,
    ) -> T {
        self.any_choice(name, Some(default), others, meaning)
            .unwrap_or(default.1)
    }

    /// One of some texts, or none of them.
    pub(super) fn optional_choice<T: Copy>(
        &mut self,
        name: &'static str,
        options: &[(&'static str, T)],
        meaning: &'static str,
    ) -> Option<T> {
        self.any_choice(name, None, options, meaning)
    }

    fn any_choice<T: Copy>(
        &mut self,
        name: &'static str,
        default: Option<(&'static str, T)>,
        others: &[(&'static str, T)],
        meaning: &'static str,
    ) -> Option<T> {
        let options: Vec<(&'static str, T)> = default.iter().chain(others).copied().collect();
        let default = default.map(|(name, _)| name);
        let kind = Kind::Choice {
            default,
            options: options.iter().map(|(name, _)| *name).collect(),
        };
        let value = self.value(name, kind, meaning)?;
        let chosen = options.iter().find(|(name, _)| value.as_str() == Some(*name));
        if chosen.is_none() {
            let names: Vec<String> = options
                .iter()
                .map(|(name, _)| {
                    let note = if default == Some(*name) {
                        " (the default)"
                    } else {
                        ""
                    };
                    format!("{name:?}{note}")
                })
                .collect();
            let shown = excerpt(value);
            self.refuse(
                &[Step::Key(name)],
                format_args!("is {shown}: write {}", names.join(" or ")),
            );
        }
        chosen.map(|(_, chosen)| *chosen)
    }

    /// An object.
    pub(super) fn object<T>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        read: impl FnOnce(&mut Section<'a, '_>) -> T,
    ) -> T {
        let map = self.map_at(&[Step::Key(name)], self.map.and_then(|map| map.get(name)));
        let (value, keys) = self.inside(&[Step::Key(name)], map, read);
        self.keys.known.push(Key {
            name: Name::Is(name),
            kind: Kind::Object(keys),
            meaning,
        });
        value
    }

    /// An object that holds objects by name. What `read` returns `None` for is left out.
    pub(super) fn by_name<T>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        read: impl Fn(&str, &mut Section<'a, '_>) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let mut entries = BTreeMap::new();
        let map = self.map_at(&[Step::Key(name)], self.map.and_then(|map| map.get(name)));
        for (entry, value) in map.into_iter().flatten() {
            let steps = [Step::Key(name), Step::Key(entry)];
            let map = self.map_at(&steps, Some(value));
            let (value, _) = self.inside(&steps, map, |section| read(entry, section));
            entries.extend(value.map(|value| (entry.clone(), value)));
        }
        let keys = Section::read(Vec::new(), None, &mut Report::default(), |section| {
            read("", section)
        })
        .1;
        self.keys.known.push(Key {
            name: Name::Is(name),
            kind: Kind::ByName(keys),
            meaning,
        });
        entries
    }

    /// Reads an object somewhere inside of this one.
    pub(super) fn inside<T>(
        &mut self,
        steps: &[Step<'a>],
        map: Option<&'a Map<String, Value>>,
        read: impl FnOnce(&mut Section<'a, '_>) -> T,
    ) -> (T, Keys) {
        let path = self.path.iter().chain(steps).copied().collect();
        Section::read(path, map, self.report, read)
    }

    /// A value as an object; nothing if it is not set.
    pub(super) fn map_at(
        &mut self,
        steps: &[Step<'a>],
        value: Option<&'a Value>,
    ) -> Option<&'a Map<String, Value>> {
        match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => {
                self.refuse(steps, format_args!("is {}, not an object", kind(other)));
                None
            }
        }
    }

    /// A key that has no effect here and is no mistake.
    pub(super) fn accept(&mut self, name: &'static str, meaning: &'static str) {
        self.value(name, Kind::Unread { warned: false }, meaning);
    }

    /// A key of sosw that has no effect here, which a warning says.
    pub(super) fn of_sosw(&mut self, name: &'static str, meaning: &'static str) {
        self.all_of_sosw(Name::Is(name), meaning);
    }

    /// All keys of sosw with such a name.
    pub(super) fn all_of_sosw(&mut self, name: Name, meaning: &'static str) {
        let keys = self.map.into_iter().flat_map(Map::keys);
        for key in keys.filter(|key| name.fits(key)) {
            self.warn(WarningKind::IgnoredKey, &[Step::Key(key)], || {
                format!("`{}` means something to sosw and nothing here", shorten(key))
            });
        }
        self.keys.known.push(Key {
            name,
            kind: Kind::Unread { warned: true },
            meaning,
        });
    }

    /// A key of sosw that has no effect here, where the caller has something to say of it.
    pub(super) fn look_at_sosws(&mut self, name: &'static str, meaning: &'static str) -> Option<&'a Value> {
        self.value(name, Kind::Unread { warned: true }, meaning)
    }
}

/// A number, or text of its digits, that is finite.
pub(super) fn decimal(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        // sosw's table of configurations keeps numbers as text.
        Value::String(text) if is_decimal(text) => text.parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite())
}

/// Which texts [`decimal`] takes, as a regular expression.
pub(super) const DECIMAL: &str = "^-?[0-9]+([.][0-9]+)?$";

/// Whether a text is one of [`DECIMAL`].
fn is_decimal(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    digits(whole) && digits(fraction)
}
