//! One client connection: sends ready-made requests, takes HTTP/1.1 answers apart, and checks the numbers of the events.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
};

use mio::net::TcpStream;

/// What an event's text looks like: its number in ten digits, then padding. See [`payload`].
const DIGITS: usize = 10;

/// The text of event `number`, 100 bytes.
pub(crate) fn payload(number: u64) -> String {
    format!("{number:0DIGITS$} {}", "x".repeat(100 - DIGITS - 1))
}

pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    parser: Parser,
    /// The number that the next event must have.
    pub(crate) expected: Option<u64>,
    /// Events seen.
    pub(crate) events: u64,
    /// Where to go on.
    pub(crate) last_id: String,
}

impl Connection {
    pub(crate) fn open(addr: SocketAddr) -> Self {
        let stream = std::net::TcpStream::connect(addr).expect("the server accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_nonblocking(true).expect("non-blocking");
        let stream = TcpStream::from_std(stream);
        Self { stream, parser: Parser::default(), expected: None, events: 0, last_id: String::new() }
    }

    /// Requests are small: the socket takes them whole.
    pub(crate) fn send(&mut self, request: &[u8]) {
        let mut rest = request;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("the server is gone: {error}"),
            }
        }
    }

    /// Reads all there is; calls `on_event` with each event's number. Says how many answers were completed.
    pub(crate) fn read(&mut self, buffer: &mut [u8], mut on_event: impl FnMut(u64)) -> usize {
        let mut completed = 0;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return completed,
                Ok(count) => {
                    let (expected, events, last_id) = (&mut self.expected, &mut self.events, &mut self.last_id);
                    completed += self.parser.push(&buffer[..count], &mut |line| match line {
                        Line::Event(number) => {
                            if let Some(expected) = expected {
                                assert_eq!(number, *expected, "lost, repeated or out of order");
                            }
                            *expected = Some(number + 1);
                            *events += 1;
                            on_event(number);
                        }
                        Line::Id(id) => id.clone_into(last_id),
                    });
                    if count < buffer.len() {
                        return completed;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return completed,
                Err(error) => panic!("the connection broke: {error}"),
            }
        }
    }
}

/// What a line of an answer means to a client.
enum Line<'a> {
    Event(u64),
    Id(&'a str),
}

/// HTTP/1.1 framing, and the lines of what is inside.
#[derive(Default)]
struct Parser {
    state: State,
    /// A line that is not complete.
    line: Vec<u8>,
    chunked: bool,
    length: usize,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Body(usize),
}

impl Parser {
    /// Says how many answers were completed.
    fn push(&mut self, mut bytes: &[u8], on_line: &mut dyn FnMut(Line<'_>)) -> usize {
        let mut completed = 0;
        while !bytes.is_empty() {
            match self.state {
                State::Head => {
                    let Some(line) = self.take_line(&mut bytes) else { break };
                    if line.is_empty() {
                        self.state = if self.chunked { State::ChunkSize } else { State::Body(self.length) };
                        if self.state == State::Body(0) {
                            completed += self.complete();
                        }
                    } else {
                        self.head_line(&line, on_line);
                    }
                }
                State::ChunkSize => {
                    let Some(line) = self.take_line(&mut bytes) else { break };
                    let size = usize::from_str_radix(std::str::from_utf8(&line).expect("ASCII"), 16).expect("a size");
                    self.state = if size == 0 { State::ChunkEnd } else { State::Chunk(size) };
                    self.length = size;
                }
                State::ChunkEnd => {
                    let Some(_) = self.take_line(&mut bytes) else { break };
                    match self.length {
                        0 => completed += self.complete(),
                        _ => self.state = State::ChunkSize,
                    }
                }
                State::Chunk(left) | State::Body(left) => {
                    let taken = left.min(bytes.len());
                    let (body, rest) = bytes.split_at(taken);
                    bytes = rest;
                    self.body(body, on_line);
                    self.state = match (self.state, left - taken) {
                        (State::Body(_), 0) => {
                            completed += self.complete();
                            State::Head
                        }
                        (State::Body(_), left) => State::Body(left),
                        (_, 0) => State::ChunkEnd,
                        (_, left) => State::Chunk(left),
                    };
                }
            }
        }
        completed
    }

    fn complete(&mut self) -> usize {
        *self = Self::default();
        1
    }

    /// A line without its end, once it is whole.
    fn take_line(&mut self, bytes: &mut &[u8]) -> Option<Vec<u8>> {
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                self.line.extend_from_slice(&bytes[..end]);
                *bytes = &bytes[end + 1..];
                if self.line.last() == Some(&b'\r') {
                    self.line.pop();
                }
                Some(std::mem::take(&mut self.line))
            }
            None => {
                self.line.extend_from_slice(bytes);
                *bytes = &[];
                None
            }
        }
    }

    fn head_line(&mut self, line: &[u8], on_line: &mut dyn FnMut(Line<'_>)) {
        let line = std::str::from_utf8(line).expect("ASCII");
        if line.starts_with("HTTP/") {
            assert!(line.starts_with("HTTP/1.1 20"), "{line}");
            return;
        }
        let Some((name, value)) = line.split_once(':') else { return };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "transfer-encoding" => self.chunked = value == "chunked",
            "content-length" => self.length = value.parse().expect("a length"),
            "last-event-id" => on_line(Line::Id(value)),
            _ => {}
        }
    }

    /// Events by their `data:` or `"data":"` and the digits behind it; ids by their line. What is cut in two waits.
    fn body(&mut self, body: &[u8], on_line: &mut dyn FnMut(Line<'_>)) {
        let mut start = 0;
        // A JSON array has no lines: it is cut at its objects.
        for end in body.iter().enumerate().filter(|(_, byte)| matches!(byte, b'\n' | b'}')).map(|(at, _)| at) {
            if self.line.is_empty() {
                line(&body[start..end], on_line);
            } else {
                self.line.extend_from_slice(&body[start..end]);
                line(&self.line, on_line);
                self.line.clear();
            }
            start = end + 1;
        }
        self.line.extend_from_slice(&body[start..]);
    }
}

fn line(line: &[u8], on_line: &mut dyn FnMut(Line<'_>)) {
    if let Some(data) = line.strip_prefix(b"data:") {
        on_line(Line::Event(number(data.strip_prefix(b" ").unwrap_or(data))));
    } else if let Some(id) = line.strip_prefix(b"id:") {
        on_line(Line::Id(std::str::from_utf8(id).expect("ASCII").trim()));
    } else if let Some(at) = line.windows(8).position(|window| window == b"\"data\":\"") {
        on_line(Line::Event(number(&line[at + 8..])));
    }
}

fn number(text: &[u8]) -> u64 {
    let digits = text.get(..DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).expect("an event of ours")
}
