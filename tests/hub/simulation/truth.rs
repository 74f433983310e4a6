//! A memory store that remembers what it said: what a reader is told has to be what the store said. It may lie to the hub,
//! to show that this would be seen.

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

/// What is said to the hub instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    None,
    /// An entry in the middle of a page is left out.
    LeavesOut,
    /// Of two entries, each has the other's datum.
    Swaps,
    /// What cannot be continued is continued.
    Continues,
    /// Another reason is told.
    OtherReason,
    /// A reset goes on elsewhere.
    Elsewhere,
    /// What can be continued is not.
    Resets,
    /// A head is what it was when it was first asked for.
    OldHead,
    /// The first of the entries above a time is left out.
    LaterTime,
    /// An open channel is closed.
    Closes,
}

/// One for each hub; what was said is kept for all.
#[derive(Clone)]
pub(super) struct Truth {
    inner: MemoryStore,
    said: Arc<Mutex<Said>>,
    pub(super) troubles: Arc<Troubles>,
    lie: Lie,
}

/// What goes wrong, beyond what a fault store does.
#[derive(Default)]
pub(super) struct Troubles {
    /// How many of the next reads and heads panic.
    pub(super) panics: AtomicUsize,
    /// How long an answer takes to come back, in milliseconds.
    pub(super) slow_answers: AtomicU64,
}

#[derive(Default)]
struct Said {
    reads: Vec<Read>,
    closes: HashSet<(Channel, Cursor)>,
    entries: HashMap<(Channel, Cursor), Entry>,
    /// The answer to each question for a head.
    asked: Vec<(Channel, Cursor)>,
    first_heads: HashMap<Channel, Head>,
}

/// A read, and what it gave.
#[derive(Clone)]
pub(super) struct Read {
    pub(super) channel: Channel,
    pub(super) start: Start,
    pub(super) page: Page,
}

/// How much had been said.
#[derive(Clone, Copy, Default)]
pub(super) struct Moment {
    reads: usize,
    asked: usize,
}

impl Truth {
    pub(super) fn new(inner: MemoryStore, lie: Lie) -> Self {
        Self { inner, said: Arc::default(), troubles: Arc::default(), lie }
    }

    /// For another hub.
    pub(super) fn for_another(&self) -> Self {
        Self { troubles: Arc::default(), ..self.clone() }
    }

    pub(super) fn now(&self) -> Moment {
        let said = self.said();
        Moment { reads: said.reads.len(), asked: said.asked.len() }
    }

    /// The reads of the channel since then, the newest first.
    pub(super) fn reads_since(&self, moment: Moment, of: &Channel) -> Vec<Read> {
        self.said().reads[moment.reads..].iter().rev().filter(|read| read.channel == *of).cloned().collect()
    }

    /// Whether this was the answer to a question for the head that was asked since then.
    pub(super) fn was_head_since(&self, moment: Moment, of: &Channel, cursor: Cursor) -> bool {
        self.said().asked[moment.asked..].iter().any(|(channel, head)| channel == of && *head == cursor)
    }

    pub(super) fn was_closed_at(&self, of: &Channel, cursor: Cursor) -> bool {
        self.said().closes.contains(&(of.clone(), cursor))
    }

    pub(super) fn entry(&self, of: &Channel, cursor: Cursor) -> Option<Entry> {
        self.said().entries.get(&(of.clone(), cursor)).cloned()
    }

    /// Any position that there ever was, of any channel.
    pub(super) fn positions(&self) -> Vec<Cursor> {
        let mut positions: Vec<_> = self.said().entries.keys().map(|(_, cursor)| *cursor).collect();
        positions.sort_unstable_by_key(|cursor| (cursor.epoch, cursor.seq, cursor.tag));
        positions
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn answer(&self) {
        let slow = self.troubles.slow_answers.load(Ordering::SeqCst);
        if slow > 0 {
            tokio::time::sleep(Duration::from_millis(slow)).await;
        }
    }

    fn panic_if_due(&self) {
        let due = self.troubles.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(due.is_err(), "the store panics on purpose");
    }
}

impl Said {
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

    /// The head that was told first.
    fn note_head(&mut self, of: &Channel, head: Head) -> Head {
        self.note(of, head, &[]);
        self.asked.push((of.clone(), head.cursor));
        *self.first_heads.entry(of.clone()).or_insert(head)
    }
}

impl Lie {
    fn about(self, start: Start, mut page: Page) -> Page {
        match (self, start, page.outcome) {
            (Self::LeavesOut, ..) if page.entries.len() > 2 => drop(page.entries.remove(1)),
            (Self::Swaps, ..) if page.entries.len() > 1 => {
                let (first, second) = (page.entries[0].data.clone(), page.entries[1].data.clone());
                (page.entries[0].data, page.entries[1].data) = (second, first);
            }
            (Self::Continues, Start::After(after), Outcome::Reset(_)) => {
                (page.outcome, page.from) = (Outcome::Continued, after);
            }
            (Self::OtherReason, _, Outcome::Reset(reason)) => {
                let other = if reason == Reason::Trimmed { Reason::Ahead } else { Reason::Trimmed };
                page.outcome = Outcome::Reset(other);
            }
            (Self::Elsewhere, _, Outcome::Reset(_)) => page.from.tag ^= 1,
            (Self::Resets, Start::After(_), Outcome::Continued) => page.outcome = Outcome::Reset(Reason::Ahead),
            (Self::LaterTime, Start::Time(_), _) if page.entries.len() > 1 => drop(page.entries.remove(0)),
            (Self::Closes, ..) if page.entries.is_empty() => page.head.closed = true,
            _ => {}
        }
        page
    }
}

impl Store for Truth {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let appended = self.inner.append(channel, append).await?;
        self.said().note(channel, appended.head, &appended.entries);
        Ok(appended)
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        self.panic_if_due();
        let page = self.inner.read(channel, start, limit).await?;
        self.said().note_read(Read { channel: channel.clone(), start, page: page.clone() });
        self.answer().await;
        Ok(self.lie.about(start, page))
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        self.panic_if_due();
        let mut heads = self.inner.heads(channels).await?;
        for (channel, head) in channels.iter().zip(&mut heads) {
            let first = self.said().note_head(channel, *head);
            *head = if self.lie == Lie::OldHead { first } else { *head };
        }
        self.answer().await;
        Ok(heads)
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        let head = self.inner.init(channel, events, expect).await?;
        let page = self.inner.read(channel, Start::Earliest, Limit::new(usize::MAX, usize::MAX)).await?;
        self.said().note(channel, head, &page.entries);
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
