//! Appends, inits and deletes: one task per channel with work, which combines waiting appends into one message.
//! Dropping the future of a call leaves its work to that task, or withdraws it if it has not started.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use super::{
    error::unavailable,
    plan::{self, ChannelBefore},
    publishing::PublishOutcome,
    shared::Inner,
    timing::in_time,
    write::{Waiting, Work, Write, Written, joins, mismatch},
    writer::{GroupFailure, HEADER_BYTES, Writer},
};
use crate::{
    channel::Channel,
    store::{Append, Appended, StoreError},
};

impl Inner {
    pub(super) async fn write(self: &Arc<Self>, channel: &Channel, work: Work) -> Result<Written, StoreError> {
        let (bytes, deadline) = (work.bytes(channel), Instant::now() + self.settings.timeout);
        let (answer, task) = self.queues.push(channel, Write { work, deadline }, bytes)?;
        if let Some(task) = task {
            self.runtime.spawn(Writer::new(Arc::clone(self), task).run());
        }
        self.note_write(answer.await)
    }
}

impl Writer {
    async fn run(mut self) {
        let inner = Arc::clone(&self.inner);
        self.state = inner.states.take(&self.channel);
        loop {
            let mut group = self.task.take(joins);
            if group.is_empty() {
                // Callers that were just answered may append again: then this task and its state are still at hand.
                tokio::task::yield_now().await;
                // Before the task ends, since another one may begin at once.
                inner.states.put(&self.channel, self.state.take());
                let Some(next) = self.task.next(joins) else { return };
                self.state = inner.states.take(&self.channel);
                group = next;
            }
            self.is_confirmed = false;
            let (appends, others): (Vec<_>, _) =
                group.into_iter().partition(|waiting| waiting.write.append().is_some());
            self.append_all(appends).await;
            for waiting in others {
                self.write_alone(waiting).await;
            }
        }
    }

    /// Writes what shares its message with nothing.
    async fn write_alone(&mut self, waiting: Waiting) {
        let (Write { work, deadline }, caller) = waiting.split();
        let done = match work {
            Work::Init(events, expect) => Box::pin(self.init(events, expect, deadline)).await.map(Written::Head),
            Work::Remove(removal) => Box::pin(self.remove(removal, deadline)).await.map(|()| Written::Removed),
            Work::Append(_) => Err(mismatch()),
        };
        self.end_turn().await;
        caller.answer(done);
    }

    async fn append_all(&mut self, group: Vec<Waiting>) {
        let mut group = VecDeque::from(group);
        while let Some(deadline) = group.front().map(|first| first.write.deadline) {
            let appends: Vec<_> = group.iter().filter_map(|waiting| waiting.write.append()).collect();
            let done = self.append_first(&appends, deadline).await;
            self.end_turn().await;
            match done {
                Ok(answers) => {
                    for answer in answers {
                        let Some(waiting) = group.pop_front() else { break };
                        waiting.answer(answer.map(Written::Appended));
                    }
                }
                Err(GroupFailure { error, of }) => Waiting::fail(group.drain(..of.min(group.len())), error),
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
