//! An open event stream, read with [`Parser`].

use std::{collections::VecDeque, time::Duration};

use http::HeaderMap;

use super::{
    client::{BodyStream, ConnectionError, Opened},
    stream_parser::{Message, Parser},
};

/// An open event stream. Dropping it cuts the connection.
pub struct Sse {
    pub headers: HeaderMap,
    body: BodyStream,
    parser: Parser,
    ready: VecDeque<Message>,
    /// The `stream-live` events, kept apart because most tests ignore them.
    marks: VecDeque<Message>,
    raw: Vec<u8>,
}

impl Sse {
    pub(super) fn new(opened: Opened) -> Self {
        let Opened { headers, body, .. } = opened;
        let (ready, marks) = (VecDeque::new(), VecDeque::new());
        Self { headers, body, parser: Parser::default(), ready, marks, raw: Vec::new() }
    }

    /// The next event other than `stream-live`; panics if the stream ends.
    pub async fn next(&mut self) -> Message {
        match self.next_or_end().await {
            Some(message) => message,
            None => panic!("the stream ended after {:?}", self.text()),
        }
    }

    /// The next event other than `stream-live` among what was read.
    pub fn received(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    /// The next `count` events.
    pub async fn take(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::with_capacity(count);
        while messages.len() < count {
            messages.push(self.next().await);
        }
        messages
    }

    /// The data of the next `count` events.
    pub async fn data(&mut self, count: usize) -> Vec<String> {
        self.take(count).await.into_iter().map(|message| message.data).collect()
    }

    /// The next event other than `stream-live`, or `None` when the stream has ended properly; panics if it is cut off.
    pub async fn next_or_end(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if !self.read_more().await.unwrap_or_else(|error| panic!("{error} after {:?}", self.text())) {
                return None;
            }
        }
    }

    /// All events up to the end of the stream.
    pub async fn remaining(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.next_or_end().await {
            messages.push(message);
        }
        messages
    }

    /// The next `stream-live`; other events before it stay available.
    pub async fn live(&mut self) -> Message {
        loop {
            if let Some(mark) = self.marks.pop_front() {
                return mark;
            }
            assert!(self.read_more().await.expect("a body"), "the stream ended after {:?}", self.text());
        }
    }

    /// How many `stream-live` events were received and not yet returned by [`Sse::live`].
    pub fn marks(&self) -> usize {
        self.marks.len()
    }

    /// Reads until the first block has ended.
    pub async fn first_block(&mut self) -> &str {
        while !self.raw.windows(2).any(|two| two == b"\n\n") {
            assert!(self.read_more().await.expect("a body"), "the stream ended after {:?}", self.text());
        }
        self.text()
    }

    /// Panics if an event arrives, or the stream ends, within `time`. For paused clocks.
    pub async fn stays_silent(&mut self, time: Duration) {
        if let Ok(message) = tokio::time::timeout(time, self.next_or_end()).await {
            panic!("{message:?} arrived within {time:?}");
        }
    }

    /// Cuts the connection after exactly `bytes` bytes of the body: returns the events in those bytes except `stream-live`,
    /// and the id from which a client would resume.
    pub async fn cut_after(mut self, bytes: usize) -> (Vec<Message>, String) {
        while self.raw.len() < bytes {
            assert!(self.read_more().await.expect("a body"), "the stream ended before byte {bytes}");
        }
        let mut parser = Parser::default();
        let mut messages = parser.push(&self.raw[..bytes]);
        messages.retain(|message| message.name != LIVE);
        (messages, parser.last_event_id)
    }

    /// The `Last-Event-ID` that a client would reconnect with now.
    pub fn last_event_id(&self) -> &str {
        &self.parser.last_event_id
    }

    /// The last `retry:`.
    pub fn retry(&self) -> Option<Duration> {
        self.parser.retry.map(Duration::from_millis)
    }

    /// The parser, for comments and unknown fields.
    pub fn parser(&self) -> &Parser {
        &self.parser
    }

    /// All bytes read so far.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// All bytes read so far, as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.raw).expect("whole characters")
    }

    /// Reads the next chunk of the body; `false` when it has ended.
    pub async fn read_more(&mut self) -> Result<bool, ConnectionError> {
        let Some(chunk) = self.body.chunk().await? else { return Ok(false) };
        self.raw.extend_from_slice(&chunk);
        for message in self.parser.push(&chunk) {
            if message.name == LIVE { self.marks.push_back(message) } else { self.ready.push_back(message) }
        }
        Ok(true)
    }
}

const LIVE: &str = "stream-live";
