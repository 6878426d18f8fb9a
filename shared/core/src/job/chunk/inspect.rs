//! The first pass: checks every reachable branch and decides where the job must be split.

use serde_json::{Map, Value};

use super::join;
use crate::error::Error;
use crate::job::fields::{read_batch_size, read_switch};
use crate::job::schema::{Attribute, Meaning, Schema, Spelling};
use crate::json::{is_empty, items};

/// A branch of a job that was checked: the root, or an object that is the value of an entry.
#[derive(Debug)]
pub(crate) struct Branch<'a> {
    pub(super) object: &'a Map<String, Value>,
    /// The key and the value of this level's attribute, unless there is none or it is empty.
    pub(super) values: Option<(&'a str, &'a Value)>,
    /// Whether this level must be split here.
    pub(crate) must_split: bool,
    /// Bounds on batches that are set in this very branch: attribute, spelling, size.
    pub(super) batch_sizes: Vec<(usize, Spelling, u64)>,
    /// The branches one level down, in the order of the values.
    pub(super) children: Vec<Branch<'a>>,
}

/// What [`inspect`] found.
#[derive(Debug)]
pub(crate) struct Inspected<'a> {
    pub(crate) root: Branch<'a>,
    /// Where a branch below the root has a `date_list` of its own.
    pub(crate) inner_date_list: Option<String>,
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
    };
    let laid = vec![Laid::default(); schema.attributes.len()];
    let root = inspector.branch(job, 0, &laid)?;
    Ok(Inspected {
        root,
        inner_date_list: inspector.inner_date_list,
    })
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
}
