//! A JSON document that is read in place.

use std::fmt;
use std::ops::Range;

use serde_json::{Map, Value};

use super::tape::{Node, Tag};
use super::{read, refuse_too_long, write_text, wrong};

/// A JSON document: its text as it came, and beside it a tape that says where each value stands.
///
/// A job may be sixteen megabytes of names. As a tree of `serde_json::Value` they take fifteen times as much memory, and
/// most of the time of a plan; here a value takes eight bytes beside its text. What a document accepts and how its
/// values are written is what `serde_json` does, with the digits of numbers and the order of members kept; of members
/// of one name the last value counts, at the place of the first.
///
/// ```
/// use jobmill_core::json::Document;
///
/// # fn main() -> Result<(), String> {
/// let document = Document::parse(r#"{"sections": ["dairy", 1.50], "sections": ["wine"]}"#)?;
/// assert_eq!(document.root().to_string(), r#"{"sections":["wine"]}"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Document {
    text: String,
    /// What the texts with escapes mean.
    meant: String,
    nodes: Vec<Node>,
    /// Where on the tape the value is.
    root: usize,
}

impl Document {
    /// Reads one JSON value, at most [`super::MAX_TEXT_BYTES`] long and [`super::MAX_DEPTH`] deep.
    ///
    /// # Errors
    /// A sentence without a subject ("is not JSON: ...", "has ... bytes, ..."), for the caller to put the field before.
    pub fn parse(text: impl Into<String>) -> Result<Self, String> {
        let text = text.into();
        refuse_too_long(&text)?;
        match read::read(&text) {
            Some(read::Tape { nodes, meant }) => Ok(Self {
                text,
                meant,
                nodes,
                root: 0,
            }),
            None => Err(wrong::sentence(&text)),
        }
    }

    /// The value.
    pub fn root(&self) -> View<'_> {
        self.view(self.root)
    }

    /// The value at that place of the tape alone.
    pub(crate) fn narrowed(mut self, place: usize) -> Self {
        self.root = place;
        self
    }

    /// Takes a member out of the object that it is.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Value> {
        let (place, value) = (self.root().places()).find(|(place, _)| self.text_at(*place) == name)?;
        let removed = self.view(value).to_value();
        let end = value + self.view(value).node().extent();
        self.nodes.drain(place..end);
        // Whatever is around the object is not looked at any more.
        if let Some(root) = self.nodes.get_mut(self.root) {
            *root = Node::nested(Tag::Object, root.count() - 1, root.extent() - (end - place));
        }
        Some(removed)
    }

    /// The value at that place of the tape.
    pub(crate) const fn view(&self, at: usize) -> View<'_> {
        View { document: self, at }
    }

    /// How many bytes its text has.
    pub(crate) const fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Where in the text a scalar is that is written as it stands there, a text with its quotation marks.
    pub(crate) fn as_it_stands(&self, place: usize) -> Option<Range<usize>> {
        let node = self.nodes.get(place)?;
        let bytes = node.bytes();
        match node.tag() {
            Tag::Text => Some(bytes.start - 1..bytes.end + 1),
            Tag::Number | Tag::False | Tag::True => Some(bytes),
            Tag::Null | Tag::Exponent | Tag::Escaped | Tag::List | Tag::Flat | Tag::Object => None,
        }
    }

    /// A part of the text.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.text.as_bytes().get(range).unwrap_or_default()
    }

    /// The text at that place of the tape, empty if it is none.
    fn text_at(&self, at: usize) -> &str {
        self.view(at).as_text().unwrap_or_default()
    }
}

impl From<Value> for Document {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl From<&Value> for Document {
    fn from(value: &Value) -> Self {
        // What `serde_json` wrote it reads again, however it was made: a depth beyond the bound is all that could be.
        Self::parse(value.to_string()).unwrap_or_else(|_| Self {
            text: "null".to_owned(),
            meant: String::new(),
            nodes: Vec::new(),
            root: 0,
        })
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.root(), f)
    }
}

/// A value of a document.
#[derive(Clone, Copy)]
pub struct View<'a> {
    document: &'a Document,
    at: usize,
}

