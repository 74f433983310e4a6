//! Events and this crate's own messages as the text of a `text/event-stream` (WHATWG HTML, section 9.2). Pure functions.
//! Lines end with LF, and there are no fields but those of the specification. Every block has data, because some clients
//! dispatch an empty event for a block without data, or take no id from it. `id:` comes last in a block: a popular client
//! commits the id when it sees the line, and would lose the event if the connection broke in between.

use std::{io::Write as _, time::Duration};

use memchr::memchr2;
use serde::Serialize;

use super::{
    escape::escape_breaks,
    object::{Kind, object, object_for, snapshot_object},
    values::{CORRUPT, millis},
    view::View,
};
use crate::{
    channel::Channel,
    cursor::{Cursor, Cursors},
    hub::{Closed, Delimiters, Encoding, Failed, Reset},
    request::Format,
    store::Entry,
};

/// Whether events have ids that all streams share, or each stream has tokens of its own: with several channels, and with a
/// filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    Shared,
    OfStream,
}

/// The encoding of events; it leaves out ids that are not shared.
pub(crate) fn encoding_for(format: Format, ids: Ids, kind: Kind) -> &'static Encoding {
    match (format, ids, kind) {
        (Format::Text, Ids::Shared, _) => &TEXT,
        (Format::Text, Ids::OfStream, _) => &TEXT_WITHOUT_ID,
        (Format::Json, Ids::Shared, Kind::Event) => &JSON,
        (Format::Json, Ids::OfStream, Kind::Event) => &JSON_WITHOUT_ID,
        (Format::Json, Ids::Shared, Kind::Snapshot) => &SNAPSHOT_JSON,
        (Format::Json, Ids::OfStream, Kind::Snapshot) => &SNAPSHOT_JSON_WITHOUT_ID,
    }
}

static TEXT: Encoding = Encoding { delimiters: Delimiters::NONE, encode: text };
static TEXT_WITHOUT_ID: Encoding = Encoding { delimiters: Delimiters::NONE, encode: text_without_id };
static JSON: Encoding = Encoding { delimiters: Delimiters::NONE, encode: json };
static SNAPSHOT_JSON: Encoding = Encoding { delimiters: Delimiters::NONE, encode: snapshot_json };
static SNAPSHOT_JSON_WITHOUT_ID: Encoding = Encoding { delimiters: Delimiters::NONE, encode: snapshot_json_without_id };
static JSON_WITHOUT_ID: Encoding = Encoding { delimiters: Delimiters::NONE, encode: json_without_id };

fn text(entry: &Entry, out: &mut Vec<u8>) {
    text_without_id(entry, out);
    push_cursor_and_end(out, entry.cursor);
}

fn json(entry: &Entry, out: &mut Vec<u8>) {
    json_without_id(entry, out);
    push_cursor_and_end(out, entry.cursor);
}

/// A block without its id and its end.
fn text_without_id(entry: &Entry, out: &mut Vec<u8>) {
    if let Some(name) = &entry.name {
        push_field(out, "event", name.as_str());
    }
    match entry.data.as_text() {
        Some(text) => push_data_lines(out, text),
        None => {
            let start = out.len();
            push_field(out, "data", entry.data.as_shown());
            escape_breaks(out, start);
        }
    }
}

fn json_without_id(entry: &Entry, out: &mut Vec<u8>) {
    push_object_line(out, |out| object(entry, out));
}

fn snapshot_json(entry: &Entry, out: &mut Vec<u8>) {
    snapshot_json_without_id(entry, out);
    push_cursor_and_end(out, entry.cursor);
}

fn snapshot_json_without_id(entry: &Entry, out: &mut Vec<u8>) {
    push_object_line(out, |out| snapshot_object(entry, out));
}

/// A block with an object as one client sees it, without its id and its end.
pub(crate) fn push_json_for(out: &mut Vec<u8>, entry: &Entry, kind: Kind, view: &View) {
    push_object_line(out, |out| object_for(entry, kind, view, out));
}

