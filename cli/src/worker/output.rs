//! What a run writes: the beginning of its result, the end of its complaints.

use std::collections::VecDeque;

use serde::de::IgnoredAny;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest result; what is longer is cut, and is text then.
const LONGEST_RESULT: usize = 256 * 1024;
/// So much of the end of standard error goes into an error.
const LONGEST_TAIL: usize = 4 * 1024;
const MOST_LINES: usize = 20;
/// A line that is longer is told in parts.
const LONGEST_LINE: usize = 8 * 1024;

/// Reads a pipe to its end. One that breaks has ended.
pub(super) async fn copy(pipe: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = Vec::with_capacity(8 * 1024);
    while let Ok(1..) = pipe.read_buf(&mut buffer).await {
        take(&buffer);
        buffer.clear();
    }
}

/// The beginning of standard output.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Head {
    pub(super) fn push(&mut self, part: &[u8]) {
        let room = LONGEST_RESULT.saturating_sub(self.bytes.len());
        match part.split_at_checked(room) {
            Some((fits, rest)) => {
                self.bytes.extend_from_slice(fits);
                self.is_cut |= !rest.is_empty();
            }
            None => self.bytes.extend_from_slice(part),
        }
    }

    /// As JSON: what is none is a string of the text, and nothing at all is `null`.
    pub(super) fn into_result(self) -> String {
        if !self.is_cut && serde_json::from_slice::<IgnoredAny>(&self.bytes).is_ok() {
            return String::from_utf8_lossy(&self.bytes).trim().to_owned();
        }
        let text = String::from_utf8_lossy(&self.bytes);
        let text = text.trim_end();
        if text.is_empty() {
            return "null".to_owned();
        }
        serde_json::Value::from(text).to_string()
    }
}

/// The end of standard error.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    pub(super) fn push(&mut self, part: &[u8]) {
        self.0.extend(part);
        let excess = self.0.len().saturating_sub(LONGEST_TAIL);
        self.0.drain(..excess);
    }

    /// The last lines.
    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.trim().lines().collect();
        let first = lines.len().saturating_sub(MOST_LINES);
        lines.get(first..).unwrap_or_default().join("\n")
    }
}

/// Tells of lines as they come. The last one may lack its end: it is told when there is no more.
pub(super) struct Lines<'a> {
    listener: &'a (dyn Fn(&str) + Send + Sync),
    line: Vec<u8>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(listener: &'a (dyn Fn(&str) + Send + Sync)) -> Self {
        let line = Vec::new();
        Self { listener, line }
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        for piece in part.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() >= LONGEST_LINE {
                self.tell();
            }
        }
    }

    fn tell(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        (self.listener)(line.trim_end());
        self.line.clear();
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(output: &[u8]) -> String {
        let mut head = Head::default();
        // In parts, as a pipe gives it.
        output.chunks(1000).for_each(|part| head.push(part));
        head.into_result()
    }

    #[test]
    fn a_result_is_json_and_whatever_is_none_is_text() {
        for (output, expected) in [
            ("{\"rows\": 1.50}\n", "{\"rows\": 1.50}"),
            (" [1]\n", "[1]"),
            ("7", "7"),
            ("\"text\"", "\"text\""),
            ("done\n", "\"done\""),
            ("two\nlines \"quoted\"\n", "\"two\\nlines \\\"quoted\\\"\""),
            ("{\"a\": 1} {\"b\": 2}", "\"{\\\"a\\\": 1} {\\\"b\\\": 2}\""),
            ("", "null"),
            ("\n", "null"),
        ] {
            assert_eq!(result(output.as_bytes()), expected, "{output:?}");
        }
        assert_eq!(result(b"\xff!"), "\"\u{fffd}!\"");
    }

    #[test]
    fn a_result_that_is_too_long_is_the_beginning_of_its_text() {
        let fits = format!("\"{}\"", "x".repeat(LONGEST_RESULT - 2));
        assert_eq!(result(fits.as_bytes()), fits);
        let long = format!("\"{}\"", "x".repeat(LONGEST_RESULT - 1));
        let cut: String = serde_json::from_str(&result(long.as_bytes())).unwrap();
        assert_eq!(cut, long[..LONGEST_RESULT]);
        // Without end, and not kept.
        assert_eq!(result(&vec![b' '; 10 * LONGEST_RESULT]), "null");
    }

    #[test]
    fn an_error_has_the_last_lines() {
        let tail = |text: &str| {
            let mut tail = Tail::default();
            text.as_bytes().chunks(7).for_each(|part| tail.push(part));
            assert!(tail.0.len() <= LONGEST_TAIL);
            tail.text()
        };
        assert_eq!(tail(""), "");
        assert_eq!(tail("\nTraceback:\n  no\n\n"), "Traceback:\n  no");
        let many: Vec<String> = (0..50).map(|line| line.to_string()).collect();
        assert_eq!(tail(&many.join("\n")), many[30..].join("\n"));
        assert_eq!(tail(&"é".repeat(LONGEST_TAIL)).chars().count(), LONGEST_TAIL / 2);
    }

    #[test]
    fn lines_are_told_whole_and_the_last_one_without_its_end() {
        let told = std::sync::Mutex::new(Vec::new());
        let listener = |line: &str| told.lock().unwrap().push(line.to_owned());
        {
            let mut lines = Lines::new(&listener);
            for part in ["one\ntw", "o\r\n", "\nlast"] {
                lines.push(part.as_bytes());
            }
            lines.push(&[b'x'; LONGEST_LINE]);
            lines.push(b"end");
        }
        let told = told.into_inner().unwrap();
        assert_eq!(told[..3], ["one", "two", ""]);
        assert_eq!(told[3].len(), 4 + LONGEST_LINE);
        assert_eq!(told[4..], ["end"]);
    }
}
