//! Splitting: a job becomes a tree of serialized pieces, and the tree becomes rows, one at a time.
//!
//! Three passes, each over the whole job once: `inspect` checks every reachable branch and decides where the job
//! must be split; `Compiler` serializes each piece of the job once and counts; [`Rows`] puts pieces together. So a row
//! costs a few copies of bytes, however deep it lies, and the number of rows is known before the first one is made.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, excerpt, shorten};
use crate::event::MAX_WARNINGS;
use crate::job::{looks_like_flag, read_batch_size, read_switch};
use crate::json::{is_empty, is_scalar, kind, write, write_text};
use crate::schema::{Attribute, Meaning, Schema, Spelling};

/// A job, ready to be written as rows.
#[derive(Debug)]
pub struct Chunks {
    root: Node,
    /// What each date adds to a row: `"date_list":["2024-03-05"],`. One empty piece if there are no dates; none if the
    /// job has no rows at all.
    dates: Vec<Box<[u8]>>,
    /// For each level, `"sections":[`.
    openings: Vec<Box<[u8]>>,
    /// How every row ends: `"labourer_id":"f"}`.
    ending: Box<[u8]>,
    rows: u64,
    bytes: u64,
    longest: u64,
    levels: Vec<Level>,
}

/// What splitting did at one level, for one date.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Level {
    /// Values of this attribute that were split.
    pub values: u64,
    /// Rows that end at this level: each names one batch of its values, and none of a deeper level.
    pub rows: u64,
}

/// One place in the tree: what it adds to a row, and what hangs below.
#[derive(Debug)]
struct Node {
    /// Serialized members, each with a comma behind it: `"stores":["x"],"k":5,`.
    members: Box<[u8]>,
    /// Where the members end and how long their keys are; empty for a node without descendants.
    index: Box<[Member]>,
    /// Serialized keys of members further out that give way to this node. Nearly always empty.
    shadows: Box<[Box<[u8]>]>,
    body: Body,
    rows: u64,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    key: u32,
    end: u32,
}

#[derive(Debug)]
enum Body {
    /// One row, ending here.
    Row,
    /// Several pieces, in order.
    Parts(Box<[Part]>),
}

#[derive(Debug)]
enum Part {
    /// Rows that name a batch of values each.
    Batches {
        level: usize,
        /// All values, serialized, with commas between them.
        values: Box<[u8]>,
        /// Where each batch ends; the next one begins behind the comma.
        ends: Box<[u32]>,
    },
    /// One node for each value.
    Entries(Box<[Node]>),
}

/// What a job says of its dates, after they were worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dates {
    /// It has none, or keeps them as payload.
    Untouched,
    /// All of them in every row.
    Together(Vec<String>),
    /// Each on its own.
    Each(Vec<String>),
}

impl Dates {
    fn pieces(&self) -> Vec<Box<[u8]>> {
        let piece = |dates: &[String]| {
            let mut piece = b"\"date_list\":[".to_vec();
            for (at, date) in dates.iter().enumerate() {
                if at > 0 {
                    piece.push(b',');
                }
                write_text(date, &mut piece);
            }
            piece.extend_from_slice(b"],");
            piece.into_boxed_slice()
        };
        match self {
            Self::Untouched => vec![Box::default()],
            Self::Together(dates) => vec![piece(dates)],
            Self::Each(dates) => dates
                .iter()
                .map(|date| piece(std::slice::from_ref(date)))
                .collect(),
        }
    }
}

/// A branch of a job that was checked: the root, or an object that is the value of an entry.
#[derive(Debug)]
pub(crate) struct Branch<'a> {
    object: &'a Map<String, Value>,
    /// The key and the value of this level's attribute, unless there is none or it is empty.
    values: Option<(&'a str, &'a Value)>,
    /// Whether this level must be split here.
    pub(crate) must_split: bool,
    /// Bounds on batches that are set in this very branch: attribute, spelling, size.
    batch_sizes: Vec<(usize, Spelling, u64)>,
    /// The branches one level down, in the order of the values.
    children: Vec<Branch<'a>>,
}