/// One line: compact JSON has no line breaks, since those in strings are escaped.
fn push_object_line(out: &mut Vec<u8>, push_object: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"data: ");
    push_object(out);
    out.push(b'\n');
}

/// An event that has neither a name nor an id.
pub(crate) fn push_data_block(out: &mut Vec<u8>, text: &str) {
    push_data_lines(out, text);
    out.push(b'\n');
}

/// The end of a block: its id, and the empty line that dispatches it.
pub(crate) fn push_id_and_end(out: &mut Vec<u8>, id: &Cursors) {
    // Writing to a vector always succeeds.
    let _ = write!(out, "id: {id}\n\n");
}

/// As [`push_id_and_end`], without the machinery of `fmt`: this is written for every event.
fn push_cursor_and_end(out: &mut Vec<u8>, id: Cursor) {
    out.extend_from_slice(b"id: ");
    out.extend_from_slice(&id.to_text());
    out.extend_from_slice(b"\n\n");
}

/// `retry:` in milliseconds, as a field of the block that follows.
pub(crate) fn push_retry_field(out: &mut Vec<u8>, retry: Duration) {
    let _ = writeln!(out, "retry: {}", millis(retry));
}

/// The history ends here; what follows was published since the stream began or was reset.
pub(crate) fn push_stream_live(out: &mut Vec<u8>, at: &Cursors) {
    push_stream_event(out, "stream-live", &EmptyData {}, at);
}

/// The last block of a stream that ends for a temporary reason: `retry` says when to come back.
pub(crate) fn push_stream_retry(out: &mut Vec<u8>, retry: Duration, at: Option<&Cursors>) {
    push_retry_field(out, retry);
    let no_position = Cursors::of([]);
    push_stream_event(out, "stream-retry", &EmptyData {}, at.unwrap_or(&no_position));
}

/// A channel could not be continued. If a snapshot follows, no position is named before it: neither in the data nor as an id.
pub(crate) fn push_stream_reset(out: &mut Vec<u8>, reset: &Reset, at: &Cursors, view: &View) {
    let position = |cursor| (!reset.snapshot_follows).then(|| view.cursor(cursor).to_string());
    let data = ResetData {
        channel: view.channel(&reset.channel),
        reason: reset.reason.as_str(),
        earliest: position(reset.earliest),
        latest: position(reset.latest),
        snapshot: reset.snapshot_follows,
    };
    match reset.snapshot_follows {
        true => push_stream_event(out, "stream-reset", &data, &Cursors::of([])),
        false => push_stream_event(out, "stream-reset", &data, at),
    }
}

/// A channel is closed and read to its end; `left` are those that are not.
pub(crate) fn push_stream_end<'a>(
    out: &mut Vec<u8>,
    closed: &Closed,
    left: impl Iterator<Item = &'a Channel>,
    at: &Cursors,
    view: &View,
) {
    let left = left.map(|channel| view.channel(channel)).collect();
    push_stream_event(out, "stream-end", &EndData { channel: view.channel(&closed.channel), left }, at);
}

/// The stored data of a channel cannot be read; its position stays the same.
pub(crate) fn push_stream_error(out: &mut Vec<u8>, failed: &Failed, at: &Cursors, view: &View) {
    push_stream_event(out, "stream-error", &ErrorData { channel: view.channel(&failed.channel), reason: CORRUPT }, at);
}

/// A heartbeat that scripts can see; `time` is the server's, since the Unix epoch.
pub(crate) fn push_stream_ping(out: &mut Vec<u8>, time: Duration, at: &Cursors) {
    push_stream_event(out, "stream-ping", &PingData { time: millis(time) }, at);
}

/// A heartbeat that no script sees. Without an empty line, because two popular clients dispatch an event at each of them.
pub(crate) const HEARTBEAT_COMMENT: &[u8] = b":\n";

/// Without a position there is no id, so that the client keeps the one that it sent.
fn push_stream_event(out: &mut Vec<u8>, name: &str, data: &impl Serialize, at: &Cursors) {
    push_field(out, "event", name);
    let start = out.len();
    push_field(out, "data", &serde_json::to_string(data).unwrap_or_default());
    escape_breaks(out, start);
    match at.is_empty() {
        true => out.push(b'\n'),
        false => push_id_and_end(out, at),
    }
}

