//! The rate at which a stream that is behind is sent what it missed.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

pub(super) struct CatchUpPace {
    bytes_per_second: u32,
    /// Bytes sent since `since`.
    sent: usize,
    /// When the first of these bytes was sent.
    since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl CatchUpPace {
    pub(super) fn new(bytes_per_second: u32) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), sent: 0, since: None, sleep: None }
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        self.since.get_or_insert_with(Instant::now);
        self.sent += bytes;
    }

    /// Ready when what was sent would have taken this long at the full rate.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(since) = self.since else { return Poll::Ready(()) };
        let due = since + Duration::from_secs_f64(self.sent as f64 / f64::from(self.bytes_per_second));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        ready!(sleep.as_mut().poll(cx));
        self.reset();
        Poll::Ready(())
    }

    pub(super) fn reset(&mut self) {
        (self.sent, self.since, self.sleep) = (0, None, None);
    }
}
