//! The random operations, and the comparison of each result with the model.

use std::collections::HashMap;

use super::{
    log::{Known, ModelLog, Verdict},
    page::check_page,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Event, MAX_TIME},
    store::{Append, Appended, Entry, Expect, Head, Limit, Page, Receipt, Retention, Start, Store, StoreError},
    testing::{
        case::{Case, channel},
        harness::{Harness, Time},
    },
};

/// One run: two stores on one place, and the model.
pub(super) struct Steps<'a, H: Harness> {
    case: Case<'a, H>,
    second: H::Store,
    retention: Retention,
    random: fastrand::Rng,
    /// The model's time, in milliseconds.
    now: u64,
    logs: HashMap<Channel, ModelLog>,
    /// The last head of each channel while it did not exist.
    absent: HashMap<Channel, Cursor>,
    /// Every cursor that was returned so far, whether or not it is still valid.
    cursors: Vec<Cursor>,
    /// Makes texts and keys unique.
    serial: u64,
}

impl<'a, H: Harness> Steps<'a, H> {
    pub(super) fn new(case: Case<'a, H>, second: H::Store, retention: Retention, random: fastrand::Rng) -> Self {
        let (logs, absent) = (HashMap::new(), HashMap::new());
        Self { case, second, retention, random, now: 0, logs, absent, cursors: Vec::new(), serial: 0 }
    }

    pub(super) async fn step(&mut self) {
        let of = channel(self.random.choice(NAMES).unwrap_or("a"));
        self.look(&of).await;
        match self.random.u32(..100) {
            0..40 => self.append(&of).await,
            40..43 => self.init(&of).await,
            43..45 => self.delete(&of).await,
            45..55 => self.pass_time().await,
            _ => self.read(&of).await,
        }
        self.look(&of).await;
    }

    fn store(&mut self) -> &H::Store {
        if self.random.bool() { &self.case.store } else { &self.second }
    }

    /// Compares the store's head with the model's. If they differ and the record may be forgotten, it is.
    async fn look(&mut self, of: &Channel) -> Head {
        let heads = self.store().heads(std::slice::from_ref(of)).await;
        let head = self.case.some("a head", self.case.done("heads", heads).first().copied());
        self.cursors.push(head.cursor);
        if let Some(log) = self.logs.get(of) {
            if head == log.head() {
                return head;
            }
            let must_exist = log.must_exist(&self.retention, self.now);
            self.case.holds(&format!("the head {:?}", log.head()), head, |_| !must_exist);
            self.forget(of);
        }
        let last = self.absent.insert(of.clone(), head.cursor).unwrap_or(head.cursor);
        self.case.holds(&format!("an absent head from {last:?}"), head, |head| {
            let cursor = head.cursor;
            !head.closed && cursor.tag == 0 && cursor.epoch == last.epoch && cursor.seq >= last.seq
        });
        head
    }

    /// Removes the channel's record; the next one starts above it.
    fn forget(&mut self, of: &Channel) {
        let Some(log) = self.logs.remove(of) else { return };
        if let Some(absent) = self.absent.get_mut(of) {
            absent.seq = absent.seq.max(log.head().cursor.seq);
        }
    }

    async fn append(&mut self, of: &Channel) {
        let head = self.look(of).await;
        let keys = self.keys(of);
        let mut events = Vec::new();
        for key in &keys {
            events.push(self.event_of(of, key.as_deref(), &events));
        }
        let expect = self.expect(head);
        let mut append = Append::new(events.clone()).expecting(expect);
        append.close = self.random.u32(..100) < 3;
        let close = append.close;
        let answer = self.store().append(of, append).await;

        let verdict = self.verdict(of, &keys, &events, (expect, close), head);
        match (answer, verdict) {
            (Err(StoreError::TooLarge { .. }), Verdict::TooLarge) => {}
            (Err(StoreError::KeyReused { index }), Verdict::Reused(at)) => self.case.same("a reused key", index, at),
            (Err(StoreError::Closed { head: at }), Verdict::Closed) => self.case.same("a closed head", at, head),
            (Err(StoreError::Conflict { head: at }), Verdict::Conflict) => {
                self.case.same("a conflict's head", at, head);
            }
            (Ok(done), Verdict::Changes | Verdict::ChangesNothing) => self.appended(of, &keys, &events, &done),
            (other, verdict) => {
                self.case.fail("the result of an append", format_args!("{verdict:?} at {head:?}"), &other)
            }
        }
        if matches!(verdict, Verdict::Changes) {
            let log = self.logs.entry(of.clone()).or_insert_with(|| ModelLog::new(head.cursor, self.now));
            log.closed |= close;
        }
    }

