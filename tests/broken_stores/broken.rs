//! A memory store that is broken in one of many ways.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_core::Stream;
use tower_events::{
    Channel, Event, EventKey, MemoryStore, Retention, Store, StoreError,
    store::{Append, Appended, Change, Entry, Expect, Head, Limit, Outcome, Page, Reason, Start, Unit},
};

use super::continued;

/// In which way a store is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// In no way: the wrapper itself is not what fails.
    None,
    /// Every fourth append is acknowledged and gone.
    LostAppend,
    /// A page begins with the entry at the cursor.
    Duplicate,
    /// Two neighbours of a page are swapped.
    WrongOrder,
    /// What was trimmed is `Continued`.
    SilentTrim,
    /// A tag is not compared.
    RegrownTail,
    /// A head stays as it was when first asked for.
    StaleHead,
    /// Hints of one channel never come.
    LostHint,
    /// Keys are not looked at.
    IgnoredKey,
    /// Keys are known only as long as their entry.
    KeyDiesWithEntry,
    /// A key that stands for another event is a duplicate.
    ReusedKey,
    /// The same, but only where the batch itself repeats it.
    ReusedKeyInBatch,
    /// Only the datum is compared.
    ReusedKeyOfData,
    /// The rest of a batch with a reused key is appended.
    ReusedKeyAlone,
    /// A closed channel is told of first.
    ClosedBeforeReused,
    /// A condition is looked at first.
    ConflictBeforeClosed,
    /// A batch of more than half of what is kept is taken.
    LargeBatch,
    /// What is kept is not what was asked for.
    OtherRetention,
    /// A retention of few events takes none.
    HalfOfOne,
    /// An init keeps its oldest events.
    InitKeepsOldest,
    /// A time far ahead is told of for ever.
    TimeAhead,
    /// A time far ahead is never told of.
    TimeAheadForgotten,
    /// A batch is appended event by event, with a pause in which it may be dropped.
    HalfABatch,
    /// A close is told, and not kept.
    AppendAfterClose,
    /// The cursor of an absent channel continues, whatever was lost since.
    ForgottenContinues,
    /// All channels have one floor.
    OneFloor,
    /// A floor rises by the same step each time.
    EvenSteps,
    /// A listing leaves its prefix out of account.
    ListsAnyName,
    /// A page of a listing begins with the channel that it is to come after.
    ListsAfterAgain,
    /// A listing goes by the alphabet.
    ListsUnordered,
    /// A listing leaves closed channels out.
    ListsOpen,
    /// A listing names channels that were deleted.
    ListsDeleted,
}

/// A memory store that is broken in one way.
pub(crate) struct Broken {
    inner: MemoryStore,
    sabotage: Sabotage,
    appends: AtomicU64,
    closed: Mutex<HashSet<Channel>>,
    heads: Mutex<HashMap<Channel, Head>>,
    /// The event that each key stands for.
    first: Mutex<HashMap<(Channel, EventKey), Event>>,
    /// Where each channel's newest entry is that was dated ahead of its append.
    ahead: Mutex<HashMap<Channel, Entry>>,
    /// Channels that were deleted, as they were then.
    deleted: Mutex<HashMap<Channel, Head>>,
}

impl Broken {
    pub(crate) fn new(inner: MemoryStore, sabotage: Sabotage) -> Self {
        let (closed, heads, first, ahead, deleted) = Default::default();
        Self { inner, sabotage, appends: AtomicU64::new(0), closed, heads, first, ahead, deleted }
    }

    async fn one_by_one(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let Append { events, close, mut expect, .. } = append;
        let mut whole: Option<Appended> = None;
        let last = events.len().saturating_sub(1);
        for (n, event) in events.into_iter().enumerate() {
            let mut one = Append::new([event]).expecting(expect);
            one.close = close && n == last;
            let done = self.inner.append(channel, one).await?;
            tokio::task::yield_now().await;
            expect = Expect::Any;
            match &mut whole {
                None => whole = Some(done),
                Some(whole) => {
                    whole.receipts.extend(done.receipts);
                    whole.entries.extend(done.entries);
                    whole.head = done.head;
                }
            }
        }
        match whole {
            Some(whole) => Ok(whole),
            None => {
                let mut none = Append::new([]).expecting(expect);
                none.close = close;
                self.inner.append(channel, none).await
            }
        }
    }