/// What [`inspect`] found.
#[derive(Debug)]
pub(crate) struct Inspected<'a> {
    pub(crate) root: Branch<'a>,
    /// Where a branch below the root has a `date_list` of its own.
    pub(crate) inner_date_list: Option<String>,
    pub(crate) warnings: Vec<String>,
}

/// For one attribute, whether each of its four flags is in effect further out; `None`: not there.
type Laid = [Option<bool>; 4];

const fn slot(max: bool, spelling: Spelling) -> usize {
    match (max, spelling) {
        (false, Spelling::Plural) => 0,
        (false, Spelling::Singular) => 1,
        (true, Spelling::Plural) => 2,
        (true, Spelling::Singular) => 3,
    }
}

struct Inspector<'a> {
    schema: &'a Schema,
    path: Vec<&'a str>,
    inner_date_list: Option<String>,
    warnings: Vec<String>,
    warned: std::collections::HashSet<&'a str>,
}

/// Checks the root and every reachable branch, and decides where the job must be split.
///
/// # Errors
/// `InvalidJob`: a reserved name, a flag that can't be read, values under both spellings of an attribute.
pub(crate) fn inspect<'a>(schema: &'a Schema, job: &'a Map<String, Value>) -> Result<Inspected<'a>, Error> {
    let mut inspector = Inspector {
        schema,
        path: Vec::new(),
        inner_date_list: None,
        warnings: Vec::new(),
        warned: std::collections::HashSet::new(),
    };
    let laid = vec![Laid::default(); schema.attributes.len()];
    let root = inspector.branch(job, 0, &laid)?;
    Ok(Inspected {
        root,
        inner_date_list: inspector.inner_date_list,
        warnings: inspector.warnings,
    })
}

/// `sections.a.stores`: where in the job something stands.
fn join(path: &[&str], key: &str) -> String {
    let mut text = String::new();
    for part in path {
        text.push_str(&shorten(part));
        text.push('.');
    }
    text.push_str(&shorten(key));
    text
}

