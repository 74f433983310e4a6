//! The method, parameters and headers of a publish. Pure: a request that is refused here is refused before its body is read.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};

use crate::{
    error::InvalidEvent,
    event::{Event, EventKey},
    problem::Problem,
    request::{BadParameter, EVENTS_CLOSED, IDEMPOTENCY_KEY, number, pairs, split_parameters, trim, unquote},
};

/// The method, the parameters and the headers of a publish.
#[derive(Debug)]
pub(super) struct RequestHead {
    /// The type of the body; an error if it is not supported, which does not matter for an empty body that closes the
    /// channel.
    pub(super) content_type: Result<ContentType, Problem>,
    pub(super) after_append: AfterAppend,
    pub(super) key: Option<EventKey>,
    pub(super) name: Option<String>,
    pub(super) time: Option<u64>,
}

/// The supported types of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentType {
    Json,
    Text,
    Ndjson,
}

/// Whether the append closes the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterAppend {
    KeepOpen,
    Close,
}

impl RequestHead {
    pub(super) fn parse(request: &Parts) -> Result<Self, Problem> {
        if request.method != Method::POST {
            return Err(Problem::not_allowed(ALLOW));
        }
        let (content_type, after_append) = (content_type(&request.headers), after_append(&request.headers)?);
        let content_type = match (content_type, after_append) {
            (Err(problem), AfterAppend::KeepOpen) => return Err(problem),
            (content_type, _) => content_type,
        };
        let (name, time) = parameters_of(request)?;
        Ok(Self { content_type, after_append, key: key(&request.headers)?, name, time })
    }

    /// Gives `event` the name and the time of the query.
    pub(super) fn apply(&self, mut event: Event) -> Result<Event, Problem> {
        let invalid = |parameter| move |invalid: InvalidEvent| Problem::from(invalid).parameter(parameter);
        if let Some(name) = &self.name {
            event = event.named(name).map_err(invalid("name"))?;
        }
        if let Some(time) = self.time {
            event = event.at(time).map_err(invalid("time"))?;
        }
        Ok(event)
    }
}

/// The methods of the service.
pub(super) const ALLOW: &str = "POST, OPTIONS";

fn content_type(headers: &HeaderMap) -> Result<ContentType, Problem> {
    // RFC 9110, section 15.5.16: 415 is also for the content coding.
    if headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        // Section 12.5.3: then the response says which codings are accepted.
        return Err(unsupported("`Content-Encoding` must be `identity`")
            .parameter("Content-Encoding")
            .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let named = types.next().map(HeaderValue::as_bytes).unwrap_or_default();
    let (essence, mut rest) = split_parameters(named);
    let utf8 = rest.all(|(name, value)| {
        let charset = unquote(value).unwrap_or_default();
        !name.eq_ignore_ascii_case(b"charset")
            || [&b"utf-8"[..], b"utf8"].iter().any(|utf8| charset.eq_ignore_ascii_case(utf8))
    });
    let known: Option<ContentType> = CONTENT_TYPES
        .iter()
        .find(|(name, _)| essence.eq_ignore_ascii_case(name))
        .map(|(_, content_type)| *content_type);
    match known.filter(|_| utf8 && types.next().is_none()) {
        Some(content_type) => Ok(content_type),
        None => Err(unsupported(
            "`Content-Type` must be `application/json`, `text/plain` or `application/x-ndjson`, in UTF-8",
        )
        .parameter("Content-Type")),
    }
}

const CONTENT_TYPES: [(&[u8], ContentType); 5] = [
    (b"application/json", ContentType::Json),
    (b"text/plain", ContentType::Text),
    (b"application/x-ndjson", ContentType::Ndjson),
    // None of the three is registered; all are in use.
    (b"application/ndjson", ContentType::Ndjson),
    (b"application/jsonl", ContentType::Ndjson),
];

fn unsupported(detail: &'static str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
}

fn after_append(headers: &HeaderMap) -> Result<AfterAppend, BadParameter> {
    match single(headers, &EVENTS_CLOSED, "Events-Closed")? {
        None | Some(b"" | b"false") => Ok(AfterAppend::KeepOpen),
        Some(b"true") => Ok(AfterAppend::Close),
        Some(_) => Err(BadParameter::new("Events-Closed", "must be `true` or `false`")),
    }
}

/// The key is a quoted string (RFC 8941, section 3.3.3, as the header's draft requires) or the bare text that most clients
/// send. An empty key is an error: if it were ignored, the client would wrongly believe that it can repeat the request.
fn key(headers: &HeaderMap) -> Result<Option<EventKey>, BadParameter> {
    let bad = |reason: String| BadParameter::new("Idempotency-Key", reason);
    let Some(value) = single(headers, &IDEMPOTENCY_KEY, "Idempotency-Key")? else { return Ok(None) };
    let key = unquote(value).ok_or_else(|| bad("the closing quote is missing".into()))?;
    let key = std::str::from_utf8(&key).map_err(|_| bad("is not UTF-8".into()))?;
    EventKey::new(key).map(Some).map_err(|invalid| bad(invalid.to_string()))
}

/// The only value of a header; the same value twice is harmless. Trimmed, because servers pass on the white space around a
/// value over HTTP/2, where it is not allowed.
fn single<'a>(
    headers: &'a HeaderMap,
    name: &http::HeaderName,
    parameter: &'static str,
) -> Result<Option<&'a [u8]>, BadParameter> {
    let mut values = headers.get_all(name).iter().map(|value| trim(value.as_bytes()));
    let first = values.next();
    if values.any(|other| Some(other) != first) {
        return Err(BadParameter::new(parameter, "occurs more than once, with different values"));
    }
    Ok(first)
}

