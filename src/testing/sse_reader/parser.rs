//! The parser of an event stream, written from the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream". Pure.

use std::{mem, time::Duration};

use bytes::Buf;

use super::{error::SseReadError, event::SseEvent};

/// Bytes in, events out, wherever the bytes are split.
pub(super) struct Parser {
    pub(super) max_block_bytes: usize,
    line: Vec<u8>,
    /// The last byte was a CR: an LF after it belongs to the same line end.
    after_cr: bool,
    is_first_line: bool,
    /// The block that is being read. Its id is the "last event ID buffer", which outlives the block.
    block: SseEvent,
    last_event_id: String,
    retry: Option<Duration>,
}

impl Parser {
    pub(super) fn new(max_block_bytes: usize) -> Self {
        Self {
            max_block_bytes,
            line: Vec::new(),
            after_cr: false,
            is_first_line: true,
            block: SseEvent::default(),
            last_event_id: String::new(),
            retry: None,
        }
    }

    pub(super) fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    pub(super) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Reads up to the end of the next event; `None` when all bytes are used up before.
    pub(super) fn read(&mut self, bytes: &mut impl Buf) -> Result<Option<SseEvent>, SseReadError> {
        while bytes.has_remaining() {
            let byte = bytes.get_u8();
            if let Some(event) = self.push(byte)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Lines end with CRLF, LF or CR. What follows the last line end is never used, because the standard discards a block
    /// that the end of the stream cuts off.
    fn push(&mut self, byte: u8) -> Result<Option<SseEvent>, SseReadError> {
        let after_cr = mem::replace(&mut self.after_cr, byte == b'\r');
        match byte {
            b'\n' if after_cr => Ok(None),
            b'\n' | b'\r' => Ok(self.end_line()),
            _ => {
                self.line.push(byte);
                let held = self.line.len() + self.block.name.len() + self.block.data.len() + self.block.id.len();
                let max = self.max_block_bytes;
                if held > max { Err(SseReadError::BlockTooLarge { max }) } else { Ok(None) }
            }
        }
    }

    fn end_line(&mut self) -> Option<SseEvent> {
        let line = mem::take(&mut self.line);
        let is_first = mem::replace(&mut self.is_first_line, false);
        // "UTF-8 decode" removes one byte order mark. Line ends are ASCII, so that each line can be decoded on its own.
        let line = if is_first { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line) } else { &line };
        if line.is_empty() {
            return self.end_block();
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        self.set(field, value.strip_prefix(' ').unwrap_or(value));
        None
    }

    /// A comment is a field with an empty name; it is ignored, as are fields that the standard does not define.
    fn set(&mut self, field: &str, value: &str) {
        match field {
            "event" => value.clone_into(&mut self.block.name),
            "data" => self.block.data.extend([value, "\n"]),
            "id" if !value.contains('\0') => value.clone_into(&mut self.block.id),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                // Neither an empty value nor one that is too large is a delay.
                if let Ok(millis) = value.parse() {
                    self.block.retry = Some(Duration::from_millis(millis));
                    self.retry = self.block.retry;
                }
            }
            _ => {}
        }
    }

    fn end_block(&mut self) -> Option<SseEvent> {
        self.last_event_id.clone_from(&self.block.id);
        let next = SseEvent { id: self.block.id.clone(), ..SseEvent::default() };
        let mut event = mem::replace(&mut self.block, next);
        // Each `data` field has added a line feed; without any the block is no event.
        event.data.pop()?;
        if event.name.is_empty() {
            event.name.push_str("message");
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, data and id of the events.
    fn parse(stream: &[u8]) -> Vec<(String, String, String)> {
        parse_with(&mut Parser::new(1000), stream)
    }

    fn parse_with(parser: &mut Parser, mut stream: &[u8]) -> Vec<(String, String, String)> {
        let events = std::iter::from_fn(|| parser.read(&mut stream).unwrap());
        events.map(|event| (event.name, event.data, event.id)).collect()
    }

    fn event(name: &str, data: &str, id: &str) -> (String, String, String) {
        (name.to_owned(), data.to_owned(), id.to_owned())
    }

    #[test]
    fn the_examples_of_the_standard_are_parsed_as_it_says() {
        assert_eq!(parse(b"data: YHOO\ndata: +2\ndata: 10\n\n"), [event("message", "YHOO\n+2\n10", "")]);
        let four = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
        let expected = [
            event("message", "first event", "1"),
            event("message", "second event", ""),
            event("message", " third event", ""),
        ];
        assert_eq!(parse(four), expected);
        assert_eq!(parse(b"data\n\ndata\ndata\n\ndata:"), [event("message", "", ""), event("message", "\n", "")]);
        assert_eq!(parse(b"data:test\n\ndata: test\n\n"), vec![event("message", "test", ""); 2]);
        assert_eq!(parse(b"event: add\ndata: 73857293\n\n"), [event("add", "73857293", "")]);
    }

    #[test]
    fn every_line_end_is_one_wherever_the_bytes_are_split() {
        let stream = "\u{feff}event: a\r\ndata: \u{e9}\rdata: \u{1f600}\nid: 7\r\n\r\ndata: b\r\rdata: cut off\n";
        let expected = [event("a", "\u{e9}\n\u{1f600}", "7"), event("message", "b", "7")];
        for cut in 0..=stream.len() {
            let mut parser = Parser::new(1000);
            let (left, right) = stream.as_bytes().split_at(cut);
            let mut events = parse_with(&mut parser, left);
            events.extend(parse_with(&mut parser, right));
            assert_eq!(events, expected, "split at {cut}");
        }
    }

    #[test]
    fn one_byte_order_mark_at_the_start_is_removed_and_no_other() {
        assert_eq!(
            parse("\u{feff}data: a\n\n\u{feff}data: b\n\ndata: \u{feff}c\n\n".as_bytes()),
            [event("message", "a", ""), event("message", "\u{feff}c", "")]
        );
        assert_eq!(parse("\u{feff}\u{feff}data: a\n\n".as_bytes()), []);
    }

    #[test]
    fn an_id_counts_from_the_end_of_its_block_and_stays_until_the_next() {
        let mut parser = Parser::new(1000);
        assert_eq!(parse_with(&mut parser, b"id: 1\n\nid: 2\n"), []);
        assert_eq!(parser.last_event_id(), "1");
        assert_eq!(
            parse_with(&mut parser, b"data: a\n\ndata: b\n\n"),
            [event("message", "a", "2"), event("message", "b", "2")]
        );
        // An id with NUL is ignored, and an empty one resets it.
        assert_eq!(
            parse_with(&mut parser, b"id: 3\0\ndata: c\n\nid\ndata: d\n\n"),
            [event("message", "c", "2"), event("message", "d", "")]
        );
    }

    #[test]
    fn only_a_number_is_a_reconnection_delay() {
        let mut parser = Parser::new(1000);
        for ignored in
            ["retry: 4x", "retry: -4", "retry: +4", "retry:", "retry", "retry:  4", "retry: 99999999999999999999"]
        {
            assert_eq!(parse_with(&mut parser, format!("{ignored}\n\n").as_bytes()), []);
            assert_eq!(parser.retry(), None, "{ignored}");
        }
        assert_eq!(parse_with(&mut parser, b"retry: 040\n\n"), []);
        assert_eq!(parser.retry(), Some(Duration::from_millis(40)));
    }

    #[test]
    fn comments_and_unknown_fields_are_ignored() {
        let stream = b":\n: data: a\nfoo: bar\nfoo\nDATA: b\n data: c\ndata : d\n\ndata: e\n\n";
        assert_eq!(parse(stream), [event("message", "e", "")]);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        assert_eq!(parse(b"data: a\xffb\n\n"), [event("message", "a\u{fffd}b", "")]);
    }

    #[test]
    fn what_is_held_of_a_block_is_bounded() {
        let read = |stream: &str| Parser::new(10).read(&mut stream.as_bytes());
        assert!(read("data: 1234\n\n").is_ok_and(|event| event.is_some()));
        for large in ["data: 12345", "0123456789a", "id: 123456\ndata:", "event: 1\ndata:1234\ndata:"] {
            assert!(matches!(read(large), Err(SseReadError::BlockTooLarge { max: 10 })), "{large}");
        }
        // Nothing is held of comments, so that a stream may have any number of them.
        assert!(read(&": hello\n".repeat(1000)).is_ok());
    }
}