impl<'a> Inspector<'a> {
    fn branch(
        &mut self,
        object: &'a Map<String, Value>,
        level: usize,
        outer: &[Laid],
    ) -> Result<Branch<'a>, Error> {
        let mut own: Vec<(usize, usize, bool)> = Vec::new();
        let mut batch_sizes = Vec::new();
        for (key, value) in object {
            match self.schema.meanings.get(key) {
                Some(Meaning::Reserved) => {
                    return Err(Error::job(format!(
                        "`{}` is a name that tasks use themselves: rename it",
                        join(&self.path, key)
                    )));
                }
                Some(Meaning::Isolate(attribute, spelling)) => {
                    let set = read_switch(|| join(&self.path, key), value)?;
                    own.push((*attribute, slot(false, *spelling), set == Some(true)));
                }
                Some(Meaning::Max(attribute, spelling)) => {
                    let size = read_batch_size(|| join(&self.path, key), value)?;
                    own.push((*attribute, slot(true, *spelling), size.is_some()));
                    batch_sizes.extend(size.map(|size| (*attribute, *spelling, size)));
                }
                Some(Meaning::DateList) if !self.path.is_empty() && self.inner_date_list.is_none() => {
                    self.inner_date_list = Some(join(&self.path, key));
                }
                Some(Meaning::DateList) => {}
                None => self.warn_of(key),
            }
        }
        let merged: Vec<Laid>;
        let laid = if own.is_empty() {
            outer
        } else {
            let mut flags = outer.to_vec();
            for (attribute, slot, set) in own {
                // What stands further out wins, key by key, whatever its value.
                if let Some(place) = flags.get_mut(attribute).and_then(|laid| laid.get_mut(slot)) {
                    place.get_or_insert(set);
                }
            }
            merged = flags;
            &merged
        };
        let Some(attribute) = self.schema.attributes.get(level) else {
            return Ok(Branch {
                object,
                values: None,
                must_split: false,
                batch_sizes,
                children: Vec::new(),
            });
        };
        let values = self.values(object, attribute)?;
        let mut children = Vec::new();
        if let Some((key, value)) = values {
            self.path.push(key);
            for item in items(value) {
                for (name, entry) in item.as_object().into_iter().flatten() {
                    if let Value::Object(object) = entry {
                        self.path.push(name);
                        children.push(self.branch(object, level + 1, laid)?);
                        self.path.pop();
                    }
                }
            }
            self.path.pop();
        }
        let asked = laid.get(level).is_some_and(|flags| flags.contains(&Some(true)));
        let must_split = asked || children.iter().any(|child| child.must_split);
        Ok(Branch {
            object,
            values,
            must_split,
            batch_sizes,
            children,
        })
    }

    fn values(
        &self,
        object: &'a Map<String, Value>,
        attribute: &'a Attribute,
    ) -> Result<Option<(&'a str, &'a Value)>, Error> {
        let find = |key: &'a str| {
            object
                .get(key)
                .filter(|value| !is_empty(value))
                .map(|value| (key, value))
        };
        match (find(&attribute.plural), find(&attribute.name)) {
            (Some((plural, _)), Some((name, _))) => Err(Error::job(format!(
                "`{}` and `{name}` both hold values: keep them under one of the two",
                join(&self.path, plural)
            ))),
            (plural, name) => Ok(plural.or(name)),
        }
    }

    fn warn_of(&mut self, key: &'a str) {
        let known = key == "isolate_days" && self.path.is_empty();
        if looks_like_flag(key) && !known && self.warnings.len() < MAX_WARNINGS && self.warned.insert(key) {
            self.warnings.push(format!(
                "`{}` looks like a flag, but schema `{}` has no such attribute: it is payload",
                join(&self.path, key),
                self.schema.name
            ));
        }
    }
}

/// A list is its items, anything else one item.
fn items(value: &Value) -> std::slice::Iter<'_, Value> {
    match value {
        Value::Array(items) => items.iter(),
        other => std::slice::from_ref(other).iter(),
    }
}

/// What is to be compiled beside the branches.
pub(crate) struct Order<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) labourer_id: &'a str,
    pub(crate) dates: Dates,
    /// Keys of the root that stand in no row.
    pub(crate) taken_out: &'a [&'a str],
    /// Split the root by attributes; else they stay as they are.
    pub(crate) split: bool,
}

