//! Stores that keep the wrong history: wrong identity, wrong order, or for the wrong time.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Mutex,
};

use tower_events::{
    Channel, Event, EventKey, MemoryStore, Store, StoreError,
    store::{Append, Appended, Expect, Head, Health, Limit, Outcome, Page, Reason, Receipt, Start},
};

use super::{continued, head_of, patched_store::Fault};

/// Derives an entry's tag from its content.
pub(crate) struct TagsByContent;

impl Fault for TagsByContent {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let mut done = inner.append(channel, append).await?;
        for entry in &mut done.entries {
            let mut hasher = DefaultHasher::new();
            entry.data.as_shown().hash(&mut hasher);
            entry.cursor.tag = hasher.finish() as u32;
        }
        Ok(done)
    }
}

/// Continues from any existing position, whatever its tag.
pub(crate) struct TrustsPositions;

impl Fault for TrustsPositions {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let page = inner.read(channel, start, limit).await?;
        match (start, page.outcome) {
            (Start::After(from), Outcome::Reset(Reason::EpochChanged)) if from.epoch == page.head.cursor.epoch => {
                Ok(continued(from, page))
            }
            _ => Ok(page),
        }
    }
}

/// Gives all places the same epoch.
pub(crate) struct OneEpoch;

impl Fault for OneEpoch {
    async fn heads(&self, inner: &MemoryStore, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let mut heads = inner.heads(channels).await?;
        heads.iter_mut().for_each(|head| head.cursor.epoch = 7);
        Ok(heads)
    }

    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let epoch = head_of(inner, channel).await.cursor.epoch;
        let start = match start {
            Start::After(mut cursor) if cursor.epoch == 7 => {
                cursor.epoch = epoch;
                Start::After(cursor)
            }
            other => other,
        };
        inner.read(channel, start, limit).await
    }
}

/// Does not raise the floor for a log that an init created.
#[derive(Default)]
pub(crate) struct InitLeavesTheFloor(Mutex<HashMap<Channel, Head>>);

impl Fault for InitLeavesTheFloor {
    async fn init(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        events: Vec<Event>,
        expect: Expect,
    ) -> Result<Head, StoreError> {
        let before = head_of(inner, channel).await;
        let done = inner.init(channel, events, expect).await;
        self.0.lock().unwrap().insert(channel.clone(), before);
        done
    }

    async fn heads(&self, inner: &MemoryStore, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let mut heads = inner.heads(channels).await?;
        for (channel, head) in channels.iter().zip(&mut heads) {
            let before = self.0.lock().unwrap().get(channel).copied();
            *head = before.filter(|_| head.cursor.tag == 0).unwrap_or(*head);
        }
        Ok(heads)
    }
}

/// Treats a record without entries as never used.
pub(crate) struct EmptyIsUnused;

impl Fault for EmptyIsUnused {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        match inner.append(channel, append.clone()).await {
            Err(StoreError::Conflict { head }) if head.cursor.tag == 0 && append.expect == Expect::NeverUsed => {
                inner.append(channel, append.expecting(Expect::Any)).await
            }
            done => done,
        }
    }
}

/// Checks the condition of an empty append.
pub(crate) struct EmptyAppendChecksCondition;

impl Fault for EmptyAppendChecksCondition {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let head = head_of(inner, channel).await;
        match append.expect {
            Expect::At(cursor) if append.events.is_empty() && cursor != head.cursor => {
                Err(StoreError::Conflict { head })
            }
            _ => inner.append(channel, append).await,
        }
    }
}

/// Sorts the events of an init by time.
pub(crate) struct SortsInits;

impl Fault for SortsInits {
    async fn init(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        mut events: Vec<Event>,
        expect: Expect,
    ) -> Result<Head, StoreError> {
        events.sort_by_key(Event::time);
        inner.init(channel, events, expect).await
    }
}

/// Continues at the end of a closed channel instead of resetting.
pub(crate) struct ClosedHidesResets;

impl Fault for ClosedHidesResets {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let page = inner.read(channel, start, limit).await?;
        match (start, page.outcome) {
            (Start::After(from), Outcome::Reset(_)) if page.head.closed => {
                Ok(Page::new(Outcome::Continued, from, page.head).ending_at(page.head.cursor))
            }
            _ => Ok(page),
        }
    }
}

/// Forgets the times of dropped entries when the last entry is dropped.
pub(crate) struct EmptyForgetsTimes;

impl Fault for EmptyForgetsTimes {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let mut page = inner.read(channel, start, limit).await?;
        let oldest = inner.read(channel, Start::Earliest, Limit::POSITION).await?;
        if page.outcome == Outcome::Reset(Reason::Trimmed) && oldest.from == oldest.head.cursor {
            page.outcome = Outcome::Continued;
        }
        Ok(page)
    }
}

/// The store's time, taken from an append to a channel that no test uses.
async fn now(inner: &MemoryStore) -> u64 {
    let clock = Channel::new("the clock").unwrap();
    inner.append(&clock, Append::new([Event::text("x")])).await.unwrap().entries[0].appended
}

/// Forgets a key after half of the key window.
#[derive(Default)]
pub(crate) struct HalfTheWindow(Mutex<HashMap<(Channel, EventKey), u64>>);

