//! What a job says that is probably not what was meant. A look at the finished plan: it changes no row and refuses
//! nothing; whoever wants no warnings has them refused afterwards.

mod dates;
pub(crate) mod elsewhere;
mod names;
mod values;

use std::collections::HashSet;

use crate::error::{excerpt_of, shorten};
use crate::job::fields::{looks_like_flag, read_batch_size, read_switch};
use crate::job::review::names::Names;
use crate::job::schema::{Attribute, Meaning, Schema, Spelling};
use crate::json::View;
use crate::warning::{Document as Subject, Step, WarningKind, Warnings, json_path};

/// A job that was planned, and what the plan made of it.
pub(crate) struct Planned<'a> {
    pub(crate) schema: &'a Schema,
    /// Without its `lambda_name`.
    pub(crate) job: View<'a>,
    /// Whether it is split by attributes.
    pub(crate) split: bool,
    /// Whether its dates are read: it is split, by attributes or by dates, or the schema always expands periods.
    pub(crate) dates_read: bool,
    pub(crate) isolate_days: bool,
    /// Whether it has a period, or a list of dates that can be isolated.
    pub(crate) has_dates: bool,
}

/// Adds what there is to warn of.
pub(crate) fn review(planned: &Planned<'_>, warnings: &mut Warnings) {
    let mut reviewer = Reviewer {
        schema: planned.schema,
        names: Names::of(planned.schema),
        room: Vec::new(),
        alike: Vec::new(),
        path: Vec::new(),
        warnings,
    };
    reviewer.root(planned);
    reviewer.branch(planned.job, 0, Flags::default());
}

struct Reviewer<'a, 'w> {
    schema: &'a Schema,
    names: Names<'a>,
    /// Memory that is used again.
    room: Vec<u64>,
    /// For each level the keys of the branch seen last, and what they are: branches of one level are mostly alike.
    alike: Vec<Vec<(&'a str, Class)>>,
    /// Where the reviewer is.
    path: Vec<Step<'a>>,
    warnings: &'w mut Warnings,
}

/// The keys of a branch that are remembered.
const MAX_ALIKE: usize = 32;

/// The keys of an object, gathered when the first is asked for.
struct Keys<'a> {
    object: View<'a>,
    gathered: Option<HashSet<&'a str>>,
}

impl<'a> Keys<'a> {
    const fn of(object: View<'a>) -> Self {
        Self {
            object,
            gathered: None,
        }
    }

    fn have(&mut self, key: &str) -> bool {
        let object = self.object;
        self.gathered
            .get_or_insert_with(|| object.members().map(|(key, _)| key).collect())
            .contains(key)
    }
}

/// What a key is, as far as it tells what to look at.
#[derive(Debug, Clone, Copy)]
enum Class {
    /// Values of the level.
    Values,
    /// Payload of which there is nothing to say.
    Quiet,
    /// Something that the schema knows.
    Known(Meaning),
    /// Something of which there is perhaps something to say.
    Odd,
}

/// A set of flags: four for each of at most 32 attributes.
#[derive(Debug, Default, Clone, Copy)]
struct Flags(u128);

impl Flags {
    fn bit(flag: &Flag<'_>) -> u128 {
        let spelling = match flag.spelling {
            Spelling::Plural => 0,
            Spelling::Singular => 1,
        };
        1 << (flag.attribute * 4 + usize::from(flag.is_size) * 2 + spelling)
    }

    fn with(self, flag: &Flag<'_>) -> Self {
        Self(self.0 | Self::bit(flag))
    }

    fn has(self, flag: &Flag<'_>) -> bool {
        self.0 & Self::bit(flag) != 0
    }
}

/// A set of levels: at most 32.
#[derive(Debug, Default, Clone, Copy)]
struct Levels(u32);

impl Levels {
    const fn one(level: usize) -> Self {
        Self(1 << level)
    }

    /// That level and all that are further in.
    const fn from(level: usize) -> Self {
        Self(u32::MAX << level)
    }

    const fn has(self, level: usize) -> bool {
        self.0 & (1 << level) != 0
    }

    const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    const fn remove(&mut self, level: usize) {
        self.0 &= !(1 << level);
    }
}

/// What stands in a branch and further in.
#[derive(Debug, Default, Clone, Copy)]
struct Inside {
    /// Levels that have values, or could have some: they are there and empty.
    values: Levels,
    /// Levels that have values of which several go into a batch.
    batches: Levels,
    /// The same without those for which a size further in counts.
    open_batches: Levels,
}

