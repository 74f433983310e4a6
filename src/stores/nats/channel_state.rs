//! What this process knows of a channel that it writes to: enough to decide the next append, which the server takes only if
//! nothing came in between.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    api::{ReadFrom, Selector},
    body::Message,
    error::unavailable,
    handle::Inner,
    key_loader::{KeyLoader, MAX_FETCH},
    keys::Keys,
    log::Log,
    place::Place,
    record::{Kind, Record},
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    store::{Head, StoreError},
};

/// A channel as it was when it was last looked at.
pub(super) struct ChannelState {
    pub(super) place: Arc<Place>,
    /// Where its newest message is; 0 when it has none.
    pub(super) at: u64,
    /// The newest record; none when there is no log.
    pub(super) record: Option<Record>,
    /// Where a log begins when there is none.
    pub(super) absent: Cursor,
    /// Which announcement the next log may follow: that of a log that ended as it should, or one that no log came of. 0 while
    /// there is a log, and when none is known of: the announcement of a log that is lost is not one of these.
    pub(super) announcement: u64,
    /// The keys of the last while; none when they were not read yet.
    pub(super) keys: Option<Keys>,
    /// Since when all of them are among these.
    keys_since: u64,
    /// What was read of them so far, when they were not read to the end.
    loading: Option<Box<KeyLoader>>,
    /// How often the connection had changed when it was looked at.
    pub(super) changes: u64,
    /// When it was looked at, or written.
    pub(super) checked: Instant,
    /// Up to which seq and sum of bytes this process has trimmed.
    pub(super) trimmed: (u64, u64),
}

impl ChannelState {
    /// Asks the leader, and brings `state` up to date. What is known already stays when that fails in the middle.
    pub(super) async fn learn(inner: &Inner, channel: &Channel, state: &mut Option<Self>) -> Result<(), StoreError> {
        let changes = inner.connection.changes();
        let place = inner.place().await?;
        let log = inner.log(Arc::clone(&place), channel, ReadFrom::Leader);
        let seen = inner.queues.seen(channel);
        let bucket = Place::floor_of(channel);
        // Most that are not known yet are absent: so both are asked at once.
        let (last, floor) = match state.as_ref().and_then(|state| state.record) {
            Some(_) => (log.get(Selector::Last).await?, None),
            None => {
                let (last, floor) = join(log.get(Selector::Last), inner.floor(&place, bucket, ReadFrom::Leader)).await;
                (last?, Some(floor?.0))
            }
        };
        let at = last.as_ref().map_or(0, |last| last.at);
        inner.queues.lower_seen(channel, seen, at);
        inner.note_seen(channel, at);
        let record = last.as_ref().map(|last| last.record).filter(|record| record.kind != Kind::Gone);
        let floor = match record {
            Some(_) => 0,
            None => {
                let floor = match floor {
                    Some(floor) => floor,
                    None => inner.floor(&place, bucket, ReadFrom::Leader).await?.0,
                };
                floor.max(last.as_ref().map_or(0, |gone| gone.record.base))
            }
        };
        *state = state.take().filter(|state| state.place.is(&place));
        if let Some(state) = state {
            state.catch_up(&log, last.as_ref()).await?;
        }
        let announcement = state.as_ref().filter(|state| state.record.is_none()).map_or(0, |state| state.announcement);
        let announcement = followed(last.as_ref().map(|last| &last.record), announcement);
        let (keys, keys_since, loading, trimmed) = state
            .take()
            .map_or((None, 0, None, (0, 0)), |state| (state.keys, state.keys_since, state.loading, state.trimmed));
        let absent = Cursor { epoch: epoch_of(place.epoch, channel), seq: floor, tag: 0 };
        let checked = Instant::now();
        *state = Some(Self {
            place,
            at,
            record,
            absent,
            announcement,
            keys,
            keys_since,
            loading,
            changes,
            checked,
            trimmed,
        });
        Ok(())
    }

