//! Which of the two transports a client wants (RFC 9110, section 12.5.1). Pure.

use http::{HeaderMap, HeaderValue, header, request::Parts};

use super::{
    field_syntax::{split, split_parameters},
    query::Pairs,
};

/// How events reach a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Responds with `application/json`.
    LongPoll,
    /// Responds with `text/event-stream`.
    Sse,
}

/// The transports that a service offers, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    LongPollThenSse,
    LongPoll,
    Sse,
}

/// What in a request asks for a transport that is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOffered {
    Transport,
    Accept,
}

/// The transport to respond on: what `transport=` names, because not every client can set `Accept`; otherwise what the client
/// prefers, and on a tie what is offered first. An error is a 406.
pub(crate) fn negotiate(request: &Parts, offer: Offer) -> Result<Transport, NotOffered> {
    let offered: &[Transport] = match offer {
        Offer::LongPollThenSse => &[Transport::LongPoll, Transport::Sse],
        Offer::LongPoll => &[Transport::LongPoll],
        Offer::Sse => &[Transport::Sse],
    };
    // A malformed value is reported where all parameters are parsed.
    let mut pairs = Pairs::of(request.uri.query().unwrap_or_default().as_bytes());
    match pairs.find_map(|pair| parse_transport(&pair.value).ok().filter(|_| *pair.name == *b"transport")) {
        Some(named) => offered.contains(&named).then_some(named).ok_or(NotOffered::Transport),
        None => from_accept(&request.headers, offered).ok_or(NotOffered::Accept),
    }
}

/// The transport that a value of `transport=` names.
pub(super) fn parse_transport(value: &[u8]) -> Result<Transport, &'static str> {
    match value {
        b"sse" => Ok(Transport::Sse),
        b"longpoll" => Ok(Transport::LongPoll),
        _ => Err("must be `sse` or `longpoll`"),
    }
}

fn from_accept(headers: &HeaderMap, offered: &[Transport]) -> Option<Transport> {
    let sent = headers.get_all(header::ACCEPT);
    let mut values = sent.iter().map(HeaderValue::as_bytes);
    // Shortcut for what most clients send.
    let only = match (values.next(), values.next()) {
        (None | Some(b"*/*"), None) => return offered.first().copied(),
        (Some(b"application/json"), None) => Transport::LongPoll,
        (Some(b"text/event-stream"), None) => Transport::Sse,
        _ => return most_preferred(sent.iter().flat_map(|value| split(value.as_bytes(), b',')), offered),
    };
    offered.contains(&only).then_some(only)
}

fn most_preferred<'a>(elements: impl Iterator<Item = &'a [u8]>, offered: &[Transport]) -> Option<Transport> {
    let mut best = [None; 2];
    let mut any = false;
    for element in elements {
        any = true;
        let range = MediaRange::parse(element);
        for (best, &transport) in best.iter_mut().zip(offered) {
            // RFC 9110, section 12.5.1: the most specific range that matches decides.
            *best = (*best).max(range.specificity(transport).map(|specificity| (specificity, range.quality)));
        }
    }
    // RFC 9110: without the field any media type is acceptable; a field without elements is treated the same.
    if !any {
        return offered.first().copied();
    }
    let quality = |best: Option<(Specificity, u16)>| best.map_or(0, |(_, quality)| quality);
    let acceptable = best
        .into_iter()
        .zip(offered)
        .map(|(best, &transport)| (quality(best), transport))
        .filter(|(quality, _)| *quality > 0);
    acceptable.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, transport)| transport)
}

/// How specific a media range that matches is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    /// `*/*`
    Any,
    /// `text/*`
    Type,
    Exact,
}

/// One element of `Accept`; `quality` is in thousandths, 0 when it is malformed.
struct MediaRange<'a> {
    main_type: &'a [u8],
    subtype: &'a [u8],
    quality: u16,
}

impl<'a> MediaRange<'a> {
    fn parse(element: &'a [u8]) -> Self {
        let (range, mut parameters) = split_parameters(element);
        let at = range.iter().position(|&byte| byte == b'/').unwrap_or(range.len());
        let (main_type, subtype) = range.split_at_checked(at).unwrap_or((range, b""));
        let quality = parameters
            .find(|(name, _)| name.eq_ignore_ascii_case(b"q"))
            .map_or(Some(1000), |(_, value)| parse_quality(value));
        Self { main_type, subtype: subtype.strip_prefix(b"/").unwrap_or(subtype), quality: quality.unwrap_or(0) }
    }

    /// How specifically this matches what `transport` responds with. Parameters such as `charset` are not compared, because
    /// the two responses do not differ in them.
    fn specificity(&self, transport: Transport) -> Option<Specificity> {
        let (main_type, subtype): (&[u8], &[u8]) = match transport {
            Transport::LongPoll => (b"application", b"json"),
            Transport::Sse => (b"text", b"event-stream"),
        };
        match (self.main_type, self.subtype) {
            (b"*", b"*") => Some(Specificity::Any),
            (own, b"*") if own.eq_ignore_ascii_case(main_type) => Some(Specificity::Type),
            (own, sub) if own.eq_ignore_ascii_case(main_type) && sub.eq_ignore_ascii_case(subtype) => {
                Some(Specificity::Exact)
            }
            _ => None,
        }
    }
}

