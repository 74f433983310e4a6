//! How much a stream may send before it takes a turn. A server polls a body for as long as the socket accepts data before it
//! polls another connection's, which for a reader that catches up can be megabytes. Readers that keep up must wait neither
//! for that nor for all the readers that catch up.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::catch_up_pace::CatchUpPace;
use crate::hub::{Subscriber, Turn};

#[derive(Default)]
pub(super) struct SendBudget {
    /// Bytes sent since the last turn, or since the stream last kept up.
    sent: usize,
    /// The turn that it waits for.
    turn: Option<Arc<Turn>>,
    /// Boxed, because few services bound the rate.
    pace: Option<Box<CatchUpPace>>,
}

impl SendBudget {
    pub(super) fn new(max_catch_up_rate: Option<u32>) -> Self {
        let pace = max_catch_up_rate.map(|rate| Box::new(CatchUpPace::new(rate)));
        Self { pace, ..Self::default() }
    }

    /// Waits for a turn when the budget is spent.
    pub(super) fn poll_turn(&mut self, subscriber: &Subscriber, cx: &mut Context<'_>) -> Poll<()> {
        if self.sent >= BYTES_PER_TURN {
            // A drain must not wait for a slow pace.
            if let Some(pace) = self.pace.as_mut().filter(|_| !subscriber.is_draining()) {
                ready!(pace.poll_due(cx));
            }
            ready!(self.turn.get_or_insert_with(|| subscriber.wait_for_turn(cx)).poll(cx));
            self.start_turn();
        }
        Poll::Ready(())
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        self.sent += bytes;
        if let Some(pace) = &mut self.pace {
            pace.spend(bytes);
        }
    }

    /// Makes what comes next wait for a turn, because others wait for the same. Not when nothing was sent since the last
    /// turn: servers poll a stream again that had nothing to send, and each turn would lead to another one without end.
    pub(super) fn exhaust(&mut self) {
        if self.sent > 0 {
            self.sent = BYTES_PER_TURN;
        }
    }

    /// The stream keeps up.
    pub(super) fn reset(&mut self) {
        self.start_turn();
        if let Some(pace) = &mut self.pace {
            pace.reset();
        }
    }

    fn start_turn(&mut self) {
        (self.sent, self.turn) = (0, None);
    }
}

const BYTES_PER_TURN: usize = 64 << 10;