    /// Adds the keys of the messages up to the last, one after the other; forgets all keys when they do not follow.
    async fn catch_up(&mut self, log: &Log<'_>, last: Option<&Message>) -> Result<(), StoreError> {
        let to = last.map_or(0, |last| last.at);
        if last.is_none_or(|last| last.record.kind == Kind::Gone) || to < self.at {
            self.keys = None;
        }
        while let Some(keys) = self.keys.as_mut().filter(|_| self.at < to) {
            // Mostly there is one, and it is at hand.
            let messages = match last.filter(|last| last.after == Some(self.at)) {
                Some(last) => vec![last.clone()],
                None => log.messages(self.at + 1, MAX_FETCH).await?,
            };
            let (before, mut follows) = (self.at, true);
            for message in messages {
                follows &= message.after == Some(self.at) && message.record.kind == Kind::Append;
                if !follows {
                    break;
                }
                message.keys()?.into_iter().for_each(|(key, of)| keys.remember(key, of, message.record.stamp));
                (self.at, self.record) = (message.at, Some(message.record));
            }
            if !follows || self.at == before {
                self.keys = None;
            }
        }
        Ok(())
    }

    pub(super) fn head(&self) -> Head {
        self.record.map_or(Head { cursor: self.absent, closed: false }, |record| record.head())
    }

    /// The time of what is written next.
    pub(super) fn now(&self, inner: &Inner) -> u64 {
        inner.clock.now().max(self.record.map_or(0, |record| record.stamp))
    }

    /// Reads the keys of the last while, unless they are known.
    pub(super) async fn load_keys(&mut self, inner: &Inner, channel: &Channel) -> Result<(), StoreError> {
        let keep = inner.recent_keep(&self.place).await?;
        let now = inner.clock.since(self.record.map_or(0, |record| record.stamp));
        let since = keep.oldest_key(now);
        if since < self.keys_since {
            // Another node keeps them for longer.
            (self.keys, self.loading) = (None, None);
        }
        if self.keys.is_none() {
            if self.loading.is_none() {
                self.keys_since = since;
            }
            match self.record.filter(|record| keep.holds_key(record.keyed, now)) {
                Some(_) => self.read_keys(inner, channel, since).await?,
                None => self.keys = Some(Keys::default()),
            }
        }
        if let Some(keys) = &mut self.keys {
            keys.expire(since);
            self.keys_since = since;
        }
        Ok(())
    }

    /// Reads the keys up to the newest message that there is now.
    async fn read_keys(&mut self, inner: &Inner, channel: &Channel, since: u64) -> Result<(), StoreError> {
        let log = inner.log(Arc::clone(&self.place), channel, ReadFrom::Leader);
        let last = log.get(Selector::Last).await?.filter(|last| last.record.kind != Kind::Gone);
        let last = last.ok_or_else(|| unavailable("the channel went while its keys were read"))?;
        let keys = self.loading.get_or_insert_default().read(&log, &last, since).await?;
        (self.at, self.record, self.keys, self.loading) = (last.at, Some(last.record), Some(keys), None);
        Ok(())
    }
}

/// Which announcement the next log may follow, as the newest message and what was known says (see [`ChannelState::announcement`]).
fn followed(last: Option<&Record>, known: u64) -> u64 {
    match last {
        None => known,
        Some(gone) if gone.kind == Kind::Gone => known.max(gone.announcement),
        Some(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_follows_the_announcement_of_one_that_ended_and_of_no_other() {
        let record = |kind| Record { announcement: 7, ..Record::new(kind, Cursor { epoch: 1, seq: 0, tag: 0 }, 0) };
        let (gone, living) = (record(Kind::Gone), record(Kind::Append));
        assert_eq!((followed(Some(&gone), 0), followed(Some(&gone), 9)), (7, 9));
        assert_eq!((followed(Some(&living), 0), followed(Some(&living), 9)), (0, 0));
        assert_eq!((followed(None, 0), followed(None, 9)), (0, 9));
    }
}
