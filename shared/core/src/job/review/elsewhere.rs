//! Where values stand that were not found where they are looked for.

use crate::error::shorten;
use crate::job::fields::looks_like_flag;
use crate::job::schema::Attribute;
use crate::json::{Kind, View};
use crate::suggest::nearest;
use crate::warning::{Step, json_path};

/// So many values are looked at, the outermost first.
const MAX_LOOKED_AT: usize = 10_000;

/// Where values of an attribute stand that an object lacks, as a part of a sentence; or nothing.
pub(crate) fn hint(object: View<'_>, attribute: &Attribute) -> String {
    look(object, attribute).map_or_else(String::new, |found| found.sentence(&[]))
}

/// Values that are probably the ones that were meant.
pub(super) struct Found<'a> {
    path: Vec<Step<'a>>,
    /// The key under which they stand is not quite the name of the attribute.
    like: Option<&'a str>,
}

impl Found<'_> {
    /// The end of a sentence; `outer` is the path of the object in which was looked.
    pub(super) fn sentence(&self, outer: &[Step<'_>]) -> String {
        let path = json_path(outer.iter().copied().chain(self.path.iter().copied()));
        match self.like {
            None => format!(" (there are some in {path}: move them)"),
            Some(name) => format!(" (did you mean `{}` by {path}?)", shorten(name)),
        }
    }
}

/// Something to look at: where it was found, by which step, and what it is.
struct Seen<'a> {
    parent: Option<usize>,
    step: Step<'a>,
    value: View<'a>,
}

/// Looks for values of an attribute anywhere in an object, the outermost first; else for a key that is like its name.
pub(super) fn look<'a>(object: View<'a>, attribute: &'a Attribute) -> Option<Found<'a>> {
    let known = [attribute.plural.as_str(), attribute.name.as_str()];
    let mut seen: Vec<Seen<'a>> = Vec::new();
    push(&mut seen, None, object);
    let mut like: Option<(usize, &'a str)> = None;
    let mut next = 0;
    while let Some(Seen { step, value, .. }) = seen.get(next) {
        let (step, value) = (*step, *value);
        if let Step::Key(key) = step
            && !value.is_empty()
        {
            if known.contains(&key) {
                return Some(found(&seen, next, None));
            }
            let holds_values = matches!(value.kind(), Kind::List | Kind::Object);
            if like.is_none() && holds_values && !looks_like_flag(key) {
                like = nearest(key, known, 0.9).map(|name| (next, name));
            }
        }
        if value.is_object() {
            push(&mut seen, Some(next), value);
        }
        if value.kind() == Kind::List && !value.is_list_of_scalars() {
            let room = MAX_LOOKED_AT.saturating_sub(seen.len());
            let items = value.items().enumerate().take(room);
            seen.extend(
                items
                    .filter(|(_, item)| item.is_object())
                    .map(|(index, value)| Seen {
                        parent: Some(next),
                        step: Step::Index(index),
                        value,
                    }),
            );
        }
        next += 1;
    }
    like.map(|(at, name)| found(&seen, at, Some(name)))
}

fn push<'a>(seen: &mut Vec<Seen<'a>>, parent: Option<usize>, object: View<'a>) {
    let room = MAX_LOOKED_AT.saturating_sub(seen.len());
    seen.extend(object.members().take(room).map(|(key, value)| Seen {
        parent,
        step: Step::Key(key),
        value,
    }));
}

fn found<'a>(seen: &[Seen<'a>], at: usize, like: Option<&'a str>) -> Found<'a> {
    let mut path = Vec::new();
    let mut at = Some(at);
    while let Some(Seen { parent, step, .. }) = at.and_then(|at| seen.get(at)) {
        path.push(*step);
        at = *parent;
    }
    path.reverse();
    Found { path, like }
}
