//! The writes that wait for a channel's task. Knows no server.

use tokio::time::Instant;

use crate::{
    channel::Channel,
    event::Event,
    store::{
        Append, Appended, Expect, Head, StoreError,
        kit::{
            events_size,
            write_queue::{self, QueueTask, WriteQueues},
        },
    },
};

pub(super) type Queues = WriteQueues<Channel, Write, Written>;

pub(super) type WriteTask = QueueTask<Channel, Write, Written>;

pub(super) type Waiting = write_queue::Waiting<Write, Written>;

pub(super) struct Write {
    pub(super) work: Work,
    pub(super) deadline: Instant,
}

pub(super) enum Work {
    Append(Append),
    Init(Vec<Event>, Expect),
    /// Deletes the channel, or does so only if its record is no longer needed.
    Remove(Removal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    Requested,
    IfForgotten,
}

/// The result of a write.
pub(super) enum Written {
    Appended(Appended),
    Head(Head),
    Removed,
}

impl Work {
    /// About how many bytes it holds.
    pub(super) fn bytes(&self, channel: &Channel) -> u64 {
        match self {
            Self::Append(append) => events_size(channel, &append.events),
            Self::Init(events, _) => events_size(channel, events),
            Self::Remove(_) => 0,
        }
    }
}

impl Write {
    /// The append; `None` if it is something else.
    pub(super) fn append(&self) -> Option<&Append> {
        match &self.work {
            Work::Append(append) => Some(append),
            Work::Init(..) | Work::Remove(_) => None,
        }
    }
}

impl Written {
    pub(super) fn appended(self) -> Result<Appended, StoreError> {
        match self {
            Self::Appended(appended) => Ok(appended),
            Self::Head(_) | Self::Removed => Err(mismatch()),
        }
    }

    pub(super) fn head(self) -> Result<Head, StoreError> {
        match self {
            Self::Head(head) => Ok(head),
            Self::Appended(_) | Self::Removed => Err(mismatch()),
        }
    }
}

/// Not reached: a write is handled as what it is, and answered with its own kind of result.
pub(super) fn mismatch() -> StoreError {
    StoreError::Unknown("a write was taken for another kind of write".into())
}

/// Whether `next` can go into the message of these writes: only appends can share one.
pub(super) fn joins(group: &[Waiting], next: &Write) -> bool {
    let are_appends = next.append().is_some() && group.iter().take(1).all(|first| first.write.append().is_some());
    are_appends && group.len() < MAX_GROUP
}

/// Most appends in one group.
const MAX_GROUP: usize = 1024;