    async fn keyless(&self, channel: &Channel, mut append: Append) -> Result<Appended, StoreError> {
        append.events = append.events.iter().map(without_key).collect();
        self.inner.append(channel, append).await
    }

    /// Has each event be the one that its key stands for, as `known` knows it, so that the store inside sees a duplicate.
    async fn disguised(
        &self,
        channel: &Channel,
        mut append: Append,
        known: HashMap<(Channel, EventKey), Event>,
        passes: fn(&Event, &Event) -> bool,
    ) -> Result<Appended, StoreError> {
        let mut known = known;
        for event in &mut append.events {
            let Some(key) = event.key().cloned() else { continue };
            let first = known.entry((channel.clone(), key)).or_insert_with(|| event.clone());
            if passes(first, event) {
                *event = first.clone();
            }
        }
        let done = self.inner.append(channel, append.clone()).await?;
        for event in append.events {
            let Some(key) = event.key().cloned() else { continue };
            self.first.lock().unwrap().entry((channel.clone(), key)).or_insert(event);
        }
        Ok(done)
    }

    fn known(&self) -> HashMap<(Channel, EventKey), Event> {
        self.first.lock().unwrap().clone()
    }

    async fn without_reused(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let (refused, mut rest) = (self.inner.append(channel, append.clone()).await, append);
        if refused.is_err() {
            while let Err(StoreError::KeyReused { index }) = self.inner.append(channel, rest.clone()).await {
                rest.events.remove(index);
            }
        }
        refused
    }

    async fn noting_times_ahead(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let done = self.inner.append(channel, append).await?;
        if let Some(ahead) = done.entries.iter().rev().find(|entry| entry.time > entry.appended) {
            self.ahead.lock().unwrap().insert(channel.clone(), ahead.clone());
        }
        Ok(done)
    }

    /// Answers a start by time as if what was dated ahead counted with its time, or not at all.
    async fn spoil_time(&self, channel: &Channel, time: u64, mut page: Page) -> Result<Page, StoreError> {
        let ahead = self.ahead.lock().unwrap().get(channel).cloned();
        let Some(ahead) = ahead.filter(|ahead| ahead.cursor.epoch == page.head.cursor.epoch) else { return Ok(page) };
        let oldest = self.inner.read(channel, Start::Earliest, Limit::POSITION).await?.from;
        if ahead.cursor.seq <= oldest.seq {
            match self.sabotage {
                Sabotage::TimeAhead if ahead.time > time => page.outcome = Outcome::Reset(Reason::Trimmed),
                Sabotage::TimeAheadForgotten if time < ahead.appended => page.outcome = Outcome::Continued,
                _ => {}
            }
        }
        Ok(page)
    }

    async fn judged_late(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let head = self.inner.heads(std::slice::from_ref(channel)).await?[0];
        match (self.inner.append(channel, append.clone()).await, self.sabotage) {
            (Err(StoreError::KeyReused { .. }), Sabotage::ClosedBeforeReused) if head.closed => {
                Err(StoreError::Closed { head })
            }
            (Err(StoreError::Closed { .. }), Sabotage::ConflictBeforeClosed) if append.expect != Expect::Any => {
                Err(StoreError::Conflict { head })
            }
            (done, _) => done,
        }
    }

    async fn key_dies(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let done = self.inner.append(channel, append.clone()).await?;
        let oldest = self.inner.read(channel, Start::Earliest, Limit::POSITION).await?.from;
        let dead = |done: &Appended| done.receipts.iter().any(|r| r.duplicate && r.cursor.seq <= oldest.seq);
        if done.entries.is_empty() && dead(&done) { self.keyless(channel, append).await } else { Ok(done) }
    }