/// Writes one `data:` per line. WHATWG HTML, section 9.2.6: CR LF, CR and LF each end a line, so a client cannot tell which
/// of them the text had; one space after the colon is dropped, so one is always written.
fn push_data_lines(out: &mut Vec<u8>, mut text: &str) {
    while let Some((line, rest)) = split_line(text) {
        push_field(out, "data", line);
        text = rest;
    }
    push_field(out, "data", text);
}

fn split_line(text: &str) -> Option<(&str, &str)> {
    let at = memchr2(b'\n', b'\r', text.as_bytes())?;
    let (line, rest) = text.split_at_checked(at)?;
    let end = if rest.starts_with("\r\n") { 2 } else { 1 };
    Some((line, rest.get(end..)?))
}

fn push_field(out: &mut Vec<u8>, field: &str, value: &str) {
    out.extend_from_slice(field.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// An object, so that members can be added later.
#[derive(Serialize)]
struct EmptyData {}

#[derive(Serialize)]
struct ResetData<'a> {
    channel: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    earliest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latest: Option<String>,
    /// Whether a snapshot follows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    snapshot: bool,
}

#[derive(Serialize)]
struct EndData<'a> {
    channel: &'a str,
    left: Vec<&'a str>,
}

#[derive(Serialize)]
struct ErrorData<'a> {
    channel: &'a str,
    reason: &'static str,
}