/// What kind of value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// null
    Null,
    /// true or false
    Bool,
    /// A number
    Number,
    /// Text
    Text,
    /// A list
    List,
    /// An object
    Object,
}

impl Kind {
    /// What it is called in sentences.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "text",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

impl<'a> View<'a> {
    fn node(&self) -> Node {
        let node = self.document.nodes.get(self.at).copied();
        node.unwrap_or(Node::scalar(Tag::Null, 0..0))
    }

    /// Its place on the tape; see [`Document::view`].
    pub(crate) const fn place(&self) -> usize {
        self.at
    }

    /// The value at that place of its document.
    pub(crate) const fn view_at(&self, place: usize) -> View<'a> {
        self.document.view(place)
    }

    /// What kind of value it is.
    pub fn kind(&self) -> Kind {
        match self.node().tag() {
            Tag::Null => Kind::Null,
            Tag::False | Tag::True => Kind::Bool,
            Tag::Number | Tag::Exponent => Kind::Number,
            Tag::Text | Tag::Escaped => Kind::Text,
            Tag::List | Tag::Flat => Kind::List,
            Tag::Object => Kind::Object,
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        self.node().tag() == Tag::Null
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        self.kind() == Kind::List
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.node().tag() == Tag::Object
    }

    /// Text, a number, true or false.
    pub fn is_scalar(&self) -> bool {
        self.node().is_scalar()
    }

    /// Whether it is a list of nothing but scalars; known without a look at them.
    pub fn is_list_of_scalars(&self) -> bool {
        self.node().tag() == Tag::Flat
    }

    /// null, "", [] and {}: what "not set" or "no values" looks like.
    pub fn is_empty(&self) -> bool {
        let node = self.node();
        match node.tag() {
            Tag::Null => true,
            Tag::Text | Tag::Escaped => node.bytes().is_empty(),
            Tag::List | Tag::Flat | Tag::Object => node.count() == 0,
            Tag::False | Tag::True | Tag::Number | Tag::Exponent => false,
        }
    }

    /// How many items or members it has; 0 if it is neither list nor object.
    pub fn len(&self) -> usize {
        let node = self.node();
        if node.is_nested() { node.count() } else { 0 }
    }

    /// true or false.
    pub fn as_bool(&self) -> Option<bool> {
        match self.node().tag() {
            Tag::True => Some(true),
            Tag::False => Some(false),
            _ => None,
        }
    }

    /// The text.
    pub fn as_text(&self) -> Option<&'a str> {
        let node = self.node();
        match node.tag() {
            Tag::Text => self.document.text.get(node.bytes()),
            Tag::Escaped => self.document.meant.get(node.bytes()),
            _ => None,
        }
    }

