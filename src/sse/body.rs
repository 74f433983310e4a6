//! The body of a stream: pulls deliveries and writes them, and heartbeats in between. Knows nothing of requests and statuses.

mod blocks;
mod data_only;

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};

use super::{
    chunk_buffer::ChunkBuffer,
    heartbeat::{HeartbeatTimer, Tick},
    options::{DataOnly, Forwarding, LiveMark, SseOptions},
    pending_events::PendingEvents,
    response_head::stream_headers,
    send_budget::SendBudget,
};
use crate::{
    body::{Attached, Body, Stream},
    encode::{Ids, View},
    hub::{Delivery, Subscriber},
    request::{Format, Heartbeat},
};

/// A stream of events, as the body of a response; from [`Hub::sse`](crate::Hub::sse).
///
/// It never fails: when the store does, it ends at an event boundary, and clients resume. Dropping it is the normal end.
pub struct SseBody {
    subscriber: Subscriber,
    buffer: ChunkBuffer,
    /// Events that are being written, each with a token of this stream.
    pending: Option<Box<PendingEvents>>,
    timer: HeartbeatTimer,
    view: View,
    format: Format,
    ids: Ids,
    heartbeat: Heartbeat,
    live_mark: LiveMark,
    /// `stream-live` is sent as soon as all history has been.
    live_mark_due: bool,
    /// The reconnection delay is drawn around this.
    retry_ms: u32,
    /// The first block still has to carry `retry:`.
    retry_due: bool,
    /// The `stream-ping` at the start still has to be sent.
    first_ping_due: bool,
    budget: SendBudget,
    state: StreamState,
    forwarding: Forwarding,
    /// Nothing but data is sent.
    data_only: Option<DataOnly>,
    /// Last, so that the reader has left the hub when the guards are dropped.
    attached: Attached,
}

#[derive(Debug, PartialEq, Eq)]
enum StreamState {
    Open,
    /// Nothing follows what is in the buffer.
    Ended,
}

impl SseBody {
    pub(crate) fn new(subscriber: Subscriber, view: View, options: &SseOptions) -> Self {
        let plain;
        let options = match options.data_only {
            None => options,
            Some(_) => {
                plain = options.clone().without_live_mark().heartbeat_as(Heartbeat::Comment);
                &plain
            }
        };
        let as_for_everyone = match options.format {
            Format::Text => view.has_plain_positions(),
            Format::Json => view.is_plain(),
        };
        let shares_ids = subscriber.channels().len() == 1 && as_for_everyone;
        Self {
            subscriber,
            view,
            format: options.format,
            ids: if shares_ids { Ids::Shared } else { Ids::OfStream },
            buffer: ChunkBuffer::default(),
            pending: None,
            timer: HeartbeatTimer::new(options.heartbeat_after, options.max_age),
            heartbeat: options.heartbeat_as,
            live_mark: options.live_mark,
            live_mark_due: options.live_mark == LiveMark::Send,
            retry_ms: u32::try_from(options.retry.as_millis()).unwrap_or(u32::MAX),
            retry_due: options.data_only.is_none(),
            first_ping_due: options.heartbeat_as == Heartbeat::Event,
            budget: SendBudget::new(options.max_catch_up_rate),
            state: StreamState::Open,
            forwarding: options.forwarding,
            data_only: options.data_only.clone(),
            attached: Attached::default(),
        }
    }

    /// Holds `guard`, such as a permit of a semaphore, until the stream has ended or is dropped, which is what happens when the
    /// client disconnects.
    #[must_use]
    pub fn holding(mut self, guard: impl Send + 'static) -> Self {
        self.attached.add_guard(guard);
        self
    }

