//! Decides how a request to a reading service is answered, before a transport is involved. Pure, except for the resolver.

use http::{Method, request::Parts};

use crate::{
    cursor::Cursors,
    error::InvalidChannels,
    grant::Grant,
    hub::SubscriptionStart,
    problem::Problem,
    request::{Offer, ReadMethod, ReadRequest, ReadSettings, Rejection, Transport, negotiate},
};

/// How to answer a request.
#[derive(Debug)]
pub(super) enum Decision {
    Options,
    /// Refused before a transport was negotiated.
    Refuse(Problem),
    /// Refused after a transport was negotiated, in its own way.
    RefuseOn(Refusal),
    Serve(Grant, ReadRequest),
}

/// A request that is refused after a transport was negotiated.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) transport: Transport,
    pub(crate) method: ReadMethod,
    pub(crate) problem: Problem,
    /// The position that the request resumes from.
    pub(crate) cursors: Option<Cursors>,
}

impl Refusal {
    /// Refuses a request that was parsed.
    pub(crate) fn of(read: ReadRequest, problem: Problem) -> Self {
        let cursors = match read.begin {
            SubscriptionStart::Resume(cursors) => Some(cursors),
            _ => None,
        };
        Self { transport: read.transport, method: read.method, problem, cursors }
    }
}

/// The methods of a reading service.
pub(super) const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Decides how to answer `request`; `grant` resolves what it may read.
pub(super) fn decide(
    request: &Parts,
    offer: Offer,
    settings: &ReadSettings,
    grant: impl FnOnce() -> Result<Grant, Rejection>,
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
    let grant = grant().and_then(|grant| permitted(grant, settings.max_channels)).map_err(Problem::from);
    let read = ReadRequest::parse(request, method, transport, settings).map_err(Problem::from);
    // The resolver's rejection comes first: an unauthorized client learns nothing from how its request is malformed.
    match (grant, read) {
        (Ok(grant), Ok(read)) => Decision::Serve(grant, read),
        (Err(problem), Ok(read)) => Decision::RefuseOn(Refusal::of(read, problem)),
        (Err(problem), Err(_)) | (Ok(_), Err(problem)) => {
            Decision::RefuseOn(Refusal { transport, method, problem, cursors: None })
        }
    }
}

fn permitted(grant: Grant, max: usize) -> Result<Grant, Rejection> {
    if grant.channels.len() > max {
        return Err(InvalidChannels::TooMany { max }.into());
    }
    grant.without_reserved_channels()
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
    use crate::channel::Channels;

    fn decided(method: &str, uri: &str, accept: &str) -> Decision {
        let request = Request::builder().method(method).uri(uri).header("accept", accept).body(()).unwrap();
        let parts = request.into_parts().0;
        let settings = ReadSettings { max_channels: 2, ..ReadSettings::default() };
        decide(&parts, Offer::LongPollThenSse, &settings, || Channels::from_query(&parts).map(Grant::from))
    }

    fn status(decision: Decision) -> u16 {
        match decision {
            Decision::Refuse(problem) | Decision::RefuseOn(Refusal { problem, .. }) => {
                problem.into_response().status().as_u16()
            }
            Decision::Options => 204,
            Decision::Serve(..) => 200,
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
            ("GET", "/?channel=a&channel=tower-events:x", "*/*", 403),
            ("HEAD", "/?channel=tower-events:", "*/*", 403),
            ("GET", "/?channel=tower-event:x", "*/*", 200),
        ];
        for (method, uri, accept, expected) in table {
            assert_eq!(status(decided(method, uri, accept)), expected, "{method} {uri} {accept}");
        }
    }
}
