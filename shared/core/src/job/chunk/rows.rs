//! The third pass: rows, one at a time, put together from serialized pieces.

use super::{Body, Chunks, Node, Part};

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
        if let Some(date) = first.checked_div(self.root.rows)
            && rows.remaining > 0
        {
            rows.next_date = usize::try_from(date).unwrap_or(usize::MAX);
            rows.begin_date();
            rows.pass_over(first % self.root.rows);
        } else {
            rows.next_date = self.dates.len();
        }
        rows
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
    frames: Vec<Frame<'a>>,
    next_date: usize,
    remaining: u64,
}

#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    node: &'a Node,
    /// Where in the buffer the rows of this node begin, and where what they have in common ends.
    start: usize,
    end: usize,
    part: usize,
    next: usize,
}

impl<'a> Rows<'a> {
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
            let (start, end) = (frame.start, frame.end);
            match &frame.node.body {
                Body::Row => {
                    self.frames.pop();
                    self.buffer.truncate(end);
                    return Some(self.finish(start));
                }
                Body::Parts(parts) => match parts.get(frame.part) {
                    None => {
                        self.frames.pop();
                    }
                    Some(Part::Batches { level, values, ends }) => {
                        let Some(batch_end) = ends.get(frame.next) else {
                            frame.part += 1;
                            frame.next = 0;
                            continue;
                        };
                        let from = match frame.next.checked_sub(1).and_then(|before| ends.get(before)) {
                            Some(before) => *before as usize + 1,
                            None => 0,
                        };
                        frame.next += 1;
                        self.buffer.truncate(end);
                        self.buffer
                            .extend_from_slice(self.chunks.openings.get(*level).map_or(&[], |text| text));
                        self.buffer
                            .extend_from_slice(values.get(from..*batch_end as usize).unwrap_or_default());
                        self.buffer.extend_from_slice(b"],");
                        return Some(self.finish(start));
                    }
                    Some(Part::Entries(nodes)) => {
                        let Some(node) = nodes.get(frame.next) else {
                            frame.part += 1;
                            frame.next = 0;
                            continue;
                        };
                        frame.next += 1;
                        self.buffer.truncate(end);
                        self.enter(node);
                    }
                },
            }
        }
    }

    /// How many rows are still to come.
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }

    fn finish(&mut self, start: usize) -> &[u8] {
        self.remaining = self.remaining.saturating_sub(1);
        self.buffer.extend_from_slice(&self.chunks.ending);
        self.buffer.get(start..).unwrap_or_default()
    }

    fn begin_date(&mut self) {
        self.frames.clear();
        self.buffer.clear();
        self.buffer.push(b'{');
        self.buffer
            .extend_from_slice(self.chunks.dates.get(self.next_date).map_or(&[], |piece| piece));
        self.next_date += 1;
        self.enter(&self.chunks.root);
    }

    /// Goes one node down; the buffer ends where the frame above ends.
    fn enter(&mut self, node: &'a Node) {
        let mut start = self.frames.last().map_or(0, |frame| frame.start);
        if !node.shadows.is_empty() {
            start = self.buffer.len();
            self.copy_without(&node.shadows);
        }
        self.buffer.extend_from_slice(&node.members);
        self.frames.push(Frame {
            node,
            start,
            end: self.buffer.len(),
            part: 0,
            next: 0,
        });
    }

    /// Begins the row anew behind what is there, without the members that give way.
    fn copy_without(&mut self, shadows: &[Box<[u8]>]) {
        self.buffer.push(b'{');
        let date = self.next_date.saturating_sub(1);
        self.buffer
            .extend_from_slice(self.chunks.dates.get(date).map_or(&[], |piece| piece));
        for (at, frame) in self.frames.iter().enumerate() {
            let mut from = 0;
            for member in &frame.node.index {
                let text = frame
                    .node
                    .members
                    .get(from..member.end as usize)
                    .unwrap_or_default();
                let key = text.get(..member.key as usize).unwrap_or_default();
                from = member.end as usize;
                let later = self
                    .frames
                    .iter()
                    .skip(at + 1)
                    .flat_map(|frame| frame.node.shadows.iter());
                if !later.chain(shadows).any(|shadow| **shadow == *key) {
                    self.buffer.extend_from_slice(text);
                }
            }
        }
    }

    /// Passes over `rows` rows of the date that has just begun.
    fn pass_over(&mut self, mut rows: u64) {
        while rows > 0 {
            let Some(frame) = self.frames.last_mut() else {
                return;
            };
            let Body::Parts(parts) = &frame.node.body else {
                return;
            };
            match parts.get(frame.part) {
                None => return,
                Some(Part::Batches { ends, .. }) => {
                    let here = usize::try_from(rows).unwrap_or(usize::MAX).min(ends.len());
                    rows -= here as u64;
                    frame.next = here;
                    if here == ends.len() {
                        frame.part += 1;
                        frame.next = 0;
                    }
                }
                Some(Part::Entries(nodes)) => match nodes.get(frame.next) {
                    None => {
                        frame.part += 1;
                        frame.next = 0;
                    }
                    Some(node) => {
                        frame.next += 1;
                        if node.rows <= rows {
                            rows -= node.rows;
                        } else {
                            self.buffer.truncate(frame.end);
                            self.enter(node);
                        }
                    }
                },
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