    async fn told_but_not_closed(&self, channel: &Channel, mut append: Append) -> Result<Appended, StoreError> {
        let close = std::mem::take(&mut append.close);
        let mut done = self.inner.append(channel, append).await?;
        if close {
            self.closed.lock().unwrap().insert(channel.clone());
        }
        self.tell(channel, &mut done.head);
        Ok(done)
    }

    fn tell(&self, channel: &Channel, head: &mut Head) {
        head.closed |= self.closed.lock().unwrap().contains(channel);
    }

    /// Answers a reset as if it had continued, with what there is.
    async fn spoil(&self, channel: &Channel, start: Start, limit: Limit, mut page: Page) -> Result<Page, StoreError> {
        use Outcome::{Continued, Reset};
        if let Start::Time(time) = start {
            return self.spoil_time(channel, time, page).await;
        }
        let Start::After(after) = start else { return Ok(page) };
        let true_at = async |seq| {
            let newer = page.head.cursor.seq - seq;
            self.inner.read(channel, Start::Last(newer), limit).await
        };
        match (self.sabotage, page.outcome) {
            (Sabotage::Duplicate, Continued) if after.tag != 0 && limit.events > 0 => {
                let mut again = true_at(after.seq.saturating_sub(1)).await?;
                again.from = after;
                Ok(again)
            }
            (Sabotage::SilentTrim, Reset(Reason::Trimmed)) => Ok(continued(after, page)),
            (Sabotage::ForgottenContinues, Reset(Reason::Trimmed)) if after.tag == 0 => Ok(continued(after, page)),
            (Sabotage::RegrownTail, Reset(Reason::EpochChanged)) if after.epoch == page.head.cursor.epoch => {
                let mut regrown = true_at(after.seq).await?;
                regrown.from = after;
                Ok(regrown)
            }
            _ => {
                if self.sabotage == Sabotage::WrongOrder && page.entries.len() > 1 {
                    page.entries.swap(0, 1);
                }
                Ok(page)
            }
        }
    }
}

