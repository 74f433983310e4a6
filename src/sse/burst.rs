//! How much a stream gives out before others have their turn. A server takes all that a socket takes before it looks at
//! another connection, which for a reader that catches up are megabytes. Readers that keep up must not wait for that, nor for
//! all that catch up.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use crate::hub::{Subscriber, Turn};

#[derive(Default)]
pub(super) struct Burst {
    /// What was given out since the last turn, or since the stream kept up, in bytes.
    given: usize,
    /// One that is waited for.
    turn: Option<Arc<Turn>>,
}

impl Burst {
    /// Waits for a turn when enough was given out.
    pub(super) fn poll_turn(&mut self, subscriber: &Subscriber, cx: &Context<'_>) -> Poll<()> {
        if self.given >= MOST {
            ready!(self.turn.get_or_insert_with(|| subscriber.wait_for_turn(cx)).poll(cx));
            *self = Self::default();
        }
        Poll::Ready(())
    }

    pub(super) fn count(&mut self, bytes: usize) {
        self.given += bytes;
    }

    /// What comes next has to wait for a turn, for others wait for the same. Not when nothing was given out since the last turn: a
    /// server polls again a stream that has nothing, and each turn would lead to another one without end.
    pub(super) fn pause(&mut self) {
        if self.given > 0 {
            self.given = MOST;
        }
    }
}

const MOST: usize = 64 << 10;
