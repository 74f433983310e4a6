//! From what was asked to the array that answers it. Decides first, then writes.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::{LongPollOptions, options::OnReset};
use crate::{
    body::Body,
    cursor::{Cursor, Cursors},
    edge::{Asked, OBJECTS, Verb, insert_position},
    hub::{Frame, Hub, Listened, Reset, SubscribeError},
    problem::{Problem, retry_after},
    request::{EVENTS_CLOSED, EVENTS_RESET, PREFERENCE_APPLIED, Wait, next_link},
    store::Store,
};

/// What a poll gets.
enum Answer {
    Events(Listened),
    /// The hub drains: nothing, and go on from here.
    ComeBack(Cursors, Duration),
    Refuse(Problem),
}

/// Answers with an array.
pub(crate) async fn answer<S: Store>(hub: &Hub<S>, asked: &Asked, options: &LongPollOptions) -> Response<Body> {
    if asked.verb == Verb::Head {
        return head(hub, asked).await;
    }
    let plan = Plan::new(asked, options);
    let mut response = match decide(hub, asked, options, &plan).await {
        Answer::Events(listened) => write(asked, &listened),
        Answer::ComeBack(cursors, retry) => come_back(asked, &cursors, retry),
        Answer::Refuse(problem) => return problem.into_response(),
    };
    if let Some(seconds) = plan.applied {
        // RFC 7240, section 3: says which preference was honoured, and with what value.
        let applied = HeaderValue::try_from(format!("wait={seconds}"));
        response.headers_mut().extend(applied.ok().map(|applied| (PREFERENCE_APPLIED, applied)));
    }
    response
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
    fn new(asked: &Asked, options: &LongPollOptions) -> Self {
        let capped = |seconds: u64| seconds.min(options.longest_wait.as_secs());
        let (wait, applied) = match asked.read.wait {
            None => (options.wait.min(options.longest_wait), None),
            Some(Wait::Parameter(seconds)) => (Duration::from_secs(capped(seconds)), None),
            Some(Wait::Preferred(seconds)) => (Duration::from_secs(capped(seconds)), Some(capped(seconds))),
        };
        let limit = asked.read.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        Self { wait, limit: limit.min(options.limit), applied }
    }
}

async fn decide<S: Store>(hub: &Hub<S>, asked: &Asked, options: &LongPollOptions, plan: &Plan) -> Answer {
    match hub.listen(asked.subscription().wait(plan.wait).limit(plan.limit)).await {
        Ok(listened) if options.on_reset == OnReset::Refuse && !listened.resets.is_empty() => {
            Answer::Refuse(gone(asked, &listened.resets))
        }
        Ok(listened) => Answer::Events(listened),
        Err(SubscribeError::Draining { retry }) if asked.cursors().is_some() => {
            Answer::ComeBack(asked.cursors().cloned().unwrap_or_else(|| Cursors::of([])), retry)
        }
        // Without a position there is none to give back, and an empty list would say that nothing was missed.
        Err(error) => Answer::Refuse(error.into()),
    }
}

fn write(asked: &Asked, listened: &Listened) -> Response<Body> {
    let mut response = array(asked, Body::full(joined(&listened.frames())), &listened.cursors);
    let headers = response.headers_mut();
    for reset in &listened.resets {
        headers.extend(events_reset(asked, reset).map(|value| (EVENTS_RESET, value)));
    }
    if listened.closed {
        headers.insert(EVENTS_CLOSED, HeaderValue::from_static("true"));
    }
    if let Some(retry) = listened.retry {
        headers.insert(header::RETRY_AFTER, retry_after(retry));
    }
    response
}

/// `[…,…]`: one copy of what all polls share.
fn joined(frames: &[&Arc<Frame>]) -> Vec<u8> {
    let encoded: Vec<_> = frames.iter().map(|frame| frame.encoded(&OBJECTS)).collect();
    let mut body = Vec::with_capacity(2 + encoded.iter().map(|object| object.len() + 1).sum::<usize>());
    body.push(b'[');
    for (at, object) in encoded.iter().enumerate() {
        if at > 0 {
            body.extend_from_slice(OBJECTS.separator);
        }
        body.extend_from_slice(object);
    }
    body.push(b']');
    body
}