impl Store for Broken {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        match self.sabotage {
            Sabotage::LostAppend => {
                let done = self.inner.append(channel, append).await?;
                if self.appends.fetch_add(1, Ordering::Relaxed) % 4 == 3 {
                    self.inner.lose_tail(channel, done.entries.len() as u64);
                }
                Ok(done)
            }
            Sabotage::IgnoredKey => self.keyless(channel, append).await,
            Sabotage::KeyDiesWithEntry => self.key_dies(channel, append).await,
            Sabotage::ReusedKey => self.disguised(channel, append, self.known(), |_, _| true).await,
            Sabotage::ReusedKeyInBatch => self.disguised(channel, append, HashMap::new(), |_, _| true).await,
            Sabotage::ReusedKeyOfData => {
                self.disguised(channel, append, self.known(), |first, event| first.data() == event.data()).await
            }
            Sabotage::ReusedKeyAlone => self.without_reused(channel, append).await,
            Sabotage::ClosedBeforeReused | Sabotage::ConflictBeforeClosed => self.judged_late(channel, append).await,
            Sabotage::TimeAhead | Sabotage::TimeAheadForgotten => self.noting_times_ahead(channel, append).await,
            Sabotage::LargeBatch => match self.inner.append(channel, append.clone()).await {
                Err(StoreError::TooLarge { .. }) if append.events.len() > 1 => self.one_by_one(channel, append).await,
                done => done,
            },
            Sabotage::HalfOfOne if append.events.len() as u64 > self.inner.retention().events / 2 => {
                Err(StoreError::TooLarge { size: append.events.len() as u64, most: 0, unit: Unit::Events })
            }
            Sabotage::HalfABatch => self.one_by_one(channel, append).await,
            Sabotage::AppendAfterClose => self.told_but_not_closed(channel, append).await,
            _ => self.inner.append(channel, append).await,
        }
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        let mut page = self.inner.read(channel, start, limit).await?;
        self.tell(channel, &mut page.head);
        self.spoil(channel, start, limit, page).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let mut heads = self.inner.heads(channels).await?;
        for (channel, head) in channels.iter().zip(&mut heads) {
            self.tell(channel, head);
            let even = self.sabotage == Sabotage::EvenSteps && head.cursor.tag == 0;
            if let Some(deleted) = self.deleted.lock().unwrap().get(channel).filter(|_| even) {
                head.cursor.seq = deleted.cursor.seq + 10;
            }
            if self.sabotage == Sabotage::OneFloor && head.cursor.tag == 0 {
                head.cursor.seq += self.deleted.lock().unwrap().len() as u64;
            }
            if self.sabotage == Sabotage::StaleHead {
                *head = *self.heads.lock().unwrap().entry(channel.clone()).or_insert(*head);
            }
        }
        Ok(heads)
    }

    async fn init(&self, channel: &Channel, mut events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        if self.sabotage == Sabotage::InitKeepsOldest {
            events.truncate(self.inner.retention().events as usize);
        }
        let head = self.inner.init(channel, events, expect).await?;
        self.closed.lock().unwrap().remove(channel);
        Ok(head)
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.closed.lock().unwrap().remove(channel);
        let head = self.inner.heads(std::slice::from_ref(channel)).await?[0];
        self.deleted.lock().unwrap().insert(channel.clone(), head);
        self.inner.delete(channel).await
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        match self.sabotage {
            Sabotage::ListsAnyName => self.inner.channels("", after, limit).await,
            Sabotage::ListsAfterAgain => {
                let mut again = Vec::new();
                if let Some(after) = after.filter(|_| limit > 0) {
                    again.push((after.clone(), self.inner.heads(std::slice::from_ref(after)).await?[0]));
                }
                again.extend(self.inner.channels(prefix, after, limit.saturating_sub(again.len())).await?);
                Ok(again)
            }
            Sabotage::ListsUnordered => {
                let mut page = self.inner.channels(prefix, after, limit).await?;
                page.sort_by_key(|(channel, _)| channel.as_str().to_lowercase());
                Ok(page)
            }
            Sabotage::ListsOpen => {
                let page = self.inner.channels(prefix, after, limit).await?;
                Ok(page.into_iter().filter(|(_, head)| !head.closed).collect())
            }
            Sabotage::ListsDeleted => {
                let mut page = self.inner.channels(prefix, after, limit).await?;
                let deleted = self.deleted.lock().unwrap();
                let missing = deleted.iter().filter(|(channel, _)| !page.iter().any(|(listed, _)| listed == *channel));
                let due = missing.filter(|(channel, _)| channel.as_str().starts_with(prefix) && Some(*channel) > after);
                let due: Vec<_> = due.map(|(channel, head)| (channel.clone(), *head)).collect();
                page.extend(due);
                page.sort_by(|(a, _), (b, _)| a.cmp(b));
                page.truncate(limit);
                Ok(page)
            }
            _ => self.inner.channels(prefix, after, limit).await,
        }
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        let deaf_to = (self.sabotage == Sabotage::LostHint).then_some("b");
        Hints { inner: Box::pin(self.inner.changes()), deaf_to }
    }

    fn retention(&self) -> Retention {
        if self.sabotage == Sabotage::OtherRetention { Retention::default() } else { self.inner.retention() }
    }
}

struct Hints {
    inner: Pin<Box<dyn Stream<Item = Change> + Send>>,
    deaf_to: Option<&'static str>,
}

impl Stream for Hints {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        loop {
            let change = std::task::ready!(self.inner.as_mut().poll_next(cx));
            let of = match &change {
                Some(Change::Head(of, _)) => Some(of.as_str()),
                Some(Change::Entries(entries)) => entries.first().map(|entry| entry.channel.as_str()),
                _ => None,
            };
            if self.deaf_to.is_none() || of != self.deaf_to {
                return Poll::Ready(change);
            }
        }
    }
}

fn without_key(event: &Event) -> Event {
    let copy = Event::new(event.data().clone());
    let copy = event.name().into_iter().fold(copy, |copy, name| copy.named(name.as_str()).unwrap());
    event.time().into_iter().fold(copy, |copy, time| copy.at(time).unwrap())
}