impl Fault for HalfTheWindow {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, mut append: Append) -> Result<Appended, StoreError> {
        let (now, half) = (now(inner).await, inner.retention().key_window.as_millis() as u64 / 2);
        for event in &mut append.events {
            let Some(key) = event.key().cloned() else { continue };
            let first = *self.0.lock().unwrap().entry((channel.clone(), key)).or_insert(now);
            if now - first > half {
                *event = Event::new(event.data().clone());
            }
        }
        inner.append(channel, append).await
    }
}

/// Returns the time of the duplicate instead of the original's.
pub(crate) struct TimeOfTheDuplicate;

impl Fault for TimeOfTheDuplicate {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let (time, mut done) = (now(inner).await, inner.append(channel, append).await?);
        for receipt in &mut done.receipts {
            receipt.time = if receipt.duplicate { time } else { receipt.time };
        }
        Ok(done)
    }
}

/// Still knows the keys of a deleted log.
#[derive(Default)]
pub(crate) struct DeleteKeepsKeys {
    keys: Mutex<HashSet<(Channel, EventKey)>>,
    deleted: Mutex<HashSet<Channel>>,
}

impl Fault for DeleteKeepsKeys {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        for key in append.events.iter().filter_map(Event::key) {
            let is_known = !self.keys.lock().unwrap().insert((channel.clone(), key.clone()));
            if is_known && self.deleted.lock().unwrap().contains(channel) {
                return Err(StoreError::KeyReused { index: 0 });
            }
        }
        inner.append(channel, append).await
    }

    async fn delete(&self, inner: &MemoryStore, channel: &Channel) -> Result<(), StoreError> {
        self.deleted.lock().unwrap().insert(channel.clone());
        inner.delete(channel).await
    }
}

/// Reads one entry more than the limit allows, to see whether more is left.
pub(crate) struct AddsToLimits;

impl Fault for AddsToLimits {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let one_more = limit.events(limit.events.wrapping_add(1));
        let page = inner.read(channel, start, one_more).await?;
        if page.entries.len() > limit.events { inner.read(channel, start, limit).await } else { Ok(page) }
    }
}

/// Returns at most five hundred heads at once.
pub(crate) struct AnswersFiveHundred;

impl Fault for AnswersFiveHundred {
    async fn heads(&self, inner: &MemoryStore, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        inner.heads(&channels[..channels.len().min(500)]).await
    }
}

/// Always reports that hints are late.
pub(crate) struct NeverReady;

impl Fault for NeverReady {
    fn health(&self) -> Health {
        Health::Degraded
    }
}

/// Treats a channel that was read as used, until it is deleted.
#[derive(Default)]
pub(crate) struct StoresWhatWasRead(Mutex<HashSet<Channel>>);

impl Fault for StoresWhatWasRead {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let was_read = self.0.lock().unwrap().contains(channel);
        if append.expect == Expect::NeverUsed && was_read {
            return Err(StoreError::Conflict { head: head_of(inner, channel).await });
        }
        inner.append(channel, append).await
    }

    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        self.0.lock().unwrap().insert(channel.clone());
        inner.read(channel, start, limit).await
    }

    async fn delete(&self, inner: &MemoryStore, channel: &Channel) -> Result<(), StoreError> {
        self.0.lock().unwrap().remove(channel);
        inner.delete(channel).await
    }
}

/// Lists a channel that is no longer used for ever.
#[derive(Default)]
pub(crate) struct ListsForgotten(Mutex<BTreeMap<Channel, Head>>);

impl Fault for ListsForgotten {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let done = inner.append(channel, append).await?;
        self.0.lock().unwrap().insert(channel.clone(), done.head);
        Ok(done)
    }

    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        self.0.lock().unwrap().remove(channel);
        inner.read(channel, start, limit).await
    }

    async fn delete(&self, inner: &MemoryStore, channel: &Channel) -> Result<(), StoreError> {
        self.0.lock().unwrap().remove(channel);
        inner.delete(channel).await
    }

    async fn channels(
        &self,
        inner: &MemoryStore,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        let mut all: BTreeMap<_, _> = inner.channels(prefix, after, limit).await?.into_iter().collect();
        let known = self.0.lock().unwrap();
        let due = known.iter().filter(|(channel, _)| channel.as_str().starts_with(prefix) && Some(*channel) > after);
        due.for_each(|(channel, head)| _ = all.entry(channel.clone()).or_insert(*head));
        Ok(all.into_iter().take(limit).collect())
    }
}

/// Restarts a key's window each time the key is repeated.
#[derive(Default)]
pub(crate) struct RenewsKeys(Mutex<HashMap<(Channel, EventKey), (u64, Receipt)>>);

impl Fault for RenewsKeys {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let [event] = &*append.events else { return inner.append(channel, append).await };
        let Some(key) = event.key().cloned() else { return inner.append(channel, append).await };
        let (now, window) = (now(inner).await, inner.retention().key_window.as_millis() as u64);
        let at = (channel.clone(), key);
        if let Some((last, receipt)) = self.0.lock().unwrap().get_mut(&at).filter(|(last, _)| now - last <= window) {
            *last = now;
            let duplicate = Receipt::duplicate(receipt.cursor, receipt.time);
            return Ok(Appended::new(vec![duplicate], vec![], Head::open(receipt.cursor)));
        }
        let done = inner.append(channel, append).await?;
        self.0.lock().unwrap().insert(at, (now, done.receipts[0]));
        Ok(done)
    }
}
