//! The tape of a document: eight bytes for each value and each name, in the order of the text.

use std::ops::Range;

use super::MAX_TEXT_BYTES;

/// What stands in the text at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Null,
    False,
    True,
    /// A number that is written as it came.
    Number,
    /// A number with an exponent, which may have come in another form than the one it is written in.
    Exponent,
    /// A text without escapes.
    Text,
    /// A text with escapes: what it means stands beside the text of the document.
    Escaped,
    List,
    /// A list of nothing but texts, numbers, true and false.
    Flat,
    Object,
}

/// One entry of the tape. What is inside a list or an object follows it: the items, or a name before each value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// The tag above [`BITS`] bits: where a scalar begins, or how many items or members there are.
    head: u32,
    /// Where a scalar ends, or how many entries a list or an object has with all that is inside.
    tail: u32,
}

/// Enough for every place in a text, and for whatever is counted in it.
const BITS: u32 = 28;
const MASK: u32 = (1 << BITS) - 1;
const _: () = assert!(MAX_TEXT_BYTES <= 1 << BITS);
// A large job has millions of them.
const _: () = assert!(size_of::<Node>() == 8);

impl Node {
    /// A scalar by the bytes that it takes, of a text without its quotation marks.
    pub(super) const fn scalar(tag: Tag, bytes: Range<usize>) -> Self {
        Self::new(tag, bytes.start, bytes.end)
    }

    /// A list or an object.
    pub(super) const fn nested(tag: Tag, count: usize, extent: usize) -> Self {
        Self::new(tag, count, extent)
    }

    const fn new(tag: Tag, head: usize, tail: usize) -> Self {
        // Nothing is lost: no text is longer than has room here, and a beginning or a count is less than its length.
        Self {
            head: (tag as u32) << BITS | (head as u32 & MASK),
            tail: tail as u32,
        }
    }

    pub(super) const fn tag(self) -> Tag {
        match self.head >> BITS {
            0 => Tag::Null,
            1 => Tag::False,
            2 => Tag::True,
            3 => Tag::Number,
            4 => Tag::Exponent,
            5 => Tag::Text,
            6 => Tag::Escaped,
            7 => Tag::List,
            8 => Tag::Flat,
            _ => Tag::Object,
        }
    }

    /// Text, a number, true or false.
    pub(super) const fn is_scalar(self) -> bool {
        let tag = self.head >> BITS;
        tag > Tag::Null as u32 && tag < Tag::List as u32
    }

    pub(super) const fn is_nested(self) -> bool {
        self.head >> BITS >= Tag::List as u32
    }

    /// Where a scalar stands.
    pub(super) const fn bytes(self) -> Range<usize> {
        (self.head & MASK) as usize..self.tail as usize
    }

    /// How many items or members there are.
    pub(super) const fn count(self) -> usize {
        (self.head & MASK) as usize
    }

    /// How many entries it takes, itself included.
    pub(super) const fn extent(self) -> usize {
        if self.is_nested() { self.tail as usize } else { 1 }
    }
}
