//! What a read request asks for, as one value. The table of starts is here; who may read is not.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, request::Parts};

use super::{
    LAST_EVENT_ID,
    accept::{Media, transport},
    link::Kept,
    prefer::preferred_wait,
    query::{Pairs, number},
    resolver::BadParameter,
};
pub(crate) use crate::hub::SubscriptionStart as Begin;
use crate::{cursor::Cursors, event::MAX_TIME, store::Start};

/// What the parameters and headers of a read request say. Absent is `None`; nothing is capped yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) begin: Begin,
    pub(crate) wishes: Wishes,
    /// What the address of the next page keeps of this one's; a stream has none.
    pub(crate) kept: Box<[u8]>,
}

/// What a service was told about its requests.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Most channels of one request.
    pub(crate) max_channels: usize,
    /// Where a request begins that names no place.
    pub(crate) start: Start,
    /// The application's own parameters that the next page has too.
    pub(crate) kept: Arc<[Box<str>]>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { max_channels: 32, start: Start::Latest, kept: Arc::new([]) }
    }
}

/// How to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) wait: Option<Wait>,
    pub(crate) limit: Option<u64>,
    pub(crate) format: Option<Format>,
    pub(crate) shape: Shape,
    pub(crate) heartbeat: Option<Heartbeat>,
}

/// The longest wait of a poll, in seconds, and where the client said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Parameter(u64),
    Preferred(u64),
}

/// What a long poll answers with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
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

/// Reads `request`, which will be answered with `media`. Parameters that are not ours are ignored, for applications have
/// their own; but not the names that others have for ours.
pub(crate) fn read(request: &Parts, media: Media, rules: &Rules) -> Result<Read, BadParameter> {
    let query = request.uri.query().unwrap_or_default();
    let mut asked = Query::default();
    let mut kept = Kept::new(&rules.kept);
    for pair in Pairs::of(query.as_bytes()) {
        // Empty is absent: forms and templates send `after=` when they have nothing to say.
        if !pair.value.is_empty() {
            asked.take(&pair.name, &pair.value)?;
        }
        if media == Media::Json {
            kept.take(&pair);
        }
    }
    Ok(Read {
        kept: kept.into_pairs(),
        begin: header_position(&request.headers)
            .or_else(|| asked.position.begin())
            .or(asked.begin)
            .unwrap_or(Begin::Start(rules.start)),
        wishes: Wishes {
            wait: asked.wait.map(Wait::Parameter).or_else(|| preferred_wait(&request.headers).map(Wait::Preferred)),
            limit: asked.limit,
            format: asked.format.and_then(Written::data),
            shape: asked.format.map_or(Shape::Array, Written::shape),
            heartbeat: asked.heartbeat,
        },
    })
}

/// The names that a position has in the query: ours, and those of clients that cannot set headers.
pub(super) fn is_position(name: &[u8]) -> bool {
    matches!(name, b"last_event_id" | b"lastEventId" | b"lastEventID" | b"Last-Event-ID")
}

/// What `format=` says: of a stream's data, or of a poll's answer. Each ignores what is the other's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Data(Format),
    Page,
}

impl Written {
    fn data(self) -> Option<Format> {
        if let Self::Data(format) = self { Some(format) } else { None }
    }

    fn shape(self) -> Shape {
        if self == Self::Page { Shape::Page } else { Shape::Array }
    }
}

/// `EventSource` repeats its first URL on every reconnect, so the header wins over the query.
fn header_position(headers: &HeaderMap) -> Option<Begin> {
    let mut position = Position::default();
    headers.get_all(LAST_EVENT_ID).iter().map(HeaderValue::as_bytes).for_each(|value| position.take(value));
    position.begin()
}

/// What a header or the parameters of these names say. `EventSource` gives up for good on a 400, and what imitates it where
/// no header can be set appends the parameter to whatever the URL has: so what is no cursor, or differs, is a reset and never
/// an error.
#[derive(Default)]
struct Position {
    said: Option<Box<[u8]>>,
    differs: bool,
}

impl Position {
    /// Takes one more value: a list, for intermediaries join equal header lines with commas (RFC 9110, section 5.3).
    fn take(&mut self, value: &[u8]) {
        for part in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty()) {
            let said = self.said.get_or_insert_with(|| part.into());
            self.differs |= **said != *part;
        }
    }

    fn begin(&self) -> Option<Begin> {
        let said = self.said.as_deref()?;
        let cursors = Cursors::parse(said).ok().filter(|_| !self.differs);
        Some(cursors.map_or(Begin::Unknown, Begin::Resume))
    }
}

