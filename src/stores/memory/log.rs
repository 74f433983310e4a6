//! One channel: its record and its retained entries. Takes the time as an argument; deterministic except for the tags
//! it draws.

use std::{collections::VecDeque, convert::Infallible};

use super::{heap_size, keys::Keys};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Event, EventKey},
    store::{
        Appended, Entry, Limit, Page, Start,
        kit::{Addition, Draft, Keep, Known, LogState, PageBuilder, Sequencer, entry_size},
        resume::Tags,
    },
};

pub(super) struct Log {
    /// Shared by all entries, whichever equal `Channel` an append brings.
    channel: Channel,
    /// That of `entries`. Its `due` distinguishes the record's place in the janitor's queue from that of a deleted one
    /// of the same name.
    pub(super) state: LogState,
    /// The retained entries; dense, so a `seq` determines the index.
    entries: VecDeque<Entry>,
    /// The heap bytes of the contents of `entries`, without the deque itself.
    content: u64,
    keys: Keys,
    tags: Tags,
    /// The heap bytes that the store last counted for this log.
    pub(super) counted_bytes: u64,
}

impl Log {
    /// An empty, open log that continues above `start`.
    pub(super) fn new(channel: Channel, start: Cursor, now: u64) -> Self {
        let (entries, content, keys, tags, counted_bytes) = Default::default();
        Self { channel, state: LogState::new(start, now), entries, content, keys, tags, counted_bytes }
    }

    /// Drops everything, and continues above `start`.
    pub(super) fn restart(&mut self, start: Cursor, now: u64) {
        let mut new = Self::new(self.channel.clone(), start, now);
        (new.state.due, new.counted_bytes) = (self.state.due, self.counted_bytes);
        *self = new;
    }

    /// The append of this key, if it is remembered.
    pub(super) fn key(&self, key: &EventKey) -> Option<Known> {
        self.keys.get(key)
    }

    /// Appends what was decided; `events` are those of the append.
    pub(super) fn append(&mut self, draft: Draft, events: Vec<Event>, now: u64) -> Appended {
        let Addition { appended, keys, .. } = draft.complete(&self.channel, events, now, || self.tags.draw());
        appended.entries.iter().cloned().for_each(|entry| self.push(entry));
        keys.into_iter().for_each(|(key, known)| self.keys.remember(key, known, now));
        self.state.record.head = appended.head;
        appended
    }

    /// Appends these events, and ignores their keys.
    pub(super) fn append_unkeyed(&mut self, events: Vec<Event>, now: u64) {
        let channel = self.channel.clone();
        let mut log = Sequencer::new(&channel, self.state.record.head.cursor, now);
        for event in events {
            let entry = log.entry(event, self.tags.draw());
            self.push(entry);
        }
    }

    fn push(&mut self, entry: Entry) {
        self.state.add(&entry);
        self.content += heap_size::entry(&entry);
        self.entries.push_back(entry);
    }

    pub(super) fn read(&self, start: Start, limit: Limit) -> Page {
        let tag_at = |seq| Ok::<_, Infallible>(self.entry(seq).map(|entry| entry.cursor.tag));
        let Ok(mut page) = PageBuilder::new(&self.state.record, start, limit, tag_at);
        _ = self.after(page.after().seq).cloned().try_for_each(|entry| page.take(entry));
        page.finish()
    }

    /// The retained entries after the position `seq`.
    pub(super) fn after(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        let skipped = seq.saturating_sub(self.state.record.earliest.seq);
        self.entries.range(usize::try_from(skipped).unwrap_or(usize::MAX).min(self.entries.len())..)
    }

    fn entry(&self, seq: u64) -> Option<&Entry> {
        let index = seq.checked_sub(self.state.record.earliest.seq)?.checked_sub(1)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// Drops the entries and keys that have expired.
    pub(super) fn trim(&mut self, keep: &Keep, now: u64) {
        self.keys.expire(keep.oldest_key(now));
        while self.state.exceeds(keep, now) {
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
        let mut bytes = self.state.bytes + new.clone().map(|event| entry_size(&self.channel, event)).sum::<u64>();
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
        self.state.drop_oldest(first.cursor, first.time, first.size() as u64, now);
        if let Some(next) = self.entries.front() {
            self.state.oldest = next.appended;
        }
        self.content -= heap_size::entry(&first);
    }

    /// Whether the record has been without entries and keys for longer than `forget_after`.
    pub(super) fn is_forgotten(&self, keep: &Keep, now: u64) -> bool {
        self.keys.is_empty() && self.state.is_over(keep, now)
    }

    #[cfg(feature = "testing")]
    pub(super) fn lose_tail(&mut self, n: u64, now: u64) {
        for _ in 0..n {
            let Some(last) = self.entries.pop_back() else { break };
            self.state.bytes -= last.size() as u64;
            self.content -= heap_size::entry(&last);
            self.state.record.head.cursor = last.prev();
        }
        self.keys.lose_above(self.state.record.head.cursor.seq);
        self.state.empty_since = now;
    }
}
