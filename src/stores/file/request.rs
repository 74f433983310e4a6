//! Requests to the writer, and its replies.

use crate::{
    channel::Channel,
    event::Event,
    store::{Append, Appended, Expect, Head, StoreError, kit::write_queue::Waiting},
};

/// An operation that waits for the writer, and its caller.
pub(super) type Request = Waiting<Operation, Reply>;

pub(super) enum Operation {
    Append(Channel, Append),
    Init(Channel, Vec<Event>, Expect),
    Delete(Channel),
    /// Applies retention to these channels now.
    Maintain(Vec<Channel>),
}

pub(super) enum Reply {
    Appended(Appended),
    Head(Head),
    Deleted,
    Maintained,
}

/// The result of each request of a transaction.
pub(super) type RequestResults = Vec<Result<Reply, StoreError>>;

/// The results of a transaction that have not been sent yet.
#[derive(Default)]
pub(super) struct PendingReplies(Vec<(Waiting<(), Reply>, Result<Reply, StoreError>)>);

impl Operation {
    /// The channel, if the operation concerns one only.
    pub(super) fn channel(&self) -> Option<&Channel> {
        match self {
            Self::Append(channel, _) | Self::Init(channel, ..) | Self::Delete(channel) => Some(channel),
            Self::Maintain(_) => None,
        }
    }

    /// Roughly how many bytes it writes.
    pub(super) fn size(&self) -> u64 {
        let events = match self {
            Self::Append(_, append) => append.events.as_slice(),
            Self::Init(_, events, _) => events,
            Self::Delete(_) => &[],
            Self::Maintain(channels) => return 512 * channels.len() as u64,
        };
        256 + events.iter().map(|event| event.data().len() as u64 + 256).sum::<u64>()
    }
}

impl PendingReplies {
    pub(super) fn new(requests: Vec<Request>, results: RequestResults) -> Self {
        Self(requests.into_iter().map(|request| request.split().1).zip(results).collect())
    }

    pub(super) fn merge(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    pub(super) fn send(self) {
        self.0.into_iter().for_each(|(caller, reply)| caller.answer(reply));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends all of them the same error instead.
    pub(super) fn fail(self, error: StoreError) {
        Waiting::fail(self.0.into_iter().map(|(caller, _)| caller), error);
    }
}