impl Inside {
    /// Nothing today: what could stand there is not missed.
    const fn any_from(level: usize) -> Self {
        let levels = Levels::from(level);
        Self {
            values: levels,
            batches: levels,
            open_batches: levels,
        }
    }

    const fn add(&mut self, other: Self) {
        self.values.add(other.values);
        self.batches.add(other.batches);
        self.open_batches.add(other.open_batches);
    }
}

/// A flag as it stands in a branch.
struct Flag<'a> {
    key: &'a str,
    attribute: usize,
    spelling: Spelling,
    /// `max_..._per_batch`, not `isolate_...`.
    is_size: bool,
    /// The size of a batch, or 1 for true and 0 for false; nothing for null and "".
    setting: Option<u64>,
}

impl<'a> Flag<'a> {
    fn read(key: &'a str, value: View<'a>, meaning: Meaning) -> Option<Self> {
        let name = || key.to_owned();
        let (attribute, spelling, is_size, setting) = match meaning {
            Meaning::Isolate(attribute, spelling) => {
                let set = read_switch(name, value).ok()?;
                (attribute, spelling, false, set.map(u64::from))
            }
            Meaning::Max(attribute, spelling) => {
                (attribute, spelling, true, read_batch_size(name, value).ok()?)
            }
            Meaning::Reserved | Meaning::DateList => return None,
        };
        Some(Self {
            key,
            attribute,
            spelling,
            is_size,
            setting,
        })
    }
}

