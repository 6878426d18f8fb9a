//! Which members a row has at a point of the tree, and how many bytes they take.

use std::collections::HashMap;

use crate::job::schema::{Attribute, Spelling};

/// The members that a row has got on its way down the tree: what is laid further in takes the place of what has the
/// same name further out.
pub(super) struct Scope<'a> {
    attributes: &'a [Attribute],
    /// The bytes of the members that are called as an attribute is, by level and spelling: most are, and are found so
    /// without hashing.
    of_attributes: Vec<Option<u64>>,
    others: HashMap<&'a str, u64>,
    bytes: u64,
    /// What was there before each change.
    undo: Vec<(Name<'a>, Option<u64>)>,
}

/// The name of a member.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name<'a> {
    /// That of an attribute.
    Attribute(usize, Spelling),
    /// Any other.
    Other(&'a str),
}

impl<'a> Scope<'a> {
    pub(super) fn new(attributes: &'a [Attribute]) -> Self {
        Self {
            attributes,
            of_attributes: vec![None; attributes.len() * 2],
            others: HashMap::new(),
            bytes: 0,
            undo: Vec::new(),
        }
    }

    /// A name as it is found quickly.
    pub(super) fn name(&self, text: &'a str) -> Name<'a> {
        let levels = self.attributes.iter().enumerate();
        let mut names = levels.flat_map(|(level, attribute)| {
            [Spelling::Plural, Spelling::Singular]
                .map(|spelling| (attribute.spelled(spelling), Name::Attribute(level, spelling)))
        });
        let found = names.find(|(name, _)| *name == text);
        found.map_or(Name::Other(text), |(_, name)| name)
    }

    /// The bytes of all members.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A member of so many bytes comes, or goes. Whether there was one of that name.
    pub(super) fn change(&mut self, name: Name<'a>, bytes: Option<u64>) -> bool {
        let before = self.replace(name, bytes);
        if before.is_some() || bytes.is_some() {
            self.undo.push((name, before));
        }
        before.is_some()
    }

    /// A point to go back to.
    pub(super) const fn point(&self) -> usize {
        self.undo.len()
    }

    /// Takes back all changes since that point.
    pub(super) fn go_back(&mut self, point: usize) {
        while self.undo.len() > point
            && let Some((name, before)) = self.undo.pop()
        {
            self.replace(name, before);
        }
    }

    fn replace(&mut self, name: Name<'a>, bytes: Option<u64>) -> Option<u64> {
        let before = match name {
            Name::Attribute(level, spelling) => {
                let place = self.of_attributes.get_mut(level * 2 + spelling as usize);
                place.and_then(|place| std::mem::replace(place, bytes))
            }
            Name::Other(text) => match bytes {
                Some(bytes) => self.others.insert(text, bytes),
                None => self.others.remove(text),
            },
        };
        self.bytes = self.bytes + bytes.unwrap_or(0) - before.unwrap_or(0);
        before
    }
}
