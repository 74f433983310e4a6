//! What this process knows of a channel that it writes to: enough to decide the next append, which the server takes only if
//! nothing came in between.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Inner,
    fault::unavailable,
    keys::Keys,
    log::{Log, Order, Side},
    place::{Most, Place, Via, Which},
    record::{self, Kind, Message, Record},
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    event::EventKey,
    store::{Head, Receipt, StoreError},
};

/// A channel as it was when it was last looked at.
pub(super) struct Known {
    pub(super) place: Arc<Place>,
    /// Where its newest message is; 0 when it has none.
    pub(super) at: u64,
    /// The newest record; none when there is no log.
    pub(super) record: Option<Record>,
    /// Where a log begins when there is none.
    pub(super) absent: Cursor,
    /// The keys of the last while; none when they were not read yet.
    pub(super) keys: Option<Keys>,
    /// How often the connection had changed when it was looked at.
    pub(super) changes: u64,
    /// When it was looked at, or written.
    pub(super) checked: Instant,
    /// Up to which seq and sum of bytes this process has trimmed.
    pub(super) trimmed: (u64, u64),
}

impl Known {
    /// Asks the leader. What `old` knew of keys is kept when it can be brought up to date.
    pub(super) async fn learn(inner: &Inner, channel: &Channel, old: Option<Self>) -> Result<Self, StoreError> {
        let changes = inner.link.changes();
        let place = inner.place().await?;
        let log = Log::new(inner, Arc::clone(&place), channel, Via::Leader);
        let seen = inner.queues.seen(channel);
        let last = log.get(Which::Last).await?;
        let epoch = epoch_of(place.epoch, channel);
        let at = last.as_ref().map_or(0, |last| last.at);
        inner.queues.lower_seen(channel, seen, at);
        let record = last.as_ref().map(|last| last.record).filter(|record| record.kind != Kind::Gone);
        let floor = match (&last, record) {
            (_, Some(_)) => 0,
            (gone, None) => {
                let (floor, _) = inner.floor(&place, Via::Leader).await?;
                floor.max(gone.as_ref().map_or(0, |gone| gone.record.base))
            }
        };
        let old = old.filter(|old| old.place.is(&place));
        let trimmed = old.as_ref().map_or((0, 0), |old| old.trimmed);
        let keys = match old.and_then(|old| Some((old.at, old.keys?))) {
            Some((seen, keys)) if seen == at => Some(keys),
            Some((seen, keys)) if record.is_some() => catch_up(&log, keys, seen, at).await?,
            _ => None,
        };
        let absent = Cursor { epoch, seq: floor, tag: 0 };
        Ok(Self { place, at, record, absent, keys, changes, checked: Instant::now(), trimmed })
    }

    pub(super) fn head(&self) -> Head {
        self.record.map_or(Head { cursor: self.absent, closed: false }, |record| record.head())
    }

    /// The time of what is written next.
    pub(super) fn now(&self, inner: &Inner) -> u64 {
        inner.settings.clock.now().max(self.record.map_or(0, |record| record.stamp))
    }

    /// Reads the keys of the last while, unless they are known.
    pub(super) async fn load_keys(&mut self, inner: &Inner, channel: &Channel) -> Result<(), StoreError> {
        let keep = inner.settings.keep;
        let now = self.now(inner);
        let since = now.saturating_sub(keep.key_window);
        if self.keys.is_none() {
            self.keys = Some(match self.record.filter(|record| keep.holds_key(record.keyed, now)) {
                Some(record) => read_keys(inner, self, channel, record, since).await?,
                None => Keys::default(),
            });
        }
        if let Some(keys) = &mut self.keys {
            keys.expire(since);
        }
        Ok(())
    }
}

/// Adds the keys of the messages after `seen` up to `at`, or gives up when they do not follow.
async fn catch_up(log: &Log<'_>, mut keys: Keys, seen: u64, at: u64) -> Result<Option<Keys>, StoreError> {
    let mut after = seen;
    while after < at {
        let several = log.several(after + 1, BATCH).await?;
        if several.is_empty() {
            return Ok(None);
        }
        for message in several {
            if message.after != Some(after) || message.record.kind != Kind::Append {
                return Ok(None);
            }
            after = message.at;
            message.keys()?.into_iter().for_each(|(key, receipt)| keys.remember(key, receipt, message.record.stamp));
        }
    }
    Ok(Some(keys))
}

async fn read_keys(
    inner: &Inner,
    known: &Known,
    channel: &Channel,
    head: Record,
    since: u64,
) -> Result<Keys, StoreError> {
    let log = Log::new(inner, Arc::clone(&known.place), channel, Via::Leader);
    let moved = || unavailable("the channel changed while its keys were read");
    let last = log.get(Which::Last).await?.filter(|last| last.at == known.at).ok_or_else(moved)?;
    let judge = |record: &Record| if record.stamp >= since { Order::Late } else { Order::Early };
    let mut found = Vec::new();
    if let Some(first) = log.first(&last, Side::Newest, judge).await? {
        found.extend(keys_between(&log, first, &last).await?);
    }
    // After the messages: what is trimmed meanwhile was copied there before.
    found.extend(outliving(inner, &known.place, channel, head).await?);
    found.retain(|(_, _, stamp)| *stamp >= since);
    found.sort_by_key(|(_, _, stamp)| *stamp);
    let mut keys = Keys::default();
    found.into_iter().for_each(|(key, receipt, stamp)| keys.remember(key, receipt, stamp));
    Ok(keys)
}

/// The keys of all messages from the first to the last.
pub(super) async fn keys_between(
    log: &Log<'_>,
    first: Message,
    last: &Message,
) -> Result<Vec<(EventKey, Receipt, u64)>, StoreError> {
    let mut keys = Vec::new();
    let mut waiting = std::collections::VecDeque::from([first]);
    while let Some(message) = waiting.pop_front() {
        // Keys are not remembered of what an init brings; none is written with it.
        keys.extend(message.keys()?.into_iter().map(|(key, receipt)| (key, receipt, message.record.stamp)));
        if message.at >= last.at {
            break;
        }
        if waiting.is_empty() {
            waiting = log.several(message.at + 1, BATCH).await?.into();
        }
        if waiting.front().is_none_or(|next| next.after != Some(message.at)) {
            return Err(unavailable("a replica is behind, or the channel was trimmed while it was read"));
        }
    }
    Ok(keys)
}

/// The keys of the log whose messages were trimmed.
async fn outliving(
    inner: &Inner,
    place: &Place,
    channel: &Channel,
    head: Record,
) -> Result<Vec<(EventKey, Receipt, u64)>, StoreError> {
    let (subject, patience) = (place.keys(channel), inner.settings.patience);
    let (mut keys, mut from) = (Vec::new(), 1);
    while let Some(raw) = place
        .raw(&inner.link, &subject, Which::From(from), Via::Leader, patience)
        .await
        .map_err(super::fault::Fault::harmless)?
    {
        from = raw.at + 1;
        let copied = record::take_keys(raw.body).ok_or_else(|| super::fault::corrupt("a channel's keys"))?;
        let is_ours = |cursor: Cursor| cursor.epoch == head.epoch && cursor.seq > head.start;
        keys.extend(copied.into_iter().filter(|(_, receipt, _)| is_ours(receipt.cursor)));
    }
    Ok(keys)
}

pub(super) const BATCH: Most = Most { messages: 256, bytes: 4 << 20 };