#[derive(Default)]
struct Query {
    position: Position,
    begin: Option<Begin>,
    transport: Option<Media>,
    wait: Option<u64>,
    limit: Option<u64>,
    format: Option<Written>,
    heartbeat: Option<Heartbeat>,
}

impl Query {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadParameter> {
        match name {
            name if is_position(name) => {
                self.position.take(value);
                Ok(())
            }
            b"after" => once(&mut self.begin, "after", after(value)),
            b"time" => once(&mut self.begin, "time", time(value)),
            b"last" => once(&mut self.begin, "last", last(value)),
            b"wait" => once(&mut self.wait, "wait", number(value).ok_or("must be whole seconds, such as 25")),
            b"limit" => once(&mut self.limit, "limit", limit(value)),
            b"format" => once(&mut self.format, "format", format(value)),
            b"heartbeat" => once(&mut self.heartbeat, "heartbeat", heartbeat(value)),
            b"transport" => once(&mut self.transport, "transport", transport(value)),
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
fn once<T: PartialEq>(
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

fn after(value: &[u8]) -> Result<Begin, &'static str> {
    match value {
        b"beginning" => Ok(Begin::Start(Start::Beginning)),
        b"earliest" => Ok(Begin::Start(Start::Earliest)),
        b"latest" => Ok(Begin::Start(Start::Latest)),
        _ => Cursors::parse(value)
            .map(Begin::Resume)
            .map_err(|_| "must be a cursor that this service gave, `beginning`, `earliest` or `latest`"),
    }
}

fn time(value: &[u8]) -> Result<Begin, &'static str> {
    let time = number(value).filter(|time| *time <= MAX_TIME);
    time.map(|time| Begin::Start(Start::Time(time))).ok_or("must be Unix milliseconds, at most 8640000000000000")
}

fn last(value: &[u8]) -> Result<Begin, &'static str> {
    number(value).map(|count| Begin::Start(Start::Last(count))).ok_or("must be a whole number, such as 10")
}

fn limit(value: &[u8]) -> Result<u64, &'static str> {
    number(value).filter(|limit| *limit > 0).ok_or("must be a whole number, at least 1")
}

fn format(value: &[u8]) -> Result<Written, &'static str> {
    match value {
        b"text" => Ok(Written::Data(Format::Text)),
        b"json" => Ok(Written::Data(Format::Json)),
        b"page" => Ok(Written::Page),
        _ => Err("must be `text` or `json`, or for a long poll `page`"),
    }
}

fn heartbeat(value: &[u8]) -> Result<Heartbeat, &'static str> {
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
        read(&request.body(()).unwrap().into_parts().0, Media::Json, &Rules::default())
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
            read(&request, Media::Sse, &Rules { start: Start::Beginning, ..Rules::default() }).unwrap().begin
        };
        assert_eq!(begin("/?after="), Begin::Start(Start::Beginning));
        assert_eq!(begin("/?after=latest"), Begin::Start(Start::Latest));
        assert_eq!(begin("/?lastEventId=42"), Begin::Unknown);
    }

    #[test]
    fn the_other_parameters_are_read() {
        let all = asked("wait=0&limit=999999999999999999999&format=json&heartbeat=event&x=%ff", &[]).unwrap().wishes;
        assert_eq!((all.wait, all.limit), (Some(Wait::Parameter(0)), Some(u64::MAX)));
        assert_eq!((all.format, all.shape), (Some(Format::Json), Shape::Array));
        assert_eq!(all.heartbeat, Some(Heartbeat::Event));
        let page = asked("format=page", &[]).unwrap().wishes;
        assert_eq!((page.format, page.shape), (None, Shape::Page));
        let none = asked("wait=&limit=&format=&heartbeat=", &[]).unwrap().wishes;
        assert_eq!((none.wait, none.limit, none.format, none.heartbeat), (None, None, None, None));
    }

    #[test]
    fn the_parameter_wins_over_the_preference() {
        let request = |uri: &str| {
            let request = Request::builder().uri(uri).header("prefer", "wait=9").body(()).unwrap();
            read(&request.into_parts().0, Media::Json, &Rules::default()).unwrap().wishes.wait
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
                let _ = read(&request.into_parts().0, Media::Json, &Rules::default());
            }
        }

        #[test]
        fn our_parameters_never_panic(name in "after|last_event_id|time|last|wait|limit|format|heartbeat|channel|transport",
                                      value in "([0-9]{0,25}|[A-Za-z0-9_%-]{0,60})") {
            let _ = asked(&format!("{name}={value}"), &[]);
        }
    }
}