    /// The result that the append must have.
    fn verdict(
        &self,
        of: &Channel,
        keys: &[Option<String>],
        events: &[Event],
        (expect, close): (Expect, bool),
        head: Head,
    ) -> Verdict {
        let known = |key: &Option<String>| key.as_ref().and_then(|key| self.receipt(of, key)).is_some();
        let brings = !keys.iter().all(known);
        let acts = brings || (close && !head.closed);
        match self.reused(of, events) {
            _ if self.is_too_large(of, events) => Verdict::TooLarge,
            Some(at) => Verdict::Reused(at),
            None if brings && head.closed => Verdict::Closed,
            None if acts && !self.holds(of, expect, head) => Verdict::Conflict,
            None if acts => Verdict::Changes,
            None => Verdict::ChangesNothing,
        }
    }

    fn is_too_large(&self, of: &Channel, events: &[Event]) -> bool {
        let name = |event: &Event| event.name().map_or(0, |name| name.as_str().len());
        let size = |event: &Event| event.data().len() + of.as_str().len() + name(event) + 64;
        let bytes: usize = events.iter().map(size).sum();
        events.len() as u64 > (self.retention.events / 2).max(1) || bytes as u64 > self.retention.bytes / 2
    }

    /// Adds what was appended to the model, entry by entry.
    fn appended(&mut self, of: &Channel, keys: &[Option<String>], events: &[Event], done: &Appended) {
        self.case.same("the number of receipts", done.receipts.len(), events.len());
        let mut new = done.entries.iter();
        for ((key, event), receipt) in keys.iter().zip(events).zip(&done.receipts) {
            if let Some(first) = key.as_ref().and_then(|key| self.receipt(of, key)) {
                self.case.same("the receipt of a known key", *receipt, first);
                continue;
            }
            let entry = self.case.some("an entry for a new event", new.next());
            self.take(of, event, entry);
            let expected = Receipt { cursor: entry.cursor, time: entry.time, duplicate: false };
            self.case.same("the receipt of a new event", *receipt, expected);
            if let (Some(key), Some(log)) = (key, self.logs.get_mut(of)) {
                log.remember(key, expected, event, self.now);
            }
        }
        self.case.same("the entry after those of the new events", new.next(), None);
    }

    fn take(&mut self, of: &Channel, event: &Event, entry: &Entry) {
        let absent = self.absent.get(of).copied().unwrap_or(entry.prev());
        let log = self.logs.entry(of.clone()).or_insert_with(|| ModelLog::new(absent, self.now));
        let case = &self.case;
        case.same("the position before a new entry", entry.prev(), log.head().cursor);
        case.same("epoch and seq of a new entry", (entry.cursor.epoch, entry.cursor.seq), {
            (log.base.epoch, log.head().cursor.seq + 1)
        });
        case.holds("a tag that is not 0", entry.cursor.tag, |tag| *tag != 0);
        case.same("the channel of a new entry", &entry.channel, of);
        case.same("the data of a new entry", &entry.data, event.data());
        case.same("the name of a new entry", entry.name.as_ref(), event.name());
        case.same("the time of a new entry", entry.time, event.time().unwrap_or(entry.appended));
        let before = log.entries.last().map_or(0, |(last, _)| last.appended);
        case.holds(&format!("a timestamp of at least {before}"), entry.appended, |stamp| *stamp >= before);
        log.entries.push((entry.clone(), self.now));
        self.cursors.push(entry.cursor);
    }

