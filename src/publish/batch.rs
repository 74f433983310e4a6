//! From a body to what is appended. Pure; all or nothing.

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::head::{Close, Head, Media};
use crate::{
    error::InvalidEvent,
    event::{Data, Event, EventKey},
    problem::Problem,
    request::{BadParameter, trim},
    store::Append,
};

/// What a publish appends, and how its answer names it.
#[derive(Debug)]
pub(super) enum Batch {
    One(Append),
    Several(Append),
}

/// At most `most` events.
pub(super) fn batch(head: Head, body: Bytes, most: usize) -> Result<Batch, Problem> {
    let close = |append: Append| if head.close == Close::Close { append.closing() } else { append };
    if body.is_empty() && head.close == Close::Close {
        return Ok(Batch::Several(close(Append::new([]))));
    }
    let data = match head.media {
        Err(problem) => return Err(problem),
        Ok(Media::Lines) => return Ok(Batch::Several(close(Append::new(lines(&head, &body, most)?)))),
        Ok(Media::Json) => Data::from_json(&body).map_err(malformed)?,
        Ok(Media::Text) => Data::text_from_utf8(body)
            .map_err(|at| Problem::from(BadParameter::new("body", format!("is not UTF-8: {at}"))))?,
    };
    let mut event = head.apply(Event::new(data))?;
    if let Some(key) = &head.key {
        event = event.keyed(key.as_str())?;
    }
    Ok(Batch::One(close(Append::new([event]))))
}

/// One event a line (`application/x-ndjson`); blank lines are skipped, yet counted, so that numbers are those of an editor.
fn lines(head: &Head, body: &[u8], most: usize) -> Result<Vec<Event>, Problem> {
    let numbered = body.split(|&byte| byte == b'\n').map(trim).zip(1_u64..);
    let mut filled = numbered.filter(|(line, _)| !line.is_empty());
    let event = |(line, number)| event(head, line, number).map_err(|problem: Problem| problem.member("line", number));
    let events = filled.by_ref().take(most).map(event).collect::<Result<_, _>>()?;
    match filled.next() {
        None => Ok(events),
        Some((_, number)) => Err(too_many(most).member("line", number)),
    }
}

/// Each event costs a store and its readers far more than the few bytes that a short line has.
fn too_many(most: usize) -> Problem {
    let detail = format!("more events than are taken at once: at most {most}");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).kind("too-large").parameter("body")
}

fn event(head: &Head, line: &[u8], number: u64) -> Result<Event, Problem> {
    let value: &RawValue = serde_json::from_slice(line).map_err(|error| bad_line(&error, number))?;
    // An array of four would do for serde.
    if !value.get().starts_with('{') {
        return Err(invalid_line(format!("line {number}: must be an object with `data`")));
    }
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| bad_line(&error, number))?;
    let data = Data::from_json(line.data.get()).map_err(malformed)?;
    let mut event = head.apply(Event::new(data))?;
    if let Some(name) = field::<String>(line.name, "name", number)? {
        event = event.named(name)?;
    }
    if let Some(time) = field(line.time, "time", number)? {
        event = event.at(time)?;
    }
    match (field::<String>(line.key, "key", number)?, &head.key) {
        (Some(own), _) => Ok(event.keyed(own)?),
        (None, Some(shared)) => keyed(event, shared, number),
        (None, None) => Ok(event),
    }
}

/// A repeated batch has the same numbers, so every event of it is recognised by itself.
fn keyed(event: Event, shared: &EventKey, number: u64) -> Result<Event, Problem> {
    let key = format!("{}/{number}", shared.as_str());
    event.keyed(key).map_err(|_| BadParameter::new("Idempotency-Key", "is too long to number the lines with").into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    name: Option<&'a RawValue>,
    time: Option<&'a RawValue>,
    key: Option<&'a RawValue>,
}

/// Read by itself, so that the error can name the field: serde's own does not.
fn field<T: DeserializeOwned>(value: Option<&RawValue>, name: &str, number: u64) -> Result<Option<T>, Problem> {
    let read = value.map(|value| serde_json::from_str(value.get())).transpose();
    read.map_err(|error| invalid_line(format!("line {number}: `{name}`: {}", reason(&error))))
}

/// What is no JSON is malformed; what is JSON, but not an event, is invalid.
fn bad_line(error: &serde_json::Error, number: u64) -> Problem {
    let detail = format!("line {number}, column {}: {}", error.column(), reason(error));
    match error.is_data() {
        true => invalid_line(detail),
        false => BadParameter::new("body", detail).into(),
    }
}

fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // Each line is read alone, so serde's own line number is always 1.
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    // It may quote the line, which may be long.
    reason.chars().take(200).collect()
}

