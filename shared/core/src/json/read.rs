//! Fills the tape of a document: one pass over the text, which checks it.
//!
//! What is JSON, and what a number or a text may look like, is what `serde_json` says; a test holds the two against each
//! other. Where something is wrong, this reader only says so, and `serde_json` says what.

use std::collections::{HashMap, HashSet};

use super::MAX_DEPTH;
use super::tape::{Node, Tag};

/// Members up to this number are compared one by one: faster than hashing their names.
const FEW: usize = 8;

/// What was read.
pub(super) struct Tape {
    pub(super) nodes: Vec<Node>,
    /// What the texts with escapes mean, one behind the other.
    pub(super) meant: String,
}

/// Reads a text that is one JSON value; `None` if it is none, or too deep.
pub(super) fn read(text: &str) -> Option<Tape> {
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: 0,
        // Of a list of names so many are needed; what is not needed is never touched.
        nodes: Vec::with_capacity(text.len() / 8),
        meant: String::new(),
    };
    reader.space();
    reader.value(0)?;
    reader.space();
    reader.peek().is_none().then_some(Tape {
        nodes: reader.nodes,
        meant: reader.meant,
    })
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    meant: String,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        let node = match self.peek()? {
            b'"' => self.string()?,
            b'{' => return self.object(depth + 1),
            b'[' => return self.list(depth + 1),
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.word("true", Tag::True)?,
            b'f' => self.word("false", Tag::False)?,
            b'n' => self.word("null", Tag::Null)?,
            _ => return None,
        };
        self.nodes.push(node);
        Some(())
    }

    fn list(&mut self, depth: usize) -> Option<()> {
        let place = self.open(depth)?;
        let (mut count, mut flat) = (0, true);
        if !self.take(b']') {
            loop {
                let item = self.nodes.len();
                self.value(depth)?;
                flat &= self.nodes.get(item)?.is_scalar();
                count += 1;
                self.space();
                if self.take(b']') {
                    break;
                }
                self.take(b',').then_some(())?;
                self.space();
            }
        }
        self.close(place, if flat { Tag::Flat } else { Tag::List }, count)
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        let place = self.open(depth)?;
        // Many names are sorted, and then none comes twice.
        let (mut count, mut is_sorted, mut last) = (0, true, None);
        if !self.take(b'}') {
            loop {
                (self.peek()? == b'"').then_some(())?;
                let name = self.string()?;
                self.nodes.push(name);
                is_sorted = is_sorted && last.is_none_or(|last| self.text_of(last) < self.text_of(name));
                last = Some(name);
                self.space();
                self.take(b':').then_some(())?;
                self.space();
                self.value(depth)?;
                count += 1;
                self.space();
                if self.take(b'}') {
                    break;
                }
                self.take(b',').then_some(())?;
                self.space();
            }
        }
        if !is_sorted && self.has_namesakes(place, count) {
            count = self.keep_last(place, count)?;
        }
        self.close(place, Tag::Object, count)
    }

    /// Goes into a list or an object, up to what stands first in it; its place on the tape is kept free.
    fn open(&mut self, depth: usize) -> Option<usize> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.at += 1;
        self.space();
        self.nodes.push(Node::scalar(Tag::Null, 0..0));
        Some(self.nodes.len() - 1)
    }

    fn close(&mut self, place: usize, tag: Tag, count: usize) -> Option<()> {
        let node = Node::nested(tag, count, self.nodes.len() - place);
        *self.nodes.get_mut(place)? = node;
        Some(())
    }

    fn word(&mut self, word: &str, tag: Tag) -> Option<Node> {
        let start = self.at;
        self.at += word.len();
        let there = self.bytes.get(start..self.at)? == word.as_bytes();
        there.then_some(Node::scalar(tag, start..self.at))
    }

    fn string(&mut self) -> Option<Node> {
        let start = self.at + 1;
        let end = start + plain_length(self.bytes.get(start..)?);
        match self.bytes.get(end)? {
            b'"' => {
                self.at = end + 1;
                Some(Node::scalar(Tag::Text, start..end))
            }
            b'\\' => self.escaped(end),
            // A control character stands only as an escape.
            _ => None,
        }
    }

    /// A text with escapes, the first of them at `at`.
    fn escaped(&mut self, mut at: usize) -> Option<Node> {
        loop {
            match self.bytes.get(at)? {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        let quoted = self.text.get(self.at..=at)?;
        self.at = at + 1;
        let meant: String = serde_json::from_str(quoted).ok()?;
        let start = self.meant.len();
        self.meant.push_str(&meant);
        Some(Node::scalar(Tag::Escaped, start..self.meant.len()))
    }

    fn number(&mut self) -> Option<Node> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        let mut tag = Tag::Number;
        if self.take(b'e') || self.take(b'E') {
            tag = Tag::Exponent;
            if !self.take(b'-') {
                self.take(b'+');
            }
            self.digits()?;
        }
        Some(Node::scalar(tag, start..self.at))
    }

    /// One digit at least.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn text_of(&self, name: Node) -> &str {
        let text = match name.tag() {
            Tag::Escaped => &self.meant,
            _ => self.text,
        };
        text.get(name.bytes()).unwrap_or_default()
    }

    fn name(&self, at: usize) -> &str {
        self.nodes.get(at).map_or("", |name| self.text_of(*name))
    }

    /// Where on the tape the names of the object at `place` are.
    fn places_of_names(&self, place: usize, count: usize) -> impl Iterator<Item = usize> + '_ {
        let mut next = place + 1;
        (0..count).map(move |_| {
            let name = next;
            next += 1 + self.nodes.get(name + 1).map_or(1, |value| value.extent());
            name
        })
    }

    /// Whether an object has two members of one name.
    fn has_namesakes(&self, place: usize, count: usize) -> bool {
        let names = || self.places_of_names(place, count).map(|at| self.name(at));
        if count <= FEW {
            return names()
                .enumerate()
                .any(|(at, name)| names().take(at).any(|earlier| earlier == name));
        }
        let mut seen = HashSet::with_capacity(count);
        !names().all(|name| seen.insert(name))
    }

    /// Of members of one name the value of the last counts, at the place of the first. Gives their number then.
    fn keep_last(&mut self, place: usize, count: usize) -> Option<usize> {
        let mut kept = Vec::with_capacity(self.nodes.len() - place);
        let mut last: HashMap<&str, usize> = HashMap::new();
        for at in self.places_of_names(place, count) {
            last.insert(self.name(at), at + 1);
        }
        let count_kept = last.len();
        for at in self.places_of_names(place, count) {
            // Whoever comes first takes the value away.
            if let Some(value) = last.remove(self.name(at)) {
                kept.push(*self.nodes.get(at)?);
                let extent = self.nodes.get(value)?.extent();
                kept.extend_from_slice(self.nodes.get(value..value + extent)?);
            }
        }
        self.nodes.truncate(place + 1);
        self.nodes.append(&mut kept);
        Some(count_kept)
    }
}

/// How many bytes come before the first quotation mark, backslash or control character.
fn plain_length(bytes: &[u8]) -> usize {
    /// A byte in each of the eight places.
    const fn all(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    // Sets the high bit of each byte that is below a bound, the lowest such byte exactly; see "Bit Twiddling Hacks".
    const fn below(word: u64, bound: u8) -> u64 {
        word.wrapping_sub(all(bound)) & !word & all(0x80)
    }
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        let found = below(word, 0x20) | below(word ^ all(b'"'), 1) | below(word ^ all(b'\\'), 1);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
    at + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_plain_up_to_the_first_byte_that_may_not_stand_in_it() {
        let plain = "aé €😀~\u{7f}\u{80}! #[]^".repeat(3);
        for special in (0..0x20).chain(*b"\"\\") {
            for at in (0..=plain.len()).filter(|at| plain.is_char_boundary(*at)) {
                let (before, after) = plain.split_at(at);
                let text = format!("{before}{}{after}\"", char::from(special));
                assert_eq!(plain_length(text.as_bytes()), at, "{text:?}");
            }
        }
        assert_eq!(plain_length(plain.as_bytes()), plain.len());
    }
}