impl Chunks {
    /// Compiles a job.
    ///
    /// # Errors
    /// `InvalidJob`: values that can't be split as the job asks.
    pub(crate) fn compile<'a>(order: Order<'a>, root: Branch<'a>) -> Result<Self, Error> {
        let mut ending = b"\"labourer_id\":".to_vec();
        write_text(order.labourer_id, &mut ending);
        ending.push(b'}');
        let openings: Vec<Box<[u8]>> = order
            .schema
            .attributes
            .iter()
            .map(|attribute| {
                let mut opening = Vec::new();
                write_text(&attribute.plural, &mut opening);
                opening.extend_from_slice(b":[");
                opening.into_boxed_slice()
            })
            .collect();
        let pieces = order.dates.pieces();
        let mut compiler = Compiler {
            attributes: &order.schema.attributes,
            openings: &openings,
            // The opening brace, the ending, the line feed.
            around: ending.len() as u64 + 2,
            scope: HashMap::new(),
            base: 0,
            nearest: vec![None; order.schema.attributes.len()],
            path: Vec::new(),
            bytes: 0,
            longest: 0,
            levels: vec![Level::default(); order.schema.attributes.len()],
        };
        let root = if order.split {
            compiler.root(root, order.taken_out)?
        } else {
            let members = root
                .object
                .iter()
                .filter(|(key, _)| !order.taken_out.contains(&key.as_str()));
            let mut layer = Layer::default();
            members.for_each(|(key, value)| compiler.lay(&mut layer, key, |out| write(value, out)));
            compiler.count_row();
            layer.node(Body::Row, 1)?
        };
        let (per_date, longest, levels) = (compiler.bytes, compiler.longest, compiler.levels);
        let count = pieces.len() as u64;
        let in_dates: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let longest_date = pieces.iter().map(|piece| piece.len() as u64).max().unwrap_or(0);
        Ok(Self {
            rows: root.rows.saturating_mul(count),
            bytes: per_date
                .saturating_mul(count)
                .saturating_add(root.rows.saturating_mul(in_dates)),
            longest: if root.rows == 0 {
                0
            } else {
                longest + longest_date - 1
            },
            dates: if root.rows == 0 { Vec::new() } else { pieces },
            root,
            openings,
            ending: ending.into_boxed_slice(),
            levels,
        })
    }

    /// How many rows there are.
    pub const fn row_count(&self) -> u64 {
        self.rows
    }

    /// How many rows there are for each date (or without dates).
    pub const fn rows_per_date(&self) -> u64 {
        self.root.rows
    }

    /// How many bytes the rows have, a line feed behind each.
    pub const fn byte_count(&self) -> u64 {
        self.bytes
    }

    /// The length of the longest row in bytes, without its line feed.
    pub const fn longest_row(&self) -> u64 {
        self.longest
    }

    /// What happened at each level, outermost first, for one date.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The rows, in order.
    pub fn rows(&self) -> Rows<'_> {
        self.rows_from(0)
    }

    /// The rows from row `first` on, counted from 0, without making those before it.
    pub fn rows_from(&self, first: u64) -> Rows<'_> {
        let mut rows = Rows {
            chunks: self,
            buffer: Vec::with_capacity(1024),
            frames: Vec::new(),
            next_date: 0,
            remaining: self.rows.saturating_sub(first),
        };
        if let Some(date) = first.checked_div(self.root.rows)
            && rows.remaining > 0
        {
            rows.next_date = usize::try_from(date).unwrap_or(usize::MAX);
            rows.begin_date();
            rows.pass_over(first % self.root.rows);
        } else {
            rows.next_date = self.dates.len();
        }
        rows
    }
}

/// A node being put together.
#[derive(Default)]
struct Layer<'a> {
    members: Vec<u8>,
    index: Vec<(usize, usize)>,
    shadows: Vec<Box<[u8]>>,
    /// What the scope held before: to be restored when the compiler leaves the node.
    undo: Vec<(&'a str, Option<u64>)>,
}

impl Layer<'_> {
    fn node(self, body: Body, rows: u64) -> Result<Node, Error> {
        let narrow = |at: usize| u32::try_from(at).map_err(|_| too_large());
        let index = match body {
            // Nothing below it will ever ask where its members are.
            Body::Row => Box::default(),
            Body::Parts(_) => self
                .index
                .iter()
                .map(|(key, end)| {
                    Ok(Member {
                        key: narrow(*key)?,
                        end: narrow(*end)?,
                    })
                })
                .collect::<Result<_, Error>>()?,
        };
        Ok(Node {
            members: self.members.into_boxed_slice(),
            index,
            shadows: self.shadows.into_boxed_slice(),
            body,
            rows,
        })
    }
}

fn too_large() -> Error {
    Error::new(
        ErrorKind::TaskTooLarge,
        "the job holds more than 4 GiB in one place: split it into several jobs",
    )
}

struct Compiler<'a, 's> {
    attributes: &'a [Attribute],
    openings: &'s [Box<[u8]>],
    /// Bytes of a row that are in none of its members.
    around: u64,
    /// The keys that a row has at this point of the tree, and the bytes of each member.
    scope: HashMap<&'a str, u64>,
    /// The bytes of all of them.
    base: u64,
    /// For each attribute the nearest bound on its batches.
    nearest: Vec<Option<u64>>,
    path: Vec<&'a str>,
    bytes: u64,
    longest: u64,
    levels: Vec<Level>,
}

