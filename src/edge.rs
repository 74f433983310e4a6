//! What the reading services share: decides what a request is and what it asks for. Answers nothing but the requests that
//! every service answers alike.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header, request::Parts};

use crate::{
    body::Body,
    channel::{Channel, Channels},
    cursor::{Cursor, Cursors},
    error::InvalidChannels,
    hub::{Hub, Subscription},
    problem::Problem,
    request::{
        Begin, LAST_EVENT_ID, Offer, Read, Rejection, Resolver, Rules, SharedResolver, Transport, Wishes, negotiate,
        read,
    },
    store::{Head, Start},
};

/// The hub and the rules that a reading service has.
pub(crate) struct Edge<S> {
    pub(crate) hub: Hub<S>,
    resolver: SharedResolver,
    rules: Rules,
}

impl<S> Edge<S> {
    pub(crate) fn new(hub: Hub<S>, resolver: impl Resolver) -> Self {
        Self { hub, resolver: SharedResolver::new(resolver), rules: Rules::default() }
    }

    pub(crate) fn max_channels(mut self, max_channels: usize) -> Self {
        self.rules.max_channels = max_channels.clamp(1, Channels::MAX);
        self
    }

    pub(crate) fn start(mut self, start: Start) -> Self {
        self.rules.start = start;
        self
    }

    pub(crate) fn keep_parameters<N: Into<Box<str>>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.rules.kept_parameters = names.into_iter().map(Into::into).collect();
        self
    }

    /// What to do with `request`, whose channels the resolver names.
    pub(crate) fn decide(&self, request: &Parts, offer: Offer) -> Decision {
        decide(request, offer, &self.rules, || self.resolver.channels(request))
    }

    /// What to do with `request`, which is refused.
    pub(crate) fn decide_against(&self, request: &Parts, offer: Offer, rejection: Rejection) -> Decision {
        decide(request, offer, &self.rules, || Err(rejection))
    }

    /// What to do with `request`, whose channels are known.
    pub(crate) fn decide_for(&self, request: &Parts, offer: Offer, channels: Channels) -> Decision {
        decide(request, offer, &self.rules, || Ok(channels))
    }
}

impl<S> Clone for Edge<S> {
    fn clone(&self) -> Self {
        Self { hub: self.hub.clone(), resolver: self.resolver.clone(), rules: self.rules.clone() }
    }
}

/// What to do with a request.
#[derive(Debug)]
pub(crate) enum Decision {
    Options,
    /// Nobody can be served like this.
    Refuse(Problem),
    /// A request in this representation cannot be served; the position, when it brought one.
    RefuseOn(Transport, ReadMethod, Problem, Option<Cursors>),
    Serve(Asked),
}

/// How a reading request reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadMethod {
    Get,
    Head,
}

impl ReadMethod {
    /// Whether what is answered to `method` has content.
    pub(crate) fn of(method: &Method) -> Self {
        if method == Method::HEAD { Self::Head } else { Self::Get }
    }
}

/// A request that can be served.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: ReadMethod,
    pub(crate) transport: Transport,
    pub(crate) wishes: Wishes,
    pub(crate) connection_close: ConnectionClose,
    pub(crate) target: ReadTarget,
}

/// What becomes of the connection after an answer that sends the client away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionClose {
    /// Its header says so: HTTP/1.1.
    ByHeader,
    /// The version has other means: HTTP/2 and later have no such header (RFC 9113, section 8.2.2).
    ByProtocol,
}

impl ConnectionClose {
    fn of(version: Version) -> Self {
        if version <= Version::HTTP_11 { Self::ByHeader } else { Self::ByProtocol }
    }

