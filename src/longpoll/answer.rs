//! From a request to the response of a long poll.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use http_body::Body as _;
use pin_project_lite::pin_project;
use serde_json::json;

use super::{
    limits::PollLimits,
    options::{LongPollOptions, OnReset},
    response_head::{self, Live},
};
use crate::{
    body::{Answer, Attached, Body, HandlerFuture},
    cursor::{Cursor, Cursors},
    edge::{MAX_CHANNELS_IN_HEADERS, ReadTarget, Refusal, Responder, announce_close, finish},
    encode::{ARRAY, SNAPSHOT_ARRAY, array_for, empty_page, page},
    hub::{Hub, Listen, Listened, Listening, ReaderKind, Reset, SubscribeError, encode_joined},
    problem::Problem,
    request::{EVENTS_CLOSED, EVENTS_RESET, Offer, PREFERENCE_APPLIED, PollShape, ReadMethod, ReadRequest},
    retry::{Retry, jittered, retry_after},
    store::Store,
};

impl Responder for LongPollOptions {
    const OFFER: Offer = Offer::LongPoll;

    /// Answers with an array of events, or an object that has one.
    fn answer<S: Store>(&self, hub: &Hub<S>, target: ReadTarget, request: ReadRequest) -> HandlerFuture {
        let ReadRequest { method, version, shape, .. } = request;
        if shape == PollShape::Array && target.channels().len() > MAX_CHANNELS_IN_HEADERS {
            return HandlerFuture::ready(finish(method, too_many_for_headers().into_response()));
        }
        let target = target.starting(request.begin, request.next_query);
        if method == ReadMethod::Head {
            let hub = hub.clone();
            return HandlerFuture::new(async move { head_response(&hub, &target, shape).await });
        }
        let PollLimits { wait, limit, honored_wait, .. } =
            PollLimits::new(request.wait, request.limit, self).with_jitter();
        let response_options = ResponseOptions { shape, on_reset: self.on_reset, version };
        let listen = Listen::from(target.subscription.clone()).wait(wait).limit(limit);
        match hub.listening(&listen, ReaderKind::LongPoll) {
            Ok(listening) => {
                let target = target.sharing(listening.channels());
                HandlerFuture::new(ParkedPoll { listening: Some(listening), target, honored_wait, response_options })
            }
            Err(error) => HandlerFuture::ready(respond(&target, response_options, Err(error), hub.failure_backoff())),
        }
    }

    fn refuse<S: Store>(&self, _: &Hub<S>, refusal: Refusal) -> Response<Body> {
        refusal.problem.into_response()
    }
}

pin_project! {
    // A poll that waits. Not an async block, which would store `listening` twice.
    struct ParkedPoll {
        #[pin]
        listening: Option<Listening>,
        target: ReadTarget,
        honored_wait: Option<u64>,
        response_options: ResponseOptions,
    }
}

/// How to respond with what was gathered.
#[derive(Clone, Copy)]
struct ResponseOptions {
    shape: PollShape,
    on_reset: OnReset,
    version: Version,
}

impl Answer for ParkedPoll {
    fn poll_answer(self: Pin<&mut Self>, attached: &mut Attached, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let mut this = self.project();
        let Some(mut listening) = this.listening.as_mut().as_pin_mut() else { return Poll::Pending };
        if attached.poll_end(cx).is_ready() {
            listening.as_mut().end_wait();
        }
        if attached.is_over() {
            this.listening.set(None);
            // Taken, because a response under it would be cut: this one has no events.
            let retry = attached.take_access().and_then(|access| access.retry());
            return Poll::Ready(ended_response(this.target, *this.response_options, retry));
        }
        let listened = ready!(listening.as_mut().poll(|| {}, cx));
        let backoff = listening.failure_backoff();
        let mut response = respond(this.target, *this.response_options, listened, backoff);
        let bytes = response.body().size_hint().exact();
        listening.count_sent(bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0));
        // The reader leaves the hub with its response, however long the future is kept.
        this.listening.set(None);
        if let Some(seconds) = this.honored_wait.filter(|_| response.status() == StatusCode::OK) {
            // RFC 7240, section 3: which preference was honoured, and with what value.
            let value = HeaderValue::try_from(format!("wait={seconds}"));
            response.headers_mut().extend(value.ok().map(|value| (PREFERENCE_APPLIED, value)));
        }
        Poll::Ready(response)
    }
}

fn respond(
    target: &ReadTarget,
    response_options: ResponseOptions,
    listened: Result<Listened, SubscribeError>,
    backoff: Duration,
) -> Response<Body> {
    let draining = match &listened {
        Ok(listened) => listened.retry.is_some(),
        Err(error) => matches!(error, SubscribeError::Draining { .. }),
    };
    let mut response = build_response(target, response_options, listened, backoff);
    if draining {
        announce_close(response_options.version, response.headers_mut());
    }
    response
}

