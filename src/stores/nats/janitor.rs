//! What retention no longer holds is dropped from the server here: readers do not see it any more long before.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use super::{
    Inner,
    fault::Fault,
    link::jittered,
    loading::keys_between,
    log::{Log, Order, Side},
    place::{self, Place, Via, Which},
    queue::{Removal, Work},
    record::{self, Kind, Message, Record},
    state::Known,
    view::View,
};
use crate::{channel::Channel, store::StoreError};

impl Inner {
    /// The floor of the place, and where it is written.
    pub(super) async fn floor(&self, place: &Place, via: Via) -> Result<(u64, u64), StoreError> {
        let raw = place.raw(&self.link, &place.floor(), Which::Last, via, self.settings.patience).await;
        let Some(raw) = raw.map_err(Fault::harmless)? else { return Ok((0, 0)) };
        let floor = std::str::from_utf8(&raw.body).ok().and_then(|floor| floor.parse().ok());
        Ok((floor.ok_or_else(|| super::fault::corrupt("the floor"))?, raw.at))
    }

    /// Raises the floor to at least this; says where it is then. It always rises: whoever was told of the old one while the
    /// log that goes now was made, perhaps below it, must not find it again.
    pub(super) async fn raise_floor(&self, place: &Place, to: u64) -> Result<u64, StoreError> {
        loop {
            let (floor, at) = self.floor(place, Via::Leader).await?;
            let to = to.max(floor + 1);
            let mut headers = place::after(at);
            headers.insert("Nats-Rollup", "sub");
            let body = Bytes::from(to.to_string());
            match place::publish(&self.link, &place.floor(), headers, body, self.settings.patience).await {
                Ok(_) => return Ok(to),
                Err(Fault::Refused(refusal)) if refusal.is_conflict() => {}
                Err(fault) => return Err(fault.harmless()),
            }
        }
    }

    /// Drops a record that nobody needs any more.
    pub(super) async fn forget(self: &Arc<Self>, channel: &Channel) -> Result<(), StoreError> {
        self.write(channel, |answer| Work::Remove(Removal::WhenForgotten, answer)).await
    }

    /// Looks after a channel that was written to: trims it in the background when there is half as much again as is kept.
    pub(super) fn note_written(self: &Arc<Self>, channel: &Channel, known: &mut Known) {
        let Some(record) = known.record else { return };
        let keep = self.settings.keep;
        let (seq, bytes) = known.trimmed;
        let over = |most: u64, now: u64, then: u64| now.saturating_sub(then) > most.saturating_add(most / 2);
        if !over(keep.events, record.end(), seq.max(record.start)) && !over(keep.bytes, record.total(), bytes) {
            return;
        }
        known.trimmed = (record.end().saturating_sub(keep.events), record.total().saturating_sub(keep.bytes));
        let (inner, channel) = (Arc::clone(self), channel.clone());
        self.runtime.spawn(async move {
            if let Err(error) = inner.look_after(&channel).await {
                tracing::debug!(%error, ?channel, "cannot trim");
            }
        });
    }

    /// Forgets or trims one channel.
    async fn look_after(self: &Arc<Self>, channel: &Channel) -> Result<(), StoreError> {
        let place = self.place().await?;
        let log = Log::new(self, Arc::clone(&place), channel, Via::Leader);
        let Some(last) = log.get(Which::Last).await? else { return Ok(()) };
        let now = self.settings.clock.now();
        if last.record.kind == Kind::Gone {
            return self.bury(&log, &last, now).await;
        }
        if self.settings.keep.is_forgotten(&last.record, now) {
            return self.forget(channel).await;
        }
        self.trim(&log, &last, now).await?;
        self.trim_keys(&log, now).await.map(drop)
    }

    /// A mark that a channel is gone stays until every append that began before has ended, for which the channel must not
    /// look as if it had never been.
    async fn bury(&self, log: &Log<'_>, last: &Message, now: u64) -> Result<(), StoreError> {
        let rest = u64::try_from((self.settings.timeout * 10).as_millis()).unwrap_or(u64::MAX);
        // Only what is over by time, for the keys may be those of the next log by now.
        let has_keys = self.trim_keys(log, now).await?;
        if has_keys || now < last.record.stamp.saturating_add(rest) {
            return Ok(());
        }
        self.purge(&log.place, log.subject(), last.at + 1).await
    }

