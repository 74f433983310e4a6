//! How much a stream gives out before others have their turn. A server takes all that a socket takes before it looks at
//! another connection, which for a reader that catches up are megabytes. Readers that keep up must not wait for that, nor for
//! all that catch up.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use crate::hub::{Subscriber, Turn};

#[derive(Default)]
pub(super) struct SendBudget {
    /// What was given out since the last turn, or since the stream kept up, in bytes.
    sent: usize,
    /// One that is waited for.
    turn: Option<Arc<Turn>>,
}

impl SendBudget {
    /// Waits for a turn when enough was given out.
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

    /// What comes next has to wait for a turn, for others wait for the same. Not when nothing was given out since the last turn: a
    /// server polls again a stream that has nothing, and each turn would lead to another one without end.
    pub(super) fn exhaust(&mut self) {
        if self.sent > 0 {
            self.sent = BYTES_PER_TURN;
        }
    }
}

const BYTES_PER_TURN: usize = 64 << 10;
