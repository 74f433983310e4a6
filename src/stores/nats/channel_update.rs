//! Updating what this process knows about a channel that it writes to.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    api::{ReadFrom, Selector},
    channel_state::{ChannelState, followed},
    error::unavailable,
    keys::Keys,
    place::Place,
    record::Kind,
    shared::Inner,
    sync::join,
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    store::StoreError,
};

impl ChannelState {
    /// Updates `state` from the leader. What was known is kept if the update fails halfway.
    pub(super) async fn update_from_leader(
        inner: &Inner,
        channel: &Channel,
        state: &mut Option<Self>,
    ) -> Result<(), StoreError> {
        let changes = inner.connection.changes();
        let place = inner.place().await?;
        let log = inner.log(Arc::clone(&place), channel, ReadFrom::Leader);
        let seen = inner.states.seen(channel);
        let bucket = Place::floor_of(channel);
        // A channel that is not known yet is mostly absent, so both are requested at once.
        let (last, floor) = match state.as_ref().and_then(|state| state.record) {
            Some(_) => (log.get(Selector::Last).await?, None),
            None => {
                let (last, floor) = join(log.get(Selector::Last), inner.floor(&place, bucket, ReadFrom::Leader)).await;
                (last?, Some(floor?.0))
            }
        };
        let at = last.as_ref().map_or(0, |last| last.at);
        inner.states.lower_seen(channel, seen, at);
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

    /// Reads the keys in the window, unless they are known.
    pub(super) async fn load_keys(&mut self, inner: &Inner, channel: &Channel) -> Result<(), StoreError> {
        let keep = inner.recent_keep(&self.place).await?;
        let now = inner.clock.since(self.record.map_or(0, |record| record.stamp));
        let since = keep.oldest_key(now);
        if since < self.keys_since {
            // Another node keeps keys for longer.
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

    /// Reads the keys up to the message that is newest now.
    async fn read_keys(&mut self, inner: &Inner, channel: &Channel, since: u64) -> Result<(), StoreError> {
        let log = inner.log(Arc::clone(&self.place), channel, ReadFrom::Leader);
        let last = log.get(Selector::Last).await?.filter(|last| last.record.kind != Kind::Gone);
        let last = last.ok_or_else(|| unavailable("the channel was removed while its keys were read"))?;
        let keys = self.loading.get_or_insert_default().read(&log, &last, since).await?;
        (self.at, self.record, self.keys, self.loading) = (last.at, Some(last.record), Some(keys), None);
        Ok(())
    }
}
