//! From what was asked to the array that answers it. Decides first, then writes.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pin_project_lite::pin_project;
use serde_json::json;

use super::{LongPollOptions, options::OnReset};
use crate::{
    body::{Body, Responding},
    cursor::{Cursor, Cursors},
    edge::{ACCEPT, ARRAY, Asked, Matter, Verb, finish, position},
    hub::{Events, Hub, Listened, Listening, Reset, SubscribeError, join},
    problem::{Problem, retry_after},
    request::{EVENTS_CLOSED, EVENTS_RESET, LAST_EVENT_ID, PREFERENCE_APPLIED, Wait, Wishes, next_link},
    store::Store,
};

/// Answers with an array.
pub(crate) fn answer<S: Store>(hub: &Hub<S>, asked: Asked, options: &LongPollOptions) -> Responding {
    if asked.verb == Verb::Head {
        let hub = hub.clone();
        return Responding::new(async move { look(&hub, &asked.matter).await });
    }
    let plan = Plan::new(asked.wishes, options);
    let (matter, applied, on_reset) = (asked.matter, plan.applied, options.on_reset);
    match hub.listening(&matter.subscription().wait(plan.wait).limit(plan.limit)) {
        Ok(listening) => {
            // The names that all readers share, so that the request's own can go.
            let matter = Matter { channels: listening.channels().clone(), ..matter };
            Responding::new(Parked { listening: Some(listening), matter, applied, on_reset })
        }
        Err(error) => Responding::ready(decide(&matter, Err(error), on_reset, hub.failure_backoff())),
    }
}

pin_project! {
    // A poll that waits. Not an async block: that would hold what it waits with twice.
    struct Parked {
        #[pin]
        listening: Option<Listening>,
        matter: Matter,
        applied: Option<u64>,
        on_reset: OnReset,
    }
}

impl Future for Parked {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let mut this = self.project();
        let Some(mut listening) = this.listening.as_mut().as_pin_mut() else { return Poll::Pending };
        let listened = ready!(listening.as_mut().poll(|| {}, cx));
        let backoff = listening.failure_backoff();
        // The reader leaves with its answer, however long the future is kept.
        this.listening.set(None);
        let mut response = decide(this.matter, listened, *this.on_reset, backoff);
        if let Some(seconds) = this.applied.filter(|_| response.status() == StatusCode::OK) {
            // RFC 7240, section 3: says which preference was honoured, and with what value.
            let applied = HeaderValue::try_from(format!("wait={seconds}"));
            response.headers_mut().extend(applied.ok().map(|applied| (PREFERENCE_APPLIED, applied)));
        }
        Poll::Ready(response)
    }
}

fn decide(
    matter: &Matter,
    listened: Result<Listened, SubscribeError>,
    on_reset: OnReset,
    backoff: Duration,
) -> Response<Body> {
    let problem = match (listened, matter.cursors()) {
        (Ok(listened), _) if on_reset == OnReset::Refuse && !listened.resets.is_empty() => {
            gone(matter, &listened.resets)
        }
        (Ok(listened), _) => return write(matter, &listened),
        (Err(SubscribeError::Draining { retry }), Some(cursors)) => return come_back(matter, cursors, retry),
        // Without a position there is none to give back, and an empty list would say that nothing was missed.
        (Err(error), _) => Problem::from(error).backing_off(backoff),
    };
    finish(Verb::Get, problem.into_response())
}

/// The request's wishes within the service's bounds.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    wait: Duration,
    limit: usize,
    /// The seconds of a `Prefer` that was honoured.
    applied: Option<u64>,
}

impl Plan {
    fn new(wishes: Wishes, options: &LongPollOptions) -> Self {
        let capped = |seconds: u64| seconds.min(options.longest_wait.as_secs());
        let (wait, applied) = match wishes.wait {
            None => (options.wait.min(options.longest_wait), None),
            Some(Wait::Parameter(seconds)) => (Duration::from_secs(capped(seconds)), None),
            Some(Wait::Preferred(seconds)) => (Duration::from_secs(capped(seconds)), Some(capped(seconds))),
        };
        let limit = wishes.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        Self { wait, limit: limit.min(options.limit), applied }
    }
}

fn write(matter: &Matter, listened: &Listened) -> Response<Body> {
    let mut response = match listened.run() {
        Some(events) => array(events.joined(&ARRAY), head_after(events, &matter.kept, &listened.cursors)),
        None => array(join(&listened.frames(), &ARRAY), head(&matter.kept, &listened.cursors)),
    };
    let headers = response.headers_mut();
    for reset in &listened.resets {
        headers.extend(events_reset(matter, reset).map(|value| (EVENTS_RESET, value)));
    }
    if listened.closed {
        headers.insert(EVENTS_CLOSED, HeaderValue::from_static("true"));
    }
    if let Some(retry) = listened.retry {
        headers.insert(header::RETRY_AFTER, retry_after(retry));
    }
    response
}

fn come_back(matter: &Matter, cursors: &Cursors, retry: Duration) -> Response<Body> {
    let mut response = array("[]", head(&matter.kept, cursors));
    response.headers_mut().insert(header::RETRY_AFTER, retry_after(retry));
    response
}

/// An array's bytes and its head, made into a response.
fn array(bytes: impl Into<Bytes>, head: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::full(bytes));
    *response.headers_mut() = head;
    response
}

/// The headers that all arrays have, before the position `cursors`.
fn head(kept: &[u8], cursors: &Cursors) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, ACCEPT);
    let position = position(cursors);
    let link = position.as_ref().and_then(|position| next_link(kept, position.to_str().ok()?));
    headers.extend(link.map(|link| (header::LINK, link)));
    headers.extend(position.filter(|_| !cursors.is_empty()).map(|position| (LAST_EVENT_ID, position)));
    headers
}

