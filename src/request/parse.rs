//! Parses the parameters and headers of a request to read. Does not decide who may read.

use http::request::Parts;

use super::{
    accept::Transport,
    link::NextQuery,
    position::Position,
    prefer::preferred_wait,
    query::Pairs,
    read::{PollShape, ReadMethod, ReadRequest, ReadSettings, Wait},
    read_parameters::{FormatParameter, ReadParameters},
    resolver::BadParameter,
};
use crate::hub::SubscriptionStart;

impl ReadRequest {
    /// Parses `request`, which will be answered on `transport`. Unknown parameters are ignored, because applications have
    /// their own; but names that other systems use for ours are errors.
    pub(crate) fn parse(
        request: &Parts,
        method: ReadMethod,
        transport: Transport,
        settings: &ReadSettings,
    ) -> Result<Self, BadParameter> {
        let mut parameters = ReadParameters::default();
        let mut next_query = NextQuery::new(&settings.kept_parameters);
        for pair in Pairs::of(request.uri.query().unwrap_or_default().as_bytes()) {
            // Empty is absent: forms and templates send `after=` when they have nothing to say.
            if !pair.value.is_empty() {
                parameters.set(&pair.name, &pair.value)?;
            }
            if transport == Transport::LongPoll {
                next_query.push(&pair);
            }
        }
        let resumed = Position::of_header(&request.headers).cursors().or_else(|| parameters.position.cursors());
        let begin = resumed.map(|cursors| cursors.map_or(SubscriptionStart::Unknown, SubscriptionStart::Resume));
        let wait = parameters.wait.map(Wait::Parameter);
        Ok(Self {
            method,
            version: request.version,
            transport,
            begin: begin.or(parameters.begin).unwrap_or(SubscriptionStart::Fresh(settings.start)),
            next_query: next_query.into_pairs(),
            wait: wait.or_else(|| preferred_wait(&request.headers).map(Wait::Preferred)),
            limit: parameters.limit,
            format: parameters.format.and_then(FormatParameter::data),
            shape: parameters.format.map_or(PollShape::Array, FormatParameter::shape),
            heartbeat: parameters.heartbeat,
        })
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        cursor::Cursor,
        request::{Format, Heartbeat, LAST_EVENT_ID},
        store::Start,
    };

    const ONE: Cursor = Cursor { epoch: 1, seq: 2, tag: 3 };
    const TWO: Cursor = Cursor { epoch: 1, seq: 4, tag: 5 };

    fn parse(request: &Parts, transport: Transport, start: Start) -> Result<ReadRequest, BadParameter> {
        let settings = ReadSettings { start, ..ReadSettings::default() };
        ReadRequest::parse(request, ReadMethod::Get, transport, &settings)
    }

    fn parsed(query: &str, ids: &[&[u8]]) -> Result<ReadRequest, BadParameter> {
        let mut request = Request::builder().uri(format!("/events?{query}"));
        for id in ids {
            request = request.header(LAST_EVENT_ID, HeaderValue::from_bytes(id).unwrap());
        }
        parse(&request.body(()).unwrap().into_parts().0, Transport::LongPoll, Start::Latest)
    }

    fn resume(cursor: Cursor) -> SubscriptionStart {
        SubscriptionStart::Resume(cursor.into())
    }

