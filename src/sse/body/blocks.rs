//! What a stream writes: deliveries, marks, heartbeats and its end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::{SseBody, StreamState};
use crate::{
    cursor::Cursors,
    encode::{
        HEARTBEAT_COMMENT, Ids, Kind, encoding_for, push_retry_field, push_stream_end, push_stream_error,
        push_stream_live, push_stream_ping, push_stream_reset, push_stream_retry,
    },
    hub::{Batch, Closed, Delivery, SubscribeError},
    problem::Problem,
    request::{Format, Heartbeat},
    retry::jittered,
    sse::{options::LiveMark, pending_events::PendingEvents},
};

impl SseBody {
    pub(super) fn is_live_mark_due(&self) -> bool {
        self.live_mark_due && self.subscriber.is_live()
    }

    pub(super) fn write_live_mark(&mut self) {
        let mut out = Vec::new();
        self.push_due_live_mark(&mut out);
        self.buffer.put(out);
    }

    pub(super) fn write_end(&mut self) {
        let retry = self.attached.retry().unwrap_or_else(|| jittered(self.retry()));
        if let Some(data_only) = self.data_only.clone() {
            return self.write_data(&data_only, Some(Ok(Delivery::Drained { retry })));
        }
        let mut out = Vec::new();
        self.push_stream_retry(&mut out, retry);
        self.buffer.put(out);
    }

    /// The end of a stream whose position has moved past events that were not sent: its client has that of the last one.
    pub(super) fn write_end_without_position(&mut self) {
        let mut out = Vec::new();
        push_stream_retry(&mut out, jittered(self.retry()), None);
        self.state = StreamState::Ended;
        self.buffer.put(out);
    }

    pub(super) fn write_heartbeat(&mut self) {
        let mut out = Vec::new();
        // A client that got no event for long would resume far behind, and look at all the hidden entries again.
        let moved = self.subscriber.take_skipped();
        match self.heartbeat {
            Heartbeat::Comment if !moved || self.data_only.is_some() => {
                return self.buffer.put_shared(out, Bytes::from_static(HEARTBEAT_COMMENT));
            }
            Heartbeat::Comment | Heartbeat::Event => {
                let token = self.subscriber.cursors();
                self.push_stream_ping(&mut out, &token);
            }
        }
        self.buffer.put(out);
    }

    /// Writes `delivery` after `out`.
    pub(super) fn write(&mut self, mut out: Vec<u8>, delivery: Option<Result<Delivery, SubscribeError>>) {
        if let Some(data_only) = self.data_only.clone() {
            return self.write_data(&data_only, delivery);
        }
        match delivery {
            Some(Ok(Delivery::Events(events))) => return self.write_events(out, events, Kind::Event),
            Some(Ok(Delivery::Snapshot(snapshot))) => {
                return self.write_events(out, snapshot.to_batch(), Kind::Snapshot);
            }
            Some(Ok(Delivery::Reset(reset))) => {
                self.push_due_retry(&mut out);
                push_stream_reset(&mut out, &reset, &self.subscriber.cursors(), &self.view);
                self.live_mark_due = self.live_mark == LiveMark::Send;
            }
            Some(Ok(Delivery::Closed(closed))) => self.push_closed(&mut out, &closed),
            Some(Ok(Delivery::Failed(failed))) => {
                self.push_due_retry(&mut out);
                push_stream_error(&mut out, &failed, &self.subscriber.cursors(), &self.view);
            }
            Some(Ok(Delivery::Drained { retry })) => self.push_stream_retry(&mut out, retry),
            Some(Err(error)) => self.push_failure(&mut out, error),
            None => self.state = StreamState::Ended,
        }
        self.buffer.put(out);
    }

    fn write_events(&mut self, mut out: Vec<u8>, events: Batch, kind: Kind) {
        if self.ids == Ids::OfStream {
            self.buffer.put(out);
            self.pending = Some(Box::new(PendingEvents::new(events, kind, self.subscriber.cursors())));
            return;
        }
        self.push_due_retry(&mut out);
        self.buffer.put_shared(out, events.joined(encoding_for(self.format, self.ids, kind)));
    }

    pub(super) fn write_pending(&mut self) {
        let mut out = Vec::new();
        self.push_due_retry(&mut out);
        if let Some(pending) = &mut self.pending {
            match self.format {
                Format::Json if !self.view.is_plain() => pending.write_viewed(out, &self.view, &mut self.buffer),
                format => {
                    let encoding = encoding_for(format, self.ids, pending.kind);
                    pending.write_next(out, encoding, &mut self.buffer);
                }
            }
            if pending.is_written() {
                self.pending = None;
            }
        }
    }

    fn push_closed(&mut self, out: &mut Vec<u8>, closed: &Closed) {
        // A closed channel has no live events to come, but `stream-live` comes before `stream-end`.
        if self.is_live_mark_due() {
            self.push_due_live_mark(out);
        }
        self.push_due_retry(out);
        let ended = self.subscriber.ended_channels();
        let left = self.subscriber.channels().iter().filter(|channel| !ended.contains(channel));
        push_stream_end(out, closed, left, &self.subscriber.cursors(), &self.view);
    }

    /// The store failed. A temporary failure must not keep clients away for good, so it ends with `stream-retry`.
    fn push_failure(&mut self, out: &mut Vec<u8>, error: SubscribeError) {
        match Problem::from(error).backing_off(self.subscriber.failure_backoff()).retry() {
            Some(retry) => self.push_stream_retry(out, retry.jittered(self.retry())),
            None => self.state = StreamState::Ended,
        }
    }

    fn push_due_live_mark(&mut self, out: &mut Vec<u8>) {
        self.live_mark_due = false;
        self.push_due_retry(out);
        push_stream_live(out, &self.subscriber.cursors());
    }

    pub(super) fn push_stream_ping(&mut self, out: &mut Vec<u8>, token: &Cursors) {
        self.push_due_retry(out);
        push_stream_ping(out, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), token);
    }

    pub(super) fn retry(&self) -> Duration {
        Duration::from_millis(self.retry_ms.into())
    }

    fn push_due_retry(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.retry_due) {
            push_retry_field(out, jittered(self.retry()));
        }
    }

    /// Writes the last block: when to come back, and from where.
    fn push_stream_retry(&mut self, out: &mut Vec<u8>, retry: Duration) {
        push_stream_retry(out, retry, Some(&self.subscriber.cursors()));
        self.state = StreamState::Ended;
    }
}
