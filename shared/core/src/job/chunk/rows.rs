//! The third pass: rows, one at a time, put together from serialized pieces.

use super::{Body, Chunks, List, Values, between};

impl Chunks {
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
        if let Some(date) = first.checked_div(self.tree.rows())
            && rows.remaining > 0
        {
            rows.next_date = usize::try_from(date).unwrap_or(usize::MAX);
            rows.begin_date();
            rows.pass_over(first % self.tree.rows());
        } else {
            rows.next_date = self.dates.len();
        }
        rows
    }
}

impl Chunks {
    /// Appends the values of a batch, with commas between them.
    fn push_batch(&self, list: &List, nth: usize, out: &mut Vec<u8>) {
        match list.values {
            Values::InPlace(first, step) => {
                let place = first as usize + nth * usize::from(step);
                let range = self.document.as_it_stands(place).unwrap_or_default();
                out.extend_from_slice(self.document.bytes(range));
            }
            Values::Written(first) => {
                let from = nth * list.batch as usize;
                let to = (from + list.batch as usize).min(list.count as usize);
                let end_of = |value: usize| self.tree.ends.get(value).map_or(0, |end| *end as usize);
                let first = first as usize;
                // A comma stands behind each.
                let start = (first + from)
                    .checked_sub(1)
                    .map_or(0, |before| end_of(before) + 1);
                let values = self
                    .tree
                    .written
                    .get(start..end_of((first + to).saturating_sub(1)));
                out.extend_from_slice(values.unwrap_or_default());
            }
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
    frames: Vec<Frame>,
    next_date: usize,
    remaining: u64,
}

/// A node whose rows are being made; the outermost one is the date.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Where in the buffer the rows of this node begin, and where what they have in common ends.
    start: usize,
    end: usize,
    /// The nodes below that are still to come, or the batches of the list.
    next: usize,
    last: usize,
    kind: FrameKind,
}

#[derive(Debug, Clone, Copy)]
enum FrameKind {
    Date,
    /// The node at that place.
    Branch(usize),
    List(List),
}

impl Rows<'_> {
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
            if frame.next >= frame.last {
                self.frames.pop();
                continue;
            }
            if let FrameKind::List(list) = frame.kind {
                let (start, end, nth) = (frame.start, frame.end, frame.next);
                frame.next += 1;
                self.buffer.truncate(end);
                self.chunks.push_batch(&list, nth, &mut self.buffer);
                return Some(self.finish(start, &self.chunks.ending_of_list));
            }
            if let Some(start) = self.enter() {
                return Some(self.finish(start, &self.chunks.ending));
            }
        }
    }

    /// How many rows are still to come.
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }

    fn finish(&mut self, start: usize, ending: &[u8]) -> &[u8] {
        self.remaining = self.remaining.saturating_sub(1);
        self.buffer.extend_from_slice(ending);
        self.buffer.get(start..).unwrap_or_default()
    }

    fn begin_date(&mut self) {
        self.frames.clear();
        self.buffer.clear();
        self.begin_row(self.next_date);
        self.next_date += 1;
        self.frames.push(Frame {
            start: 0,
            end: self.buffer.len(),
            next: 0,
            last: self.chunks.tree.nodes.len(),
            kind: FrameKind::Date,
        });
    }

    /// What each row of a date begins with.
    fn begin_row(&mut self, date: usize) {
        let piece = self.chunks.dates.get(date);
        self.buffer.push(b'{');
        self.buffer.extend_from_slice(piece.map_or(&[], |piece| piece));
    }

    /// Goes on to the next node of the innermost frame. If a row ends there, its members are in the buffer, and this is
    /// where it begins.
    fn enter(&mut self) -> Option<usize> {
        let tree = &self.chunks.tree;
        let frame = self.frames.last_mut()?;
        let place = frame.next;
        let node = tree.nodes.get(place)?;
        frame.next += node.extent as usize;
        let (mut start, end) = (frame.start, frame.end);
        let begin = tree.begin(place);
        self.buffer.truncate(end);
        let shadows = between(&tree.shadows, begin.shadows, node.end.shadows);
        if !shadows.is_empty() {
            start = end;
            self.copy_without(shadows);
        }
        self.buffer
            .extend_from_slice(between(&tree.text, begin.text, node.end.text));
        let (next, last, kind) = match node.body {
            Body::Row => return Some(start),
            Body::Branch => (place + 1, place + node.extent as usize, FrameKind::Branch(place)),
            Body::List => {
                let list = *tree.lists.get(begin.lists as usize)?;
                let opening = self.chunks.openings.get(usize::from(list.level));
                self.buffer.extend_from_slice(opening.map_or(&[], |text| text));
                (0, node.rows as usize, FrameKind::List(list))
            }
        };
        self.frames.push(Frame {
            start,
            end: self.buffer.len(),
            next,
            last,
            kind,
        });
        None
    }

    /// Begins the row anew behind what is there, without the members that give way.
    fn copy_without(&mut self, shadows: &[Box<[u8]>]) {
        self.begin_row(self.next_date.saturating_sub(1));
        let tree = &self.chunks.tree;
        let branches = || {
            self.frames.iter().filter_map(|frame| match frame.kind {
                FrameKind::Branch(place) => Some((tree.begin(place), tree.nodes.get(place)?.end)),
                FrameKind::Date | FrameKind::List(_) => None,
            })
        };
        for (at, (begin, end)) in branches().enumerate() {
            let members = between(&tree.text, begin.text, end.text);
            let mut from = 0;
            for member in between(&tree.members, begin.members, end.members) {
                let text = members.get(from..member.end as usize).unwrap_or_default();
                let key = text.get(..member.key as usize).unwrap_or_default();
                from = member.end as usize;
                let mut later = branches()
                    .skip(at + 1)
                    .flat_map(|(begin, end)| between(&tree.shadows, begin.shadows, end.shadows))
                    .chain(shadows);
                if !later.any(|shadow| **shadow == *key) {
                    self.buffer.extend_from_slice(text);
                }
            }
        }
    }

    /// Passes over `rows` rows of the date that has just begun.
    fn pass_over(&mut self, mut rows: u64) {
        let tree = &self.chunks.tree;
        while rows > 0 {
            let Some(frame) = self.frames.last_mut() else {
                return;
            };
            if let FrameKind::List(_) = frame.kind {
                frame.next += usize::try_from(rows).unwrap_or(usize::MAX);
                return;
            }
            match tree.nodes.get(frame.next) {
                None => return,
                Some(node) if u64::from(node.rows) <= rows => {
                    rows -= u64::from(node.rows);
                    frame.next += node.extent as usize;
                }
                Some(_) => {
                    self.enter();
                }
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
