//! One channel: its record and its retained entries. Takes the time as an argument; deterministic except for the tags
//! it draws.

use std::collections::VecDeque;

use super::{heap_size, keys::Keys};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Event, EventKey},
    store::{
        Entry, Head, Keep, Known, Limit, Outcome, Page, Receipt, Start,
        resume::{self, Record, Tags},
        size_of,
    },
};

pub(super) struct Log {
    /// Shared by all entries, whichever equal `Channel` an append brings.
    channel: Channel,
    /// `earliest` is always just before `entries`, and `head` always at their end.
    pub(super) record: Record,
    /// The retained entries; dense, so a `seq` determines the index.
    entries: VecDeque<Entry>,
    /// The bytes of `entries` that count towards retention.
    bytes: u64,
    /// The heap bytes of the contents of `entries`, without the deque itself.
    content: u64,
    keys: Keys,
    tags: Tags,
    /// When the last entry was dropped, or the record was created; meaningless while there are entries.
    empty_since: u64,
    /// When the janitor checks the channel next. Distinguishes the record's place in the queue from that of a deleted
    /// one of the same name.
    pub(super) janitor_due: u64,
    /// The heap bytes that the store last counted for this log.
    pub(super) counted_bytes: u64,
}

impl Log {
    /// An empty, open log that continues above `start`.
    pub(super) fn new(channel: Channel, start: Cursor, now: u64) -> Self {
        let record = Record { head: Head { cursor: start, closed: false }, earliest: start, dropped_time: None };
        let (entries, bytes, content, keys, tags, janitor_due, counted_bytes) = Default::default();
        Self { channel, record, entries, bytes, content, keys, tags, empty_since: now, janitor_due, counted_bytes }
    }

    /// Drops everything, and continues above `start`.
    pub(super) fn restart(&mut self, start: Cursor, now: u64) {
        let new = Self::new(self.channel.clone(), start, now);
        *self = Self { janitor_due: self.janitor_due, counted_bytes: self.counted_bytes, ..new };
    }

    /// The append of this key, if it is remembered.
    pub(super) fn key(&self, key: &EventKey) -> Option<Known> {
        self.keys.get(key)
    }

    /// Appends `event` unless its key is remembered.
    pub(super) fn push(&mut self, event: Event, print: u64, now: u64) -> Receipt {
        let Some(key) = event.key().cloned() else { return self.push_unkeyed(event, now) };
        if let Some(first) = self.keys.get(&key) {
            return first.receipt;
        }
        let receipt = self.push_unkeyed(event, now);
        self.keys.remember(key, Known::new(receipt, Some(print)), now);
        receipt
    }

    /// Appends `event` and ignores its key.
    pub(super) fn push_unkeyed(&mut self, event: Event, now: u64) -> Receipt {
        let prev = self.record.head.cursor;
        let cursor = Cursor { seq: prev.seq + 1, tag: self.tags.draw(), ..prev };
        let time = event.time().unwrap_or(now);
        let (data, name) = event.into_parts();
        let entry =
            Entry { channel: self.channel.clone(), cursor, prev_tag: prev.tag, appended: now, time, name, data };
        self.bytes += entry.size() as u64;
        self.content += heap_size::entry(&entry);
        self.entries.push_back(entry);
        self.record.head.cursor = cursor;
        Receipt { cursor, time, duplicate: false }
    }

    /// The retained entries after the position `seq`.
    pub(super) fn after(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        let skipped = seq.saturating_sub(self.record.earliest.seq);
        self.entries.range(usize::try_from(skipped).unwrap_or(usize::MAX).min(self.entries.len())..)
    }

    pub(super) fn read(&self, start: Start, limit: Limit) -> Page {
        let Record { head, earliest, .. } = self.record;
        let (outcome, from) = match start {
            Start::Beginning | Start::Earliest => (Outcome::Continued, earliest),
            Start::Latest => (Outcome::Continued, head.cursor),
            Start::Last(n) => (Outcome::Continued, self.position(head.cursor.seq.saturating_sub(n))),
            Start::Time(time) => return self.read_time(time, limit),
            Start::After(cursor) => {
                match resume::outcome(&self.record, cursor, |seq| self.entry(seq).map(|entry| entry.cursor.tag)) {
                    Outcome::Continued => (Outcome::Continued, cursor),
                    reset => (reset, earliest),
                }
            }
        };
        let entries = bounded(self.after(from.seq), limit);
        let next = entries.last().map_or(from, |last| last.cursor);
        Page { outcome, from, entries, next, head }
    }