impl<'a> Compiler<'a, '_> {
    fn lay(&mut self, layer: &mut Layer<'a>, key: &'a str, value: impl FnOnce(&mut Vec<u8>)) {
        let start = layer.members.len();
        write_text(key, &mut layer.members);
        let key_end = layer.members.len();
        layer.members.push(b':');
        value(&mut layer.members);
        layer.members.push(b',');
        let length = (layer.members.len() - start) as u64;
        layer.index.push((key_end - start, layer.members.len()));
        let before = self.scope.insert(key, length);
        if let Some(before) = before {
            self.base -= before;
            layer
                .shadows
                .extend(layer.members.get(start..key_end).map(Box::from));
        }
        self.base += length;
        layer.undo.push((key, before));
    }

    /// A member that was inherited gives way.
    fn give_way(&mut self, layer: &mut Layer<'a>, key: &'a str) {
        if let Some(before) = self.scope.remove(key) {
            self.base -= before;
            let mut text = Vec::new();
            write_text(key, &mut text);
            layer.shadows.push(text.into_boxed_slice());
            layer.undo.push((key, Some(before)));
        }
    }

    fn restore(&mut self, layer: &mut Layer<'a>) {
        while let Some((key, before)) = layer.undo.pop() {
            let now = match before {
                Some(length) => self.scope.insert(key, length),
                None => self.scope.remove(key),
            };
            self.base = self.base - now.unwrap_or(0) + before.unwrap_or(0);
        }
    }

    fn count_row(&mut self) {
        self.count_rows(1, 0, 0);
    }

    /// `rows` rows at this point of the tree, with `extra` bytes among them, at most `longest_extra` in one.
    fn count_rows(&mut self, rows: u64, extra: u64, longest_extra: u64) {
        let plain = self.base + self.around;
        self.bytes = self
            .bytes
            .saturating_add(rows.saturating_mul(plain))
            .saturating_add(extra);
        self.longest = self.longest.max(plain + longest_extra);
    }

    fn root(&mut self, branch: Branch<'a>, taken_out: &[&str]) -> Result<Node, Error> {
        let Some(attribute) = self.attributes.first() else {
            return Err(Error::job("the schema has no attributes to split by"));
        };
        if branch.values.is_none() {
            let Attribute { name, plural } = attribute;
            if !branch.object.contains_key(plural) && !branch.object.contains_key(name) {
                return Err(Error::job(format!(
                    "`{plural}` is to be split, but the job has none: add `{plural}`, or take the flag away"
                )));
            }
            // Present and empty: nothing to do.
            return Layer::default().node(Body::Parts(Box::default()), 0);
        }
        let layer = Layer::default();
        self.branch(layer, branch, 0, taken_out)
    }

    /// The node of a branch at `level`; `layer` already holds the name of its value one level up, if any.
    fn branch(
        &mut self,
        mut layer: Layer<'a>,
        branch: Branch<'a>,
        level: usize,
        taken_out: &[&str],
    ) -> Result<Node, Error> {
        let attribute = self.attributes.get(level);
        if let (Some(attribute), Some(_)) = (attribute, branch.values) {
            self.give_way(&mut layer, &attribute.plural);
            self.give_way(&mut layer, &attribute.name);
        }
        for (key, value) in branch.object {
            let own = attribute.is_some_and(|attribute| *key == attribute.plural || *key == attribute.name);
            if !own && !taken_out.contains(&key.as_str()) {
                self.lay(&mut layer, key, |out| write(value, out));
            }
        }
        match (attribute, branch.values) {
            (Some(attribute), Some((key, value))) if branch.must_split => {
                let saved = self.nearest.clone();
                // The singular first, so that the plural of the same branch has the last word.
                for wanted in [Spelling::Singular, Spelling::Plural] {
                    for (at, spelling, size) in &branch.batch_sizes {
                        if *spelling == wanted
                            && let Some(nearest) = self.nearest.get_mut(*at)
                        {
                            *nearest = Some(*size);
                        }
                    }
                }
                self.path.push(key);
                let (parts, rows) = self.parts(attribute, value, branch.children, level)?;
                self.path.pop();
                self.nearest = saved;
                self.restore(&mut layer);
                layer.node(Body::Parts(parts.into_boxed_slice()), rows)
            }
            (attribute, values) => {
                if let (Some(attribute), Some((key, value))) = (attribute, values) {
                    self.lay_unsplit(&mut layer, attribute, key, value);
                }
                self.end_row(level);
                self.restore(&mut layer);
                layer.node(Body::Row, 1)
            }
        }
    }

    /// Counts a row that ends in a branch at `level`: it names a value one level up.
    fn end_row(&mut self, level: usize) {
        self.count_row();
        if let Some(above) = level.checked_sub(1).and_then(|above| self.levels.get_mut(above)) {
            above.rows += 1;
        }
    }

    fn lay_unsplit(
        &mut self,
        layer: &mut Layer<'a>,
        attribute: &'a Attribute,
        key: &'a str,
        value: &'a Value,
    ) {
        match value {
            Value::Array(items) if items.iter().all(is_scalar) => {
                self.lay(layer, &attribute.plural, |out| write(value, out));
            }
            Value::Object(map) if map.values().all(Value::is_null) => {
                self.lay(layer, &attribute.plural, |out| {
                    out.push(b'[');
                    for (at, name) in map.keys().enumerate() {
                        if at > 0 {
                            out.push(b',');
                        }
                        write_text(name, out);
                    }
                    out.push(b']');
                });
            }
            other => self.lay(layer, key, |out| write(other, out)),
        }
    }

    fn parts(
        &mut self,
        attribute: &'a Attribute,
        value: &'a Value,
        children: Vec<Branch<'a>>,
        level: usize,
    ) -> Result<(Vec<Part>, u64), Error> {
        let mut children = children.into_iter();
        let mut parts = Vec::new();
        let mut rows = 0_u64;
        if items(value).all(is_scalar) {
            let (part, count) = self.batches(level, items(value), write)?;
            return Ok((vec![part], count));
        }
        for item in items(value) {
            let Value::Object(map) = item else {
                return Err(Error::job(format!(
                    "`{}` mixes {} with objects: write either names (text, numbers, true or false) or objects whose \
                     keys are the names",
                    self.here(),
                    excerpt(item)
                )));
            };
            let (part, count) = if map.values().all(Value::is_null) {
                self.batches(level, map.keys(), |name: &String, out| write_text(name, out))?
            } else {
                let mut nodes = Vec::with_capacity(map.len());
                for (name, entry) in map {
                    nodes.push(self.entry(attribute, name, entry, &mut children, level)?);
                }
                let count = nodes
                    .iter()
                    .fold(0_u64, |sum, node| sum.saturating_add(node.rows));
                (Part::Entries(nodes.into_boxed_slice()), count)
            };
            parts.push(part);
            rows = rows.saturating_add(count);
        }
        Ok((parts, rows))
    }

    fn entry(
        &mut self,
        attribute: &'a Attribute,
        name: &'a str,
        entry: &'a Value,
        children: &mut std::vec::IntoIter<Branch<'a>>,
        level: usize,
    ) -> Result<Node, Error> {
        let mut layer = Layer::default();
        self.lay(&mut layer, &attribute.plural, |out| {
            out.push(b'[');
            write_text(name, out);
            out.push(b']');
        });
        if let Some(level) = self.levels.get_mut(level) {
            level.values += 1;
        }
        match (
            entry,
            matches!(entry, Value::Object(_))
                .then(|| children.next())
                .flatten(),
        ) {
            (Value::Null, _) => {
                self.end_row(level + 1);
                self.restore(&mut layer);
                layer.node(Body::Row, 1)
            }
            (Value::Object(object), Some(branch)) => {
                for key in [&attribute.plural, &attribute.name] {
                    if object.contains_key(key) {
                        return Err(Error::job(format!(
                            "`{}.{}.{key}` names its own level again: take it out, the value is called {:?} already",
                            self.here(),
                            shorten(name),
                            shorten(name)
                        )));
                    }
                }
                self.path.push(name);
                let node = self.branch(layer, branch, level + 1, &[])?;
                self.path.pop();
                Ok(node)
            }
            _ => Err(Error::job(format!(
                "`{}.{}` is {} ({}): to be split, a value is null or an object",
                self.here(),
                shorten(name),
                kind(entry),
                excerpt(entry)
            ))),
        }
    }

    fn batches<T>(
        &mut self,
        level: usize,
        values: impl ExactSizeIterator<Item = T>,
        write_one: impl Fn(T, &mut Vec<u8>),
    ) -> Result<(Part, u64), Error> {
        let count = values.len();
        let size = self.nearest.get(level).copied().flatten().unwrap_or(1);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let mut text = Vec::new();
        let mut ends = Vec::with_capacity(count.div_ceil(size));
        let (mut batch_start, mut longest, mut in_batches) = (0, 0, 0);
        for (at, value) in values.enumerate() {
            if at > 0 {
                text.push(b',');
                if at % size == 0 {
                    batch_start = text.len();
                }
            }
            write_one(value, &mut text);
            if (at + 1) % size == 0 || at + 1 == count {
                ends.push(u32::try_from(text.len()).map_err(|_| too_large())?);
                longest = longest.max(text.len() - batch_start);
                in_batches += text.len() - batch_start;
            }
        }
        let rows = ends.len() as u64;
        // The opening `"sections":[`, and `],` behind the values.
        let around = self.openings.get(level).map_or(0, |opening| opening.len() as u64) + 2;
        if rows > 0 {
            self.count_rows(
                rows,
                rows.saturating_mul(around) + in_batches as u64,
                around + longest as u64,
            );
        }
        if let Some(level) = self.levels.get_mut(level) {
            level.values += count as u64;
            level.rows += rows;
        }
        Ok((
            Part::Batches {
                level,
                values: text.into_boxed_slice(),
                ends: ends.into_boxed_slice(),
            },
            rows,
        ))
    }

    fn here(&self) -> String {
        match self.path.split_last() {
            Some((last, path)) => join(path, last),
            None => String::new(),
        }
    }
}