fn come_back(asked: &Asked, cursors: &Cursors, retry: Duration) -> Response<Body> {
    let mut response = array(asked, Body::full("[]"), cursors);
    response.headers_mut().insert(header::RETRY_AFTER, retry_after(retry));
    response
}

fn array(asked: &Asked, body: Body, cursors: &Cursors) -> Response<Body> {
    let mut response = Response::new(body);
    array_headers(response.headers_mut(), asked, cursors);
    response
}

fn array_headers(headers: &mut HeaderMap, asked: &Asked, cursors: &Cursors) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    insert_position(headers, cursors);
    headers.extend(next_link(&asked.kept, cursors).map(|link| (header::LINK, link)));
}

/// `trimmed`, or with several channels `trimmed;channel="a%20b"`.
fn events_reset(asked: &Asked, reset: &Reset) -> Option<HeaderValue> {
    let reason = reset.reason.as_str();
    if asked.channels.len() == 1 {
        return Some(HeaderValue::from_static(reason));
    }
    let channel = utf8_percent_encode(reset.channel.as_str(), &ENCODED);
    HeaderValue::try_from(format!("{reason};channel=\"{channel}\"")).ok()
}

/// `410`: what cannot be continued, and the positions to choose from.
fn gone(asked: &Asked, resets: &[Reset]) -> Problem {
    let position = |choose: fn(&Reset) -> Cursor| {
        asked.token(|_, channel| match resets.iter().find(|reset| reset.channel == *channel) {
            Some(reset) => Some(choose(reset)),
            None => asked.cursors().and_then(|cursors| cursors.position(channel)),
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
        .filter_map(|reset| events_reset(asked, reset))
        .fold(problem, |problem, value| problem.header(EVENTS_RESET, value))
}

async fn head<S: Store>(hub: &Hub<S>, asked: &Asked) -> Response<Body> {
    match hub.heads(&asked.channels).await {
        Ok(heads) => {
            let mut response = array(asked, Body::default(), &asked.head_token(&heads));
            if heads.iter().all(|head| head.closed) {
                response.headers_mut().insert(EVENTS_CLOSED, HeaderValue::from_static("true"));
            }
            response
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

/// All but the unreserved characters of RFC 3986.
const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channel::{Channel, Channels},
        request::{Begin, Media, Read},
        store::{Reason, Start},
    };

    fn asked(names: &[&str], wait: Option<Wait>, limit: Option<u64>) -> Asked {
        Asked {
            verb: Verb::Get,
            media: Media::Json,
            channels: Channels::new(names.iter().map(|name| Channel::new(name).unwrap())).unwrap(),
            read: Read { begin: Begin::Start(Start::Latest), wait, limit, format: None, heartbeat: None },
            kept: String::new(),
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
            let plan = Plan::new(&asked(&["a"], wait, limit), &options);
            assert_eq!(plan, Plan { wait: Duration::from_secs(seconds), limit: most, applied }, "{wait:?} {limit:?}");
        }
        let short = LongPollOptions::default().longest_wait(Duration::from_secs(3));
        assert_eq!(Plan::new(&asked(&["a"], None, None), &short).wait, Duration::from_secs(3));
    }

    #[test]
    fn a_reset_names_its_channel_when_there_are_several() {
        let at = Cursor { epoch: 1, seq: 2, tag: 3 };
        let channel = Channel::new("ч \"a\"").unwrap();
        let reset = Reset { channel, reason: Reason::Trimmed, earliest: at, latest: at };
        assert_eq!(events_reset(&asked(&["a"], None, None), &reset).unwrap(), "trimmed");
        let several = events_reset(&asked(&["a", "b"], None, None), &reset).unwrap();
        assert_eq!(several, "trimmed;channel=\"%D1%87%20%22a%22\"");
    }
}
