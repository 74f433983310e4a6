//! How much a stream may send before it takes a turn. A server polls a body for as long as the socket accepts data before it
//! polls another connection's, which for a reader that catches up can be megabytes. Readers that keep up must wait neither
//! for that nor for all the readers that catch up.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use crate::hub::{Subscriber, Turn};

#[derive(Default)]
pub(super) struct SendBudget {
    /// Bytes sent since the last turn, or since the stream last kept up.
    sent: usize,
    /// The turn that it waits for.
    turn: Option<Arc<Turn>>,
}

impl SendBudget {
    /// Waits for a turn when the budget is spent.
    pub(super) fn poll_turn(&mut self, subscriber: &Subscriber, cx: &Context<'_>) -> Poll<()> {
        if self.sent >= BYTES_PER_TURN {
            ready!(self.turn.get_or_insert_with(|| subscriber.wait_for_turn(cx)).poll(cx));
            *self = Self::default();
        }
        Poll::Ready(())
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// Makes what comes next wait for a turn, because others wait for the same. Not when nothing was sent since the last
    /// turn: servers poll a stream again that had nothing to send, and each turn would lead to another one without end.
    pub(super) fn exhaust(&mut self) {
        if self.sent > 0 {
            self.sent = BYTES_PER_TURN;
        }
    }
}

const BYTES_PER_TURN: usize = 64 << 10;
