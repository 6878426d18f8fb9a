//! The second pass: serializes each piece of the job once, and counts rows and bytes.

use super::inspect::{BatchSize, Branch, Inspected};
use super::scope::{Name, Scope};
use super::{Body, Chunks, Dates, Ends, Level, List, Member, Node, Tree, Values, join, narrow, too_large};
use crate::error::{Error, excerpt_of, shorten};
use crate::job::fields::Job;
use crate::job::review::elsewhere;
use crate::job::schema::{Attribute, Schema, Spelling};
use crate::json::{Kind, View, write_text};

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
    pub(crate) fn compile(order: Order<'_>, job: &Job, inspected: Inspected) -> Result<Self, Error> {
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
        let mut tree = Tree::default();
        // Lists that grow are copied: here is room for most jobs. What is not needed is never touched.
        tree.text
            .reserve(job.document().text_len() + inspected.branches.len() * 32);
        tree.nodes.reserve(inspected.branches.len());
        tree.lists.reserve(inspected.branches.len());
        let mut compiler = Compiler {
            branches: inspected.branches.into_iter(),
            batch_sizes: inspected.batch_sizes.into_iter(),
            tree,
            attributes: &order.schema.attributes,
            openings: &openings,
            // The opening brace, the ending, the line feed.
            around: ending.len() as u64 + 2,
            scope: Scope::new(&order.schema.attributes),
            nearest: vec![None; order.schema.attributes.len()],
            path: Vec::new(),
            rows: 0,
            bytes: 0,
            longest: 0,
            levels: vec![Level::default(); order.schema.attributes.len()],
        };
        if order.split {
            compiler.root(job.fields(), order.taken_out)?;
        } else {
            for (key, value) in job
                .fields()
                .members()
                .filter(|(key, _)| !order.taken_out.contains(key))
            {
                compiler.lay(key, |out| value.write(out))?;
            }
            compiler.count_row();
            compiler.end_node(Body::Row)?;
        }
        let Compiler {
            tree,
            bytes: per_date,
            longest,
            levels,
            ..
        } = compiler;
        let count = pieces.len() as u64;
        let in_dates: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let longest_date = pieces.iter().map(|piece| piece.len() as u64).max().unwrap_or(0);
        let rows = tree.rows();
        Ok(Self {
            document: job.document(),
            rows: rows.saturating_mul(count),
            bytes: per_date
                .saturating_mul(count)
                .saturating_add(rows.saturating_mul(in_dates)),
            longest: if rows == 0 { 0 } else { longest + longest_date - 1 },
            dates: if rows == 0 { Vec::new() } else { pieces },
            tree,
            openings,
            ending_of_list: [b"],", ending.as_slice()].concat().into_boxed_slice(),
            ending: ending.into_boxed_slice(),
            levels,
        })
    }
}

struct Compiler<'a, 's> {
    attributes: &'a [Attribute],
    openings: &'s [Box<[u8]>],
    branches: std::vec::IntoIter<Branch>,
    batch_sizes: std::vec::IntoIter<BatchSize>,
    /// Of the node that is being put together the parts are laid already; it is added before those below it.
    tree: Tree,
    /// Bytes of a row that are in none of its members.
    around: u64,
    /// The members that a row has at this point of the tree.
    scope: Scope<'a>,
    /// For each attribute the nearest bound on its batches.
    nearest: Vec<Option<u64>>,
    path: Vec<&'a str>,
    /// The rows that there are already, the bytes of all of them, and of the longest.
    rows: u64,
    bytes: u64,
    longest: u64,
    levels: Vec<Level>,
}