    /// Ends the stream at an event boundary when `signal` is ready, as at its [maximum age](super::SseOptions::max_age): with
    /// `stream-retry`, so that the client comes back and resumes.
    ///
    /// After several calls the first signal that is ready counts. The signals are polled only when the stream is, and dropped
    /// when it has ended or is dropped.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_events::{Hub, SseBody, SubscribeError, Subscription};
    ///
    /// async fn for_a_minute(hub: Hub, subscription: Subscription) -> Result<SseBody, SubscribeError> {
    ///     Ok(hub.sse(subscription).await?.until(tokio::time::sleep(Duration::from_secs(60))))
    /// }
    /// # drop(for_a_minute);
    /// ```
    #[must_use]
    pub fn until(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.attached.add_signal(signal);
        self
    }

    /// A `200` with this body and the headers of a stream.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let forwarding = self.forwarding;
        let mut response = Response::new(Body::from(self));
        stream_headers(response.headers_mut(), forwarding);
        response
    }

    /// Whether the last poll found nothing to send and nothing has happened since.
    fn is_parked(&self, cx: &Context<'_>) -> bool {
        // Whether a signal has come is known only to the signal.
        !self.attached.may_end() && self.timer.is_waiting(cx) && self.subscriber.is_parked(cx)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(chunk) = self.buffer.next_chunk() {
                self.timer.sent();
                return Poll::Ready(Some(chunk));
            }
            match (&mut self.pending, &self.state) {
                (Some(_), _) => self.write_pending(),
                (None, StreamState::Open) if self.first_ping_due => self.write_first(cx),
                (None, StreamState::Open) => ready!(self.write_next(cx)),
                (None, StreamState::Ended) => return Poll::Ready(None),
            }
        }
    }

    /// Hands out nothing more of what was written, not even the rest of an event: a client discards an incomplete one at the end
    /// of the stream (WHATWG HTML, section 9.2.6), and resumes after the last complete one.
    fn cut(&mut self) {
        if self.state == StreamState::Ended {
            return;
        }
        // The buffer has nothing between two polls, unless it has the rest of what was sent in part.
        let is_in_event = !self.buffer.is_empty();
        let is_behind = self.pending.take().is_some();
        self.buffer = ChunkBuffer::default();
        match (is_in_event, is_behind) {
            (true, _) => self.state = StreamState::Ended,
            (false, true) => self.write_end_without_position(),
            (false, false) => self.write_end(),
        }
    }

    /// Writes the first delivery, after the first `stream-ping` if it may come before it.
    fn write_first(&mut self, cx: &mut Context<'_>) {
        let start = self.subscriber.cursors();
        let first = self.subscriber.poll_delivery(cx);
        let mut out = Vec::new();
        // A client that disconnected between an id and a reset would resume after the id and never learn of the reset: so no
        // id is sent before a reset.
        if matches!(first, Poll::Pending | Poll::Ready(Some(Ok(Delivery::Events(_) | Delivery::Closed(_))))) {
            self.first_ping_due = false;
            self.push_stream_ping(&mut out, &start);
        }
        match first {
            Poll::Ready(delivery) => self.write(out, delivery),
            Poll::Pending => self.buffer.put(out),
        }
    }

    /// Writes what is next: the end, `stream-live`, a delivery, or a heartbeat when there is no delivery.
    fn write_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.has_ended() || self.attached.poll_end(cx).is_ready() {
            self.write_end();
            return Poll::Ready(());
        }
        if self.is_live_mark_due() {
            self.write_live_mark();
            return Poll::Ready(());
        }
        if let Poll::Ready(delivery) = self.subscriber.poll_delivery(cx) {
            self.write(Vec::new(), delivery);
            return Poll::Ready(());
        }
        // With reads that are shared between readers, it may have become clear only in this poll that no history is left.
        if self.is_live_mark_due() {
            return Poll::Ready(());
        }
        match ready!(self.timer.poll(cx)) {
            Tick::End => self.write_end(),
            Tick::Heartbeat => self.write_heartbeat(),
        }
        Poll::Ready(())
    }
}

