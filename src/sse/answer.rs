//! From a request to the response that streams events.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};

use super::{
    body::SseBody,
    options::{Forwarding, SseOptions},
    response_head::stream_headers,
};
use crate::{
    body::{Body, HandlerFuture},
    cursor::Cursors,
    edge::{ReadTarget, Refusal, Responder, announce_close, finish, insert_position},
    encode::push_stream_retry,
    hub::{Hub, ReaderKind, SubscribeError},
    problem::Problem,
    request::{EVENTS_CLOSED, Offer, ReadMethod, ReadRequest},
    store::Store,
};

impl Responder for SseOptions {
    const OFFER: Offer = Offer::Sse;

    /// Answers with a stream.
    fn answer<S: Store>(&self, hub: &Hub<S>, target: ReadTarget, request: ReadRequest) -> HandlerFuture {
        let target = target.starting(request.begin, request.next_query);
        if request.method == ReadMethod::Head {
            let (hub, forwarding) = (hub.clone(), self.forwarding);
            return HandlerFuture::new(async move {
                finish(ReadMethod::Head, head_response(&hub, &target, forwarding).await)
            });
        }
        let options = Self {
            format: request.format.unwrap_or(self.format),
            heartbeat_as: request.heartbeat.unwrap_or(self.heartbeat_as),
            ..self.clone()
        };
        let version = request.version;
        let (hub, subscribing) = (hub.clone(), hub.subscribing(&target.subscription, ReaderKind::Sse));
        HandlerFuture::new(async move {
            let response = match subscribing.await {
                Ok(subscriber) if subscriber.at_end() => end_response(&subscriber.cursors()),
                Ok(subscriber) => SseBody::new(subscriber, target.view, &options).into_response(),
                Err(error) => {
                    let draining = matches!(error, SubscribeError::Draining { .. });
                    let backoff = hub.failure_backoff();
                    let mut response = refuse(error.into(), ReadMethod::Get, target.cursors(), backoff, &options);
                    if draining {
                        announce_close(version, response.headers_mut());
                    }
                    response
                }
            };
            finish(ReadMethod::Get, response)
        })
    }

    fn refuse<S: Store>(&self, hub: &Hub<S>, refusal: Refusal) -> Response<Body> {
        refuse(refusal.problem, refusal.method, refusal.cursors.as_ref(), hub.failure_backoff(), self)
    }
}

/// `EventSource` gives up for good on any status but 200, so a *temporary* reason is sent as a stream that ends with
/// `stream-retry`; clients that want only data look at the status.
fn refuse(
    problem: Problem,
    method: ReadMethod,
    cursors: Option<&Cursors>,
    backoff: Duration,
    options: &SseOptions,
) -> Response<Body> {
    let problem = problem.backing_off(backoff);
    let as_stream = method == ReadMethod::Get && options.data_only.is_none();
    let Some(retry) = problem.retry().filter(|_| as_stream) else { return problem.into_response() };
    let mut out = Vec::new();
    push_stream_retry(&mut out, retry.jittered(options.retry), cursors);
    let mut response = Response::new(Body::full(out));
    stream_headers(response.headers_mut(), options.forwarding);
    response
}

/// WHATWG HTML, section 9.2.2: a 204 tells `EventSource` to stop reconnecting.
fn end_response(cursors: &Cursors) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(EVENTS_CLOSED, HeaderValue::from_static("true"));
    insert_position(headers, cursors);
    response
}

async fn head_response<S: Store>(hub: &Hub<S>, target: &ReadTarget, forwarding: Forwarding) -> Response<Body> {
    match hub.heads(target.channels()).await {
        Ok(heads) => {
            let mut response = Response::new(Body::default());
            stream_headers(response.headers_mut(), forwarding);
            insert_position(response.headers_mut(), &target.head_token(&heads));
            response
        }
        Err(error) => Problem::from_store_error(&error).backing_off(hub.failure_backoff()).into_response(),
    }
}
