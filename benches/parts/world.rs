//! The setup shared by the benchmarks.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use http_body::Body as _;
use tokio::runtime::{Builder, Runtime};
use tower_events::{Channel, Event, Hub, MemoryStore, Retention, SseBody, sse::SseOptions};

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A hub with room for everything that a benchmark publishes, in the ring too.
pub(crate) fn hub() -> Hub {
    Hub::new(MemoryStore::new(Retention::default().events(4_096).bytes(8 << 20)))
}

pub(crate) fn channel() -> Channel {
    Channel::new("a").expect("a name")
}

/// `count` events of 100 bytes.
pub(crate) fn events(count: usize) -> Vec<Event> {
    (0..count).map(|_| Event::text("x".repeat(100))).collect()
}

/// On a slow machine a round may take longer than a heartbeat, which would be taken for an event.
pub(crate) fn without_heartbeat() -> SseOptions {
    SseOptions::default().without_heartbeat()
}

/// The number of bytes that the stream has ready; `None` if it has none.
pub(crate) fn take(stream: &mut SseBody) -> Option<usize> {
    match Pin::new(stream).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => Some(frame.data_ref().map_or(0, bytes::Bytes::len)),
        Poll::Ready(_) => panic!("the stream has ended"),
        Poll::Pending => None,
    }
}

/// Reads `wanted` bytes or more.
pub(crate) async fn read(stream: &mut SseBody, wanted: usize) -> usize {
    let mut seen = 0;
    while seen < wanted {
        let frame = poll_fn(|cx| Pin::new(&mut *stream).poll_frame(cx)).await;
        let frame = frame.expect("the stream does not end").expect("infallible");
        seen += frame.data_ref().map_or(0, bytes::Bytes::len);
    }
    seen
}
