//! The rows of a queue file as a stream: ranged reads ahead of need, lines handed out one at a time.

use bytes::{Buf as _, Bytes};
use jobmill_core::queue::lock::Cursor;

/// How much one ranged read asks for, in bytes. A million rows of 130 bytes are 125 reads.
pub(crate) const READ_BYTES: u64 = 1 << 20;

/// A line longer than this is damage: no item could hold it, whatever its escapes.
pub(crate) const MAX_LINE_BYTES: usize = 4 << 20;

/// Lines of a queue file from a cursor on. It does no I/O: it says what to read next and is fed with the answer.
#[derive(Debug)]
pub(crate) struct Lines {
    /// What was read and not yet handed out.
    text: Bytes,
    /// The row that `text` begins with, and where it begins in the file.
    next: Cursor,
    /// Read ahead of need.
    ahead: Option<Bytes>,
    /// Where the next read begins.
    read_at: u64,
    at_end: bool,
}

/// What [`Lines::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A line without its line feed, and where the row after it begins.
    Line(Bytes, Cursor),
    /// More must be read first.
    ReadMore,
    /// The file ends here.
    End,
    /// No line feed for too long.
    TooLong,
}

impl Lines {
    /// From `cursor` on, nothing read yet.
    pub(crate) fn at(cursor: Cursor) -> Self {
        Self {
            text: Bytes::new(),
            next: cursor,
            ahead: None,
            read_at: cursor.byte,
            at_end: false,
        }
    }

    /// Of a file that is in memory as a whole.
    pub(crate) fn of(file: Bytes, cursor: Cursor) -> Self {
        let from = usize::try_from(cursor.byte).unwrap_or(usize::MAX).min(file.len());
        Self {
            text: file.slice(from..),
            next: cursor,
            ahead: None,
            read_at: 0,
            at_end: true,
        }
    }

    /// Where to read next, if there is room for it: at most one read ahead is kept.
    pub(crate) fn wants(&self) -> Option<u64> {
        (!self.at_end && self.ahead.is_none()).then_some(self.read_at)
    }

    /// Takes what was read where [`Lines::wants`] said; less than [`READ_BYTES`] is the end.
    pub(crate) fn feed(&mut self, read: Bytes) {
        self.read_at += read.len() as u64;
        self.at_end = (read.len() as u64) < READ_BYTES;
        self.ahead = Some(read);
    }

    /// The row that comes next.
    pub(crate) fn cursor(&self) -> Cursor {
        self.next
    }

    /// Hands out the next line.
    pub(crate) fn next(&mut self) -> Next {
        loop {
            if let Some(length) = memchr::memchr(b'\n', &self.text) {
                if length > MAX_LINE_BYTES {
                    return Next::TooLong;
                }
                return self.hand_out(length, 1);
            }
            if self.text.len() > MAX_LINE_BYTES {
                return Next::TooLong;
            }
            match self.ahead.take() {
                Some(read) if self.text.is_empty() => self.text = read,
                Some(read) => self.text = [self.text.as_ref(), read.as_ref()].concat().into(),
                None if !self.at_end => return Next::ReadMore,
                None if self.text.is_empty() => return Next::End,
                // A file of another make may lack the last line feed.
                None => return self.hand_out(self.text.len(), 0),
            }
        }
    }

    fn hand_out(&mut self, length: usize, feed: usize) -> Next {
        let line = self.text.split_to(length);
        self.text.advance(feed.min(self.text.len()));
        self.next = Cursor {
            row: self.next.row + 1,
            byte: self.next.byte + (length + feed) as u64,
        };
        Next::Line(line, self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `file` in pieces of `size` through the same calls as the drain.
    fn read(file: &[u8], from: Cursor) -> (Vec<Vec<u8>>, Vec<Cursor>) {
        let mut lines = Lines::at(from);
        let (mut found, mut cursors) = (Vec::new(), Vec::new());
        loop {
            if let Some(at) = lines.wants() {
                let at = usize::try_from(at).unwrap();
                let end = (at + READ_BYTES as usize).min(file.len());
                lines.feed(Bytes::copy_from_slice(&file[at.min(end)..end]));
            }
            match lines.next() {
                Next::Line(line, cursor) => {
                    found.push(line.to_vec());
                    cursors.push(cursor);
                }
                Next::ReadMore => {}
                Next::End => return (found, cursors),
                Next::TooLong => panic!("too long"),
            }
        }
    }

    #[test]
    fn lines_come_whole_whatever_the_reads_cut() {
        let rows: Vec<String> = (0..40_000)
            .map(|row| format!("{{\"row\":{row},\"pad\":\"{}\"}}", "x".repeat(row % 90)))
            .collect();
        let file = rows.iter().map(|row| format!("{row}\n")).collect::<String>();
        assert!(file.len() as u64 > 2 * READ_BYTES);
        let (found, cursors) = read(file.as_bytes(), Cursor::default());
        assert_eq!(found.len(), rows.len());
        assert!(
            found
                .iter()
                .zip(&rows)
                .all(|(found, row)| found == row.as_bytes())
        );
        let middle = cursors[20_000];
        let (rest, _) = read(file.as_bytes(), middle);
        assert_eq!(rest[0], rows[20_001].as_bytes());
        assert_eq!(rest.len(), rows.len() - 20_001);
    }

    #[test]
    fn a_last_line_without_a_line_feed_counts() {
        assert_eq!(read(b"a\nb", Cursor::default()).0, [b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(read(b"", Cursor::default()).0.len(), 0);
    }

    #[test]
    fn a_file_of_exactly_one_read_ends() {
        let mut file = vec![b'x'; READ_BYTES as usize];
        *file.last_mut().unwrap() = b'\n';
        assert_eq!(read(&file, Cursor::default()).0.len(), 1);
    }

    #[test]
    fn a_line_that_never_ends_is_damage() {
        let mut lines = Lines::of(Bytes::from(vec![b'x'; MAX_LINE_BYTES + 1]), Cursor::default());
        assert_eq!(lines.next(), Next::TooLong);
    }
}