fn parameters_of(request: &Parts) -> Result<(Option<String>, Option<u64>), BadParameter> {
    let (mut name, mut time) = (None, None);
    for (parameter, value) in pairs(request.uri.query().unwrap_or_default()) {
        match parameter.as_ref() {
            // Empty is absent, as in every parameter.
            _ if value.is_empty() => {}
            b"name" => {
                let value = std::str::from_utf8(&value).map_err(|_| BadParameter::new("name", "is not UTF-8"))?;
                set(&mut name, "name", value.to_owned())?;
            }
            b"time" => {
                let value = number(&value).ok_or(BadParameter::new("time", "must be in Unix milliseconds"))?;
                set(&mut time, "time", value)?;
            }
            _ => {}
        }
    }
    Ok((name, time))
}

fn set<T: PartialEq>(slot: &mut Option<T>, parameter: &'static str, value: T) -> Result<(), BadParameter> {
    match slot {
        Some(before) if *before != value => Err(BadParameter::new(parameter, "occurs twice, with different values")),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> Result<RequestHead, u16> {
        let mut request = Request::builder().method("POST").uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        RequestHead::parse(&parts).map_err(|problem| problem.into_response().status().as_u16())
    }

    #[test]
    fn types_are_known_with_their_charset() {
        let table = [
            ("application/json", Ok(ContentType::Json)),
            ("Application/JSON ; charset=UTF-8", Ok(ContentType::Json)),
            ("text/plain;charset=\"utf-8\"", Ok(ContentType::Text)),
            ("text/plain; format=flowed", Ok(ContentType::Text)),
            ("text/plain;charset=utf8", Ok(ContentType::Text)),
            ("application/x-ndjson", Ok(ContentType::Ndjson)),
            ("application/ndjson", Ok(ContentType::Ndjson)),
            ("application/JSONL", Ok(ContentType::Ndjson)),
            ("text/plain; charset=latin1", Err(415)),
            ("application/x-www-form-urlencoded", Err(415)),
            ("json", Err(415)),
            ("", Err(415)),
        ];
        for (value, expected) in table {
            assert_eq!(
                head("/", &[("content-type", value)]).map(|head| head.content_type.unwrap()),
                expected,
                "{value}"
            );
        }
        assert_eq!(head("/", &[]).unwrap_err(), 415);
        assert_eq!(head("/", &[("content-type", "text/plain"), ("content-encoding", "gzip")]).unwrap_err(), 415);
        assert!(head("/", &[("events-closed", "true")]).unwrap().content_type.is_err());
    }

    #[test]
    fn keys_are_bare_or_quoted() {
        let long = "k".repeat(256);
        let table = [
            ("abc", Ok("abc")),
            ("\"a\\\"b\"", Ok("a\"b")),
            ("a b", Ok("a b")),
            (" a ", Ok("a")),
            ("\"\"", Err(400)),
            ("", Err(400)),
            (" ", Err(400)),
            ("\"a", Err(400)),
            (long.as_str(), Err(400)),
        ];
        for (value, expected) in table {
            let read = head("/", &[("content-type", "text/plain"), ("idempotency-key", value)]);
            assert_eq!(read.map(|head| head.key.unwrap().as_str().to_owned()), expected.map(str::to_owned), "{value}");
        }
        let twice = [("content-type", "text/plain"), ("idempotency-key", "a"), ("idempotency-key", "b")];
        assert_eq!(head("/", &twice).unwrap_err(), 400);
    }

    #[test]
    fn the_other_headers_and_parameters_are_checked() {
        let text = ("content-type", "text/plain");
        assert_eq!(head("/", &[text, ("events-closed", "yes")]).unwrap_err(), 400);
        assert_eq!(head("/?time=now", &[text]).unwrap_err(), 400);
        assert_eq!(head("/?name=a&name=b", &[text]).unwrap_err(), 400);
        assert_eq!(head("/?name=%ff", &[text]).unwrap_err(), 400);
        let good = head("/?name=a&time=5&name=a&x=y&time=", &[text, ("events-closed", "false")]).unwrap();
        assert_eq!((good.name.as_deref(), good.time, good.after_append), (Some("a"), Some(5), AfterAppend::KeepOpen));
        assert!(good.apply(Event::text("x")).is_ok());
        let reserved = head("/?name=stream-x", &[text]).unwrap().apply(Event::text("x")).unwrap_err();
        assert_eq!(reserved.into_response().status(), 422);
    }
}
