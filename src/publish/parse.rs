//! Parses a body into what is appended, all or nothing. Waits for nothing, but yields during a long batch.

use bytes::Bytes;
use http::StatusCode;
use memchr::memchr;

use super::{
    event::{PublishLimits, check_event, event_of_line, malformed},
    line_numbers::LineNumbers,
    request_head::{AfterAppend, ContentType, RequestHead},
};
use crate::{
    event::{Data, Event},
    problem::Problem,
    request::{BadParameter, trim},
    store::Append,
};

/// What a publish appends, by the form that the response takes.
#[derive(Debug)]
pub(super) enum ParsedBody {
    Single(Append),
    Batch(Append, LineNumbers),
}

pub(super) async fn parse(head: RequestHead, body: Bytes, limits: &PublishLimits) -> Result<ParsedBody, Problem> {
    let close = |append: Append| if head.after_append == AfterAppend::Close { append.closing() } else { append };
    if body.is_empty() && head.after_append == AfterAppend::Close {
        return Ok(ParsedBody::Batch(close(Append::new([])), LineNumbers::default()));
    }
    let data = match head.content_type {
        Err(problem) => return Err(problem),
        Ok(ContentType::Ndjson) => {
            let (events, line_numbers) = parse_batch(&head, without_byte_order_mark(&body), limits).await?;
            return Ok(ParsedBody::Batch(close(Append::new(events)), line_numbers));
        }
        Ok(ContentType::Json) => Data::from_json(without_byte_order_mark(&body)).map_err(malformed)?,
        // A byte order mark is kept: a text is exactly what was sent.
        Ok(ContentType::Text) => Data::text_from_utf8(body)
            .map_err(|at| Problem::from(BadParameter::new("body", format!("is not valid UTF-8: {at}"))))?,
    };
    let mut event = head.apply(Event::new(data))?;
    if let Some(key) = &head.key {
        event = event.keyed(key.as_str())?;
    }
    check_event(&event, limits)?;
    Ok(ParsedBody::Single(close(Append::new([event]))))
}

/// JSON without the byte order mark that some editors and libraries put before it (RFC 8259, section 8.1: a parser may ignore
/// it).
fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Parses one event per line. A long batch yields between turns, so that it does not block other tasks of its thread.
async fn parse_batch(
    head: &RequestHead,
    body: &[u8],
    limits: &PublishLimits,
) -> Result<(Vec<Event>, LineNumbers), Problem> {
    let mut parser =
        BatchParser { rest: Some(body), line_number: 1, events: Vec::new(), line_numbers: LineNumbers::default() };
    while parser.parse_turn(head, limits)? == Remaining::More {
        tokio::task::yield_now().await;
    }
    Ok((parser.events, parser.line_numbers))
}

/// A batch of which the first lines are parsed.
struct BatchParser<'a> {
    /// `None` at the end.
    rest: Option<&'a [u8]>,
    /// The number of the line that `rest` begins with. Blank lines are skipped, but counted, so that the numbers are those
    /// that an editor shows.
    line_number: u64,
    events: Vec<Event>,
    line_numbers: LineNumbers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remaining {
    More,
    Nothing,
}

/// Maximum lines of a turn: well below a millisecond of work.
const LINES_PER_TURN: usize = 256;
/// A turn ends with the line that exceeds this many bytes.
const BYTES_PER_TURN: usize = 64 << 10;

impl BatchParser<'_> {
    fn parse_turn(&mut self, head: &RequestHead, limits: &PublishLimits) -> Result<Remaining, Problem> {
        let mut bytes = 0;
        for _ in 0..LINES_PER_TURN {
            let Some(rest) = self.rest else { return Ok(Remaining::Nothing) };
            let end = memchr(b'\n', rest);
            let (line, rest) = rest.split_at(end.unwrap_or(rest.len()));
            self.rest = end.and_then(|_| rest.get(1..));
            self.parse_line(trim(line), head, limits).map_err(|problem| problem.member("line", self.line_number))?;
            self.line_number += 1;
            bytes += line.len();
            if bytes > BYTES_PER_TURN {
                break;
            }
        }
        Ok(Remaining::More)
    }

    fn parse_line(&mut self, line: &[u8], head: &RequestHead, limits: &PublishLimits) -> Result<(), Problem> {
        if line.is_empty() {
            return Ok(());
        }
        if self.events.len() >= limits.max_events {
            return Err(too_many(limits.max_events));
        }
        self.events.push(event_of_line(head, line, self.line_number, limits)?);
        self.line_numbers.0.push(self.line_number);
        Ok(())
    }
}

