//! Maintaining one channel: deletes from the server what retention no longer holds. Readers have stopped seeing it long
//! before.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{
    api::{self, ReadFrom, Selector},
    body::{self, Message},
    channel_state::ChannelState,
    error::{CallError, refuses_only_writes},
    key_loader::keys_between,
    log::{Log, SearchFrom, SearchOrder},
    place::Place,
    record::{Kind, Record},
    shared::Inner,
    visibility::Visibility,
    write::{Removal, Work},
};
use crate::{channel::Channel, store::StoreError};

impl Inner {
    /// Removes a record that is no longer needed.
    pub(super) async fn forget(self: &Arc<Self>, channel: &Channel) -> Result<(), StoreError> {
        self.write(channel, Work::Remove(Removal::IfForgotten)).await.map(drop)
    }

    /// Removes a record that is no longer needed. If the stream accepts no writes now, returns the seq up to which the
    /// channel counts as forgotten: it is absent, and never had entries above that.
    pub(super) async fn forget_or_pass_over(
        self: &Arc<Self>,
        channel: &Channel,
        record: &Record,
    ) -> Result<Option<u64>, StoreError> {
        match self.forget(channel).await {
            Ok(()) => Ok(None),
            // The next log starts above a floor that is raised above this.
            Err(error) if refuses_only_writes(&error) => Ok(Some(record.end())),
            Err(error) => Err(error),
        }
    }

    /// Trims a channel in the background after an append, once half as much again as the limits is stored.
    pub(super) fn note_written(self: &Arc<Self>, channel: &Channel, known: &mut ChannelState) {
        let Some(record) = known.record else { return };
        let keep = self.last_keep();
        let (seq, bytes) = known.trimmed;
        let over = |most: u64, now: u64, then: u64| now.saturating_sub(then) > most.saturating_add(most / 2);
        if !over(keep.events, record.end(), seq.max(record.start)) && !over(keep.bytes, record.total(), bytes) {
            return;
        }
        known.trimmed = (record.end().saturating_sub(keep.events), record.total().saturating_sub(keep.bytes));
        let (inner, channel) = (Arc::clone(self), channel.clone());
        self.runtime.spawn(async move {
            if let Err(error) = inner.maintain(&channel).await {
                tracing::debug!(%error, channel = channel.as_str(), "cannot trim");
            }
        });
    }