fn build_response(
    target: &ReadTarget,
    ResponseOptions { shape, on_reset, .. }: ResponseOptions,
    listened: Result<Listened, SubscribeError>,
    backoff: Duration,
) -> Response<Body> {
    let problem = match (listened, target.cursors()) {
        (Ok(listened), _) if on_reset == OnReset::Refuse && listened.resets.iter().any(is_refused) => {
            gone(target, &listened.resets)
        }
        (Ok(listened), _) => return events_response(target, shape, &listened),
        (Err(SubscribeError::Draining { retry }), Some(cursors)) => {
            return draining_response(target, shape, cursors, retry);
        }
        // Without a position there is none to return, and an empty array would mean that nothing was missed.
        (Err(error), _) => Problem::from(error).backing_off(backoff),
    };
    finish(ReadMethod::Get, problem.into_response())
}

/// A reset that a snapshot follows leaves the client no choice to make.
fn is_refused(reset: &Reset) -> bool {
    !reset.snapshot_follows
}

fn events_response(target: &ReadTarget, shape: PollShape, listened: &Listened) -> Response<Body> {
    let array = match (listened.run(), listened.snapshots.as_slice()) {
        _ if !target.view.is_plain() => array_for(listened, &target.view).into(),
        (Some(events), _) => events.joined(&ARRAY),
        (None, [snapshot]) if listened.events.is_empty() => snapshot.to_batch().joined(&SNAPSHOT_ARRAY),
        (None, [_, ..]) => array_for(listened, &target.view).into(),
        (None, []) => encode_joined(&listened.encoded_entries(), &ARRAY).into(),
    };
    match shape {
        PollShape::Array => ok_response(array, response_head::array(target, listened)),
        PollShape::Page => ok_response(page(&array, listened, &target.view), response_head::page(listened.retry)),
    }
}

fn draining_response(target: &ReadTarget, shape: PollShape, cursors: &Cursors, retry: Duration) -> Response<Body> {
    match shape {
        PollShape::Array => {
            let mut head = response_head::array_at(&target.next_query, cursors, Live::No);
            head.insert(header::RETRY_AFTER, retry_after(retry));
            ok_response("[]", head)
        }
        PollShape::Page => ok_response(empty_page(cursors, retry), response_head::page(Some(retry))),
    }
}

/// The response to a reader whose access has ended, whatever there is by now.
fn ended_response(target: &ReadTarget, options: ResponseOptions, retry: Option<Duration>) -> Response<Body> {
    let retry = retry.unwrap_or_else(|| jittered(ENDED_RETRY));
    match target.cursors() {
        Some(cursors) => draining_response(target, options.shape, cursors, retry),
        // Without a position an empty array would mean that nothing was missed.
        None => {
            let problem =
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the access of this request has ended; ask again");
            finish(ReadMethod::Get, problem.kind("grant-ended").temporary(Retry::After(retry)).into_response())
        }
    }
}

/// When the client of a poll comes back that ended with its access.
const ENDED_RETRY: Duration = Duration::from_secs(1);

fn ok_response(bytes: impl Into<Bytes>, head: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::full(bytes));
    *response.headers_mut() = head;
    response
}

fn too_many_for_headers() -> Problem {
    let detail = format!(
        "the position of more than {MAX_CHANNELS_IN_HEADERS} channels is too long for a header: use `format=page`"
    );
    Problem::new(StatusCode::BAD_REQUEST, detail).kind("bad-parameter").parameter("format")
}

/// `410`: which channels cannot be continued, and the positions to choose from.
fn gone(target: &ReadTarget, resets: &[Reset]) -> Problem {
    let position = |choose: fn(&Reset) -> Cursor| {
        target.token(|_, channel| match resets.iter().find(|reset| reset.channel == *channel) {
            Some(reset) => Some(choose(reset)),
            None => target.cursors().and_then(|cursors| cursors.position(channel)),
        })
    };
    let each = |reset: &Reset| {
        json!({
            "channel": target.view.channel(&reset.channel),
            "reason": reset.reason.as_str(),
            "earliest": target.view.cursor(reset.earliest).to_string(),
            "latest": target.view.cursor(reset.latest).to_string(),
        })
    };
    let detail = "events after this position may be gone: read what is left from `earliest`, or continue from `latest`";
    let problem = Problem::new(StatusCode::GONE, detail)
        .kind("reset")
        .member("earliest", position(|reset| reset.earliest).to_string())
        .member("latest", position(|reset| reset.latest).to_string())
        .member("resets", resets.iter().map(each).collect::<Vec<_>>());
    match response_head::resets_value(target, resets) {
        Some(value) => problem.header(EVENTS_RESET, value),
        None => problem,
    }
}

/// The response to `HEAD`: the heads of the channels.
async fn head_response<S: Store>(hub: &Hub<S>, target: &ReadTarget, shape: PollShape) -> Response<Body> {
    let heads = match hub.heads(target.channels()).await {
        Ok(heads) => heads,
        Err(error) => {
            let problem = Problem::from_store_error(&error).backing_off(hub.failure_backoff());
            return finish(ReadMethod::Head, problem.into_response());
        }
    };
    let mut response = Response::new(Body::default());
    let headers = response.headers_mut();
    *headers = match shape {
        PollShape::Array => response_head::array_at(&target.next_query, &target.head_token(&heads), Live::No),
        PollShape::Page => response_head::page(None),
    };
    if heads.iter().all(|head| head.closed) {
        headers.insert(EVENTS_CLOSED, HeaderValue::from_static("true"));
    }
    response
}
