//! The queued appends of each channel, and what recent ones have shown. While a call is in progress, appends to the same
//! channel wait and then share the next call, so that a busy channel costs one transaction per round trip and not one
//! per append. Knows no SQL.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    channel::Channel,
    store::{
        Append, Appended, Expect,
        kit::write_queue::{self, QueueTask, WriteQueues},
    },
};

pub(super) type AppendTask = QueueTask<Channel, Append, Appended>;

pub(super) type WaitingAppend = write_queue::Waiting<Append, Appended>;

#[derive(Default)]
pub(super) struct AppendQueues {
    pub(super) waiting: WriteQueues<Channel, Append, Appended>,
    /// The seq that recently written channels have reached.
    reached: Mutex<HashMap<Channel, u64>>,
}

impl AppendQueues {
    /// A `seq` that the channel has reached.
    pub(super) fn reached(&self, channel: &Channel) -> u64 {
        self.lock().get(channel).copied().unwrap_or(0)
    }

    pub(super) fn note_reached(&self, channel: &Channel, seq: u64) {
        let mut reached = self.lock();
        if let Some(reached) = reached.get_mut(channel) {
            *reached = seq;
            return;
        }
        // A channel that is dropped here takes the slower path once.
        if reached.len() >= MAX_REACHED {
            reached.clear();
        }
        reached.insert(channel.clone(), seq);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Channel, u64>> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next appends that can share a call; `None` when the task is over.
pub(super) fn next_group(task: &mut AppendTask) -> Option<Vec<WaitingAppend>> {
    let (mut events, mut bytes) = (0, 0);
    task.next(|group, next| {
        if let Some(last) = group.last() {
            (events, bytes) = (events + last.write.events.len(), bytes + last.bytes());
        }
        let are_plain = is_plain(next) && group.first().is_none_or(|first| is_plain(&first.write));
        are_plain && events + next.events.len() <= MAX_EVENTS && bytes < MAX_BYTES
    })
}

/// Whether an append can share its call: it has no expectation and no close, which would affect the others.
fn is_plain(append: &Append) -> bool {
    append.expect == Expect::Any && !append.close
}

/// Most events in a group.
const MAX_EVENTS: usize = 1000;

/// About the most bytes in a group.
const MAX_BYTES: u64 = 1 << 20;

/// Most channels with a remembered `seq`.
const MAX_REACHED: usize = 4096;
