//! The first pass: checks every reachable branch and decides where the job must be split.

use super::{join, narrow};
use crate::error::Error;
use crate::job::fields::{read_batch_size, read_switch};
use crate::job::schema::{Attribute, Meaning, Schema, Spelling};
use crate::json::View;

/// A bound on batches: attribute, spelling, size.
pub(crate) type BatchSize = (usize, Spelling, u64);

/// A branch of a job that was checked: the root, or an object that is the value of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Branch {
    /// Where the values of this level's attribute are, and under which spelling; none if there are none.
    pub(super) values: Option<(u32, Spelling)>,
    /// Whether this level must be split here.
    pub(crate) must_split: bool,
    /// How many bounds on batches are set in this very branch.
    pub(super) batch_sizes: u16,
    /// How many branches are below it.
    pub(super) below: u32,
}

/// What [`inspect`] found.
#[derive(Debug)]
pub(crate) struct Inspected {
    /// The root, then the branches below it: each, then those below it, in the order of the values.
    pub(crate) branches: Vec<Branch>,
    /// Bounds on batches of all branches, in their order: attribute, spelling, size.
    pub(crate) batch_sizes: Vec<BatchSize>,
    /// Where a branch below the root has a `date_list` of its own.
    pub(crate) inner_date_list: Option<String>,
}

impl Inspected {
    /// Whether the job must be split by attributes.
    pub(crate) fn must_split(&self) -> bool {
        self.branches.first().is_some_and(|root| root.must_split)
    }
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
    branches: Vec<Branch>,
    batch_sizes: Vec<BatchSize>,
}

/// Checks the root and every reachable branch, and decides where the job must be split.
///
/// # Errors
/// `InvalidJob`: a reserved name, a flag that can't be read, values under both spellings of an attribute.
pub(crate) fn inspect(schema: &Schema, job: View<'_>) -> Result<Inspected, Error> {
    let mut inspector = Inspector {
        schema,
        path: Vec::new(),
        inner_date_list: None,
        branches: Vec::new(),
        batch_sizes: Vec::new(),
    };
    let laid = vec![Laid::default(); schema.attributes.len()];
    inspector.branch(job, 0, &laid)?;
    Ok(Inspected {
        branches: inspector.branches,
        batch_sizes: inspector.batch_sizes,
        inner_date_list: inspector.inner_date_list,
    })
}

impl<'a> Inspector<'a> {
    /// Checks a branch and those below it. Whether it must be split.
    fn branch(&mut self, object: View<'a>, level: usize, outer: &[Laid]) -> Result<bool, Error> {
        let mut own: Vec<(usize, usize, bool)> = Vec::new();
        let place = self.branches.len();
        let sizes_before = self.batch_sizes.len();
        for (key, value) in object.members() {
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
                    self.batch_sizes
                        .extend(size.map(|size| (*attribute, *spelling, size)));
                }
                Some(Meaning::DateList) if !self.path.is_empty() && self.inner_date_list.is_none() => {
                    self.inner_date_list = Some(join(&self.path, key));
                }
                Some(Meaning::DateList) | None => {}
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
        let attribute = self.schema.attributes.get(level);
        let values = match attribute {
            Some(attribute) => self.values(object, attribute)?,
            None => None,
        };
        self.branches.push(Branch {
            values: match values {
                Some((value, spelling)) => Some((narrow(value.place())?, spelling)),
                None => None,
            },
            must_split: false,
            batch_sizes: u16::try_from(self.batch_sizes.len() - sizes_before).unwrap_or(u16::MAX),
            below: 0,
        });
        let mut must_split =
            attribute.is_some() && laid.get(level).is_some_and(|flags| flags.contains(&Some(true)));
        if let (Some((value, spelling)), Some(attribute)) = (values, attribute) {
            self.path.push(attribute.spelled(spelling));
            for item in value.items_or_itself() {
                for (name, entry) in item.members() {
                    if entry.is_object() {
                        self.path.push(name);
                        must_split |= self.branch(entry, level + 1, laid)?;
                        self.path.pop();
                    }
                }
            }
            self.path.pop();
        }
        let below = narrow(self.branches.len() - place - 1)?;
        if let Some(branch) = self.branches.get_mut(place) {
            branch.must_split = must_split;
            branch.below = below;
        }
        Ok(must_split)
    }

    fn values(
        &self,
        object: View<'a>,
        attribute: &'a Attribute,
    ) -> Result<Option<(View<'a>, Spelling)>, Error> {
        let find = |spelling| {
            object
                .get(attribute.spelled(spelling))
                .filter(|value| !value.is_empty())
                .map(|value| (value, spelling))
        };
        match (find(Spelling::Plural), find(Spelling::Singular)) {
            (Some(_), Some(_)) => Err(Error::job(format!(
                "`{}` and `{}` both hold values: keep them under one of the two",
                join(&self.path, &attribute.plural),
                attribute.name
            ))),
            (plural, name) => Ok(plural.or(name)),
        }
    }
}
