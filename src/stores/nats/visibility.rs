//! Which entries of a log are visible to readers. Pure: all nodes that see the same newest message at the same time see
//! the same entries, whatever the server still stores.

use std::time::Duration;

use super::{body::Message, record::Record};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Entry, StoreError, kit::Keep, resume},
};

impl Keep {
    /// How often the janitor scans all channels.
    pub(super) fn sweep_every(&self) -> Duration {
        Duration::from_millis(self.period() / 2).clamp(Duration::from_secs(1), Duration::from_secs(600))
    }

    /// Whether keys from this time are still remembered.
    pub(super) fn holds_key(&self, stamp: u64, now: u64) -> bool {
        stamp > 0 && stamp >= self.oldest_key(now)
    }

    /// Whether the record has been without entries and keys for long enough.
    pub(super) fn is_forgotten(&self, record: &Record, now: u64) -> bool {
        let age = if record.end() > record.start { self.age } else { 0 };
        let last = record.entered.saturating_add(age).saturating_add(self.forget_after);
        now > last && !self.holds_key(record.keyed, now)
    }
}

/// The visible part of a log, by its newest message and the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visibility {
    /// The record of the newest message.
    pub(super) head: Record,
    keep: Keep,
    now: u64,
}

impl Visibility {
    pub(super) fn new(head: Record, keep: Keep, now: u64) -> Self {
        Self { head, keep, now }
    }

    /// Whether an entry of this message may be visible. If so, the same holds for all later messages.
    pub(super) fn may_show(&self, record: &Record) -> bool {
        let newer = self.head.end() - record.end().min(self.head.end());
        let newer_bytes = self.head.total().saturating_sub(record.total());
        self.is_young(record.entered) && newer < self.keep.events && (newer == 0 || newer_bytes < self.keep.bytes)
    }

    /// The position before the oldest visible entry of this message (its end if none is visible), and the largest time
    /// of the entries before that position.
    pub(super) fn oldest_visible_in(
        &self,
        message: &Message,
        channel: &Channel,
    ) -> Result<(Cursor, Option<u64>), StoreError> {
        let (mut position, mut dropped) = (message.record.before(), message.record.dropped_before);
        let mut bytes = message.record.bytes_before;
        for entry in message.entries(channel)? {
            if self.is_visible(&entry, bytes) {
                break;
            }
            bytes += entry.size() as u64;
            dropped = dropped.max(Some(resume::dropped_time(entry.time, entry.appended)));
            position = entry.cursor;
        }
        Ok((position, dropped))
    }

    fn is_visible(&self, entry: &Entry, bytes_before: u64) -> bool {
        let newer = self.head.end().saturating_sub(entry.cursor.seq);
        let bytes = self.head.total().saturating_sub(bytes_before);
        self.is_young(entry.appended) && newer < self.keep.events && (newer == 0 || bytes <= self.keep.bytes)
    }

    fn is_young(&self, stamp: u64) -> bool {
        stamp >= self.keep.oldest(self.now)
    }
}