    async fn init(&mut self, of: &Channel) {
        let head = self.look(of).await;
        let events: Vec<_> = (0..self.random.usize(..15)).map(|_| self.event(Some("init"))).collect();
        let expect = self.expect(head);
        let answer = self.store().init(of, events.clone(), expect).await;
        if !self.holds(of, expect, head) {
            return self.case.refused(
                "an init",
                answer,
                |error| matches!(error, StoreError::Conflict { head: at } if *at == head),
            );
        }
        let new = self.case.done("an init", answer);
        let old: Vec<_> = self.cursors.iter().map(|cursor| cursor.epoch).collect();
        self.case.holds("a new epoch", new.cursor.epoch, |epoch| !old.contains(epoch));
        self.case.same("the closed flag after an init", new.closed, false);
        // The events that the init dropped at once never enter the model: its log starts at the oldest retained entry.
        let page = self.read_from(of, Start::Earliest, BIG).await;
        self.case.same("the head after an init", page.head, new);
        let dropped = events.len() - page.entries.len();
        let least = (events.len() as u64).min(self.retention.events);
        let fits = |page: &Page| {
            let bytes: u64 = page.entries.iter().map(|entry| entry.size() as u64).sum();
            let oldest = events.get(dropped.wrapping_sub(1)).map_or(0, |event| event.data().len() as u64 + 65);
            dropped == 0 || page.entries.len() as u64 >= least || bytes + oldest > self.retention.bytes
        };
        self.case.holds("no fewer entries than the retention requires after an init", page.clone(), fits);
        self.forget(of);
        let mut log = ModelLog::new(page.from, self.now);
        if dropped > 0 {
            // Only the times of the dropped events matter, and these are known.
            let stamp = page.entries.first().map_or(u64::MAX - 1, |entry| entry.appended);
            log.dropped(events.iter().take(dropped).map(|event| event.time()), stamp);
        }
        self.logs.insert(of.clone(), log);
        for (event, entry) in events.iter().skip(dropped).zip(&page.entries) {
            self.take(of, event, entry);
        }
    }

    async fn delete(&mut self, of: &Channel) {
        let answer = self.store().delete(of).await;
        self.case.done("a delete", answer);
        self.forget(of);
    }

    async fn pass_time(&mut self) {
        if self.case.time() == Time::Controlled {
            let seconds = if self.random.u32(..10) == 0 { self.random.u32(..400) } else { self.random.u32(..8) };
            self.case.advance(seconds).await;
            self.now += u64::from(seconds) * 1000;
            // Calls for every channel make the store forget expired records here. Otherwise a background task might forget one
            // between two checks of another channel, and raise the floor that they share.
            for name in NAMES {
                self.look(&channel(name)).await;
            }
        }
    }

    async fn read(&mut self, of: &Channel) {
        let head = self.look(of).await;
        let start = self.start(of, head);
        let limit = match self.random.u32(..4) {
            0 => Limit::POSITION,
            1 => Limit { events: self.random.usize(1..5), bytes: self.random.usize(..800) },
            _ => BIG,
        };
        let earliest = self.read_from(of, Start::Earliest, Limit::POSITION).await.from;
        let page = self.read_from(of, start, limit).await;
        self.case.same("the head of a page", page.head, head);
        let empty = ModelLog::new(head.cursor, self.now);
        let (retention, now) = (&self.retention, self.now);
        let noted = match self.logs.get_mut(of) {
            Some(log) => log.note_earliest(earliest, retention, now),
            None => (earliest == head.cursor).then_some(()),
        };
        self.case.holds("an oldest position within retention", earliest, |_| noted.is_some());
        let log = self.logs.get(of).unwrap_or(&empty);
        check_page(&self.case, log, earliest, start, limit, &page);
        self.cursors.extend([page.from, page.next, earliest]);
    }

    async fn read_from(&mut self, of: &Channel, start: Start, limit: Limit) -> Page {
        let answer = self.store().read(of, start, limit).await;
        self.case.done("a read", answer)
    }

    fn start(&mut self, of: &Channel, head: Head) -> Start {
        match self.random.u32(..10) {
            // Stores do not distinguish these two.
            0 if head.cursor.seq % 2 == 0 => Start::Beginning,
            0 => Start::Earliest,
            1 => Start::Latest,
            2 => Start::Last(self.random.u64(..20)),
            3 => Start::Time(self.random.u64(..100)),
            4 => Start::Time(self.random.choice([0, u64::MAX, 50]).unwrap_or(0)),
            5 if self.random.bool() => Start::Time(self.old_stamp(of)),
            5 => Start::After(Cursor { tag: self.random.u32(..), ..head.cursor }),
            6 => Start::After(Cursor { seq: self.random.u64(..head.cursor.seq + 3), ..head.cursor }),
            _ => Start::After(self.old_cursor(head.cursor)),
        }
    }