impl<'a> Compiler<'a, '_> {
    /// Adds a member to the node that is being put together.
    fn lay(&mut self, key: &'a str, value: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        let text = &mut self.tree.text;
        let start = text.len();
        write_text(key, text);
        let key_end = text.len();
        text.push(b':');
        value(text);
        text.push(b',');
        self.laid(self.scope.name(key), start, key_end)
    }

    /// The same for the name of an entry.
    fn lay_entry(&mut self, level: usize, name: View<'a>) -> Result<(), Error> {
        let text = &mut self.tree.text;
        let start = text.len();
        text.extend_from_slice(self.openings.get(level).map_or(&[], |opening| opening));
        let key_end = text.len() - b":[".len();
        name.write(text);
        text.extend_from_slice(b"],");
        self.laid(Name::Attribute(level, Spelling::Plural), start, key_end)
    }

    /// A member was added to the text.
    fn laid(&mut self, name: Name<'a>, start: usize, key_end: usize) -> Result<(), Error> {
        let begin = self.tree.begin(self.tree.nodes.len()).text as usize;
        let end = self.tree.text.len();
        self.tree.members.push(Member {
            key: narrow(key_end - start)?,
            end: narrow(end - begin)?,
        });
        if self.scope.change(name, Some((end - start) as u64)) {
            let shadow = self.tree.text.get(start..key_end).map(Box::from);
            self.tree.shadows.extend(shadow);
        }
        Ok(())
    }

    /// The members of an attribute's names, if any were inherited, give way to the node that is being put together.
    fn give_way(&mut self, level: usize, attribute: &Attribute) {
        for spelling in [Spelling::Plural, Spelling::Singular] {
            if self.scope.change(Name::Attribute(level, spelling), None) {
                let mut text = Vec::new();
                write_text(attribute.spelled(spelling), &mut text);
                self.tree.shadows.push(text.into_boxed_slice());
            }
        }
    }

    /// Adds the node whose parts are laid; those that hang below it come next. Gives its place.
    fn end_node(&mut self, body: Body) -> Result<usize, Error> {
        let place = self.tree.nodes.len();
        if body != Body::Branch {
            // Nothing below it will ever ask where its members are.
            let members = self.tree.begin(place).members as usize;
            self.tree.members.truncate(members);
        }
        let end = Ends {
            text: narrow(self.tree.text.len())?,
            members: narrow(self.tree.members.len())?,
            shadows: narrow(self.tree.shadows.len())?,
            lists: narrow(self.tree.lists.len())?,
        };
        let rows = match (body, self.tree.lists.last()) {
            (Body::Row, _) => 1,
            (Body::List, Some(list)) => list.count.div_ceil(list.batch),
            (Body::Branch | Body::List, _) => 0,
        };
        self.rows += u64::from(rows);
        self.tree.nodes.push(Node {
            end,
            extent: 1,
            rows,
            body,
        });
        Ok(place)
    }

    /// All nodes that hang below the one at that place are there, and so many rows.
    fn close(&mut self, place: usize, rows: u64) -> Result<(), Error> {
        let extent = self.tree.nodes.len() - place;
        if let Some(node) = self.tree.nodes.get_mut(place) {
            node.extent = narrow(extent)?;
            node.rows = narrow(usize::try_from(rows).unwrap_or(usize::MAX))?;
        }
        Ok(())
    }

    fn count_row(&mut self) {
        self.count_rows(1, 0, 0);
    }

    /// `rows` rows at this point of the tree, with `extra` bytes among them, at most `longest_extra` in one.
    fn count_rows(&mut self, rows: u64, extra: u64, longest_extra: u64) {
        let plain = self.scope.bytes() + self.around;
        self.bytes = self
            .bytes
            .saturating_add(rows.saturating_mul(plain))
            .saturating_add(extra);
        self.longest = self.longest.max(plain + longest_extra);
    }

    /// The next branch, and the bounds on batches that it sets.
    fn next_branch(&mut self) -> Result<(Branch, Vec<BatchSize>), Error> {
        let Some(branch) = self.branches.next() else {
            return Err(Error::job("the job has a branch that was not looked at"));
        };
        let sizes = self
            .batch_sizes
            .by_ref()
            .take(usize::from(branch.batch_sizes))
            .collect();
        Ok((branch, sizes))
    }

    /// Passes over the branches below one that is not split.
    fn pass_over(&mut self, below: u32) -> Result<(), Error> {
        for _ in 0..below {
            self.next_branch()?;
        }
        Ok(())
    }

    fn root(&mut self, job: View<'a>, taken_out: &[&str]) -> Result<(), Error> {
        let (Some(attribute), Some(root)) = (self.attributes.first(), self.branches.as_slice().first())
        else {
            return Err(Error::job("the schema has no attributes to split by"));
        };
        if root.values.is_some() {
            return self.branch(job, 0, self.scope.point(), taken_out);
        }
        let Attribute { name, plural } = attribute;
        if job.get(plural).is_none() && job.get(name).is_none() {
            return Err(Error::job(format!(
                "`{plural}` is to be split, but the job has none{}: add `{plural}`, or take the flag away",
                elsewhere::hint(job, attribute)
            )));
        }
        // Present and empty: nothing to do.
        Ok(())
    }

    /// The next branch, which is at `level`. If it is the value of an entry, the name of that is laid already, and `point`
    /// is where the scope was before.
    fn branch(
        &mut self,
        object: View<'a>,
        level: usize,
        point: usize,
        taken_out: &[&str],
    ) -> Result<(), Error> {
        let (branch, batch_sizes) = self.next_branch()?;
        let attribute = self.attributes.get(level);
        let values = attribute.zip(branch.values);
        if let Some((attribute, _)) = values {
            self.give_way(level, attribute);
        }
        for (key, value) in object.members() {
            let own = attribute.is_some_and(|attribute| *key == attribute.plural || *key == attribute.name);
            if !own && !taken_out.contains(&key) {
                self.lay(key, |out| value.write(out))?;
            }
        }
        match values {
            Some((attribute, (place, spelling))) if branch.must_split => {
                let saved = (!batch_sizes.is_empty()).then(|| self.nearest.clone());
                // The singular first, so that the plural of the same branch has the last word.
                for wanted in [Spelling::Singular, Spelling::Plural] {
                    for (at, spelling, size) in &batch_sizes {
                        if *spelling == wanted
                            && let Some(nearest) = self.nearest.get_mut(*at)
                        {
                            *nearest = Some(*size);
                        }
                    }
                }
                self.path.push(attribute.spelled(spelling));
                self.values(attribute, object.view_at(place as usize), level)?;
                self.path.pop();
                if let Some(saved) = saved {
                    self.nearest = saved;
                }
            }
            values => {
                if let Some((attribute, (place, spelling))) = values {
                    self.lay_unsplit(attribute, spelling, object.view_at(place as usize))?;
                }
                self.pass_over(branch.below)?;
                self.end_row(level)?;
            }
        }
        self.scope.go_back(point);
        Ok(())
    }

    /// A row ends in a branch at `level`: it names a value one level up.
    fn end_row(&mut self, level: usize) -> Result<(), Error> {
        self.count_row();
        if let Some(above) = level.checked_sub(1).and_then(|above| self.levels.get_mut(above)) {
            above.rows += 1;
        }
        self.end_node(Body::Row).map(drop)
    }

    fn lay_unsplit(
        &mut self,
        attribute: &'a Attribute,
        spelling: Spelling,
        value: View<'a>,
    ) -> Result<(), Error> {
        if value.is_list_of_scalars() {
            return self.lay(&attribute.plural, |out| value.write(out));
        }
        if is_list_of_names(value) {
            return self.lay(&attribute.plural, |out| {
                out.push(b'[');
                for (at, name) in value.names().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    name.write(out);
                }
                out.push(b']');
            });
        }
        self.lay(attribute.spelled(spelling), |out| value.write(out))
    }

    /// The node of a branch that is split, and what hangs below it: rows of the values at `level`.
    fn values(&mut self, attribute: &'a Attribute, value: View<'a>, level: usize) -> Result<(), Error> {
        if value.is_list_of_scalars() || value.is_scalar() {
            return self.list(level, value.items_or_itself(), 1);
        }
        if is_list_of_names(value) {
            return self.list(level, value.names(), 2);
        }
        let node = self.end_node(Body::Branch)?;
        let rows_before = self.rows;
        for item in value.items_or_itself() {
            if !item.is_object() {
                if let Some(at) = value.items_or_itself().position(|item| item.is_null()) {
                    return Err(Error::job(format!(
                        "`{}[{at}]` is null, which is no name: take it out",
                        self.here()
                    )));
                }
                return Err(Error::job(format!(
                    "`{}` mixes {} with objects: write either names (text, numbers, true or false) or objects whose \
                     keys are the names",
                    self.here(),
                    excerpt_of(item)
                )));
            }
            if is_list_of_names(item) {
                self.list(level, item.names(), 2)?;
                continue;
            }
            for (name, (_, entry)) in item.names().zip(item.members()) {
                self.entry(attribute, name, entry, level)?;
            }
        }
        self.close(node, self.rows - rows_before)
    }

    fn entry(
        &mut self,
        attribute: &'a Attribute,
        name: View<'a>,
        entry: View<'a>,
        level: usize,
    ) -> Result<(), Error> {
        let point = self.scope.point();
        self.lay_entry(level, name)?;
        let name = name.as_text().unwrap_or_default();
        if let Some(level) = self.levels.get_mut(level) {
            level.values += 1;
        }
        match entry.kind() {
            Kind::Null => {
                self.end_row(level + 1)?;
                self.scope.go_back(point);
                Ok(())
            }
            Kind::Object => {
                for key in [&attribute.plural, &attribute.name] {
                    if entry.get(key).is_some() {
                        return Err(Error::job(format!(
                            "`{}.{}.{key}` names its own level again: take it out, the value is called {:?} already",
                            self.here(),
                            shorten(name),
                            shorten(name)
                        )));
                    }
                }
                self.path.push(name);
                self.branch(entry, level + 1, point, &[])?;
                self.path.pop();
                Ok(())
            }
            kind => Err(Error::job(format!(
                "`{}.{}` is {} ({}): to be split, a value is null or an object",
                self.here(),
                shorten(name),
                kind.name(),
                excerpt_of(entry)
            ))),
        }
    }

    /// A row for each batch of values, which stand so far from one another on the tape of the job.
    fn list(
        &mut self,
        level: usize,
        values: impl ExactSizeIterator<Item = View<'a>> + Clone,
        step: u8,
    ) -> Result<(), Error> {
        let count = values.len();
        let batch = self.nearest.get(level).copied().flatten().unwrap_or(1);
        let batch = usize::try_from(batch).unwrap_or(usize::MAX).min(count.max(1));
        // Values that go together are written out, so that a batch is one copy of bytes.
        let as_it_stands = |value: View<'_>| Some(value.as_it_stands().filter(|_| batch == 1)?.len());
        let mut sizes = Sizes::of(values.clone(), batch, as_it_stands);
        let first = values.clone().next().map_or(0, |first| first.place());
        let mut values_are = Values::InPlace(narrow(first)?, step);
        if sizes.is_none() {
            values_are = Values::Written(narrow(self.tree.ends.len())?);
            let Tree { written, ends, .. } = &mut self.tree;
            sizes = Sizes::of(values, batch, |value| {
                let start = written.len();
                value.write(written);
                let end = written.len();
                ends.push(u32::try_from(end).ok()?);
                written.push(b',');
                Some(end - start)
            });
        }
        let Sizes { all, longest } = sizes.ok_or_else(too_large)?;
        let rows = count.div_ceil(batch) as u64;
        // The opening `"sections":[`, and `],` behind the values.
        let around = self.openings.get(level).map_or(0, |opening| opening.len() as u64) + 2;
        if rows > 0 {
            self.count_rows(rows, rows.saturating_mul(around) + all, around + longest);
        }
        if let Some(level) = self.levels.get_mut(level) {
            level.values += count as u64;
            level.rows += rows;
        }
        self.tree.lists.push(List {
            values: values_are,
            count: narrow(count)?,
            batch: narrow(batch)?,
            // A schema has at most 32 levels.
            level: u8::try_from(level).unwrap_or(u8::MAX),
        });
        self.end_node(Body::List).map(drop)
    }

    fn here(&self) -> String {
        match self.path.split_last() {
            Some((last, path)) => join(path, last),
            None => String::new(),
        }
    }
}

/// Whether all values of an object are null: it stands for its names.
fn is_list_of_names(value: View<'_>) -> bool {
    value.is_object() && value.members().all(|(_, entry)| entry.is_null())
}

/// The bytes of the batches of a list, commas between their values included.
#[derive(Default)]
struct Sizes {
    all: u64,
    longest: u64,
}

impl Sizes {
    /// Nothing if a value has no length.
    fn of<'a>(
        values: impl ExactSizeIterator<Item = View<'a>>,
        batch: usize,
        mut length_of: impl FnMut(View<'a>) -> Option<usize>,
    ) -> Option<Self> {
        let mut sizes = Self::default();
        let (mut left, mut in_batch, mut bytes) = (values.len(), 0, 0);
        for value in values {
            bytes += length_of(value)? as u64 + u64::from(in_batch > 0);
            (left, in_batch) = (left - 1, in_batch + 1);
            if in_batch == batch || left == 0 {
                sizes.all += bytes;
                sizes.longest = sizes.longest.max(bytes);
                (in_batch, bytes) = (0, 0);
            }
        }
        Some(sizes)
    }
}