    /// Drops the messages that nobody sees any more, and copies the keys that must outlive them. The newest stays: it is
    /// the channel's record.
    async fn trim(&self, log: &Log<'_>, last: &Message, now: u64) -> Result<(), StoreError> {
        let (keep, view) = (self.settings.keep, View::new(last.record, self.settings.keep, now));
        let judge = |record: &Record| if view.reaches(record) { Order::Late } else { Order::Early };
        let Some(oldest) = log.get(Which::From(1)).await? else { return Ok(()) };
        let kept = log.first(last, Side::Oldest, judge).await?.unwrap_or_else(|| last.clone());
        if oldest.at >= kept.at {
            return Ok(());
        }
        if keep.holds_key(last.record.keyed, now) {
            let since = keep.oldest_key(now);
            let judge = |record: &Record| if record.stamp >= since { Order::Late } else { Order::Early };
            if let Some(first) = log.first(last, Side::Oldest, judge).await?.filter(|first| first.at < kept.at) {
                self.copy_keys(log, first, &kept).await?;
            }
        }
        self.purge(&log.place, log.subject(), kept.at).await
    }

    /// Copies the keys of all messages before `kept`. Twice does no harm.
    async fn copy_keys(&self, log: &Log<'_>, first: Message, kept: &Message) -> Result<(), StoreError> {
        let most = self.link.most_bytes() / 2;
        let mut body = BytesMut::new();
        let keys = keys_between(log, &first, kept).await?;
        let copied = keys.into_iter().filter(|(_, known, _)| known.receipt.cursor.seq <= kept.record.base);
        for (key, known, stamp) in copied {
            record::put_key(&mut body, &key, &known, stamp);
            if body.len() > most {
                self.publish_keys(log, body.split().freeze()).await?;
            }
        }
        if body.is_empty() { Ok(()) } else { self.publish_keys(log, body.freeze()).await }
    }

    async fn publish_keys(&self, log: &Log<'_>, body: Bytes) -> Result<(), StoreError> {
        let subject = log.place.keys(log.channel);
        let headers = async_nats::HeaderMap::new();
        let published = place::publish(&self.link, &subject, headers, body, self.settings.patience).await;
        published.map(drop).map_err(Fault::harmless)
    }

    /// Drops the copied keys whose time is over; says whether there are others.
    async fn trim_keys(&self, log: &Log<'_>, now: u64) -> Result<bool, StoreError> {
        let (subject, keep) = (log.place.keys(log.channel), self.settings.keep);
        let mut below = 0;
        let are_left = loop {
            let next = log.place.raw(&self.link, &subject, Which::From(below), Via::Any, self.settings.patience).await;
            let Some(raw) = next.map_err(Fault::harmless)? else { break false };
            let keys = record::take_keys(raw.body).unwrap_or_default();
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
        place.purge(&self.link, subject, below, self.settings.patience).await.map_err(Fault::harmless)
    }

    /// Looks after all channels.
    async fn sweep(self: &Arc<Self>) -> Result<(), StoreError> {
        let place = self.place().await?;
        let mut from = 0;
        loop {
            let page = place.subjects(&self.link, from, self.settings.patience).await.map_err(Fault::harmless)?;
            from += page.subjects.len();
            for channel in page.subjects.iter().filter_map(|subject| place.channel(subject)) {
                self.look_after(&channel).await?;
            }
            if page.subjects.is_empty() || from >= page.total {
                return Ok(());
            }
        }
    }

    /// Whether this process is the one that looks after idle channels for the next while: who writes first is.
    async fn takes_turn(&self, period: Duration) -> Result<bool, StoreError> {
        let place = self.place().await?;
        let (subject, patience) = (place.lease(), self.settings.patience);
        let last =
            place.raw(&self.link, &subject, Which::Last, Via::Leader, patience).await.map_err(Fault::harmless)?;
        let now = self.settings.clock.now();
        let stamp = |body: &[u8]| std::str::from_utf8(body).ok()?.parse::<u64>().ok();
        let since = last.as_ref().and_then(|last| stamp(&last.body)).unwrap_or(0);
        let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX) / 2;
        // One that is in the future was written by a clock that is wrong.
        if (since..since.saturating_add(period)).contains(&now) {
            return Ok(false);
        }
        let mut headers = place::after(last.map_or(0, |last| last.at));
        headers.insert("Nats-Rollup", "sub");
        match place::publish(&self.link, &subject, headers, Bytes::from(now.to_string()), patience).await {
            Ok(_) => Ok(true),
            Err(Fault::Refused(refusal)) if refusal.is_conflict() => Ok(false),
            Err(fault) => Err(fault.harmless()),
        }
    }
}

/// Runs as long as the store is there.
pub(super) async fn run(inner: Weak<Inner>, period: Duration) {
    loop {
        tokio::time::sleep(jittered(period)).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.queues.forget_idle(IDLE);
        let swept = match inner.takes_turn(period).await {
            Ok(true) => inner.sweep().await,
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = swept {
            tracing::debug!(%error, "cannot look after idle channels");
        }
    }
}

/// How long what is known of a channel is kept after the last append.
const IDLE: Duration = Duration::from_secs(60);
