//! The `aws-chunked` body encoding of S3 uploads, decoded without copying the data. Signatures of chunks are not
//! checked; checksums in the trailer are kept for whoever reads the body.

use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{Body, StdError};

/// A line of the framing (a chunk's size with its signature, or a trailer) is shorter than this.
const MAX_LINE: usize = 16 * 1024;

/// The trailers of a body, known once it has been read to its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trailers(Arc<Mutex<Vec<(String, String)>>>);

impl Trailers {
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let trailers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trailers
            .iter()
            .find(|(trailer, _)| trailer == name)
            .map(|(_, value)| value.clone())
    }

    fn push(&self, line: &str) {
        if let Some((name, value)) = line.split_once(':') {
            let mut trailers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            trailers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ChunkedError {
    #[error("the aws-chunked body is malformed")]
    Malformed,
    #[error("the aws-chunked body ended early")]
    Incomplete,
}

enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

/// Decodes one request body.
pub(crate) struct AwsChunked {
    inner: Body,
    input: Bytes,
    line: Vec<u8>,
    state: State,
    remaining: u64,
    trailers: Trailers,
}

impl AwsChunked {
    /// `length` is the decoded length, from `x-amz-decoded-content-length`.
    pub(crate) fn new(inner: Body, length: u64) -> (Self, Trailers) {
        let trailers = Trailers::default();
        let body = Self {
            inner,
            input: Bytes::new(),
            line: Vec::new(),
            state: State::Size,
            remaining: length,
            trailers: trailers.clone(),
        };
        (body, trailers)
    }

    /// The next whole line of the framing, without its line end, if the input holds it.
    fn take_line(&mut self) -> Result<Option<Vec<u8>>, ChunkedError> {
        let end = self.input.iter().position(|byte| *byte == b'\n');
        let taken = self.input.split_to(end.map_or(self.input.len(), |end| end + 1));
        self.line.extend_from_slice(&taken);
        if self.line.len() > MAX_LINE {
            return Err(ChunkedError::Malformed);
        }
        if end.is_none() {
            return Ok(None);
        }
        let mut line = mem::take(&mut self.line);
        while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            line.pop();
        }
        Ok(Some(line))
    }

    /// Works off the input: data to hand on, or `None` if more input is needed.
    fn step(&mut self) -> Result<Option<Bytes>, ChunkedError> {
        while !self.input.is_empty() {
            match self.state {
                State::Size => {
                    let Some(line) = self.take_line()? else {
                        return Ok(None);
                    };
                    let size = chunk_size(&line).ok_or(ChunkedError::Malformed)?;
                    self.state = if size == 0 {
                        State::Trailer
                    } else {
                        State::Data(size)
                    };
                }
                State::Data(left) => {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(self.input.len());
                    let data = self.input.split_to(len);
                    let left = left - len as u64;
                    self.state = if left == 0 {
                        State::DataEnd
                    } else {
                        State::Data(left)
                    };
                    self.remaining = self
                        .remaining
                        .checked_sub(len as u64)
                        .ok_or(ChunkedError::Malformed)?;
                    return Ok(Some(data));
                }
                State::DataEnd => {
                    let Some(line) = self.take_line()? else {
                        return Ok(None);
                    };
                    if !line.is_empty() {
                        return Err(ChunkedError::Malformed);
                    }
                    self.state = State::Size;
                }
                State::Trailer => {
                    let Some(line) = self.take_line()? else {
                        return Ok(None);
                    };
                    if line.is_empty() {
                        self.state = State::Done;
                    } else {
                        self.trailers.push(&String::from_utf8_lossy(&line));
                    }
                }
                State::Done => self.input.clear(),
            }
        }
        Ok(None)
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let size = text.split(';').next()?.trim();
    u64::from_str_radix(size, 16).ok()
}

impl Stream for AwsChunked {
    type Item = Result<Bytes, StdError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match this.step() {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(Box::new(error)))),
            }
            match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
                Some(Ok(data)) => this.input = data,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if matches!(this.state, State::Done | State::Trailer) && this.remaining == 0 => {
                    return Poll::Ready(None);
                }
                None => return Poll::Ready(Some(Err(Box::new(ChunkedError::Incomplete)))),
            }
        }
    }
}

impl ByteStream for AwsChunked {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.remaining)
            .map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}
