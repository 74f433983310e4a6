//! From what was asked to the response that streams it. Decides first, then writes.

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
    edge::{Asked, ReadMethod, ReadTarget, finish, insert_position},
    encode::push_stream_retry,
    hub::{Hub, SubscribeError},
    problem::Problem,
    request::EVENTS_CLOSED,
    store::Store,
};

/// Answers with a stream.
pub(crate) fn answer<S: Store>(hub: &Hub<S>, asked: Asked, options: &SseOptions) -> HandlerFuture {
    if asked.method == ReadMethod::Head {
        let (hub, forwarding) = (hub.clone(), options.forwarding);
        return HandlerFuture::new(
            async move { finish(ReadMethod::Head, head(&hub, &asked.target, forwarding).await) },
        );
    }
    let options = SseOptions {
        format: asked.wishes.format.unwrap_or(options.format),
        heartbeat_as: asked.wishes.heartbeat.unwrap_or(options.heartbeat_as),
        ..options.clone()
    };
    let (target, connection_close) = (asked.target, asked.connection_close);
    let (hub, subscribing) = (hub.clone(), hub.subscribing(&target.subscription()));
    HandlerFuture::new(async move {
        let response = match subscribing.await {
            Ok(subscriber) if subscriber.at_end() => end(&subscriber.cursors()),
            Ok(subscriber) => SseBody::new(subscriber, &options).into_response(),
            Err(error) => {
                let draining = matches!(error, SubscribeError::Draining { .. });
                let problem = Problem::from(error);
                let mut response = refuse(problem, ReadMethod::Get, target.cursors(), hub.failure_backoff(), &options);
                if draining {
                    connection_close.announce(response.headers_mut());
                }
                response
            }
        };
        finish(ReadMethod::Get, response)
    })
}

/// `EventSource` gives up for good on any status but 200, so a *passing* reason is told in the stream's own words.
pub(crate) fn refuse(
    problem: Problem,
    method: ReadMethod,
    cursors: Option<&Cursors>,
    backoff: Duration,
    options: &SseOptions,
) -> Response<Body> {
    let problem = problem.backing_off(backoff);
    let Some(retry) = problem.retry().filter(|_| method == ReadMethod::Get) else { return problem.into_response() };
    let mut out = Vec::new();
    push_stream_retry(&mut out, retry.jittered(options.retry), cursors);
    let mut response = Response::new(Body::full(out));
    stream_headers(response.headers_mut(), options.forwarding);
    response
}

/// WHATWG HTML, section 9.2.2: 204 tells `EventSource` to stop reconnecting.
fn end(cursors: &Cursors) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(EVENTS_CLOSED, HeaderValue::from_static("true"));
    insert_position(headers, cursors);
    response
}

async fn head<S: Store>(hub: &Hub<S>, target: &ReadTarget, forwarding: Forwarding) -> Response<Body> {
    match hub.heads(&target.channels).await {
        Ok(heads) => {
            let mut response = Response::new(Body::default());
            stream_headers(response.headers_mut(), forwarding);
            insert_position(response.headers_mut(), &target.head_token(&heads));
            response
        }
        Err(error) => Problem::of_store(&error).backing_off(hub.failure_backoff()).into_response(),
    }
}