/// RFC 9110, section 12.4.2: `0` or `1` with at most three decimals; more decimals are cut.
fn parse_quality(value: &[u8]) -> Option<u16> {
    let value = std::str::from_utf8(value).ok()?;
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    if !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = decimals.bytes().chain(*b"000").take(3).fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(query: &str, accept: &[&str]) -> Parts {
        let mut request = Request::builder().uri(format!("/events?{query}"));
        for value in accept {
            request = request.header(header::ACCEPT, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn ask(accept: &[&str], offer: Offer) -> Option<Transport> {
        negotiate(&parts("channel=a", accept), offer).ok()
    }

    #[test]
    fn the_preferred_transport_is_chosen() {
        use Transport::*;
        let table: &[(&[&str], Option<Transport>)] = &[
            (&[], Some(LongPoll)),
            (&[""], Some(LongPoll)),
            (&[" , "], Some(LongPoll)),
            (&["*/*"], Some(LongPoll)),
            (&["application/json"], Some(LongPoll)),
            (&["APPLICATION/JSON"], Some(LongPoll)),
            (&["application/*"], Some(LongPoll)),
            (&["text/event-stream"], Some(Sse)),
            (&["text/event-stream; charset=utf-8"], Some(Sse)),
            (&["text/*"], Some(Sse)),
            (&["text/html", "text/event-stream;q=0.1"], Some(Sse)),
            (&["text/event-stream, application/json"], Some(LongPoll)),
            (&["text/event-stream, */*;q=0.1"], Some(Sse)),
            (&["text/event-stream;q=0.5, application/json;q=0.4"], Some(Sse)),
            (&["application/json;q=0, */*"], Some(Sse)),
            (&["text/event-stream;q=0, application/json; q=0.001"], Some(LongPoll)),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Some(LongPoll)),
            (&["text/html"], None),
            (&["*/*;q=0"], None),
            (&["text/event-stream;q=0.000"], None),
            (&["application/json;q=2"], None),
            (&["json"], None),
            (&["application/json;q=abc, text/event-stream;q=0.2"], Some(Sse)),
            (&["application/json;q=1.000"], Some(LongPoll)),
            // The most specific range decides, whatever the others say.
            (&["application/*;q=0.1, */*"], Some(Sse)),
            (&["application/json;q=0, application/*"], None),
            (&["application/json;q=0.1, application/*, text/event-stream;q=0.5"], Some(Sse)),
            // Both parts of a type must match.
            (&["audio/json, application/xml, text/json, audio/event-stream"], None),
            // Qualities count down to a thousandth; without one it is 1, the highest.
            (&["application/json;q=0.001, text/event-stream;q=0.002"], Some(Sse)),
            (&["application/json;q=0.0019, text/event-stream;q=0.001"], Some(LongPoll)),
            (&["application/json;q=0.099, text/event-stream;q=0.1"], Some(Sse)),
            (&["application/json;q=0.999, text/event-stream"], Some(Sse)),
            (&["application/json, text/event-stream;q=0.999"], Some(LongPoll)),
            (&["application/json;q=1, text/event-stream"], Some(LongPoll)),
            (&["application/json, text/event-stream;q=1"], Some(LongPoll)),
            (&["application/json;q=1.5"], None),
            (&["application/json;q=0.x"], None),
        ];
        for (accept, expected) in table {
            assert_eq!(ask(accept, Offer::LongPollThenSse), *expected, "{accept:?}");
        }
    }

    #[test]
    fn a_service_of_one_transport_refuses_the_other() {
        assert_eq!(ask(&["*/*"], Offer::Sse), Some(Transport::Sse));
        assert_eq!(ask(&[], Offer::Sse), Some(Transport::Sse));
        assert_eq!(ask(&["application/json"], Offer::Sse), None);
        assert_eq!(ask(&["text/event-stream"], Offer::LongPoll), None);
    }

    #[test]
    fn the_transport_parameter_wins_over_accept() {
        use Transport::*;
        let table = [
            ("transport=sse", "*/*", Offer::LongPollThenSse, Ok(Sse)),
            ("transport=sse", "application/json", Offer::LongPollThenSse, Ok(Sse)),
            ("x=sse&tr%61nsport=longpoll", "text/event-stream", Offer::LongPollThenSse, Ok(LongPoll)),
            ("transport=longpoll", "text/html", Offer::LongPoll, Ok(LongPoll)),
            ("transport=sse", "application/json", Offer::LongPoll, Err(NotOffered::Transport)),
            ("transport=longpoll", "*/*", Offer::Sse, Err(NotOffered::Transport)),
            ("transport=", "text/event-stream", Offer::LongPollThenSse, Ok(Sse)),
            ("transport=websocket", "*/*", Offer::LongPollThenSse, Ok(LongPoll)),
            ("other=sse", "text/html", Offer::Sse, Err(NotOffered::Accept)),
        ];
        for (query, accept, offer, expected) in table {
            assert_eq!(negotiate(&parts(query, &[accept]), offer), expected, "{query} {accept} {offer:?}");
        }
    }
}