/// The rows of a job, made one at a time. Each is a JSON object; its last member is `labourer_id`.
///
/// [`Rows::next_row`] lends each row without copying it; the `Iterator` gives copies.
#[derive(Debug)]
pub struct Rows<'a> {
    chunks: &'a Chunks,
    /// What the frames have in common, then the rest of the row that was lent last.
    buffer: Vec<u8>,
    frames: Vec<Frame<'a>>,
    next_date: usize,
    remaining: u64,
}

#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    node: &'a Node,
    /// Where in the buffer the rows of this node begin, and where what they have in common ends.
    start: usize,
    end: usize,
    part: usize,
    next: usize,
}

impl<'a> Rows<'a> {
    /// The next row, without a line feed; `None` after the last one.
    pub fn next_row(&mut self) -> Option<&[u8]> {
        loop {
            let Some(frame) = self.frames.last_mut() else {
                if self.next_date >= self.chunks.dates.len() {
                    return None;
                }
                self.begin_date();
                continue;
            };
            let (start, end) = (frame.start, frame.end);
            match &frame.node.body {
                Body::Row => {
                    self.frames.pop();
                    self.buffer.truncate(end);
                    return Some(self.finish(start));
                }
                Body::Parts(parts) => match parts.get(frame.part) {
                    None => {
                        self.frames.pop();
                    }
                    Some(Part::Batches { level, values, ends }) => {
                        let Some(batch_end) = ends.get(frame.next) else {
                            frame.part += 1;
                            frame.next = 0;
                            continue;
                        };
                        let from = match frame.next.checked_sub(1).and_then(|before| ends.get(before)) {
                            Some(before) => *before as usize + 1,
                            None => 0,
                        };
                        frame.next += 1;
                        self.buffer.truncate(end);
                        self.buffer
                            .extend_from_slice(self.chunks.openings.get(*level).map_or(&[], |text| text));
                        self.buffer
                            .extend_from_slice(values.get(from..*batch_end as usize).unwrap_or_default());
                        self.buffer.extend_from_slice(b"],");
                        return Some(self.finish(start));
                    }
                    Some(Part::Entries(nodes)) => {
                        let Some(node) = nodes.get(frame.next) else {
                            frame.part += 1;
                            frame.next = 0;
                            continue;
                        };
                        frame.next += 1;
                        self.buffer.truncate(end);
                        self.enter(node);
                    }
                },
            }
        }
    }