    /// The append's timestamp of one of the newer entries, or a millisecond less.
    fn old_stamp(&mut self, of: &Channel) -> u64 {
        let back = self.random.usize(..20);
        let stamp =
            self.logs.get(of).and_then(|log| log.entries.iter().rev().nth(back)).map(|(entry, _)| entry.appended);
        stamp.map_or(0, |stamp| stamp - self.random.u64(..2))
    }

    /// One of the cursors returned so far; recent ones are more likely.
    fn old_cursor(&mut self, otherwise: Cursor) -> Cursor {
        let recent = if self.random.bool() { 30 } else { usize::MAX };
        let from = self.cursors.len().saturating_sub(recent);
        let candidates = self.cursors.get(from..).unwrap_or_default();
        self.random.choice(candidates).copied().unwrap_or(otherwise)
    }

    fn expect(&mut self, head: Head) -> Expect {
        match self.random.u32(..20) {
            0 => Expect::NeverUsed,
            1 | 2 => Expect::At(head.cursor),
            3 => Expect::At(self.old_cursor(head.cursor)),
            _ => Expect::Any,
        }
    }

    fn holds(&self, of: &Channel, expect: Expect, head: Head) -> bool {
        match expect {
            Expect::Any => true,
            Expect::NeverUsed => !self.logs.contains_key(of),
            Expect::At(cursor) => cursor == head.cursor,
        }
    }

    /// The receipt of a key that the store must know. Keys for which both answers are correct are never used.
    fn receipt(&self, of: &Channel, key: &str) -> Option<Receipt> {
        match self.logs.get(of)?.key(key, &self.retention, self.now) {
            Known::Yes(receipt, _) => Some(receipt),
            Known::No | Known::Perhaps => None,
        }
    }

    /// The keys of a batch: each event has none, a used one or a new one.
    fn keys(&mut self, of: &Channel) -> Vec<Option<String>> {
        let count = self.random.usize(..6);
        (0..count).map(|_| self.key(of)).collect()
    }

    fn key(&mut self, of: &Channel) -> Option<String> {
        let key = match self.random.u32(..3) {
            0 => return None,
            _ => format!("k{}", self.random.u32(..8)),
        };
        let known = self.logs.get(of).map_or(Known::No, |log| log.key(&key, &self.retention, self.now));
        if matches!(known, Known::Perhaps) {
            self.serial += 1;
            return Some(format!("fresh{}", self.serial));
        }
        Some(key)
    }

    /// The event that a key identifies: a remembered one, or an earlier one of the batch.
    fn stands_for(&self, of: &Channel, key: &str, earlier: &[Event]) -> Option<Event> {
        match self.logs.get(of).map(|log| log.key(key, &self.retention, self.now)) {
            Some(Known::Yes(_, event)) => Some(event),
            _ => earlier.iter().find(|event| event.key().is_some_and(|other| other.as_str() == key)).cloned(),
        }
    }

    /// The index of the first event whose key identifies another event.
    fn reused(&self, of: &Channel, events: &[Event]) -> Option<usize> {
        let is_other = |(nth, event): (usize, &Event)| {
            let first = self.stands_for(of, event.key()?.as_str(), events.get(..nth)?)?;
            (first != *event).then_some(nth)
        };
        events.iter().enumerate().find_map(is_other)
    }

    /// If the key identifies an event, usually that event; otherwise a new one.
    fn event_of(&mut self, of: &Channel, key: Option<&str>, earlier: &[Event]) -> Event {
        let first = key.and_then(|key| self.stands_for(of, key, earlier));
        let is_other = self.random.u32(..12) == 0;
        first.filter(|_| !is_other).unwrap_or_else(|| self.event(key))
    }

    fn event(&mut self, key: Option<&str>) -> Event {
        self.serial += 1;
        let longest = if self.random.u32(..20) == 0 { 4_000 } else { 100 };
        let padding = "x".repeat(self.random.usize(..longest));
        let event = Event::text(format!("{}{padding}", self.serial));
        let event = key.into_iter().try_fold(event, |event, key| event.keyed(key));
        let timed = event.and_then(|event| match self.random.u32(..20) {
            0..9 => event.at(self.random.u64(..100)),
            9 => event.at(MAX_TIME),
            _ => Ok(event),
        });
        timed.unwrap_or_else(|error| panic!("an event of the model: {error}"))
    }
}

const BIG: Limit = Limit { events: 10_000, bytes: 1 << 30 };

/// The channels of a run.
const NAMES: [&str; 3] = ["a", "b", "c"];