/// The head of an array of just these events. All who wait at one position get the same run, and as a rule have asked for
/// it with the same words: they share its head too.
fn head_after(events: &Events, kept: &[u8], cursors: &Cursors) -> HeaderMap {
    if cursors.as_one() == Some(events.next()) {
        let shared = events.beside(|| SharedHead { kept: kept.into(), headers: head(kept, cursors) });
        if let Some(shared) = shared.filter(|shared| *shared.kept == *kept) {
            return shared.headers.clone();
        }
    }
    head(kept, cursors)
}

/// A head that lies with a run, and what the requests that it answers kept.
struct SharedHead {
    kept: Box<[u8]>,
    headers: HeaderMap,
}

/// `trimmed`, or with several channels `trimmed;channel="a%20b"`.
fn events_reset(matter: &Matter, reset: &Reset) -> Option<HeaderValue> {
    let reason = reset.reason.as_str();
    if matter.channels.len() == 1 {
        return Some(HeaderValue::from_static(reason));
    }
    let channel = utf8_percent_encode(reset.channel.as_str(), &ENCODED);
    HeaderValue::try_from(format!("{reason};channel=\"{channel}\"")).ok()
}

/// `410`: what cannot be continued, and the positions to choose from.
fn gone(matter: &Matter, resets: &[Reset]) -> Problem {
    let position = |choose: fn(&Reset) -> Cursor| {
        matter.token(|_, channel| match resets.iter().find(|reset| reset.channel == *channel) {
            Some(reset) => Some(choose(reset)),
            None => matter.cursors().and_then(|cursors| cursors.position(channel)),
        })
    };
    let each = |reset: &Reset| {
        json!({
            "channel": reset.channel.as_str(),
            "reason": reset.reason.as_str(),
            "earliest": reset.earliest.to_string(),
            "latest": reset.latest.to_string(),
        })
    };
    let detail = "events after this position may be gone: read anew from `earliest`, or go on from `latest`";
    let problem = Problem::new(StatusCode::GONE, detail)
        .kind("reset")
        .member("earliest", position(|reset| reset.earliest).to_string())
        .member("latest", position(|reset| reset.latest).to_string())
        .member("resets", resets.iter().map(each).collect::<Vec<_>>());
    resets
        .iter()
        .filter_map(|reset| events_reset(matter, reset))
        .fold(problem, |problem, value| problem.header(EVENTS_RESET, value))
}

/// The answer to `HEAD`: where the channels are.
async fn look<S: Store>(hub: &Hub<S>, matter: &Matter) -> Response<Body> {
    let heads = match hub.heads(&matter.channels).await {
        Ok(heads) => heads,
        Err(error) => {
            let problem = Problem::of_store(&error).backing_off(hub.failure_backoff());
            return finish(Verb::Head, problem.into_response());
        }
    };
    let mut response = Response::new(Body::default());
    let headers = response.headers_mut();
    *headers = head(&matter.kept, &matter.head_token(&heads));
    if heads.iter().all(|head| head.closed) {
        headers.insert(EVENTS_CLOSED, HeaderValue::from_static("true"));
    }
    response
}

/// How many headers an answer has, as a rule.
const HEADERS: usize = 6;

/// All but the unreserved characters of RFC 3986.
const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channel::{Channel, Channels},
        request::{Begin, Media},
        store::{Reason, Start},
    };

    fn asked(names: &[&str], wait: Option<Wait>, limit: Option<u64>) -> Asked {
        Asked {
            verb: Verb::Get,
            media: Media::Json,
            wishes: Wishes { wait, limit, format: None, heartbeat: None },
            matter: Matter {
                channels: Channels::new(names.iter().map(|name| Channel::new(name).unwrap())).unwrap(),
                begin: Begin::Start(Start::Latest),
                kept: Box::default(),
            },
        }
    }

    #[test]
    fn wishes_are_capped() {
        let options = LongPollOptions::default();
        let table = [
            (None, None, 25, 100, None),
            (Some(Wait::Parameter(0)), Some(7), 0, 7, None),
            (Some(Wait::Parameter(56)), Some(101), 55, 100, None),
            (Some(Wait::Preferred(9)), Some(u64::MAX), 9, 100, Some(9)),
            (Some(Wait::Preferred(u64::MAX)), None, 55, 100, Some(55)),
        ];
        for (wait, limit, seconds, most, applied) in table {
            let plan = Plan::new(asked(&["a"], wait, limit).wishes, &options);
            assert_eq!(plan, Plan { wait: Duration::from_secs(seconds), limit: most, applied }, "{wait:?} {limit:?}");
        }
        let short = LongPollOptions::default().longest_wait(Duration::from_secs(3));
        assert_eq!(Plan::new(asked(&["a"], None, None).wishes, &short).wait, Duration::from_secs(3));
    }

    #[test]
    fn a_reset_names_its_channel_when_there_are_several() {
        let at = Cursor { epoch: 1, seq: 2, tag: 3 };
        let channel = Channel::new("ч \"a\"").unwrap();
        let reset = Reset { channel, reason: Reason::Trimmed, earliest: at, latest: at };
        assert_eq!(events_reset(&asked(&["a"], None, None).matter, &reset).unwrap(), "trimmed");
        let several = events_reset(&asked(&["a", "b"], None, None).matter, &reset).unwrap();
        assert_eq!(several, "trimmed;channel=\"%D1%87%20%22a%22\"");
    }
}