    /// How many rows are still to come.
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }

    fn finish(&mut self, start: usize) -> &[u8] {
        self.remaining = self.remaining.saturating_sub(1);
        self.buffer.extend_from_slice(&self.chunks.ending);
        self.buffer.get(start..).unwrap_or_default()
    }

    fn begin_date(&mut self) {
        self.frames.clear();
        self.buffer.clear();
        self.buffer.push(b'{');
        self.buffer
            .extend_from_slice(self.chunks.dates.get(self.next_date).map_or(&[], |piece| piece));
        self.next_date += 1;
        self.enter(&self.chunks.root);
    }

    /// Goes one node down; the buffer ends where the frame above ends.
    fn enter(&mut self, node: &'a Node) {
        let mut start = self.frames.last().map_or(0, |frame| frame.start);
        if !node.shadows.is_empty() {
            start = self.buffer.len();
            self.copy_without(&node.shadows);
        }
        self.buffer.extend_from_slice(&node.members);
        self.frames.push(Frame {
            node,
            start,
            end: self.buffer.len(),
            part: 0,
            next: 0,
        });
    }

    /// Begins the row anew behind what is there, without the members that give way.
    fn copy_without(&mut self, shadows: &[Box<[u8]>]) {
        self.buffer.push(b'{');
        let date = self.next_date.saturating_sub(1);
        self.buffer
            .extend_from_slice(self.chunks.dates.get(date).map_or(&[], |piece| piece));
        for (at, frame) in self.frames.iter().enumerate() {
            let mut from = 0;
            for member in &frame.node.index {
                let text = frame
                    .node
                    .members
                    .get(from..member.end as usize)
                    .unwrap_or_default();
                let key = text.get(..member.key as usize).unwrap_or_default();
                from = member.end as usize;
                let later = self
                    .frames
                    .iter()
                    .skip(at + 1)
                    .flat_map(|frame| frame.node.shadows.iter());
                if !later.chain(shadows).any(|shadow| **shadow == *key) {
                    self.buffer.extend_from_slice(text);
                }
            }
        }
    }

    /// Passes over `rows` rows of the date that has just begun.
    fn pass_over(&mut self, mut rows: u64) {
        while rows > 0 {
            let Some(frame) = self.frames.last_mut() else {
                return;
            };
            let Body::Parts(parts) = &frame.node.body else {
                return;
            };
            match parts.get(frame.part) {
                None => return,
                Some(Part::Batches { ends, .. }) => {
                    let here = usize::try_from(rows).unwrap_or(usize::MAX).min(ends.len());
                    rows -= here as u64;
                    frame.next = here;
                    if here == ends.len() {
                        frame.part += 1;
                        frame.next = 0;
                    }
                }
                Some(Part::Entries(nodes)) => match nodes.get(frame.next) {
                    None => {
                        frame.part += 1;
                        frame.next = 0;
                    }
                    Some(node) => {
                        frame.next += 1;
                        if node.rows <= rows {
                            rows -= node.rows;
                        } else {
                            self.buffer.truncate(frame.end);
                            self.enter(node);
                        }
                    }
                },
            }
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.next_row().map(<[u8]>::to_vec)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let exact = usize::try_from(self.remaining).ok();
        (exact.unwrap_or(usize::MAX), exact)
    }
}