/// The number is limited as well, because an event costs a store and its readers far more than the few bytes of a short line.
fn too_many(max: usize) -> Problem {
    let detail = format!("the batch has too many events: at most {max} are accepted");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).kind("too-large").parameter("body")
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use proptest::prelude::*;

    use super::*;
    use crate::{event::EventKey, store::Clock};

    fn limits() -> PublishLimits {
        PublishLimits { max_body: 1000, max_events: 4, max_event: 300, max_depth: 128, clock: Clock::new(|| 1_000) }
    }

    /// `parse` waits for nothing, so it only has to be polled until it is done.
    fn parse(head: RequestHead, body: Bytes, limits: &PublishLimits) -> Result<ParsedBody, Problem> {
        let mut parsing = pin!(super::parse(head, body, limits));
        loop {
            if let Poll::Ready(parsed) = parsing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return parsed;
            }
        }
    }

    fn head(content_type: ContentType, key: Option<&str>) -> RequestHead {
        let key = key.map(|key| EventKey::new(key).unwrap());
        RequestHead { content_type: Ok(content_type), after_append: AfterAppend::KeepOpen, key, name: None, time: None }
    }

    fn events(head: RequestHead, body: &str) -> Result<Vec<Event>, (u16, String)> {
        match parse(head, Bytes::copy_from_slice(body.as_bytes()), &limits()) {
            Ok(ParsedBody::Single(append) | ParsedBody::Batch(append, _)) => Ok(append.events),
            Err(problem) => Err((problem.status().as_u16(), format!("{problem:?}"))),
        }
    }

    #[test]
    fn a_body_is_one_event() {
        assert_eq!(events(head(ContentType::Json, None), " {\"a\": 1} ").unwrap()[0].data().as_shown(), "{\"a\":1}");
        assert_eq!(events(head(ContentType::Text, None), "").unwrap()[0].data().as_text(), Some(""));
        let keyed = events(head(ContentType::Text, Some("k")), "\u{feff}x\r\n").unwrap();
        assert_eq!(keyed[0].data().as_text(), Some("\u{feff}x\r\n"));
        assert_eq!(keyed[0].key().unwrap().as_str(), "k");
        for bad in ["", "{", "1 2", "{\"a\":1}x"] {
            assert_eq!(events(head(ContentType::Json, None), bad).unwrap_err().0, 400, "{bad}");
        }
        assert!(parse(head(ContentType::Text, None), Bytes::from_static(b"\xff"), &limits()).is_err());
    }

    #[test]
    fn each_line_is_an_event_with_its_own_key() {
        let body = "{\"data\":1}\r\n\n {\"data\":\"x\",\"name\":\"n\",\"time\":5,\"key\":\"own\"}\n{\"data\":null,\"name\":null}";
        let read =
            events(RequestHead { name: Some("default".into()), ..head(ContentType::Ndjson, Some("k")) }, body).unwrap();
        let keys: Vec<_> = read.iter().map(|event| event.key().unwrap().as_str()).collect();
        assert_eq!(keys, ["k/1", "own", "k/4"]);
        let names: Vec<_> = read.iter().map(|event| event.name().unwrap().as_str()).collect();
        assert_eq!(names, ["default", "n", "default"]);
        assert_eq!((read[1].time(), read[2].data().as_shown()), (Some(5), "null"));
        assert!(events(head(ContentType::Ndjson, None), "\n \r\n").unwrap().is_empty());
    }

    #[test]
    fn a_bad_line_is_named_and_nothing_is_appended() {
        let table = [
            ("{\"data\":1", 400, "line 2, column"),
            ("[1]x", 400, "line 2, column"),
            ("{\"data\":1}{\"data\":2}", 400, "trailing"),
            ("{}", 422, "missing field `data`"),
            ("{\"data\":1,\"nmae\":\"x\"}", 422, "unknown field `nmae`"),
            ("{\"data\":1,\"time\":-1}", 422, "`time`: invalid value"),
            ("{\"data\":1,\"name\":2}", 422, "`name`: invalid type"),
            ("{\"data\":1,\"key\":[]}", 422, "`key`: invalid type"),
            ("{\"data\":1,\"time\":9999999999999999}", 422, "Unix milliseconds"),
            ("{\"data\":1,\"name\":\"a\\nb\"}", 422, "event name"),
            ("{\"data\":1,\"name\":\"stream-x\"}", 422, "reserved"),
            ("{\"data\":1,\"key\":\"\"}", 422, "key"),
            ("{\"data\":1,\"data\":2}", 422, "duplicate field"),
            ("1", 422, "line 2"),
            ("[1,\"n\",5,\"k\"]", 422, "must be a JSON object"),
        ];
        for (line, status, part) in table {
            let (got, text) =
                events(head(ContentType::Ndjson, None), &format!("{{\"data\":0}}\n{line}\n")).unwrap_err();
            assert_eq!(got, status, "{line} {text}");
            assert!(text.contains(part) && text.contains("\"line\": Number(2)"), "{line} {text}");
        }
        let long = "k".repeat(255);
        assert_eq!(events(head(ContentType::Ndjson, Some(&long)), "{\"data\":1}").unwrap_err().0, 400);
    }

    #[test]
    fn the_events_of_a_body_are_bounded() {
        let lines = |count| "{\"data\":1}\n\n".repeat(count);
        assert_eq!(events(head(ContentType::Ndjson, None), &lines(4)).unwrap().len(), 4);
        let (status, text) = events(head(ContentType::Ndjson, None), &lines(5)).unwrap_err();
        assert_eq!(status, 413);
        assert!(text.contains("at most 4") && text.contains("\"line\": Number(9)"), "{text}");
    }

    #[test]
    fn a_turn_is_bounded_in_lines_and_bytes() {
        let line = |bytes: usize| format!("{{\"data\":\"{}\"}}\n", "x".repeat(bytes));
        // A body, and the line number after each turn.
        let table = [
            (String::new(), vec![2]),
            ("\n".repeat(600), vec![257, 513, 602]),
            (line(1).repeat(300), vec![257, 302]),
            (line(20_000).repeat(8), vec![5, 9, 10]),
            (line(100_000).repeat(2), vec![2, 3, 4]),
        ];
        for (body, expected) in table {
            let (head, limits) =
                (head(ContentType::Ndjson, None), PublishLimits { max_events: 1_000, max_event: 1 << 20, ..limits() });
            let mut parser = BatchParser {
                rest: Some(body.as_bytes()),
                line_number: 1,
                events: Vec::new(),
                line_numbers: LineNumbers::default(),
            };
            let mut after = Vec::new();
            while parser.parse_turn(&head, &limits).unwrap() == Remaining::More {
                after.push(parser.line_number);
            }
            after.extend((after.last() != Some(&parser.line_number)).then_some(parser.line_number));
            assert_eq!(after, expected, "{} bytes", body.len());
        }
    }

    #[test]
    fn an_empty_body_can_only_close() {
        let closing = |content_type| RequestHead { after_append: AfterAppend::Close, ..head(content_type, None) };
        for content_type in [ContentType::Json, ContentType::Text, ContentType::Ndjson] {
            let Ok(ParsedBody::Batch(append, _)) = parse(closing(content_type), Bytes::new(), &limits()) else {
                panic!("{content_type:?}")
            };
            assert!(append.close && append.events.is_empty());
        }
        let Ok(ParsedBody::Single(append)) = parse(closing(ContentType::Json), Bytes::from_static(b"1"), &limits())
        else {
            panic!()
        };
        assert!(append.close && append.events.len() == 1);
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..120)) {
            for content_type in [ContentType::Json, ContentType::Text, ContentType::Ndjson] {
                let _ = parse(head(content_type, Some("k")), Bytes::from(body.clone()), &limits());
            }
        }
    }
}