    /// A number as it came.
    pub fn as_digits(&self) -> Option<&'a str> {
        let node = self.node();
        match node.tag() {
            Tag::Number | Tag::Exponent => self.document.text.get(node.bytes()),
            _ => None,
        }
    }

    /// The items of a list; nothing of anything else.
    pub fn items(&self) -> Items<'a> {
        Items {
            document: self.document,
            left: if self.is_list() { self.len() } else { 0 },
            next: self.at + 1,
        }
    }

    /// A list is its items, anything else one item.
    pub fn items_or_itself(&self) -> Items<'a> {
        if self.is_list() {
            return self.items();
        }
        Items {
            document: self.document,
            left: 1,
            next: self.at,
        }
    }

    /// The members of an object; nothing of anything else.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&'a str, View<'a>)> + Clone + use<'a> {
        let document = self.document;
        self.places()
            .map(move |(name, value)| (document.text_at(name), document.view(value)))
    }

    /// The names of an object's members; nothing of anything else.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = View<'a>> + Clone + use<'a> {
        let document = self.document;
        self.places().map(move |(name, _)| document.view(name))
    }

    fn places(&self) -> Places<'a> {
        Places(Items {
            document: self.document,
            left: if self.is_object() { self.len() } else { 0 },
            next: self.at + 1,
        })
    }

    /// The member of that name.
    pub fn get(&self, name: &str) -> Option<View<'a>> {
        self.members()
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    /// As [`Document::as_it_stands`].
    pub(crate) fn as_it_stands(&self) -> Option<Range<usize>> {
        self.document.as_it_stands(self.at)
    }

    /// Appends it as compact JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.give(&mut |piece| out.extend_from_slice(piece));
    }

    /// Gives it away as compact JSON, piece by piece.
    pub(crate) fn give(&self, put: &mut impl FnMut(&[u8])) {
        let mut giver = Giver {
            document: self.document,
            put,
            run: 0..0,
        };
        giver.value(self.at);
        giver.flush();
    }

    /// As a value of `serde_json`, for what is small.
    pub fn to_value(&self) -> Value {
        match self.kind() {
            Kind::Null => Value::Null,
            Kind::Bool => Value::Bool(self.as_bool() == Some(true)),
            Kind::Text => Value::String(self.as_text().unwrap_or_default().to_owned()),
            Kind::Number => {
                let number = self.as_digits().unwrap_or_default();
                number.parse().map_or(Value::Null, Value::Number)
            }
            Kind::List => Value::Array(self.items().map(|item| item.to_value()).collect()),
            Kind::Object => Value::Object(
                self.members()
                    .map(|(name, value)| (name.to_owned(), value.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.write(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes values. What stands side by side in the text goes out in one piece: nearly everything, if it is compact.
struct Giver<'a, 'p, P> {
    document: &'a Document,
    put: &'p mut P,
    /// A part of the text that is still to go out.
    run: Range<usize>,
}

impl<P: FnMut(&[u8])> Giver<'_, '_, P> {
    fn value(&mut self, place: usize) {
        let document = self.document;
        let view = document.view(place);
        if let Some(range) = document.as_it_stands(place) {
            return self.range(range);
        }
        match view.node().tag() {
            Tag::Exponent => self.exponent(view.as_digits().unwrap_or_default()),
            Tag::Text | Tag::Escaped => {
                let mut text = Vec::new();
                write_text(view.as_text().unwrap_or_default(), &mut text);
                self.other(&text);
            }
            Tag::List | Tag::Flat => {
                self.byte(b'[');
                for (nth, item) in view.items().enumerate() {
                    if nth > 0 {
                        self.byte(b',');
                    }
                    self.value(item.at);
                }
                self.byte(b']');
            }
            Tag::Object => {
                self.byte(b'{');
                for (nth, (name, value)) in view.places().enumerate() {
                    if nth > 0 {
                        self.byte(b',');
                    }
                    self.value(name);
                    self.byte(b':');
                    self.value(value);
                }
                self.byte(b'}');
            }
            Tag::Null | Tag::False | Tag::True | Tag::Number => self.other(b"null"),
        }
    }

    /// As `serde_json` writes an exponent: a small `e`, and a sign.
    fn exponent(&mut self, number: &str) {
        let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, ""));
        let signed = exponent.starts_with(['+', '-']);
        for part in [digits, if signed { "e" } else { "e+" }, exponent] {
            self.other(part.as_bytes());
        }
    }

    /// A part of the text.
    fn range(&mut self, range: Range<usize>) {
        if range.start == self.run.end {
            self.run.end = range.end;
        } else {
            self.flush();
            self.run = range;
        }
    }

    /// A byte between values: mostly the very one that comes next in the text.
    fn byte(&mut self, byte: u8) {
        if self.document.text.as_bytes().get(self.run.end) == Some(&byte) {
            self.run.end += 1;
        } else {
            self.other(&[byte]);
        }
    }

    fn other(&mut self, bytes: &[u8]) {
        self.flush();
        (self.put)(bytes);
    }

    fn flush(&mut self) {
        (self.put)(self.document.bytes(self.run.clone()));
        self.run.start = self.run.end;
    }
}

/// The items of a list.
#[derive(Clone)]
pub struct Items<'a> {
    document: &'a Document,
    left: usize,
    next: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = View<'a>;

    fn next(&mut self) -> Option<View<'a>> {
        self.left = self.left.checked_sub(1)?;
        let item = self.document.view(self.next);
        self.next += item.node().extent();
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Items<'_> {}

/// Where the names and the values of an object are.
#[derive(Clone)]
struct Places<'a>(Items<'a>);

impl Iterator for Places<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let name = self.0.next;
        self.0.next += 1;
        self.0.next().map(|value| (name, value.at))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Places<'_> {}