    #[test]
    fn the_start_is_the_first_of_header_and_query() {
        let (one, two) = (ONE.to_string(), TWO.to_string());
        let (twice, both) = (format!("{one}, {one}"), format!("{one},{two}"));
        let table: Vec<(String, Vec<&[u8]>, SubscriptionStart)> = vec![
            (String::new(), vec![], SubscriptionStart::Fresh(Start::Latest)),
            (String::new(), vec![one.as_bytes()], resume(ONE)),
            (String::new(), vec![one.as_bytes(), one.as_bytes()], resume(ONE)),
            (String::new(), vec![b"", one.as_bytes()], resume(ONE)),
            (String::new(), vec![one.as_bytes(), two.as_bytes()], SubscriptionStart::Unknown),
            (String::new(), vec![b"42"], SubscriptionStart::Unknown),
            (String::new(), vec![b"\xc3\xa9\xff"], SubscriptionStart::Unknown),
            (String::new(), vec![&[b'A'; 4096]], SubscriptionStart::Unknown),
            (String::new(), vec![b""], SubscriptionStart::Fresh(Start::Latest)),
            (format!("last_event_id={one}"), vec![], resume(ONE)),
            (format!("after={one}"), vec![two.as_bytes()], resume(TWO)),
            (format!("after={one}"), vec![b""], resume(ONE)),
            (format!("after={one}"), vec![b"nonsense"], SubscriptionStart::Unknown),
            (format!("last_event_id={one}&after={two}"), vec![], resume(ONE)),
            (format!("after={two}&last_event_id={one}"), vec![], resume(ONE)),
            (format!("lastEventId={one}&last=7"), vec![], resume(ONE)),
            (format!("lastEventID={one}"), vec![], resume(ONE)),
            (format!("Last-Event-ID={one}"), vec![], resume(ONE)),
            (format!("lastEventId={one}&lastEventID=&last_event_id={one}"), vec![], resume(ONE)),
            (format!("lastEventId={one}&last_event_id={two}"), vec![], SubscriptionStart::Unknown),
            (format!("lastEventId={one}"), vec![two.as_bytes()], resume(TWO)),
            (format!("lastEventId={one}"), vec![b"nonsense"], SubscriptionStart::Unknown),
            (format!("lastEventId=%2C{one},+{one}"), vec![], resume(ONE)),
            ("last_event_id=earliest".into(), vec![], SubscriptionStart::Unknown),
            ("lastEventId=%ff&after=latest".into(), vec![], SubscriptionStart::Unknown),
            (String::new(), vec![twice.as_bytes()], resume(ONE)),
            (String::new(), vec![b" ,, ", one.as_bytes(), twice.as_bytes()], resume(ONE)),
            (String::new(), vec![b" ,\t,"], SubscriptionStart::Fresh(Start::Latest)),
            (String::new(), vec![both.as_bytes()], SubscriptionStart::Unknown),
            ("after=beginning".into(), vec![], SubscriptionStart::Start(Start::Beginning)),
            ("after=earliest".into(), vec![], SubscriptionStart::Start(Start::Earliest)),
            ("after=latest".into(), vec![], SubscriptionStart::Start(Start::Latest)),
            ("after=&time=17".into(), vec![], SubscriptionStart::Start(Start::Time(17))),
            ("last=5".into(), vec![], SubscriptionStart::Start(Start::Last(5))),
            ("last=0".into(), vec![], SubscriptionStart::Start(Start::Last(0))),
            ("last=5&last=5&token=x&last_event_id=".into(), vec![], SubscriptionStart::Start(Start::Last(5))),
        ];
        for (query, ids, expected) in table {
            assert_eq!(parsed(&query, &ids).unwrap().begin, expected, "{query} {ids:?}");
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
            assert_eq!(parsed(&query, &[]).unwrap_err().parameter(), parameter, "{query}");
            // The header does not excuse a malformed query.
            assert!(parsed(&query, &[one.as_bytes()]).is_err(), "{query}");
        }
    }

    #[test]
    fn a_request_that_names_no_start_begins_where_the_service_says() {
        let begin = |uri: &str| {
            let request = Request::builder().uri(uri).body(()).unwrap().into_parts().0;
            parse(&request, Transport::Sse, Start::Beginning).unwrap().begin
        };
        assert_eq!(begin("/?after="), SubscriptionStart::Fresh(Start::Beginning));
        assert_eq!(begin("/?after=latest"), SubscriptionStart::Start(Start::Latest));
        assert_eq!(begin("/?lastEventId=42"), SubscriptionStart::Unknown);
    }

    #[test]
    fn the_other_parameters_are_read() {
        let all = parsed("wait=0&limit=999999999999999999999&format=json&heartbeat=event&x=%ff", &[]).unwrap();
        assert_eq!((all.wait, all.limit), (Some(Wait::Parameter(0)), Some(u64::MAX)));
        assert_eq!((all.format, all.shape), (Some(Format::Json), PollShape::Array));
        assert_eq!(all.heartbeat, Some(Heartbeat::Event));
        let page = parsed("format=page", &[]).unwrap();
        assert_eq!((page.format, page.shape), (None, PollShape::Page));
        let none = parsed("wait=&limit=&format=&heartbeat=", &[]).unwrap();
        assert_eq!((none.wait, none.limit, none.format, none.heartbeat), (None, None, None, None));
    }

    #[test]
    fn the_parameter_wins_over_the_preference() {
        let request = |uri: &str| {
            let request = Request::builder().uri(uri).header("prefer", "wait=9").body(()).unwrap();
            parse(&request.into_parts().0, Transport::LongPoll, Start::Latest).unwrap().wait
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
                let _ = parse(&request.into_parts().0, Transport::LongPoll, Start::Latest);
            }
        }

        #[test]
        fn our_parameters_never_panic(name in "after|last_event_id|time|last|wait|limit|format|heartbeat|channel|transport",
                                      value in "([0-9]{0,25}|[A-Za-z0-9_%-]{0,60})") {
            let _ = parsed(&format!("{name}={value}"), &[]);
        }
    }
}