fn invalid_line(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).kind("invalid-event").parameter("body")
}

fn malformed(invalid: InvalidEvent) -> Problem {
    match invalid {
        InvalidEvent::Json(source) => BadParameter::new("body", format!("is not one JSON value: {source}")).into(),
        invalid => invalid.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(media: Media, key: Option<&str>) -> Head {
        let key = key.map(|key| EventKey::new(key).unwrap());
        Head { media: Ok(media), close: Close::Keep, key, name: None, time: None }
    }

    fn events(head: Head, body: &str) -> Result<Vec<Event>, (u16, String)> {
        match batch(head, Bytes::copy_from_slice(body.as_bytes()), 4) {
            Ok(Batch::One(append) | Batch::Several(append)) => Ok(append.events),
            Err(problem) => Err((problem.status().as_u16(), format!("{problem:?}"))),
        }
    }

    #[test]
    fn a_body_is_one_event() {
        assert_eq!(events(head(Media::Json, None), " {\"a\": 1} ").unwrap()[0].data().as_shown(), "{\"a\":1}");
        assert_eq!(events(head(Media::Text, None), "").unwrap()[0].data().as_text(), Some(""));
        let keyed = events(head(Media::Text, Some("k")), "\u{feff}x\r\n").unwrap();
        assert_eq!(keyed[0].data().as_text(), Some("\u{feff}x\r\n"));
        assert_eq!(keyed[0].key().unwrap().as_str(), "k");
        for bad in ["", "{", "1 2", "{\"a\":1}x"] {
            assert_eq!(events(head(Media::Json, None), bad).unwrap_err().0, 400, "{bad}");
        }
        assert!(batch(head(Media::Text, None), Bytes::from_static(b"\xff"), 1).is_err());
    }

    #[test]
    fn lines_are_events_with_keys_of_their_own() {
        let body = "{\"data\":1}\r\n\n {\"data\":\"x\",\"name\":\"n\",\"time\":5,\"key\":\"own\"}\n{\"data\":null,\"name\":null}";
        let read = events(Head { name: Some("default".into()), ..head(Media::Lines, Some("k")) }, body).unwrap();
        let keys: Vec<_> = read.iter().map(|event| event.key().unwrap().as_str()).collect();
        assert_eq!(keys, ["k/1", "own", "k/4"]);
        let names: Vec<_> = read.iter().map(|event| event.name().unwrap().as_str()).collect();
        assert_eq!(names, ["default", "n", "default"]);
        assert_eq!((read[1].time(), read[2].data().as_shown()), (Some(5), "null"));
        assert!(events(head(Media::Lines, None), "\n \r\n").unwrap().is_empty());
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
            ("[1,\"n\",5,\"k\"]", 422, "must be an object"),
        ];
        for (line, status, part) in table {
            let (got, text) = events(head(Media::Lines, None), &format!("{{\"data\":0}}\n{line}\n")).unwrap_err();
            assert_eq!(got, status, "{line} {text}");
            assert!(text.contains(part) && text.contains("\"line\": Number(2)"), "{line} {text}");
        }
        let long = "k".repeat(255);
        assert_eq!(events(head(Media::Lines, Some(&long)), "{\"data\":1}").unwrap_err().0, 400);
    }

    #[test]
    fn the_events_of_a_body_are_bounded() {
        let lines = |count| "{\"data\":1}\n\n".repeat(count);
        assert_eq!(events(head(Media::Lines, None), &lines(4)).unwrap().len(), 4);
        let (status, text) = events(head(Media::Lines, None), &lines(5)).unwrap_err();
        assert_eq!(status, 413);
        assert!(text.contains("at most 4") && text.contains("\"line\": Number(9)"), "{text}");
    }

    #[test]
    fn an_empty_body_can_only_close() {
        let closing = |media| Head { close: Close::Close, ..head(media, None) };
        for media in [Media::Json, Media::Text, Media::Lines] {
            let Ok(Batch::Several(append)) = batch(closing(media), Bytes::new(), 1) else { panic!("{media:?}") };
            assert!(append.close && append.events.is_empty());
        }
        let Ok(Batch::One(append)) = batch(closing(Media::Json), Bytes::from_static(b"1"), 1) else { panic!() };
        assert!(append.close && append.events.len() == 1);
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..120)) {
            for media in [Media::Json, Media::Text, Media::Lines] {
                let _ = batch(head(media, Some("k")), Bytes::from(body.clone()), 10);
            }
        }
    }
}