    /// Differs from other reads in where the page ends: entries filtered out after the last one have been read too.
    fn read_time(&self, time: u64, limit: Limit) -> Page {
        let head = self.record.head;
        let wanted = || self.entries.iter().filter(|entry| entry.time > time);
        let from = wanted().next().map_or(head.cursor, Entry::prev);
        let entries = bounded(wanted(), limit);
        let last = entries.last().map_or(from, |last| last.cursor);
        let next = if self.after(last.seq).any(|entry| entry.time > time) { last } else { head.cursor };
        Page { outcome: resume::outcome_of_time(&self.record, time), from, entries, next, head }
    }

    /// The position at `seq`, or at the earliest when that is newer.
    fn position(&self, seq: u64) -> Cursor {
        self.entry(seq).map_or(self.record.earliest, |entry| entry.cursor)
    }

    fn entry(&self, seq: u64) -> Option<&Entry> {
        let index = seq.checked_sub(self.record.earliest.seq)?.checked_sub(1)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// Drops the entries and keys that have expired.
    pub(super) fn trim(&mut self, keep: &Keep, now: u64) {
        self.keys.expire(keep.oldest_key(now));
        let oldest = keep.oldest(now);
        while let Some(first) = self.entries.front() {
            let count = self.entries.len() as u64;
            if count <= keep.events && (self.bytes <= keep.bytes || count == 1) && first.appended >= oldest {
                break;
            }
            self.drop_first(now);
        }
        heap_size::shrink_deque(&mut self.entries);
    }

    /// Counts the heap bytes of the log again; returns the previous and the new count.
    pub(super) fn recount(&mut self) -> (u64, u64) {
        let now = self.heap_bytes();
        (std::mem::replace(&mut self.counted_bytes, now), now)
    }

    fn heap_bytes(&self) -> u64 {
        self.content + heap_size::deque(&self.entries) + self.keys.heap_bytes()
    }

    /// The heap bytes of the keys.
    pub(super) fn key_bytes(&self) -> u64 {
        self.keys.heap_bytes()
    }

    /// By how many bytes the new keys of an append would grow the log.
    pub(super) fn key_growth<'a>(&self, new: impl Iterator<Item = &'a EventKey> + Clone) -> u64 {
        self.keys.growth(new)
    }

    /// By how many bytes the entries of `new` events would grow the log, less what they make retention drop.
    pub(super) fn growth<'a>(&self, keep: &Keep, new: impl Iterator<Item = &'a Event> + Clone) -> u64 {
        let more = new.clone().count();
        let mut count = (self.entries.len() + more) as u64;
        let mut bytes = self.bytes + new.clone().map(|event| size_of(&self.channel, event)).sum::<u64>();
        let grown = heap_size::deque_growth(&self.entries, more) + new.map(heap_size::event).sum::<u64>();
        let dropped = self.entries.iter().take_while(|first| {
            let is_dropped = count > keep.events || bytes > keep.bytes;
            count -= 1;
            bytes -= first.size() as u64;
            is_dropped
        });
        grown.saturating_sub(dropped.map(heap_size::entry).sum())
    }

    fn drop_first(&mut self, now: u64) {
        let Some(first) = self.entries.pop_front() else { return };
        self.record.earliest = first.cursor;
        self.record.dropped_time = self.record.dropped_time.max(Some(resume::dropped_time(first.time, first.appended)));
        self.bytes -= first.size() as u64;
        self.content -= heap_size::entry(&first);
        if self.entries.is_empty() {
            self.empty_since = now;
        }
    }

    /// Whether the record has been without entries and keys for longer than `forget_after`.
    pub(super) fn is_forgotten(&self, keep: &Keep, now: u64) -> bool {
        self.entries.is_empty() && self.keys.is_empty() && now.saturating_sub(self.empty_since) > keep.forget_after
    }

    #[cfg(feature = "testing")]
    pub(super) fn lose_tail(&mut self, n: u64, now: u64) {
        for _ in 0..n {
            let Some(last) = self.entries.pop_back() else { break };
            self.bytes -= last.size() as u64;
            self.content -= heap_size::entry(&last);
            self.record.head.cursor = last.prev();
        }
        self.keys.lose_above(self.record.head.cursor.seq);
        self.empty_since = now;
    }
}

/// As many of `entries` as fit, and at least one.
fn bounded<'a>(entries: impl Iterator<Item = &'a Entry>, limit: Limit) -> Vec<Entry> {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        let first = bytes == 0;
        bytes += entry.size();
        first || bytes <= limit.bytes
    };
    entries.take(limit.events).take_while(fits).cloned().collect()
}