    /// Tells in `headers` that the connection ends: a server that stops closes it, and would lose the request that the client
    /// sends on it next.
    pub(crate) fn announce(self, headers: &mut HeaderMap) {
        if self == Self::ByHeader {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// What a request is about: as much of it as its answer needs.
#[derive(Debug)]
pub(crate) struct ReadTarget {
    pub(crate) channels: Channels,
    pub(crate) begin: Begin,
    /// What the address of the next page keeps of this one's; a stream has none.
    pub(crate) next_query: Box<[u8]>,
}

impl ReadTarget {
    pub(crate) fn subscription(&self) -> Subscription {
        let subscription = Subscription::new(self.channels.clone());
        match &self.begin {
            Begin::Start(start) => subscription.start(*start),
            Begin::Resume(cursors) => subscription.resume(cursors),
            Begin::Unknown => subscription.resume_unknown(),
        }
    }

    /// The position that the request brought.
    pub(crate) fn cursors(&self) -> Option<&Cursors> {
        match &self.begin {
            Begin::Resume(cursors) => Some(cursors),
            _ => None,
        }
    }

    /// The token of these positions, in the kind that this subscription has.
    pub(crate) fn token(&self, position: impl Fn(usize, &Channel) -> Option<Cursor>) -> Cursors {
        let positions = || self.channels.iter().enumerate().map(|(at, channel)| (channel, position(at, channel)));
        match (self.channels.len(), positions().next()) {
            (1, Some((_, Some(cursor)))) => Cursors::from(cursor),
            _ => Cursors::of(positions().filter_map(|(channel, cursor)| Some((channel, cursor?)))),
        }
    }

    pub(crate) fn head_token(&self, heads: &[Head]) -> Cursors {
        self.token(|at, _| heads.get(at).map(|head| head.cursor))
    }
}

/// The answer to `OPTIONS`. CORS is a layer's business: it answers a preflight before this is asked.
pub(crate) fn options_response(allow: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// What all answers of a reader have: they vary with `Accept`, and to a HEAD they have no content (RFC 9110, section 9.3.2).
pub(crate) fn finish(method: ReadMethod, mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().append(header::VARY, ACCEPT);
    if method == ReadMethod::Head {
        *response.body_mut() = Body::default();
    }
    response
}

/// What the answers of a reader vary with.
pub(crate) const ACCEPT: HeaderValue = HeaderValue::from_static("Accept");

/// Adds the position, if there is one.
pub(crate) fn insert_position(headers: &mut HeaderMap, cursors: &Cursors) {
    headers.extend(position_header(cursors).map(|value| (LAST_EVENT_ID, value)));
}

/// The position as a header has it: a token is base64url, which every header takes. Nothing when there is none, or when it is
/// of too many channels: many proxies take a head of 4 kB and no more.
pub(crate) fn position_header(cursors: &Cursors) -> Option<HeaderValue> {
    match cursors.as_one() {
        Some(cursor) => HeaderValue::from_bytes(&cursor.to_text()).ok(),
        None if cursors.is_empty() => None,
        None => HeaderValue::try_from(cursors.to_string()).ok().filter(|text| text.len() <= MAX_POSITION_BYTES),
    }
}

/// Most channels whose position goes into a head.
pub(crate) const MAX_CHANNELS_IN_HEADERS: usize = 64;

/// 64 channels of at most 26 bytes, in base64.
const MAX_POSITION_BYTES: usize = (1 + MAX_CHANNELS_IN_HEADERS * 26).div_ceil(3) * 4;

/// What the readers answer to.
pub(crate) const ALLOW: &str = "GET, HEAD, OPTIONS";

fn decide(
    request: &Parts,
    offer: Offer,
    rules: &Rules,
    channels: impl FnOnce() -> Result<Channels, Rejection>,
) -> Decision {
    let method = match request.method {
        Method::GET => ReadMethod::Get,
        Method::HEAD => ReadMethod::Head,
        Method::OPTIONS => return Decision::Options,
        _ => return Decision::Refuse(Problem::not_allowed(ALLOW)),
    };
    let transport = match negotiate(request, offer) {
        Ok(transport) => transport,
        Err(not) => return Decision::Refuse(Problem::not_acceptable(not, offered(offer))),
    };
    // Who asks comes before what is asked: a stranger learns nothing from how a request is malformed.
    let channels = channels().and_then(|channels| bounded(channels, rules.max_channels)).map_err(Problem::from);
    let read = read(request, transport, rules).map_err(Problem::from);
    match (channels, read) {
        (Ok(channels), Ok(read)) => {
            let target = ReadTarget { channels, begin: read.begin, next_query: read.next_query };
            let connection_close = ConnectionClose::of(request.version);
            Decision::Serve(Asked { method, transport, wishes: read.wishes, connection_close, target })
        }
        (Err(problem), Ok(Read { begin: Begin::Resume(cursors), .. })) => {
            Decision::RefuseOn(transport, method, problem, Some(cursors))
        }
        (Err(problem), _) | (Ok(_), Err(problem)) => Decision::RefuseOn(transport, method, problem, None),
    }
}

fn bounded(channels: Channels, most: usize) -> Result<Channels, Rejection> {
    if channels.len() > most { Err(InvalidChannels::TooMany { most }.into()) } else { Ok(channels) }
}

fn offered(offer: Offer) -> &'static str {
    match offer {
        Offer::LongPollThenSse => "`application/json` or `text/event-stream`",
        Offer::LongPoll => "`application/json`",
        Offer::Sse => "`text/event-stream`",
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn decided(method: &str, uri: &str, accept: &str) -> Decision {
        let request = Request::builder().method(method).uri(uri).header("accept", accept).body(()).unwrap();
        let parts = request.into_parts().0;
        let rules = Rules { max_channels: 2, ..Rules::default() };
        decide(&parts, Offer::LongPollThenSse, &rules, || Channels::from_query(&parts))
    }

    fn status(decision: Decision) -> u16 {
        match decision {
            Decision::Refuse(problem) | Decision::RefuseOn(_, _, problem, _) => {
                problem.into_response().status().as_u16()
            }
            Decision::Options => 204,
            Decision::Serve(_) => 200,
        }
    }

    #[test]
    fn a_request_is_decided_without_a_hub() {
        let table = [
            ("GET", "/?channel=a", "*/*", 200),
            ("HEAD", "/?channel=a&channel=b", "*/*", 200),
            ("OPTIONS", "/", "text/html", 204),
            ("POST", "/?channel=a", "*/*", 405),
            ("TRACE", "/?channel=a", "*/*", 405),
            ("GET", "/?channel=a", "text/html", 406),
            ("GET", "/", "*/*", 400),
            ("GET", "/?channel=a&channel=b&channel=c", "*/*", 400),
            ("GET", "/?channel=a&limit=0", "*/*", 400),
        ];
        for (method, uri, accept, expected) in table {
            assert_eq!(status(decided(method, uri, accept)), expected, "{method} {uri} {accept}");
        }
    }
}
