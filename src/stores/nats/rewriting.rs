//! Inits and deletes: one message that replaces all before it.

use tokio::time::Instant;

use super::{
    error::unavailable,
    place::Place,
    plan::{self, Planned},
    publishing::PublishOutcome,
    record::{Kind, Record},
    timing::in_time,
    write::Removal,
    writer::{GroupFailure, HEADER_BYTES, Writer},
};
use crate::{
    cursor::{Cursor, epoch_of},
    event::Event,
    store::{Expect, Head, StoreError, kit::init_start},
};

impl Writer {
    pub(super) async fn init(
        &mut self,
        events: Vec<Event>,
        expect: Expect,
        deadline: Instant,
    ) -> Result<Head, StoreError> {
        let mut overtaken = 0;
        loop {
            self.wait_for_turn(overtaken, deadline).await;
            let failed = match self.try_init(&events, expect, deadline).await {
                Ok(Some(head)) => return Ok(head),
                Ok(None) if Instant::now() < deadline => {
                    overtaken += 1;
                    continue;
                }
                Ok(None) => return Err(unavailable("other nodes always wrote first")),
                Err(error) => GroupFailure { error, of: 1 },
            };
            self.pause_or_fail(failed, deadline).await.map_err(|failed| failed.error)?;
        }
    }

    pub(super) async fn try_init(
        &mut self,
        events: &[Event],
        expect: Expect,
        deadline: Instant,
    ) -> Result<Option<Head>, StoreError> {
        self.prepare(deadline).await?;
        let Some(state) = &self.state else { return Ok(None) };
        let before = state.before();
        if let Err(refused) = before.check(expect) {
            let is_confirmed = self.is_confirmed;
            self.distrust_state();
            return if is_confirmed { Err(refused) } else { Ok(None) };
        }
        let start = init_start(&self.channel, before.head().cursor.seq);
        let most = self.inner.connection.max_payload().saturating_sub(HEADER_BYTES);
        let now = state.now(&self.inner.clock);
        let keep = in_time(deadline, self.inner.current_keep(&state.place)).await?;
        let message = plan::init(&self.channel, start, events.to_vec(), now, keep, most)?;
        let head = message.record.head();
        Ok((self.publish(message, deadline).await? == PublishOutcome::Stored).then_some(head))
    }

    pub(super) async fn remove(&mut self, removal: Removal, deadline: Instant) -> Result<(), StoreError> {
        let mut overtaken = 0;
        loop {
            self.wait_for_turn(overtaken, deadline).await;
            let failed = match self.try_remove(removal, deadline).await {
                Ok(PublishOutcome::Stored) => return Ok(()),
                Ok(PublishOutcome::Overtaken) if Instant::now() < deadline => {
                    overtaken += 1;
                    continue;
                }
                Ok(PublishOutcome::Overtaken) => return Err(unavailable("other nodes always wrote first")),
                Err(error) => GroupFailure { error, of: 1 },
            };
            self.pause_or_fail(failed, deadline).await.map_err(|failed| failed.error)?;
        }
    }

    /// Raises the floor before it removes the channel, so that the floor is high enough at every point.
    pub(super) async fn try_remove(
        &mut self,
        removal: Removal,
        deadline: Instant,
    ) -> Result<PublishOutcome, StoreError> {
        if !self.is_confirmed {
            self.distrust_state();
        }
        self.refresh(deadline).await?;
        let Some(state) = &self.state else { return Ok(PublishOutcome::Overtaken) };
        let Some(record) = state.record else { return Ok(PublishOutcome::Stored) };
        let (now, seen) = (state.now(&self.inner.clock), self.inner.clock.since(record.stamp));
        if removal == Removal::IfForgotten
            && !in_time(deadline, self.inner.current_keep(&state.place)).await?.is_forgotten(&record, seen)
        {
            return Ok(PublishOutcome::Stored);
        }
        let bucket = Place::floor_of(&self.channel);
        let floor = in_time(deadline, self.inner.raise_floor(&state.place, bucket, record.end())).await?;
        let announcement = record.announcement;
        let start = Cursor { epoch: epoch_of(state.place.epoch, &self.channel), seq: floor, tag: 0 };
        let record = Record { announcement, ..Record::new(Kind::Gone, start, now) };
        self.publish(Planned { record, body: bytes::Bytes::new(), keys: Vec::new() }, deadline).await
    }

    /// Updates the state of the channel, and forgets the channel if it is due.
    pub(super) async fn prepare(&mut self, deadline: Instant) -> Result<(), StoreError> {
        self.refresh(deadline).await?;
        let Some(state) = &self.state else { return Ok(()) };
        let Some(record) = state.record else { return Ok(()) };
        let keep = in_time(deadline, self.inner.recent_keep(&state.place)).await?;
        if keep.is_forgotten(&record, self.inner.clock.since(record.stamp)) {
            Box::pin(self.try_remove(Removal::IfForgotten, deadline)).await?;
            self.refresh(deadline).await?;
        }
        Ok(())
    }
}
