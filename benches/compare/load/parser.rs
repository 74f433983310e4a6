//! Parses HTTP/1.1 answers, and extracts the numbers of events and the position to continue from.

use memchr::{memchr, memchr2};

/// An event's text begins with its number in this many digits. See [`payload`](super::request::payload).
pub(super) const DIGITS: usize = 10;

/// What was found in an answer.
pub(crate) enum Seen<'a> {
    Event(u64),
    /// A position to continue from.
    Id(&'a str),
    Etag(&'a str),
    Modified(&'a str),
    /// The head of an answer.
    Head,
    /// The end of an answer.
    End,
}

#[derive(Default)]
pub(crate) struct Parser {
    state: State,
    /// An incomplete line.
    line: Vec<u8>,
    framing: Framing,
}

#[derive(Default, Clone, Copy)]
enum State {
    #[default]
    Head,
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    LastChunkEnd,
    Body(usize),
    /// Everything until the connection ends.
    Rest,
}

#[derive(Default, Clone, Copy)]
enum Framing {
    #[default]
    None,
    Length(usize),
    Chunked,
    Stream,
}

impl Parser {
    pub(crate) fn push(&mut self, mut bytes: &[u8], on: &mut dyn FnMut(Seen<'_>)) {
        while !bytes.is_empty() {
            match self.state {
                State::Head => {
                    let Some(line) = self.take_line(&mut bytes) else { break };
                    if line.is_empty() { self.begin_body(on) } else { self.head_line(&line, on) }
                }
                State::ChunkSize => {
                    let Some(line) = self.take_line(&mut bytes) else { break };
                    let size = usize::from_str_radix(std::str::from_utf8(&line).expect("ASCII"), 16).expect("a size");
                    self.state = if size == 0 { State::LastChunkEnd } else { State::Chunk(size) };
                }
                State::ChunkEnd => {
                    let Some(_) = self.take_line(&mut bytes) else { break };
                    self.state = State::ChunkSize;
                }
                State::LastChunkEnd => {
                    let Some(_) = self.take_line(&mut bytes) else { break };
                    self.end(on);
                }
                State::Chunk(left) => {
                    let taken = self.take_body(&mut bytes, left, on);
                    self.state = if taken == left { State::ChunkEnd } else { State::Chunk(left - taken) };
                }
                State::Body(left) => {
                    let taken = self.take_body(&mut bytes, left, on);
                    self.state = State::Body(left - taken);
                    if taken == left {
                        self.end(on);
                    }
                }
                State::Rest => {
                    self.take_body(&mut bytes, usize::MAX, on);
                }
            }
        }
    }

    fn begin_body(&mut self, on: &mut dyn FnMut(Seen<'_>)) {
        on(Seen::Head);
        self.state = match self.framing {
            Framing::Chunked => State::ChunkSize,
            Framing::Length(length) if length > 0 => State::Body(length),
            Framing::Stream => State::Rest,
            Framing::None | Framing::Length(_) => return self.end(on),
        };
    }

    fn end(&mut self, on: &mut dyn FnMut(Seen<'_>)) {
        if !self.line.is_empty() {
            line(&self.line, on);
        }
        *self = Self::default();
        on(Seen::End);
    }

    /// The next complete line, without its end.
    fn take_line(&mut self, bytes: &mut &[u8]) -> Option<Vec<u8>> {
        let Some(end) = memchr(b'\n', bytes) else {
            self.line.extend_from_slice(bytes);
            *bytes = &[];
            return None;
        };
        self.line.extend_from_slice(&bytes[..end]);
        *bytes = &bytes[end + 1..];
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        Some(std::mem::take(&mut self.line))
    }

    fn head_line(&mut self, line: &[u8], on: &mut dyn FnMut(Seen<'_>)) {
        let line = std::str::from_utf8(line).expect("ASCII");
        if line.starts_with("HTTP/") {
            assert!(line.starts_with("HTTP/1.1 20"), "{line}");
            return;
        }
        let Some((name, value)) = line.split_once(':') else { return };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "transfer-encoding" if value == "chunked" => self.framing = Framing::Chunked,
            "content-length" => self.framing = Framing::Length(value.parse().expect("a length")),
            "content-type" if value.starts_with("text/event-stream") && matches!(self.framing, Framing::None) => {
                self.framing = Framing::Stream;
            }
            "last-event-id" => on(Seen::Id(value)),
            "etag" => on(Seen::Etag(value)),
            "last-modified" => on(Seen::Modified(value)),
            _ => {}
        }
    }

    /// Takes at most `most` bytes of a body, line by line; an incomplete line is kept. A JSON array has no lines, and is split
    /// at the ends of its objects.
    fn take_body(&mut self, bytes: &mut &[u8], most: usize, on: &mut dyn FnMut(Seen<'_>)) -> usize {
        let taken = most.min(bytes.len());
        let (mut body, rest) = bytes.split_at(taken);
        *bytes = rest;
        while let Some(end) = memchr2(b'\n', b'}', body) {
            if self.line.is_empty() {
                line(&body[..end], on);
            } else {
                self.line.extend_from_slice(&body[..end]);
                line(&self.line, on);
                self.line.clear();
            }
            body = &body[end + 1..];
        }
        self.line.extend_from_slice(body);
        taken
    }
}

/// Takes an SSE field other than the empty data of a mark, an object of a long poll, or an event's bare text.
fn line(line: &[u8], on: &mut dyn FnMut(Seen<'_>)) {
    if let Some(data) = line.strip_prefix(b"data:").filter(|data| *data != b" {") {
        on(Seen::Event(number(data.strip_prefix(b" ").unwrap_or(data)).expect("an event of ours")));
    } else if let Some(id) = line.strip_prefix(b"id:") {
        on(Seen::Id(std::str::from_utf8(id).expect("ASCII").trim()));
    } else if let Some(at) = memchr::memmem::find(line, b"\"data\":\"") {
        on(Seen::Event(number(&line[at + 8..]).expect("an event of ours")));
    } else if let Some(number) = number(line) {
        on(Seen::Event(number));
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.get(..DIGITS)?;
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}