    /// Forgets or trims one channel. Returns until when nothing more needs to be done unless something is appended.
    pub(super) async fn maintain(self: &Arc<Self>, channel: &Channel) -> Result<u64, StoreError> {
        let place = self.place().await?;
        place.may_write()?;
        let log = self.log(Arc::clone(&place), channel, ReadFrom::Leader);
        let Some(last) = log.get(Selector::Last).await? else { return Ok(0) };
        let now = self.clock.since(last.record.stamp);
        if last.record.kind == Kind::Gone {
            return self.drop_gone_mark(&log, &last, now).await.map(|()| 0);
        }
        let keep = self.recent_keep(&place).await?;
        if keep.is_forgotten(&last.record, now) {
            match self.forget(channel).await {
                Ok(()) => return Ok(0),
                // Entries that are no longer needed can be deleted all the same.
                Err(error) if refuses_only_writes(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let oldest = self.trim(&log, &last, now).await?;
        let keys = if self.trim_keys(&log, now).await? { now.saturating_add(keep.key_window / 2) } else { u64::MAX };
        Ok(keys.min(oldest.entered.saturating_add(keep.age)))
    }

    /// A removal marker stays until every append that had started before it has ended: for these the channel must not
    /// look as if it had never existed.
    async fn drop_gone_mark(&self, log: &Log<'_>, last: &Message, now: u64) -> Result<(), StoreError> {
        let rest = u64::try_from((self.settings.timeout * 10).as_millis()).unwrap_or(u64::MAX);
        // Only expired keys, because the others may belong to the next log.
        let has_keys = self.trim_keys(log, now).await?;
        if has_keys || now < last.record.stamp.saturating_add(rest) {
            return Ok(());
        }
        // Deletes the log's announcement too, unless a later log has been announced.
        self.drop_announcement(&log.place, log.channel, last.at).await?;
        self.purge(&log.place, log.subject(), last.at + 1).await
    }

    /// Deletes the messages that are no longer visible, and copies the keys that must outlive them. The newest message
    /// stays, because it is the channel's record. Returns the record of the oldest message left.
    async fn trim(&self, log: &Log<'_>, last: &Message, now: u64) -> Result<Record, StoreError> {
        let keep = self.current_keep(&log.place).await?;
        let visibility = Visibility::new(last.record, keep, now);
        let judge =
            |record: &Record| if visibility.may_show(record) { SearchOrder::MatchOrAfter } else { SearchOrder::Before };
        let Some(oldest) = log.get(Selector::AtOrAfter(1)).await? else { return Ok(last.record) };
        let kept = log.first(last, SearchFrom::Oldest, judge).await?.unwrap_or_else(|| last.clone());
        if oldest.at >= kept.at {
            return Ok(kept.record);
        }
        if keep.holds_key(last.record.keyed, now) {
            let since = keep.oldest_key(now);
            let judge =
                |record: &Record| if record.stamp >= since { SearchOrder::MatchOrAfter } else { SearchOrder::Before };
            if let Some(first) = log.first(last, SearchFrom::Oldest, judge).await?.filter(|first| first.at < kept.at) {
                self.copy_keys(log, first, &kept).await?;
            }
        }
        self.purge(&log.place, log.subject(), kept.at).await?;
        Ok(kept.record)
    }

    /// Copies the keys of all messages before `kept`. Copying twice does no harm.
    async fn copy_keys(&self, log: &Log<'_>, first: Message, kept: &Message) -> Result<(), StoreError> {
        let most = self.connection.max_payload() / 2;
        let mut body = BytesMut::new();
        let keys = keys_between(log, &first, kept).await?;
        let copied = keys.into_iter().filter(|(_, known, _)| known.receipt.cursor.seq <= kept.record.base);
        for (key, known, stamp) in copied {
            body::put_key(&mut body, &key, &known, stamp);
            if body.len() > most {
                self.publish_keys(log, body.split().freeze()).await?;
            }
        }
        if body.is_empty() { Ok(()) } else { self.publish_keys(log, body.freeze()).await }
    }

    async fn publish_keys(&self, log: &Log<'_>, body: Bytes) -> Result<(), StoreError> {
        let subject = log.place.keys(log.channel);
        let headers = async_nats::HeaderMap::new();
        let published = api::publish(&self.connection, &subject, headers, body, self.settings.request_timeout).await;
        published.map(drop).map_err(CallError::into_store_error)
    }

    /// Deletes the expired copied keys; returns whether there are others.
    async fn trim_keys(&self, log: &Log<'_>, now: u64) -> Result<bool, StoreError> {
        let (subject, keep) = (log.place.keys(log.channel), self.recent_keep(&log.place).await?);
        let mut below = 0;
        let are_left = loop {
            let next = log
                .place
                .stream
                .message(
                    &self.connection,
                    &subject,
                    Selector::AtOrAfter(below),
                    ReadFrom::AnyReplica,
                    self.settings.request_timeout,
                )
                .await;
            let Some(raw) = next.map_err(CallError::into_store_error)? else { break false };
            let keys = body::take_keys(raw.body).unwrap_or_default();
            if keys.iter().any(|(_, _, stamp)| keep.holds_key(*stamp, now)) {
                break true;
            }
            below = raw.at + 1;
        };
        if below > 0 {
            self.purge(&log.place, &subject, below).await?;
        }
        Ok(are_left)
    }

    async fn purge(&self, place: &Place, subject: &str, below: u64) -> Result<(), StoreError> {
        place
            .stream
            .purge(&self.connection, subject, below, self.settings.request_timeout)
            .await
            .map_err(CallError::into_store_error)
    }
}
