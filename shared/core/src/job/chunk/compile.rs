//! The second pass: serializes each piece of the job once, and counts rows and bytes.

use std::collections::HashMap;

use serde_json::Value;

use super::inspect::Branch;
use super::{Body, Chunks, Dates, Level, Member, Node, Part, join};
use crate::error::{Error, ErrorKind, excerpt, shorten};
use crate::job::review::elsewhere;
use crate::job::schema::{Attribute, Schema, Spelling};
use crate::json::{is_scalar, items, kind, write, write_text};

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
                    "`{plural}` is to be split, but the job has none{}: add `{plural}`, or take the flag away",
                    elsewhere::hint(branch.object, attribute)
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
                if let Some(at) = items(value).position(Value::is_null) {
                    return Err(Error::job(format!(
                        "`{}[{at}]` is null, which is no name: take it out",
                        self.here()
                    )));
                }
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
