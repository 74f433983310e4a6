//! Appends, inits and deletes: one task per channel that has any, which puts what waits into one message. A future that is
//! dropped leaves its work to that task, or takes it back before it was begun.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{
    announcement::Announcement,
    channel_state::ChannelState,
    error::{is_permission_denied, unavailable},
    handle::Inner,
    place::Place,
    plan::{self, ChannelBefore, Planned},
    publishing::PublishOutcome,
    queue::{Job, Removal, Reply, Work},
    record::{Kind, Record},
    timing::jittered,
    write_budget::Reservation,
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    event::Event,
    store::{Append, Appended, Expect, Head, StoreError, resume},
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
        let job = Job { work, by: Instant::now() + self.settings.timeout, reservation };
        if self.queues.add(channel, job) {
            let writer = Writer {
                inner: Arc::clone(self),
                channel: channel.clone(),
                state: None,
                is_confirmed: false,
                own: None,
                other: None,
                asked: false,
            };
            self.runtime.spawn(writer.run());
        }
        let answer = answered.await;
        self.note_result(answer.unwrap_or_else(|_| Err(StoreError::Unknown("the runtime of the store ended".into()))))
    }
}

/// The task of one channel. It is started for every append that comes alone, so it has to be small: what is rarely done is
/// boxed.
pub(super) struct Writer {
    pub(super) inner: Arc<Inner>,
    pub(super) channel: Channel,
    pub(super) state: Option<ChannelState>,
    /// Whether the leader said what is known since the work at hand was begun.
    is_confirmed: bool,
    /// What this one announced, when it has to be decided anew what begins.
    pub(super) own: Option<Announcement>,
    /// What another node announced, while nothing came of it.
    pub(super) other: Option<Announcement>,
    /// Whether it asked others to wait, and did not tell them yet that they may go on.
    pub(super) asked: bool,
}

