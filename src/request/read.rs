//! What a read request asks for, as one value. The table of starts is here; who may read is not.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, request::Parts};

use super::{
    accept::{Transport, parse_transport},
    headers::LAST_EVENT_ID,
    link::NextQuery,
    prefer::preferred_wait,
    query::{Pairs, number},
    resolver::BadParameter,
};
use crate::{cursor::Cursors, event::MAX_TIME, store::Start};

/// What the parameters and headers of a read request say. Absent is `None`; nothing is capped yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) begin: Begin,
    pub(crate) wishes: Wishes,
    /// What the address of the next page keeps of this one's; a stream has none.
    pub(crate) next_query: Box<[u8]>,
}

/// What a service was told about its requests.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Most channels of one request.
    pub(crate) max_channels: usize,
    /// Where a request begins that names no place.
    pub(crate) start: Start,
    /// The application's own parameters that the next page has too.
    pub(crate) kept_parameters: Arc<[Box<str>]>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { max_channels: 32, start: Start::Latest, kept_parameters: Arc::new([]) }
    }
}

/// How to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) wait: Option<Wait>,
    pub(crate) limit: Option<u64>,
    pub(crate) format: Option<Format>,
    pub(crate) shape: PollShape,
    pub(crate) heartbeat: Option<Heartbeat>,
}

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The client named a start, or nothing (`latest`).
    Start(Start),
    /// The client was here before.
    Resume(Cursors),
    /// The client was somewhere before, but sends no cursor of ours.
    Unknown,
}

/// The longest wait of a poll, in seconds, and where the client said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Parameter(u64),
    Preferred(u64),
}

/// What a long poll answers with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PollShape {
    /// An array of events; all else is in the head.
    #[default]
    Array,
    /// One object that holds everything, for scripts that see no head and positions that are too long for one.
    Page,
}

/// What the data of an SSE event are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The datum itself: a string as its text, any other value as JSON. The default.
    #[default]
    Text,
    /// The long poll's object (`id`, `channel`, `time`, `name`, `data`), and events unnamed: the form for several channels.
    Json,
}

/// What is sent on an SSE stream that has been silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heartbeat {
    /// A comment, which no client shows. The default.
    #[default]
    Comment,
    /// An event `stream-ping`, which scripts can see; one at the start too.
    Event,
}

/// Reads `request`, which will be answered on `transport`. Parameters that are not ours are ignored, for applications have
/// their own; but not the names that others have for ours.
pub(crate) fn read(request: &Parts, transport: Transport, rules: &Rules) -> Result<Read, BadParameter> {
    let query = request.uri.query().unwrap_or_default();
    let mut parameters = Parameters::default();
    let mut next_query = NextQuery::new(&rules.kept_parameters);
    for pair in Pairs::of(query.as_bytes()) {
        // Empty is absent: forms and templates send `after=` when they have nothing to say.
        if !pair.value.is_empty() {
            parameters.take(&pair.name, &pair.value)?;
        }
        if transport == Transport::LongPoll {
            next_query.push(&pair);
        }
    }
    Ok(Read {
        next_query: next_query.into_pairs(),
        begin: header_position(&request.headers)
            .or_else(|| parameters.position.begin())
            .or(parameters.begin)
            .unwrap_or(Begin::Start(rules.start)),
        wishes: Wishes {
            wait: parameters
                .wait
                .map(Wait::Parameter)
                .or_else(|| preferred_wait(&request.headers).map(Wait::Preferred)),
            limit: parameters.limit,
            format: parameters.format.and_then(FormatParameter::data),
            shape: parameters.format.map_or(PollShape::Array, FormatParameter::shape),
            heartbeat: parameters.heartbeat,
        },
    })
}

/// The names that a position has in the query: ours, and those of clients that cannot set headers.
pub(super) fn is_position(name: &[u8]) -> bool {
    matches!(name, b"last_event_id" | b"lastEventId" | b"lastEventID" | b"Last-Event-ID")
}

/// What `format=` says: of a stream's data, or of a poll's answer. Each ignores what is the other's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FormatParameter {
    Data(Format),
    Page,
}

impl FormatParameter {
    fn data(self) -> Option<Format> {
        if let Self::Data(format) = self { Some(format) } else { None }
    }

    fn shape(self) -> PollShape {
        if self == Self::Page { PollShape::Page } else { PollShape::Array }
    }
}