impl http_body::Body for SseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        // Shortcut: servers poll once or twice more after each chunk.
        if this.is_parked(cx) {
            return Poll::Pending;
        }
        if this.attached.is_over() {
            this.cut();
        }
        ready!(this.budget.poll_turn(&this.subscriber, cx));
        let chunk = this.poll_chunk(cx);
        match &chunk {
            Poll::Ready(Some(chunk)) => {
                this.subscriber.count_sent(chunk.len());
                this.budget.spend(chunk.len());
            }
            // What it waits for is a page that many may wait for; they take turns to send it.
            Poll::Pending if !this.subscriber.is_parked(cx) => this.budget.exhaust(),
            _ => this.budget.reset(),
        }
        if this.is_end_stream() {
            this.attached = Attached::default();
        }
        chunk.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.state == StreamState::Ended && self.buffer.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

impl Stream for SseBody {
    fn attach(self: Pin<&mut Self>, attached: Attached) {
        self.get_mut().attached = attached;
    }
}

impl From<SseBody> for Body {
    fn from(stream: SseBody) -> Self {
        Self::stream(stream)
    }
}

impl fmt::Debug for SseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseBody").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc, time::Duration};

    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::{
        channel::Channel,
        event::Event,
        hub::{Hub, Subscription},
        stores::memory::MemoryStore,
    };

    fn channel() -> Channel {
        Channel::new("a").unwrap()
    }

    #[tokio::test]
    async fn a_stream_is_parked_while_it_waits() {
        let hub = Hub::new(MemoryStore::default());
        let mut body = hub.sse(Subscription::new(channel())).await.unwrap();
        for _ in 0..2 {
            let parked = poll_fn(|cx| {
                let before = body.is_parked(cx);
                while Pin::new(&mut body).poll_frame(cx).is_ready() {}
                Poll::Ready([before, body.is_parked(cx)])
            });
            assert_eq!(parked.await, [false, true]);
            hub.publish(&channel(), Event::text("x")).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_ends_a_stream_that_is_parked() {
        let hub = Hub::new(MemoryStore::default());
        let (signal, signalled) = tokio::sync::oneshot::channel::<()>();
        let stream = hub.sse(Subscription::new(channel())).await.unwrap();
        let mut body = stream.until(async { _ = signalled.await });
        poll_fn(|cx| {
            while Pin::new(&mut body).poll_frame(cx).is_ready() {}
            Poll::Ready(())
        })
        .await;
        let parked = tokio::time::Instant::now();
        signal.send(()).unwrap();
        let last = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(last.windows(12).any(|bytes| bytes == b"stream-retry"), "{last:?}");
        assert_eq!(parked.elapsed(), Duration::ZERO, "no heartbeat woke it");
    }

    #[tokio::test]
    async fn a_guard_is_held_until_the_last_bytes_are_taken() {
        let hub = Hub::new(MemoryStore::default());
        let guard = Arc::new(());
        let stream = hub.sse(Subscription::new(channel())).await.unwrap();
        let mut body = stream.holding(guard.clone()).until(async {});
        let held = || Arc::strong_count(&guard) > 1;
        assert!(held());
        let last = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(last.windows(12).any(|bytes| bytes == b"stream-retry"), "{last:?}");
        assert!(body.is_end_stream() && !held());
        let stream = hub.sse(Subscription::new(channel())).await.unwrap();
        let body = Body::from(stream.holding(guard.clone()));
        assert!(held());
        drop(body);
        assert!(!held());
    }

    #[tokio::test]
    async fn a_stream_has_ended_when_its_last_bytes_are_taken() {
        let hub = Hub::new(MemoryStore::default());
        let mut body = hub.sse(Subscription::new(channel())).await.unwrap();
        body.buffer.put(vec![b'x'; 100 << 10]);
        body.state = StreamState::Ended;
        for ended in [None, None, Some(0)] {
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (ended, ended.is_some()));
            assert_eq!(body.frame().await.is_none(), ended.is_some());
        }
    }
}