impl Writer {
    async fn run(mut self) {
        self.state = self.inner.queues.take_state(&self.channel);
        loop {
            let inner = Arc::clone(&self.inner);
            let mut jobs = inner.queues.next(&self.channel);
            if jobs.is_empty() {
                // Whoever got an answer may have more to append: then this task and what it knows are still at hand.
                tokio::task::yield_now().await;
                jobs = inner.queues.next_or_end(&self.channel, &mut self.state);
                if jobs.is_empty() {
                    return;
                }
            }
            self.is_confirmed = false;
            match jobs.pop() {
                Some(Job { work: Work::Init(events, expect, answer), by, reservation: _reservation }) => {
                    let done = Box::pin(self.init(events, expect, by)).await;
                    self.end_turn().await;
                    _ = answer.send(done);
                }
                Some(Job { work: Work::Remove(removal, answer), by, reservation: _reservation }) => {
                    let done = Box::pin(self.remove(removal, by)).await;
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
        while let Some(by) = group.front().map(|first| first.by) {
            let appends: Vec<_> = group.iter().map(|waiting| &waiting.append).collect();
            let done = self.append_first(&appends, by).await;
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

    /// Appends the first of these, at least one.
    async fn append_first(
        &mut self,
        appends: &[&Append],
        by: Instant,
    ) -> Result<Vec<Result<Appended, StoreError>>, GroupFailure> {
        let mut overtaken = 0;
        loop {
            self.wait_for_turn(overtaken, by).await;
            match self.try_append(appends, by).await {
                Ok(Some(answers)) => return Ok(answers),
                Ok(None) if Instant::now() < by => overtaken += 1,
                Ok(None) => {
                    return Err(GroupFailure { error: unavailable("others are always faster"), of: appends.len() });
                }
                Err(failed) => self.pause_or_fail(failed, by).await?,
            }
        }
    }

    async fn try_append(
        &mut self,
        appends: &[&Append],
        by: Instant,
    ) -> Result<Option<Vec<Result<Appended, StoreError>>>, GroupFailure> {
        let all = |error| GroupFailure { error, of: appends.len() };
        self.prepare(by).await.map_err(all)?;
        let (inner, channel) = (Arc::clone(&self.inner), self.channel.clone());
        let Some(state) = &mut self.state else { return Ok(None) };
        if appends.iter().any(|append| append.events.iter().any(|event| event.key().is_some())) {
            if let Err(error) = in_time(by, Box::pin(state.load_keys(&inner, &channel))).await {
                // What was known may just have been old.
                let was_confirmed = std::mem::take(&mut self.is_confirmed);
                self.distrust_state();
                return if was_confirmed { Err(all(error)) } else { Ok(None) };
            }
        }
        let most = inner.connection.max_payload().saturating_sub(HEADER_BYTES);
        let before = ChannelBefore {
            channel: &channel,
            record: state.record,
            absent: state.absent,
            keys: state.keys.as_ref(),
            now: state.now(&inner),
            most,
        };
        let plan = plan::appends(&before, appends.iter().copied());
        let Some(message) = plan.message else {
            // What refuses or changes nothing is true only of what there is now.
            let is_confirmed = self.is_confirmed;
            self.distrust_state();
            return Ok(is_confirmed.then_some(plan.answers));
        };
        let of = plan.answers.len();
        match self.publish(message, by).await.map_err(|error| GroupFailure { error, of })? {
            PublishOutcome::Stored => Ok(Some(plan.answers)),
            PublishOutcome::Overtaken => Ok(None),
        }
    }

    async fn init(&mut self, events: Vec<Event>, expect: Expect, by: Instant) -> Result<Head, StoreError> {
        let mut overtaken = 0;
        loop {
            self.wait_for_turn(overtaken, by).await;
            let failed = match self.try_init(&events, expect, by).await {
                Ok(Some(head)) => return Ok(head),
                Ok(None) if Instant::now() < by => {
                    overtaken += 1;
                    continue;
                }
                Ok(None) => return Err(unavailable("others are always faster")),
                Err(error) => GroupFailure { error, of: 1 },
            };
            self.pause_or_fail(failed, by).await.map_err(|failed| failed.error)?;
        }
    }

    async fn try_init(&mut self, events: &[Event], expect: Expect, by: Instant) -> Result<Option<Head>, StoreError> {
        self.prepare(by).await?;
        let Some(state) = &self.state else { return Ok(None) };
        let head = state.head();
        if let Err(refused) = plan::check(expect, state.record.as_ref(), head) {
            let is_confirmed = self.is_confirmed;
            self.distrust_state();
            return if is_confirmed { Err(refused) } else { Ok(None) };
        }
        let epoch = epoch_of(resume::fresh_epoch(), &self.channel);
        // Goes on above the old head, so that the floor covers the replaced log too when this one is forgotten.
        let start = Cursor { epoch, seq: head.cursor.seq, tag: 0 };
        let most = self.inner.connection.max_payload().saturating_sub(HEADER_BYTES);
        let now = state.now(&self.inner);
        let keep = in_time(by, self.inner.current_keep(&state.place)).await?;
        let message = plan::init(&self.channel, start, events.to_vec(), now, keep, most)?;
        let head = message.record.head();
        Ok((self.publish(message, by).await? == PublishOutcome::Stored).then_some(head))
    }

    async fn remove(&mut self, removal: Removal, by: Instant) -> Result<(), StoreError> {
        let mut overtaken = 0;
        loop {
            self.wait_for_turn(overtaken, by).await;
            let failed = match self.try_remove(removal, by).await {
                Ok(PublishOutcome::Stored) => return Ok(()),
                Ok(PublishOutcome::Overtaken) if Instant::now() < by => {
                    overtaken += 1;
                    continue;
                }
                Ok(PublishOutcome::Overtaken) => return Err(unavailable("others are always faster")),
                Err(error) => GroupFailure { error, of: 1 },
            };
            self.pause_or_fail(failed, by).await.map_err(|failed| failed.error)?;
        }
    }

    /// First the floor, then the channel: whatever happens in between, the floor is high enough.
    async fn try_remove(&mut self, removal: Removal, by: Instant) -> Result<PublishOutcome, StoreError> {
        if !self.is_confirmed {
            self.distrust_state();
        }
        self.refresh(by).await?;
        let Some(state) = &self.state else { return Ok(PublishOutcome::Overtaken) };
        let Some(record) = state.record else { return Ok(PublishOutcome::Stored) };
        let (now, seen) = (state.now(&self.inner), self.inner.clock.since(record.stamp));
        if removal == Removal::IfForgotten
            && !in_time(by, self.inner.current_keep(&state.place)).await?.is_forgotten(&record, seen)
        {
            return Ok(PublishOutcome::Stored);
        }
        let bucket = Place::floor_of(&self.channel);
        let floor = in_time(by, self.inner.raise_floor(&state.place, bucket, record.end())).await?;
        let announcement = record.announcement;
        let start = Cursor { epoch: epoch_of(state.place.epoch, &self.channel), seq: floor, tag: 0 };
        let record = Record { announcement, ..Record::new(Kind::Gone, start, now) };
        self.publish(Planned { record, body: bytes::Bytes::new(), keys: Vec::new() }, by).await
    }

    /// Looks at the channel, and forgets it when its time has come.
    async fn prepare(&mut self, by: Instant) -> Result<(), StoreError> {
        self.refresh(by).await?;
        let Some(state) = &self.state else { return Ok(()) };
        let Some(record) = state.record else { return Ok(()) };
        let keep = in_time(by, self.inner.recent_keep(&state.place)).await?;
        if keep.is_forgotten(&record, self.inner.clock.since(record.stamp)) {
            Box::pin(self.try_remove(Removal::IfForgotten, by)).await?;
            self.refresh(by).await?;
        }
        Ok(())
    }

    /// Brings up to date what is known, if it may have changed.
    async fn refresh(&mut self, by: Instant) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        let place = match inner.recently_checked_place() {
            Some(place) => place,
            None => in_time(by, Box::pin(inner.recheck_place())).await?,
        };
        place.may_write()?;
        let is_fresh = self.state.as_ref().is_some_and(|state| {
            // The floor may rise without a message of this channel.
            state.record.is_some()
                && Arc::ptr_eq(&state.place, &place)
                && state.changes == inner.connection.changes()
                && state.checked.elapsed() < TRUSTED_FOR
                && state.at >= inner.queues.seen(&self.channel)
        });
        if is_fresh {
            return Ok(());
        }
        in_time(by, Box::pin(ChannelState::learn(&inner, &self.channel, &mut self.state))).await?;
        self.is_confirmed = true;
        Ok(())
    }

    /// Trusts nothing that is known until the leader was asked.
    pub(super) fn distrust_state(&mut self) {
        if let Some(state) = &mut self.state {
            state.changes = u64::MAX;
        }
    }

    /// Waits a little before the next attempt, or fails when there is no time left or no hope.
    async fn pause_or_fail(&mut self, failed: GroupFailure, by: Instant) -> Result<(), GroupFailure> {
        let has_hope = matches!(failed.error, StoreError::Unavailable(_)) && !is_permission_denied(&failed.error);
        if !has_hope || Instant::now() + MAX_PAUSE >= by {
            return Err(failed);
        }
        tracing::debug!(error = %failed.error, "writing to NATS again");
        // Whatever it was that nobody answered: the stream may be another one by now.
        self.inner.invalidate_place();
        self.distrust_state();
        tokio::time::sleep(jittered(MAX_PAUSE)).await;
        Ok(())
    }
}

/// An append whose caller waits.
struct WaitingAppend {
    append: Append,
    answer: Reply<Appended>,
    by: Instant,
    _reservation: Option<Reservation>,
}

impl WaitingAppend {
    fn of(job: Job) -> Option<Self> {
        match job.work {
            Work::Append(append, answer) => Some(Self { append, answer, by: job.by, _reservation: job.reservation }),
            Work::Init(..) | Work::Remove(..) => None,
        }
    }
}

/// A failure of the first so many appends of a group.
struct GroupFailure {
    error: StoreError,
    of: usize,
}

/// Room for the headers in a message.
const HEADER_BYTES: usize = 1024;

/// How long what is known is taken for true without asking. The server checks it with every message; this bounds how long
/// a stream that was restored to an older state could be mistaken for its later self.
const TRUSTED_FOR: Duration = Duration::from_secs(5);

pub(super) const MAX_PAUSE: Duration = Duration::from_millis(200);