/// `EventSource` repeats its first URL on every reconnect, so the header wins over the query.
fn header_position(headers: &HeaderMap) -> Option<Begin> {
    let mut position = Position::default();
    headers.get_all(LAST_EVENT_ID).iter().map(HeaderValue::as_bytes).for_each(|value| position.take(value));
    position.begin()
}

/// What a header or the parameters of these names say. `EventSource` gives up for good on a 400, and what imitates it where
/// no header can be set appends the parameter to whatever the URL has: so what is no cursor, or contradictory, is a reset and never
/// an error.
#[derive(Default)]
struct Position {
    first: Option<Box<[u8]>>,
    contradictory: bool,
}

impl Position {
    /// Takes one more value: a list, for intermediaries join equal header lines with commas (RFC 9110, section 5.3).
    fn take(&mut self, value: &[u8]) {
        for part in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty()) {
            let first = self.first.get_or_insert_with(|| part.into());
            self.contradictory |= **first != *part;
        }
    }

    fn begin(&self) -> Option<Begin> {
        let first = self.first.as_deref()?;
        let cursors = Cursors::parse(first).ok().filter(|_| !self.contradictory);
        Some(cursors.map_or(Begin::Unknown, Begin::Resume))
    }
}

#[derive(Default)]
struct Parameters {
    position: Position,
    begin: Option<Begin>,
    transport: Option<Transport>,
    wait: Option<u64>,
    limit: Option<u64>,
    format: Option<FormatParameter>,
    heartbeat: Option<Heartbeat>,
}

impl Parameters {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadParameter> {
        match name {
            name if is_position(name) => {
                self.position.take(value);
                Ok(())
            }
            b"after" => set_once(&mut self.begin, "after", parse_after(value)),
            b"time" => set_once(&mut self.begin, "time", parse_time(value)),
            b"last" => set_once(&mut self.begin, "last", parse_last(value)),
            b"wait" => set_once(&mut self.wait, "wait", number(value).ok_or("must be whole seconds, such as 25")),
            b"limit" => set_once(&mut self.limit, "limit", parse_limit(value)),
            b"format" => set_once(&mut self.format, "format", parse_format(value)),
            b"heartbeat" => set_once(&mut self.heartbeat, "heartbeat", parse_heartbeat(value)),
            b"transport" => set_once(&mut self.transport, "transport", parse_transport(value)),
            b"cursor" => Err(BadParameter::new("cursor", "is not a parameter here: give the position as `after`")),
            b"since" => {
                Err(BadParameter::new("since", "is not a parameter here: use `time` in Unix milliseconds, or `after`"))
            }
            b"timeout" => Err(BadParameter::new("timeout", "is not a parameter here: use `wait` in whole seconds")),
            _ => Ok(()),
        }
    }
}

/// Sets `slot`; saying the same twice is harmless, saying two different things is not.
fn set_once<T: PartialEq>(
    slot: &mut Option<T>,
    parameter: &'static str,
    value: Result<T, &'static str>,
) -> Result<(), BadParameter> {
    let value = value.map_err(|reason| BadParameter::new(parameter, reason))?;
    match slot {
        Some(before) if *before != value => Err(BadParameter::new(parameter, "contradicts another parameter")),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn parse_after(value: &[u8]) -> Result<Begin, &'static str> {
    match value {
        b"beginning" => Ok(Begin::Start(Start::Beginning)),
        b"earliest" => Ok(Begin::Start(Start::Earliest)),
        b"latest" => Ok(Begin::Start(Start::Latest)),
        _ => Cursors::parse(value)
            .map(Begin::Resume)
            .map_err(|_| "must be a cursor that this service gave, `beginning`, `earliest` or `latest`"),
    }
}

fn parse_time(value: &[u8]) -> Result<Begin, &'static str> {
    let time = number(value).filter(|time| *time <= MAX_TIME);
    time.map(|time| Begin::Start(Start::Time(time))).ok_or("must be Unix milliseconds, at most 8640000000000000")
}

fn parse_last(value: &[u8]) -> Result<Begin, &'static str> {
    number(value).map(|count| Begin::Start(Start::Last(count))).ok_or("must be a whole number, such as 10")
}

fn parse_limit(value: &[u8]) -> Result<u64, &'static str> {
    number(value).filter(|limit| *limit > 0).ok_or("must be a whole number, at least 1")
}

fn parse_format(value: &[u8]) -> Result<FormatParameter, &'static str> {
    match value {
        b"text" => Ok(FormatParameter::Data(Format::Text)),
        b"json" => Ok(FormatParameter::Data(Format::Json)),
        b"page" => Ok(FormatParameter::Page),
        _ => Err("must be `text` or `json`, or for a long poll `page`"),
    }
}