impl<'a> Reviewer<'a, '_> {
    /// Warns of a key of the branch where the reviewer is; said once for each key.
    fn warn(&mut self, kind: WarningKind, key: &'a str, sentence: impl FnOnce() -> String) {
        self.warn_at(kind, key, Some(Step::Key(key)), sentence);
    }

    /// The same with another last step of the path.
    fn warn_at(
        &mut self,
        kind: WarningKind,
        key: &str,
        step: Option<Step<'a>>,
        sentence: impl FnOnce() -> String,
    ) {
        let path = &self.path;
        self.warnings.add_once(kind, Subject::Job, key, || {
            (json_path(path.iter().copied().chain(step)), sentence())
        });
    }

    fn root(&mut self, planned: &Planned<'a>) {
        let Planned { schema, job, .. } = planned;
        self.dates_of_root(planned);
        if let Some(name) = job.get("job_schema_name").filter(|name| !name.is_empty())
            && !planned.split
            && !planned.dates_read
        {
            self.warn(WarningKind::IdleSchema, "job_schema_name", || {
                format!(
                    "`job_schema_name` is {} and has no effect, since the job is not split: {}",
                    excerpt_of(name),
                    choice_of_flags(schema),
                )
            });
        }
    }

    fn branch(&mut self, object: View<'a>, level: usize, outer: Flags) -> Inside {
        let mut flags: Vec<Flag<'a>> = Vec::new();
        let mut inside = Inside::default();
        let mut values = None;
        let mut keys = Keys::of(object);
        for (position, (key, value)) in object.members().enumerate() {
            match self.class(key, position, level) {
                Class::Quiet => {}
                Class::Values if value.is_empty() => inside.add(Inside::any_from(level)),
                Class::Values => values = Some((key, value)),
                Class::Known(Meaning::DateList) => self.list_of_dates(value),
                Class::Known(meaning) => flags.extend(Flag::read(key, value, meaning)),
                Class::Odd => self.odd(&mut keys, key, value, level),
            }
        }
        let laid = flags.iter().fold(outer, |laid, flag| laid.with(flag));
        // Only one of the two spellings holds values: that was checked.
        if let Some((key, value)) = values {
            inside.add(self.values(key, value, level, laid));
        }
        self.flags(object, level, &flags, outer, &mut inside);
        inside
    }

    /// The values of a level, and what is inside them.
    fn values(&mut self, key: &'a str, value: View<'a>, level: usize, laid: Flags) -> Inside {
        let mut inside = Inside {
            values: Levels::one(level),
            ..Inside::default()
        };
        self.duplicates(WarningKind::DuplicateValue, key, value);
        if value.is_list_of_scalars() {
            inside.batches = Levels::one(level);
            inside.open_batches = Levels::one(level);
            return inside;
        }
        let list = value.is_list();
        self.path.push(Step::Key(key));
        for (index, item) in value.items_or_itself().enumerate() {
            if !item.is_object() {
                inside.batches = Levels::one(level);
                continue;
            }
            if list {
                self.path.push(Step::Index(index));
            }
            let mut plain = true;
            for (name, entry) in item.members() {
                plain &= entry.is_null();
                if entry.is_object() {
                    self.path.push(Step::Key(name));
                    inside.add(self.branch(entry, level + 1, laid));
                    self.path.pop();
                }
            }
            if plain {
                inside.batches.add(Levels::one(level));
            }
            if list {
                self.path.pop();
            }
        }
        self.path.pop();
        if inside.batches.has(level) {
            inside.open_batches.add(Levels::one(level));
        }
        inside
    }

    /// What a key of a branch is.
    fn class(&mut self, key: &'a str, position: usize, level: usize) -> Class {
        if self.alike.len() <= level {
            self.alike.resize_with(level + 1, Vec::new);
        }
        let before = self.alike.get(level).and_then(|keys| keys.get(position));
        if let Some((_, class)) = before.filter(|(before, _)| *before == key) {
            return *class;
        }
        let attribute = self.schema.attributes.get(level);
        let class = if attribute.is_some_and(|attribute| key == attribute.plural || key == attribute.name) {
            Class::Values
        } else {
            match self.schema.meanings.get(key) {
                // The root's are looked at together with its period.
                Some(Meaning::DateList) if level == 0 => Class::Quiet,
                Some(meaning) => Class::Known(*meaning),
                None if names::OF_ROOT.contains(&key) => {
                    if level > 0 && key != "lambda_name" {
                        Class::Odd
                    } else {
                        Class::Quiet
                    }
                }
                None if looks_like_flag(key) || self.names.meant(key, level).is_some() => Class::Odd,
                None => Class::Quiet,
            }
        };
        if let Some(keys) = self.alike.get_mut(level) {
            let seen = keys.len();
            match keys.get_mut(position) {
                Some(before) => *before = (key, class),
                None if seen == position && seen < MAX_ALIKE => keys.push((key, class)),
                None => {}
            }
        }
        class
    }

    /// A key of which something may have to be said.
    fn odd(&mut self, keys: &mut Keys<'a>, key: &'a str, value: View<'a>, level: usize) {
        match key {
            "isolate_days" | "job_schema_name" => {
                self.warn(WarningKind::MisplacedKey, key, || {
                    format!("`{key}` counts only at the root of a job: move it there, here it is payload")
                });
            }
            "period" => self.period_as_payload(value),
            _ if looks_like_flag(key) => {
                let (names, schema) = (&self.names, self.schema);
                let path = &self.path;
                self.warnings
                    .add_once(WarningKind::UnknownFlag, Subject::Job, key, || {
                        let sentence = format!(
                            "`{}` looks like a flag, but schema `{}` has no such attribute{}: it is payload",
                            shorten(key),
                            shorten(&schema.name),
                            names.flag_meant(key, level),
                        );
                        (json_path(path.iter().copied().chain([Step::Key(key)])), sentence)
                    });
            }
            _ => {
                // A name beside the one it is like is hardly meant to be it.
                if let Some(known) = self.names.meant(key, level)
                    && !self.is_there(keys, known, level)
                {
                    self.warn(WarningKind::MisspeltKey, key, || {
                        format!(
                            "`{}` is payload (did you mean `{}`?)",
                            shorten(key),
                            shorten(known),
                        )
                    });
                }
            }
        }
    }

    /// Whether a known key is there, or its other spelling.
    fn is_there(&self, keys: &mut Keys<'a>, known: &str, level: usize) -> bool {
        let values = self
            .schema
            .attributes
            .get(level)
            .filter(|it| it.plural == known || it.name == known);
        match values {
            Some(Attribute { name, plural }) => keys.have(name) || keys.have(plural),
            None => keys.have(known),
        }
    }

    /// The flags of a branch, once it is known what stands inside.
    fn flags(
        &mut self,
        object: View<'a>,
        level: usize,
        flags: &[Flag<'a>],
        outer: Flags,
        inside: &mut Inside,
    ) {
        for (at, flag) in flags.iter().enumerate() {
            let twin = flags
                .iter()
                .skip(at + 1)
                .find(|twin| twin.attribute == flag.attribute && twin.is_size == flag.is_size);
            if let Some(twin) = twin {
                self.both_spellings(flag, twin);
            }
            // What stands further out under the same key decides whether to split; there it is looked at.
            if flag.setting.unwrap_or(0) == 0 || outer.has(flag) {
                continue;
            }
            if flag.attribute < level || !inside.values.has(flag.attribute) {
                self.splits_nothing(object, level, flag);
            } else if flag.is_size && !inside.open_batches.has(flag.attribute) {
                self.idle_size(flag, inside.batches.has(flag.attribute));
            }
        }
        for flag in flags {
            if flag.is_size && flag.setting.is_some() {
                inside.open_batches.remove(flag.attribute);
            }
        }
    }

    fn both_spellings(&mut self, one: &Flag<'a>, other: &Flag<'a>) {
        if one.setting.is_none() || other.setting.is_none() {
            return;
        }
        let same = one.setting == other.setting;
        if one.is_size && same {
            return;
        }
        let key = match other.spelling {
            Spelling::Singular => other.key,
            Spelling::Plural => one.key,
        };
        self.warn(WarningKind::BothSpellings, key, || {
            let consequence = match (one.is_size, same) {
                (true, _) => "the plural counts",
                (false, true) => "one is enough",
                (false, false) => "it is split if one of them says so",
            };
            format!(
                "`{}` and `{}` are two spellings of one flag: keep one of them ({consequence})",
                shorten(one.key),
                shorten(other.key),
            )
        });
    }

    fn idle_size(&mut self, flag: &Flag<'a>, sized_further_in: bool) {
        let plural = self.plural(flag.attribute);
        self.warn(WarningKind::IdleBatchSize, flag.key, || {
            let why = if sized_further_in {
                "each list of them has a nearer size, which counts more".to_owned()
            } else {
                format!("a batch holds `{plural}` that have nothing inside, and here each stands beside one that has")
            };
            format!("`{}` puts no values together: {why}", shorten(flag.key))
        });
    }

    fn splits_nothing(&mut self, object: View<'a>, level: usize, flag: &Flag<'a>) {
        let schema = self.schema;
        let path = &self.path;
        self.warnings
            .add_once(WarningKind::SplitsNothing, Subject::Job, flag.key, || {
                let here = json_path(path.iter().copied().chain([Step::Key(flag.key)]));
                let key = shorten(flag.key);
                let plural = schema
                    .attributes
                    .get(flag.attribute)
                    .map_or("", |attribute| &attribute.plural);
                if flag.attribute < level {
                    let sentence = format!(
                        "`{key}` splits nothing: it stands inside one of the `{}`, put it beside them",
                        shorten(plural)
                    );
                    return (here, sentence);
                }
                let on_the_way = schema.attributes.iter().take(flag.attribute).skip(level);
                let wanted = on_the_way
                    .flat_map(|attribute| [Step::Key(&attribute.plural), Step::Any])
                    .chain([Step::Key(plural)]);
                let wanted = json_path(path.iter().copied().chain(wanted));
                let attribute = schema.attributes.get(flag.attribute);
                let found = attribute
                    .and_then(|attribute| elsewhere::look(object, attribute))
                    .map(|found| found.sentence(path))
                    .unwrap_or_default();
                let sentence = format!(
                    "`{key}` splits nothing: values of `{}` are looked for in {wanted}, and there are none{found}",
                    shorten(plural),
                );
                (here, sentence)
            });
    }

    fn plural(&self, attribute: usize) -> String {
        let attribute = self.schema.attributes.get(attribute);
        attribute.map_or_else(String::new, |Attribute { plural, .. }| shorten(plural))
    }
}

/// What to do about a schema without effect.
fn choice_of_flags(schema: &Schema) -> String {
    let flags: Vec<String> = schema
        .attributes
        .iter()
        .take(10)
        .map(|attribute| format!("isolate_{}", shorten(&attribute.plural)))
        .collect();
    if flags.is_empty() {
        "take it out".to_owned()
    } else {
        format!("set a flag of it ({}), or take it out", flags.join(", "))
    }
}

/// The kind of a value as a sentence says it of a key that should hold a list.
fn not_a_list(value: View<'_>) -> &'static str {
    if value.is_empty() {
        "empty"
    } else {
        value.kind().name()
    }
}