#[derive(Serialize)]
struct PingData {
    time: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        event::{Data, EventName},
        store::{Reason, StoreError},
    };

    const AT: Cursor = Cursor { epoch: 1, seq: 2, tag: 3 };

    fn entry(data: Data, name: Option<&str>) -> Entry {
        Entry {
            channel: Channel::new("a").unwrap(),
            cursor: AT,
            prev_tag: 0,
            appended: 5,
            time: 7,
            name: name.map(|name| EventName::new(name).unwrap()),
            data,
        }
    }

    fn encoded(data: Data, name: Option<&str>) -> String {
        let mut out = Vec::new();
        text(&entry(data, name), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_line_of_a_text_is_a_data_line() {
        let table = [
            ("", "data: \n"),
            ("a", "data: a\n"),
            ("a\nb", "data: a\ndata: b\n"),
            ("a\r\nb\rc\nd", "data: a\ndata: b\ndata: c\ndata: d\n"),
            ("a\n", "data: a\ndata: \n"),
            ("\r\r\n\n", "data: \ndata: \ndata: \ndata: \n"),
            (" a", "data:  a\n"),
            (":x", "data: :x\n"),
            ("id: 5\nretry: 1", "data: id: 5\ndata: retry: 1\n"),
            ("\0\u{2028}\u{feff}😀", "data: \0\u{2028}\u{feff}😀\n"),
        ];
        for (data, lines) in table {
            assert_eq!(encoded(Data::text(data), None), format!("{lines}id: {AT}\n\n"), "{data:?}");
        }
        assert_eq!(encoded(Data::text("a"), Some("n")), format!("event: n\ndata: a\nid: {AT}\n\n"));
        assert_eq!(
            encoded(Data::from_json(" [1, \"\\n\"]").unwrap(), None),
            format!("data: [1,\"\\n\"]\nid: {AT}\n\n")
        );
        // Some clients end a line at these; in JSON they can be escaped.
        let breaks = Data::from_json("[\"\u{2028}\u{2029}\u{85}\"]").unwrap();
        assert_eq!(encoded(breaks, None), format!("data: [\"\\u2028\\u2029\\u0085\"]\nid: {AT}\n\n"));
    }

    #[test]
    fn json_is_one_line_without_a_name() {
        let mut out = Vec::new();
        json(&entry(Data::text("x\ny"), Some("n")), &mut out);
        let expected = format!(
            "data: {{\"id\":\"{AT}\",\"channel\":\"a\",\"time\":7,\"name\":\"n\",\"data\":\"x\\ny\"}}\nid: {AT}\n\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn this_crates_own_messages_end_with_their_id() {
        let channel = Channel::new("a\"\u{2028}").unwrap();
        let reset = Reset {
            channel: channel.clone(),
            reason: Reason::EpochChanged,
            earliest: AT,
            latest: AT,
            snapshot_follows: false,
        };
        let failed = Failed { channel: channel.clone(), error: StoreError::Corrupt("secret".into()).into() };
        let (at, left, view) = (Cursors::from(AT), [Channel::new("c").unwrap()], View::default());
        let mut out = Vec::new();
        push_stream_live(&mut out, &at);
        push_stream_reset(&mut out, &reset, &at, &view);
        push_stream_error(&mut out, &failed, &at, &view);
        push_stream_end(&mut out, &Closed { channel, cursor: AT }, left.iter(), &at, &view);
        push_stream_ping(&mut out, Duration::from_millis(9), &at);
        push_stream_retry(&mut out, Duration::from_millis(1500), Some(&at));
        push_stream_retry(&mut out, Duration::from_millis(7), None);
        let expected = format!(
            "event: stream-live\ndata: {{}}\nid: {AT}\n\n\
             event: stream-reset\ndata: {{\"channel\":\"a\\\"\\u2028\",\"reason\":\"epoch-changed\",\"earliest\":\"{AT}\",\"latest\":\"{AT}\"}}\nid: {AT}\n\n\
             event: stream-error\ndata: {{\"channel\":\"a\\\"\\u2028\",\"reason\":\"corrupt\"}}\nid: {AT}\n\n\
             event: stream-end\ndata: {{\"channel\":\"a\\\"\\u2028\",\"left\":[\"c\"]}}\nid: {AT}\n\n\
             event: stream-ping\ndata: {{\"time\":9}}\nid: {AT}\n\n\
             retry: 1500\nevent: stream-retry\ndata: {{}}\nid: {AT}\n\n\
             retry: 7\nevent: stream-retry\ndata: {{}}\n\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    /// The interpretation of WHATWG HTML, section 9.2.6, written from its text: (type, data, last event id) per dispatch.
    fn parse(stream: &str) -> Vec<(String, String, String)> {
        let normal = stream.strip_prefix('\u{feff}').unwrap_or(stream).replace("\r\n", "\n").replace('\r', "\n");
        let (mut events, mut kind, mut data, mut id) = (Vec::new(), String::new(), String::new(), String::new());
        for line in normal.split_terminator('\n') {
            if line.is_empty() {
                if let Some(shown) = data.strip_suffix('\n') {
                    events.push((kind.clone(), shown.to_owned(), id.clone()));
                }
                (kind, data) = Default::default();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => kind = value.to_owned(),
                "data" => data += &format!("{value}\n"),
                "id" if !value.contains('\0') => id = value.to_owned(),
                _ => {}
            }
        }
        events
    }

    proptest! {
        #[test]
        fn a_parser_reads_back_what_was_sent(
            texts in proptest::collection::vec(("(?s).{0,40}|[\r\n: a]{0,12}", proptest::option::of("[^\\p{C}]{1,20}")), 1..6),
        ) {
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for (data, name) in &texts {
                let Ok(name) = name.as_ref().map(EventName::new).transpose() else { continue };
                let entry = Entry { name: name.clone(), ..entry(Data::text(data), None) };
                text(&entry, &mut stream);
                let data = data.replace("\r\n", "\n").replace('\r', "\n");
                expected.push((name.map(|name| name.to_string()).unwrap_or_default(), data, AT.to_string()));
                stream.extend_from_slice(HEARTBEAT_COMMENT);
            }
            prop_assert_eq!(parse(std::str::from_utf8(&stream).unwrap()), expected);
        }

        #[test]
        fn json_data_is_one_line(data in "(?s).{0,60}") {
            let mut stream = Vec::new();
            json(&entry(Data::text(&data), None), &mut stream);
            let events = parse(std::str::from_utf8(&stream).unwrap());
            let read: serde_json::Value = serde_json::from_str(&events[0].1).unwrap();
            prop_assert_eq!(&read["data"], &data);
        }
    }
}