fn parse_heartbeat(value: &[u8]) -> Result<Heartbeat, &'static str> {
    match value {
        b"comment" => Ok(Heartbeat::Comment),
        b"event" => Ok(Heartbeat::Event),
        _ => Err("must be `comment` or `event`"),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};
    use proptest::prelude::*;

    use super::*;
    use crate::cursor::Cursor;

    const ONE: Cursor = Cursor { epoch: 1, seq: 2, tag: 3 };
    const TWO: Cursor = Cursor { epoch: 1, seq: 4, tag: 5 };

    fn asked(query: &str, ids: &[&[u8]]) -> Result<Read, BadParameter> {
        let mut request = Request::builder().uri(format!("/events?{query}"));
        for id in ids {
            request = request.header(LAST_EVENT_ID, HeaderValue::from_bytes(id).unwrap());
        }
        read(&request.body(()).unwrap().into_parts().0, Transport::LongPoll, &Rules::default())
    }

    fn resume(cursor: Cursor) -> Begin {
        Begin::Resume(cursor.into())
    }

    #[test]
    fn the_start_is_the_first_of_header_and_query() {
        let (one, two) = (ONE.to_string(), TWO.to_string());
        let (twice, both) = (format!("{one}, {one}"), format!("{one},{two}"));
        let table: Vec<(String, Vec<&[u8]>, Begin)> = vec![
            (String::new(), vec![], Begin::Start(Start::Latest)),
            (String::new(), vec![one.as_bytes()], resume(ONE)),
            (String::new(), vec![one.as_bytes(), one.as_bytes()], resume(ONE)),
            (String::new(), vec![b"", one.as_bytes()], resume(ONE)),
            (String::new(), vec![one.as_bytes(), two.as_bytes()], Begin::Unknown),
            (String::new(), vec![b"42"], Begin::Unknown),
            (String::new(), vec![b"\xc3\xa9\xff"], Begin::Unknown),
            (String::new(), vec![&[b'A'; 4096]], Begin::Unknown),
            (String::new(), vec![b""], Begin::Start(Start::Latest)),
            (format!("last_event_id={one}"), vec![], resume(ONE)),
            (format!("after={one}"), vec![two.as_bytes()], resume(TWO)),
            (format!("after={one}"), vec![b""], resume(ONE)),
            (format!("after={one}"), vec![b"nonsense"], Begin::Unknown),
            (format!("last_event_id={one}&after={two}"), vec![], resume(ONE)),
            (format!("after={two}&last_event_id={one}"), vec![], resume(ONE)),
            (format!("lastEventId={one}&last=7"), vec![], resume(ONE)),
            (format!("lastEventID={one}"), vec![], resume(ONE)),
            (format!("Last-Event-ID={one}"), vec![], resume(ONE)),
            (format!("lastEventId={one}&lastEventID=&last_event_id={one}"), vec![], resume(ONE)),
            (format!("lastEventId={one}&last_event_id={two}"), vec![], Begin::Unknown),
            (format!("lastEventId={one}"), vec![two.as_bytes()], resume(TWO)),
            (format!("lastEventId={one}"), vec![b"nonsense"], Begin::Unknown),
            (format!("lastEventId=%2C{one},+{one}"), vec![], resume(ONE)),
            ("last_event_id=earliest".into(), vec![], Begin::Unknown),
            ("lastEventId=%ff&after=latest".into(), vec![], Begin::Unknown),
            (String::new(), vec![twice.as_bytes()], resume(ONE)),
            (String::new(), vec![b" ,, ", one.as_bytes(), twice.as_bytes()], resume(ONE)),
            (String::new(), vec![b" ,\t,"], Begin::Start(Start::Latest)),
            (String::new(), vec![both.as_bytes()], Begin::Unknown),
            ("after=beginning".into(), vec![], Begin::Start(Start::Beginning)),
            ("after=earliest".into(), vec![], Begin::Start(Start::Earliest)),
            ("after=latest".into(), vec![], Begin::Start(Start::Latest)),
            ("after=&time=17".into(), vec![], Begin::Start(Start::Time(17))),
            ("last=5".into(), vec![], Begin::Start(Start::Last(5))),
            ("last=0".into(), vec![], Begin::Start(Start::Last(0))),
            ("last=5&last=5&token=x&last_event_id=".into(), vec![], Begin::Start(Start::Last(5))),
        ];
        for (query, ids, expected) in table {
            assert_eq!(asked(&query, &ids).unwrap().begin, expected, "{query} {ids:?}");
        }
    }

    #[test]
    fn a_malformed_parameter_is_named() {
        let (one, two) = (ONE.to_string(), TWO.to_string());
        let table = [
            ("after=x".to_owned(), "after"),
            (format!("after={one}&after={two}"), "after"),
            (format!("after={one}&time=1"), "time"),
            ("after=%ff".to_owned(), "after"),
            ("time=-1".to_owned(), "time"),
            ("time=8640000000000001".to_owned(), "time"),
            ("time=now".to_owned(), "time"),
            ("last=-1".to_owned(), "last"),
            ("last=1&last=2".to_owned(), "last"),
            ("limit=0".to_owned(), "limit"),
            ("limit=-1".to_owned(), "limit"),
            ("limit=ten".to_owned(), "limit"),
            ("wait=-1".to_owned(), "wait"),
            ("wait=1&wait=2".to_owned(), "wait"),
            ("format=xml".to_owned(), "format"),
            ("heartbeat=yes".to_owned(), "heartbeat"),
            ("transport=websocket".to_owned(), "transport"),
            ("transport=sse&transport=longpoll".to_owned(), "transport"),
            (format!("cursor={one}"), "cursor"),
            ("since=17".to_owned(), "since"),
            ("timeout=30".to_owned(), "timeout"),
        ];
        for (query, parameter) in table {
            assert_eq!(asked(&query, &[]).unwrap_err().parameter(), parameter, "{query}");
            // The header does not excuse a malformed query.
            assert!(asked(&query, &[one.as_bytes()]).is_err(), "{query}");
        }
    }

    #[test]
    fn who_names_no_place_begins_where_the_service_says() {
        let begin = |uri: &str| {
            let request = Request::builder().uri(uri).body(()).unwrap().into_parts().0;
            read(&request, Transport::Sse, &Rules { start: Start::Beginning, ..Rules::default() }).unwrap().begin
        };
        assert_eq!(begin("/?after="), Begin::Start(Start::Beginning));
        assert_eq!(begin("/?after=latest"), Begin::Start(Start::Latest));
        assert_eq!(begin("/?lastEventId=42"), Begin::Unknown);
    }

    #[test]
    fn the_other_parameters_are_read() {
        let all = asked("wait=0&limit=999999999999999999999&format=json&heartbeat=event&x=%ff", &[]).unwrap().wishes;
        assert_eq!((all.wait, all.limit), (Some(Wait::Parameter(0)), Some(u64::MAX)));
        assert_eq!((all.format, all.shape), (Some(Format::Json), PollShape::Array));
        assert_eq!(all.heartbeat, Some(Heartbeat::Event));
        let page = asked("format=page", &[]).unwrap().wishes;
        assert_eq!((page.format, page.shape), (None, PollShape::Page));
        let none = asked("wait=&limit=&format=&heartbeat=", &[]).unwrap().wishes;
        assert_eq!((none.wait, none.limit, none.format, none.heartbeat), (None, None, None, None));
    }

    #[test]
    fn the_parameter_wins_over_the_preference() {
        let request = |uri: &str| {
            let request = Request::builder().uri(uri).header("prefer", "wait=9").body(()).unwrap();
            read(&request.into_parts().0, Transport::LongPoll, &Rules::default()).unwrap().wishes.wait
        };
        assert_eq!(request("/?wait=3"), Some(Wait::Parameter(3)));
        assert_eq!(request("/"), Some(Wait::Preferred(9)));
    }

    proptest! {
        #[test]
        fn no_request_panics(query in "[ -~]{0,80}", id in proptest::collection::vec(any::<u8>(), 0..80), prefer in "[ -~]{0,40}") {
            let Ok(id) = HeaderValue::from_bytes(&id) else { return Ok(()) };
            let request = Request::builder().uri(format!("/e?{query}")).header(LAST_EVENT_ID, id).header("prefer", prefer);
            if let Ok(request) = request.body(()) {
                let _ = read(&request.into_parts().0, Transport::LongPoll, &Rules::default());
            }
        }

        #[test]
        fn our_parameters_never_panic(name in "after|last_event_id|time|last|wait|limit|format|heartbeat|channel|transport",
                                      value in "([0-9]{0,25}|[A-Za-z0-9_%-]{0,60})") {
            let _ = asked(&format!("{name}={value}"), &[]);
        }
    }
}
