//! The queued writes of each channel, and the state of their task. Knows no server.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{channel_state::ChannelState, sync::lock, write_budget::Reservation};
use crate::{
    channel::Channel,
    event::Event,
    store::{Append, Appended, Expect, Head, StoreError},
};

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A write, with its deadline.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) deadline: Instant,
    /// Its share of the write budget.
    pub(super) reservation: Option<Reservation>,
}

pub(super) enum Work {
    Append(Append, Reply<Appended>),
    Init(Vec<Event>, Expect, Reply<Head>),
    /// Deletes the channel, or does so only if its record is no longer needed.
    Remove(Removal, Reply<()>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    Requested,
    IfForgotten,
}

impl Work {
    /// About how many bytes it holds; `None` when it comes from no caller.
    pub(super) fn bytes(&self) -> Option<usize> {
        let size = |events: &[Event]| events.iter().map(|event| event.data().len() + EVENT_BYTES).sum();
        match self {
            Self::Append(append, _) => Some(size(&append.events)),
            Self::Init(events, ..) => Some(size(events)),
            Self::Remove(Removal::Requested, _) => Some(0),
            Self::Remove(Removal::IfForgotten, _) => None,
        }
    }

    /// Whether no caller waits for it any more.
    fn is_dropped(&self) -> bool {
        match self {
            Self::Append(_, answer) => answer.is_closed(),
            Self::Init(_, _, answer) => answer.is_closed(),
            Self::Remove(_, answer) => answer.is_closed(),
        }
    }
}

/// All channels that are being written to, or were recently.
#[derive(Default)]
pub(super) struct Queues(Mutex<HashMap<Channel, Queue>>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// Whether a task is running.
    running: bool,
    /// The state of the last task.
    state: Option<ChannelState>,
    /// The stream sequence of the newest known message.
    seen: u64,
}

impl Queue {
    fn take(&mut self) -> Vec<Job> {
        let mut group = Vec::new();
        while let Some(job) = self.waiting.pop_front() {
            if job.work.is_dropped() {
                continue;
            }
            let alone = !matches!(job.work, Work::Append(..));
            if alone && !group.is_empty() {
                self.waiting.push_front(job);
                break;
            }
            group.push(job);
            if alone || group.len() >= MAX_GROUP {
                break;
            }
        }
        group
    }
}

impl Queues {
    /// Adds a job; returns whether a task must be started.
    pub(super) fn add(&self, channel: &Channel, job: Job) -> bool {
        let mut queues = lock(&self.0);
        let queue = queues.entry(channel.clone()).or_default();
        queue.waiting.push_back(job);
        !std::mem::replace(&mut queue.running, true)
    }

    /// The state of the last task.
    pub(super) fn take_state(&self, channel: &Channel) -> Option<ChannelState> {
        lock(&self.0).get_mut(channel)?.state.take()
    }

    /// The next work: one job, or appends that can go together.
    pub(super) fn next(&self, channel: &Channel) -> Vec<Job> {
        lock(&self.0).get_mut(channel).map_or_else(Vec::new, Queue::take)
    }

    /// As [`Queues::next`]; when there is nothing, the task has ended, and its state is kept.
    pub(super) fn next_or_end(&self, channel: &Channel, state: &mut Option<ChannelState>) -> Vec<Job> {
        let mut queues = lock(&self.0);
        let Some(queue) = queues.get_mut(channel) else { return Vec::new() };
        let group = queue.take();
        if group.is_empty() {
            (queue.running, queue.state) = (false, state.take());
        }
        group
    }

    /// Records a message that another process may have written. Only channels that are written to here are tracked.
    pub(super) fn note_seen(&self, channel: &Channel, at: u64) {
        if let Some(queue) = lock(&self.0).get_mut(channel) {
            queue.seen = queue.seen.max(at);
        }
    }

    /// The stream sequence of the newest known message.
    pub(super) fn seen(&self, channel: &Channel) -> u64 {
        lock(&self.0).get(channel).map_or(0, |queue| queue.seen)
    }

    /// The leader's newest message is older than one that was seen, so the log has lost its tail.
    pub(super) fn lower_seen(&self, channel: &Channel, seen: u64, at: u64) {
        if let Some(queue) = lock(&self.0).get_mut(channel) {
            if queue.seen == seen && at < seen {
                queue.seen = at;
            }
        }
    }

    /// Forgets the channels that were not written to for this long.
    pub(super) fn forget_idle(&self, idle: Duration) {
        let is_idle = |state: &Option<ChannelState>| state.as_ref().is_none_or(|state| state.checked.elapsed() > idle);
        lock(&self.0).retain(|_, queue| queue.running || !is_idle(&queue.state));
    }

    /// The stream was replaced, so nothing known holds any more.
    pub(super) fn forget_all(&self) {
        lock(&self.0).retain(|_, queue| {
            (queue.state, queue.seen) = (None, 0);
            queue.running
        });
    }
}

/// What an event takes besides its data.
const EVENT_BYTES: usize = 200;

/// Most appends in one group.
const MAX_GROUP: usize = 1024;
