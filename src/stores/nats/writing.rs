//! Appends, inits and deletes: one task per channel with work, which combines waiting appends into one message.
//! Dropping the future of a call leaves its work to that task, or withdraws it if it has not started.

use std::{collections::VecDeque, sync::Arc};

use tokio::{sync::oneshot, time::Instant};

use super::{
    error::unavailable,
    plan::{self, ChannelBefore},
    publishing::PublishOutcome,
    queue::{Job, Reply, Work},
    shared::Inner,
    timing::in_time,
    write_budget::Reservation,
    writer::{GroupFailure, HEADER_BYTES, Writer},
};
use crate::{
    channel::Channel,
    store::{Append, Appended, StoreError},
};

impl Inner {
    pub(super) async fn write<T>(
        self: &Arc<Self>,
        channel: &Channel,
        work: impl FnOnce(Reply<T>) -> Work,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let work = work(answer);
        let reservation = match work.bytes() {
            Some(bytes) => Some(self.write_budget.reserve(bytes)?),
            None => None,
        };
        let job = Job { work, deadline: Instant::now() + self.settings.timeout, reservation };
        if self.queues.add(channel, job) {
            let writer = Writer {
                inner: Arc::clone(self),
                channel: channel.clone(),
                state: None,
                is_confirmed: false,
                own_announcement: None,
                other_announcement: None,
                asked_to_wait: false,
            };
            self.runtime.spawn(writer.run());
        }
        let answer = answered.await;
        self.note_write(
            answer.unwrap_or_else(|_| Err(StoreError::Unknown("the runtime of the store has shut down".into()))),
        )
    }
}

/// An append with a waiting caller.
struct WaitingAppend {
    append: Append,
    answer: Reply<Appended>,
    deadline: Instant,
    _reservation: Option<Reservation>,
}

impl WaitingAppend {
    fn of(job: Job) -> Option<Self> {
        match job.work {
            Work::Append(append, answer) => {
                Some(Self { append, answer, deadline: job.deadline, _reservation: job.reservation })
            }
            Work::Init(..) | Work::Remove(..) => None,
        }
    }
}

impl Writer {
    async fn run(mut self) {
        self.state = self.inner.queues.take_state(&self.channel);
        loop {
            let inner = Arc::clone(&self.inner);
            let mut jobs = inner.queues.next(&self.channel);
            if jobs.is_empty() {
                // Callers that were just answered may append again: then this task and its state are still at hand.
                tokio::task::yield_now().await;
                jobs = inner.queues.next_or_end(&self.channel, &mut self.state);
                if jobs.is_empty() {
                    return;
                }
            }
            self.is_confirmed = false;
            match jobs.pop() {
                Some(Job { work: Work::Init(events, expect, answer), deadline, reservation: _reservation }) => {
                    let done = Box::pin(self.init(events, expect, deadline)).await;
                    self.end_turn().await;
                    _ = answer.send(done);
                }
                Some(Job { work: Work::Remove(removal, answer), deadline, reservation: _reservation }) => {
                    let done = Box::pin(self.remove(removal, deadline)).await;
                    self.end_turn().await;
                    _ = answer.send(done);
                }
                Some(append) => {
                    jobs.push(append);
                    self.append_all(jobs).await;
                }
                None => {}
            }
        }
    }

    async fn append_all(&mut self, jobs: Vec<Job>) {
        let mut group: VecDeque<WaitingAppend> = jobs.into_iter().filter_map(WaitingAppend::of).collect();
        while let Some(deadline) = group.front().map(|first| first.deadline) {
            let appends: Vec<_> = group.iter().map(|waiting| &waiting.append).collect();
            let done = self.append_first(&appends, deadline).await;
            self.end_turn().await;
            match done {
                Ok(answers) => {
                    for answer in answers {
                        let Some(waiting) = group.pop_front() else { break };
                        _ = waiting.answer.send(answer);
                    }
                }
                Err(GroupFailure { error, of }) => {
                    let error = Arc::new(error);
                    for waiting in group.drain(..of.min(group.len())) {
                        _ = waiting.answer.send(Err(StoreError::shared(Arc::clone(&error))));
                    }
                }
            }
        }
    }

    /// Appends the first of these appends, at least one.
    async fn append_first(
        &mut self,
        appends: &[&Append],
        deadline: Instant,
    ) -> Result<Vec<Result<Appended, StoreError>>, GroupFailure> {
        let mut overtaken = 0;
        loop {
            self.wait_for_turn(overtaken, deadline).await;
            match self.try_append(appends, deadline).await {
                Ok(Some(answers)) => return Ok(answers),
                Ok(None) if Instant::now() < deadline => {
                    self.inner.upkeep.conflicted();
                    overtaken += 1;
                }
                Ok(None) => {
                    return Err(GroupFailure {
                        error: unavailable("other nodes always wrote first"),
                        of: appends.len(),
                    });
                }
                Err(failed) => self.pause_or_fail(failed, deadline).await?,
            }
        }
    }

    async fn try_append(
        &mut self,
        appends: &[&Append],
        deadline: Instant,
    ) -> Result<Option<Vec<Result<Appended, StoreError>>>, GroupFailure> {
        let all = |error| GroupFailure { error, of: appends.len() };
        self.prepare(deadline).await.map_err(all)?;
        let (inner, channel) = (Arc::clone(&self.inner), self.channel.clone());
        let Some(state) = &mut self.state else { return Ok(None) };
        if appends.iter().any(|append| append.events.iter().any(|event| event.key().is_some())) {
            if let Err(error) = in_time(deadline, Box::pin(state.load_keys(&inner, &channel))).await {
                // The state may just have been outdated.
                let was_confirmed = std::mem::take(&mut self.is_confirmed);
                self.distrust_state();
                return if was_confirmed { Err(all(error)) } else { Ok(None) };
            }
        }
        let max_bytes = inner.connection.max_payload().saturating_sub(HEADER_BYTES);
        let before = ChannelBefore {
            channel: &channel,
            record: state.record,
            absent: state.absent,
            keys: state.keys.as_ref(),
            now: state.now(&inner.clock),
            max_bytes,
        };
        let plan = plan::appends(&before, appends.iter().copied());
        let Some(message) = plan.message else {
            // A refusal, or an append that changes nothing, is valid only for a confirmed state.
            let is_confirmed = self.is_confirmed;
            self.distrust_state();
            return Ok(is_confirmed.then_some(plan.answers));
        };
        let of = plan.answers.len();
        match self.publish(message, deadline).await.map_err(|error| GroupFailure { error, of })? {
            PublishOutcome::Stored => Ok(Some(plan.answers)),
            PublishOutcome::Overtaken => Ok(None),
        }
    }
}
