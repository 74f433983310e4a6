//! A memory store that records its answers: whatever a reader receives has to match them. It can have a defect, to show that
//! the simulation would find one.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_core::Stream;
use tower_events::{
    Channel, Cursor, Event, MemoryStore, Retention, Store, StoreError,
    store::{Append, Appended, Change, Entry, Expect, Head, Health, Limit, Outcome, Page, Reason, Start},
};

/// What is wrong with the answers that the hub gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    None,
    /// A page lacks an entry in the middle.
    OmitsEntry,
    /// The data of two entries is swapped.
    SwapsData,
    /// A resume that has to be reset continues.
    ContinuesAfterReset,
    /// A reset has another reason.
    WrongReason,
    /// A reset names another position.
    WrongPosition,
    /// A resume that can continue is reset.
    NeedlessReset,
    /// A head is the one that was returned first.
    StaleHead,
    /// A page by time lacks its first entry.
    SkipsFirstByTime,
    /// An open channel appears closed.
    FalseClose,
}

/// There is one per hub; the record is shared by all.
#[derive(Clone)]
pub(super) struct RecordingStore {
    inner: MemoryStore,
    record: Arc<Mutex<Record>>,
    pub(super) disturbances: Arc<Disturbances>,
    defect: Defect,
}

/// Disturbances that a fault store does not offer.
#[derive(Default)]
pub(super) struct Disturbances {
    /// How many of the next reads and heads panic.
    pub(super) panics: AtomicUsize,
    /// How long an answer is delayed, in milliseconds.
    pub(super) slow_answers: AtomicU64,
}

#[derive(Default)]
struct Record {
    reads: Vec<Read>,
    closes: HashSet<(Channel, Cursor)>,
    entries: HashMap<(Channel, Cursor), Entry>,
    /// The answer to each request for a head.
    heads: Vec<(Channel, Cursor)>,
    first_heads: HashMap<Channel, Head>,
}

/// A read and its answer.
#[derive(Clone)]
pub(super) struct Read {
    pub(super) channel: Channel,
    pub(super) start: Start,
    pub(super) page: Page,
}

/// How much had been recorded.
#[derive(Clone, Copy, Default)]
pub(super) struct Moment {
    reads: usize,
    heads: usize,
}

impl RecordingStore {
    pub(super) fn new(inner: MemoryStore, defect: Defect) -> Self {
        Self { inner, record: Arc::default(), disturbances: Arc::default(), defect }
    }

    /// For another hub.
    pub(super) fn for_another(&self) -> Self {
        Self { disturbances: Arc::default(), ..self.clone() }
    }

    pub(super) fn now(&self) -> Moment {
        let record = self.record();
        Moment { reads: record.reads.len(), heads: record.heads.len() }
    }

    /// The reads of the channel since `moment`, the newest first.
    pub(super) fn reads_since(&self, moment: Moment, of: &Channel) -> Vec<Read> {
        self.record().reads[moment.reads..].iter().rev().filter(|read| read.channel == *of).cloned().collect()
    }

    /// Whether `cursor` was returned as the channel's head since `moment`.
    pub(super) fn was_head_since(&self, moment: Moment, of: &Channel, cursor: Cursor) -> bool {
        self.record().heads[moment.heads..].iter().any(|(channel, head)| channel == of && *head == cursor)
    }

    pub(super) fn was_closed_at(&self, of: &Channel, cursor: Cursor) -> bool {
        self.record().closes.contains(&(of.clone(), cursor))
    }

    pub(super) fn entry(&self, of: &Channel, cursor: Cursor) -> Option<Entry> {
        self.record().entries.get(&(of.clone(), cursor)).cloned()
    }

    /// All positions that ever existed, of all channels.
    pub(super) fn positions(&self) -> Vec<Cursor> {
        let mut positions: Vec<_> = self.record().entries.keys().map(|(_, cursor)| *cursor).collect();
        positions.sort_unstable_by_key(|cursor| (cursor.epoch, cursor.seq, cursor.tag));
        positions
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn delay_answer(&self) {
        let slow = self.disturbances.slow_answers.load(Ordering::SeqCst);
        if slow > 0 {
            tokio::time::sleep(Duration::from_millis(slow)).await;
        }
    }

    fn panic_if_due(&self) {
        let due = self.disturbances.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(due.is_err(), "the store panics on purpose");
    }
}

impl Record {
    fn note(&mut self, of: &Channel, head: Head, entries: &[Entry]) {
        if head.closed {
            self.closes.insert((of.clone(), head.cursor));
        }
        self.entries.extend(entries.iter().map(|entry| ((of.clone(), entry.cursor), entry.clone())));
    }

    fn note_read(&mut self, read: Read) {
        self.note(&read.channel, read.page.head, &read.page.entries);
        self.reads.push(read);
    }

    /// Returns the head that was returned first.
    fn note_head(&mut self, of: &Channel, head: Head) -> Head {
        self.note(of, head, &[]);
        self.heads.push((of.clone(), head.cursor));
        *self.first_heads.entry(of.clone()).or_insert(head)
    }
}

impl Defect {
    fn apply(self, start: Start, mut page: Page) -> Page {
        match (self, start, page.outcome) {
            (Self::OmitsEntry, ..) if page.entries.len() > 2 => drop(page.entries.remove(1)),
            (Self::SwapsData, ..) if page.entries.len() > 1 => {
                let (first, second) = (page.entries[0].data.clone(), page.entries[1].data.clone());
                (page.entries[0].data, page.entries[1].data) = (second, first);
            }
            (Self::ContinuesAfterReset, Start::After(after), Outcome::Reset(_)) => {
                (page.outcome, page.from) = (Outcome::Continued, after);
            }
            (Self::WrongReason, _, Outcome::Reset(reason)) => {
                let other = if reason == Reason::Trimmed { Reason::Ahead } else { Reason::Trimmed };
                page.outcome = Outcome::Reset(other);
            }
            (Self::WrongPosition, _, Outcome::Reset(_)) => page.from.tag ^= 1,
            (Self::NeedlessReset, Start::After(_), Outcome::Continued) => page.outcome = Outcome::Reset(Reason::Ahead),
            (Self::SkipsFirstByTime, Start::Time(_), _) if page.entries.len() > 1 => drop(page.entries.remove(0)),
            (Self::FalseClose, ..) if page.entries.is_empty() => page.head.closed = true,
            _ => {}
        }
        page
    }
}

impl Store for RecordingStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let appended = self.inner.append(channel, append).await?;
        self.record().note(channel, appended.head, &appended.entries);
        Ok(appended)
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        self.panic_if_due();
        let page = self.inner.read(channel, start, limit).await?;
        self.record().note_read(Read { channel: channel.clone(), start, page: page.clone() });
        self.delay_answer().await;
        Ok(self.defect.apply(start, page))
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        self.panic_if_due();
        let mut heads = self.inner.heads(channels).await?;
        for (channel, head) in channels.iter().zip(&mut heads) {
            let first = self.record().note_head(channel, *head);
            *head = if self.defect == Defect::StaleHead { first } else { *head };
        }
        self.delay_answer().await;
        Ok(heads)
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        let head = self.inner.init(channel, events, expect).await?;
        let page = self.inner.read(channel, Start::Earliest, Limit::new(usize::MAX, usize::MAX)).await?;
        self.record().note(channel, head, &page.entries);
        Ok(head)
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.inner.delete(channel).await
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        self.inner.channels(prefix, after, limit).await
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        self.inner.changes()
    }

    fn retention(&self) -> Retention {
        self.inner.retention()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }
}
