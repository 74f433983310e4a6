//! A memory store with one of many defects.

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

use super::{continued, defect::Defect};

/// A memory store with one defect.
pub(crate) struct Broken {
    inner: MemoryStore,
    defect: Defect,
    appends: AtomicU64,
    closed: Mutex<HashSet<Channel>>,
    heads: Mutex<HashMap<Channel, Head>>,
    /// The first event with each key.
    first: Mutex<HashMap<(Channel, EventKey), Event>>,
    /// Each channel's newest entry with a time later than its append.
    ahead: Mutex<HashMap<Channel, Entry>>,
    /// Deleted channels, with their heads from before.
    deleted: Mutex<HashMap<Channel, Head>>,
}

impl Broken {
    pub(crate) fn new(inner: MemoryStore, defect: Defect) -> Self {
        let (closed, heads, first, ahead, deleted) = Default::default();
        Self { inner, defect, appends: AtomicU64::new(0), closed, heads, first, ahead, deleted }
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

    async fn without_keys(&self, channel: &Channel, mut append: Append) -> Result<Appended, StoreError> {
        append.events = append.events.iter().map(without_key).collect();
        self.inner.append(channel, append).await
    }

    /// Replaces events whose key is in `known` by the first event with that key, so that the inner store sees a duplicate.
    async fn as_first_with_key(
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

    /// Falsifies a start by time, as if dropped entries dated ahead counted with their time, or not at all.
    async fn falsify_start_by_time(&self, channel: &Channel, time: u64, mut page: Page) -> Result<Page, StoreError> {
        let ahead = self.ahead.lock().unwrap().get(channel).cloned();
        let Some(ahead) = ahead.filter(|ahead| ahead.cursor.epoch == page.head.cursor.epoch) else { return Ok(page) };
        let oldest = self.inner.read(channel, Start::Earliest, Limit::POSITION).await?.from;
        if ahead.cursor.seq <= oldest.seq {
            match self.defect {
                Defect::TimeAhead if ahead.time > time => page.outcome = Outcome::Reset(Reason::Trimmed),
                Defect::TimeAheadForgotten if time < ahead.appended => page.outcome = Outcome::Continued,
                _ => {}
            }
        }
        Ok(page)
    }

    async fn in_wrong_order_of_checks(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let head = self.inner.heads(std::slice::from_ref(channel)).await?[0];
        match (self.inner.append(channel, append.clone()).await, self.defect) {
            (Err(StoreError::KeyReused { .. }), Defect::ClosedBeforeReused) if head.closed => {
                Err(StoreError::Closed { head })
            }
            (Err(StoreError::Closed { .. }), Defect::ConflictBeforeClosed) if append.expect != Expect::Any => {
                Err(StoreError::Conflict { head })
            }
            (done, _) => done,
        }
    }

    async fn forgetting_keys_of_dropped_entries(
        &self,
        channel: &Channel,
        append: Append,
    ) -> Result<Appended, StoreError> {
        let done = self.inner.append(channel, append.clone()).await?;
        let oldest = self.inner.read(channel, Start::Earliest, Limit::POSITION).await?.from;
        let dead = |done: &Appended| done.receipts.iter().any(|r| r.duplicate && r.cursor.seq <= oldest.seq);
        if done.entries.is_empty() && dead(&done) { self.without_keys(channel, append).await } else { Ok(done) }
    }

    async fn closing_only_in_reports(&self, channel: &Channel, mut append: Append) -> Result<Appended, StoreError> {
        let close = std::mem::take(&mut append.close);
        let mut done = self.inner.append(channel, append).await?;
        if close {
            self.closed.lock().unwrap().insert(channel.clone());
        }
        self.mark_closed(channel, &mut done.head);
        Ok(done)
    }

    fn mark_closed(&self, channel: &Channel, head: &mut Head) {
        head.closed |= self.closed.lock().unwrap().contains(channel);
    }

    /// Falsifies a page, mostly by answering a reset as if it had continued.
    async fn falsify(&self, channel: &Channel, start: Start, limit: Limit, mut page: Page) -> Result<Page, StoreError> {
        use Outcome::{Continued, Reset};
        if let Start::Time(time) = start {
            return self.falsify_start_by_time(channel, time, page).await;
        }
        let Start::After(after) = start else { return Ok(page) };
        let entries_after = async |seq| {
            let newer = page.head.cursor.seq - seq;
            self.inner.read(channel, Start::Last(newer), limit).await
        };
        match (self.defect, page.outcome) {
            (Defect::Duplicate, Continued) if after.tag != 0 && limit.events > 0 => {
                let mut again = entries_after(after.seq.saturating_sub(1)).await?;
                again.from = after;
                Ok(again)
            }
            (Defect::SilentTrim, Reset(Reason::Trimmed)) => Ok(continued(after, page)),
            (Defect::ForgottenContinues, Reset(Reason::Trimmed)) if after.tag == 0 => Ok(continued(after, page)),
            (Defect::RegrownTail, Reset(Reason::EpochChanged)) if after.epoch == page.head.cursor.epoch => {
                let mut regrown = entries_after(after.seq).await?;
                regrown.from = after;
                Ok(regrown)
            }
            _ => {
                if self.defect == Defect::WrongOrder && page.entries.len() > 1 {
                    page.entries.swap(0, 1);
                }
                Ok(page)
            }
        }
    }
}

impl Store for Broken {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        match self.defect {
            Defect::LostAppend => {
                let done = self.inner.append(channel, append).await?;
                if self.appends.fetch_add(1, Ordering::Relaxed) % 4 == 3 {
                    self.inner.lose_tail(channel, done.entries.len() as u64);
                }
                Ok(done)
            }
            Defect::IgnoredKey => self.without_keys(channel, append).await,
            Defect::KeyDiesWithEntry => self.forgetting_keys_of_dropped_entries(channel, append).await,
            Defect::ReusedKey => self.as_first_with_key(channel, append, self.known(), |_, _| true).await,
            Defect::ReusedKeyInBatch => self.as_first_with_key(channel, append, HashMap::new(), |_, _| true).await,
            Defect::ReusedKeyOfData => {
                self.as_first_with_key(channel, append, self.known(), |first, event| first.data() == event.data()).await
            }
            Defect::ReusedKeyAlone => self.without_reused(channel, append).await,
            Defect::ClosedBeforeReused | Defect::ConflictBeforeClosed => {
                self.in_wrong_order_of_checks(channel, append).await
            }
            Defect::TimeAhead | Defect::TimeAheadForgotten => self.noting_times_ahead(channel, append).await,
            Defect::LargeBatch => match self.inner.append(channel, append.clone()).await {
                Err(StoreError::TooLarge { .. }) if append.events.len() > 1 => self.one_by_one(channel, append).await,
                done => done,
            },
            Defect::HalfOfOne if append.events.len() as u64 > self.inner.retention().events / 2 => {
                Err(StoreError::TooLarge { size: append.events.len() as u64, max: 0, unit: Unit::Events })
            }
            Defect::HalfABatch => self.one_by_one(channel, append).await,
            Defect::AppendAfterClose => self.closing_only_in_reports(channel, append).await,
            _ => self.inner.append(channel, append).await,
        }
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        let mut page = self.inner.read(channel, start, limit).await?;
        self.mark_closed(channel, &mut page.head);
        self.falsify(channel, start, limit, page).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let mut heads = self.inner.heads(channels).await?;
        for (channel, head) in channels.iter().zip(&mut heads) {
            self.mark_closed(channel, head);
            let even = self.defect == Defect::EvenSteps && head.cursor.tag == 0;
            if let Some(deleted) = self.deleted.lock().unwrap().get(channel).filter(|_| even) {
                head.cursor.seq = deleted.cursor.seq + 10;
            }
            if self.defect == Defect::OneFloor && head.cursor.tag == 0 {
                head.cursor.seq += self.deleted.lock().unwrap().len() as u64;
            }
            if self.defect == Defect::StaleHead {
                *head = *self.heads.lock().unwrap().entry(channel.clone()).or_insert(*head);
            }
        }
        Ok(heads)
    }

    async fn init(&self, channel: &Channel, mut events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        if self.defect == Defect::InitKeepsOldest {
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
        match self.defect {
            Defect::ListsAnyName => self.inner.channels("", after, limit).await,
            Defect::ListsAfterAgain => {
                let mut again = Vec::new();
                if let Some(after) = after.filter(|_| limit > 0) {
                    again.push((after.clone(), self.inner.heads(std::slice::from_ref(after)).await?[0]));
                }
                again.extend(self.inner.channels(prefix, after, limit.saturating_sub(again.len())).await?);
                Ok(again)
            }
            Defect::ListsUnordered => {
                let mut page = self.inner.channels(prefix, after, limit).await?;
                page.sort_by_key(|(channel, _)| channel.as_str().to_lowercase());
                Ok(page)
            }
            Defect::ListsOpen => {
                let page = self.inner.channels(prefix, after, limit).await?;
                Ok(page.into_iter().filter(|(_, head)| !head.closed).collect())
            }
            Defect::ListsDeleted => {
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
        let lost = (self.defect == Defect::LostHint).then_some("b");
        Hints { inner: Box::pin(self.inner.changes()), lost }
    }

    fn retention(&self) -> Retention {
        if self.defect == Defect::OtherRetention { Retention::default() } else { self.inner.retention() }
    }
}

struct Hints {
    inner: Pin<Box<dyn Stream<Item = Change> + Send>>,
    /// The channel about which hints are lost.
    lost: Option<&'static str>,
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
            if self.lost.is_none() || of != self.lost {
                return Poll::Ready(change);
            }
        }
    }
}

fn without_key(event: &Event) -> Event {
    if event.key().is_none() {
        return event.clone();
    }
    let copy = Event::new(event.data().clone());
    let copy = event.name().into_iter().fold(copy, |copy, name| copy.named(name.as_str()).unwrap());
    event.time().into_iter().fold(copy, |copy, time| copy.at(time).unwrap())
}
