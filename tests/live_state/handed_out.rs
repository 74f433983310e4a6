//! When a service hands bytes to the HTTP server.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Instant,
};

use axum::{Router, body::Body, middleware::map_response, response::Response};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tower_events::EventService;

/// The last time at which anything may have been handed out: the beginning of the poll that returned it, so that a machine that is
/// busy makes nothing look later than it was.
#[derive(Clone, Default)]
pub(crate) struct HandedOut(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    last: Option<Instant>,
    bytes: usize,
}

impl HandedOut {
    pub(crate) fn last(&self) -> Instant {
        self.0.lock().unwrap().last.expect("something was handed out")
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.lock().unwrap().bytes
    }

    /// `events` at `path`, watched.
    pub(crate) fn watching(&self, path: &str, events: EventService) -> Router {
        let this = self.clone();
        let watch = move |response: Response| {
            let this = this.clone();
            async move { response.map(|inner| Body::new(Watched { inner, handed_out: this })) }
        };
        Router::new().route_service(path, events).layer(map_response(watch))
    }
}

struct Watched {
    inner: Body,
    handed_out: HandedOut,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Instant::now();
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let data = frame.data_ref().map_or(&b""[..], |data| data);
            let mut seen = self.handed_out.0.lock().unwrap();
            seen.bytes += data.len();
            // A client that has stalled is told that it has ended when it reads again.
            if !data.windows(19).any(|bytes| bytes == b"event: stream-retry") {
                seen.last = seen.last.max(Some(polled));
            }
        }
        frame
    }
}
