//! Requests to the writer, and its replies.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    channel::Channel,
    event::Event,
    store::{Append, Appended, Expect, Head, StoreError},
};

pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) reply_sender: ReplySender,
}

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
pub(super) struct PendingReplies(Vec<(ReplySender, Result<Reply, StoreError>)>);

pub(super) type ReplySender = oneshot::Sender<Result<Reply, StoreError>>;

impl Operation {
    /// The channel, if the operation concerns one only.
    pub(super) fn channel(&self) -> Option<&Channel> {
        match self {
            Self::Append(channel, _) | Self::Init(channel, ..) | Self::Delete(channel) => Some(channel),
            Self::Maintain(_) => None,
        }
    }

    /// Roughly how many bytes it writes.
    pub(super) fn size(&self) -> usize {
        let events = match self {
            Self::Append(_, append) => append.events.as_slice(),
            Self::Init(_, events, _) => events,
            Self::Delete(_) => &[],
            Self::Maintain(channels) => return 512 * channels.len(),
        };
        256 + events.iter().map(|event| event.data().len() + 256).sum::<usize>()
    }
}

impl PendingReplies {
    pub(super) fn new(requests: Vec<Request>, results: Vec<Result<Reply, StoreError>>) -> Self {
        Self(requests.into_iter().map(|request| request.reply_sender).zip(results).collect())
    }

    pub(super) fn merge(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    pub(super) fn send(self) {
        for (reply_sender, reply) in self.0 {
            // The caller may have gone.
            _ = reply_sender.send(reply);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends all of them the same error instead.
    pub(super) fn fail(self, error: StoreError) {
        fail(self.0.into_iter().map(|(reply_sender, _)| reply_sender), error);
    }
}

/// Sends all of them the same error.
pub(super) fn fail_all(requests: impl IntoIterator<Item = Request>, error: StoreError) {
    fail(requests.into_iter().map(|request| request.reply_sender), error);
}

fn fail(waiting: impl Iterator<Item = ReplySender>, error: StoreError) {
    let error = Arc::new(error);
    for reply_sender in waiting {
        _ = reply_sender.send(Err(StoreError::shared(Arc::clone(&error))));
    }
}
