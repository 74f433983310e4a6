//! The header of a message, which is the record of its channel, as text. Pure: knows no server and no entry.
//!
//! Every message carries the running totals of the log (bytes, largest time, newest key), so that it tells what
//! precedes it.

use std::fmt::Write as _;

use super::{error, identity::NEWEST_FORMAT};
use crate::{
    cursor::Cursor,
    event::EventKey,
    store::{Head, StoreError, Use, resume},
};

/// What a message means for its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It continues the log.
    Append,
    /// It starts a new log, and replaced everything before it.
    Init,
    /// The removal marker: there is no log; `base` is the floor.
    Gone,
}

/// The header [`NAME`]. It describes the log up to and including this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) epoch: u64,
    /// The seq before the log's first entry.
    pub(super) start: u64,
    /// The position before this message's first entry.
    pub(super) base: u64,
    pub(super) base_tag: u32,
    /// How many entries this message holds.
    pub(super) count: u64,
    /// The tag of the newest position.
    pub(super) tag: u32,
    pub(super) closed: bool,
    /// When the message was created, in Unix milliseconds; never less than that of its predecessor.
    pub(super) stamp: u64,
    /// When the newest entry was appended, or the log was created.
    pub(super) entered: u64,
    /// When the newest key was appended; 0 when none was.
    pub(super) keyed: u64,
    /// The size of all entries before this message, in bytes.
    pub(super) bytes_before: u64,
    /// The size of this message's entries, in bytes.
    pub(super) bytes: u64,
    /// The largest time of the entries before this message.
    pub(super) time_before: Option<u64>,
    /// The largest time of all entries.
    pub(super) time: Option<u64>,
    /// As `time_before`, each limited by the stamp of its message: what counts once the entries are dropped.
    pub(super) dropped_before: Option<u64>,
    /// The same for all entries.
    pub(super) dropped: Option<u64>,
    /// The stream sequence of the log's announcement; 0 when unknown.
    pub(super) announcement: u64,
}

impl Record {
    /// The record of an empty log that starts after `start`.
    pub(super) fn new(kind: Kind, start: Cursor, now: u64) -> Self {
        Self {
            kind,
            epoch: start.epoch,
            start: start.seq,
            base: start.seq,
            base_tag: start.tag,
            count: 0,
            tag: start.tag,
            closed: false,
            stamp: now,
            entered: now,
            keyed: 0,
            bytes_before: 0,
            bytes: 0,
            time_before: None,
            time: None,
            dropped_before: None,
            dropped: None,
            announcement: 0,
        }
    }

    /// The record of the next message, still without entries.
    pub(super) fn following(&self, now: u64) -> Self {
        Self {
            kind: Kind::Append,
            base: self.end(),
            base_tag: self.tag,
            count: 0,
            stamp: now.max(self.stamp),
            bytes_before: self.total(),
            bytes: 0,
            time_before: self.time,
            dropped_before: self.dropped,
            ..*self
        }
    }

    /// Adds one entry.
    pub(super) fn push(&mut self, tag: u32, time: u64, size: u64, key: Option<&EventKey>) {
        self.count += 1;
        self.tag = tag;
        self.entered = self.stamp;
        self.bytes += size;
        self.time = self.time.max(Some(time));
        self.dropped = self.dropped.max(Some(resume::dropped_time(time, self.stamp)));
        if key.is_some() {
            self.keyed = self.stamp;
        }
    }

    /// The newest seq.
    pub(super) fn end(&self) -> u64 {
        self.base + self.count
    }

    /// The size of all entries so far, in bytes.
    pub(super) fn total(&self) -> u64 {
        self.bytes_before + self.bytes
    }

    pub(super) fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch, seq: self.end(), tag: self.tag }
    }

    /// The position before this message.
    pub(super) fn before(&self) -> Cursor {
        Cursor { epoch: self.epoch, seq: self.base, tag: self.base_tag }
    }

    pub(super) fn head(&self) -> Head {
        Head { cursor: self.cursor(), closed: self.closed }
    }

    /// Whether this comes right after `other`, in the same log.
    pub(super) fn follows(&self, other: &Self) -> bool {
        self.kind == Kind::Append && self.before() == other.cursor()
    }

    pub(super) fn to_text(self) -> String {
        let kind = match self.kind {
            Kind::Append => "append",
            Kind::Init => "init",
            Kind::Gone => "gone",
        };
        let mut text = String::with_capacity(TEXT_BYTES);
        _ = write!(text, "{VERSION} {kind}");
        let optional = |time: Option<u64>| time.map_or(u64::MAX, |time| time);
        let closed = u64::from(self.closed);
        let fields = [self.epoch, self.start, self.base, u64::from(self.base_tag), self.count, u64::from(self.tag)]
            .into_iter()
            .chain([closed, self.stamp, self.entered, self.keyed, self.bytes_before, self.bytes])
            .chain([self.time_before, self.time, self.dropped_before, self.dropped].map(optional))
            .chain([self.announcement]);
        for field in fields {
            // Writing to a String cannot fail.
            _ = write!(text, " {field:x}");
        }
        text
    }

    /// Fails with both format versions when a newer version wrote it.
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let unreadable = || error::corrupt("a message's header");
        let (version, rest) = text.split_once(' ').ok_or_else(unreadable)?;
        match version.parse().map_err(|_| unreadable())? {
            VERSION => Self::parse_fields(rest).ok_or_else(unreadable),
            stored => Err(StoreError::NewerFormat { stored, supported: NEWEST_FORMAT, denied: Use::Read }),
        }
    }

    fn parse_fields(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let kind = match words.next()? {
            "append" => Kind::Append,
            "init" => Kind::Init,
            "gone" => Kind::Gone,
            _ => return None,
        };
        let mut field = || u64::from_str_radix(words.next()?, 16).ok();
        let optional = |time: u64| (time != u64::MAX).then_some(time);
        let mut record = Self {
            kind,
            epoch: field()?,
            start: field()?,
            base: field()?,
            base_tag: field()?.try_into().ok()?,
            count: field()?,
            tag: field()?.try_into().ok()?,
            closed: field()? != 0,
            stamp: field()?,
            entered: field()?,
            keyed: field()?,
            bytes_before: field()?,
            bytes: field()?,
            time_before: optional(field()?),
            time: optional(field()?),
            dropped_before: None,
            dropped: None,
            announcement: 0,
        };
        // Older versions did not store these: then use the largest possible value.
        let at_most = |time: Option<u64>| time.map(|time| resume::dropped_time(time, record.stamp));
        let (before, all) = (at_most(record.time_before), at_most(record.time));
        record.dropped_before = field().map_or(before, optional);
        record.dropped = field().map_or(all, optional);
        record.announcement = field().unwrap_or(0);
        let (end, total) = (record.base.checked_add(record.count)?, record.bytes_before.checked_add(record.bytes)?);
        (end <= MAX_NUMBER && total <= MAX_NUMBER).then_some(record)
    }
}

/// The format that introduced this encoding of records. A different encoding starts with the format that introduces it.
const VERSION: u32 = 1;

/// No log reaches a greater `seq` or size: a header with one is damaged, and adding to it could overflow.
const MAX_NUMBER: u64 = 1 << 62;

/// The approximate length of a record.
const TEXT_BYTES: usize = 190;

/// The header that holds the record.
pub(super) const NAME: &str = "Tower-Events";

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let start = Cursor { epoch: u64::MAX, seq: 7, tag: 0 };
        let mut record = Record::new(Kind::Append, start, 1_000);
        record.push(5, 40, 70, EventKey::new("k").ok().as_ref());
        record.push(u32::MAX, 30, 80, None);
        record
    }

    #[test]
    fn a_record_reads_back_and_adds_up() {
        let first = record();
        assert_eq!(Record::parse(&first.to_text()).unwrap(), first);
        assert_eq!((first.end(), first.total(), first.time, first.time_before), (9, 150, Some(40), None));
        let mut next = first.following(900);
        assert_eq!((next.stamp, next.keyed, next.time_before), (1_000, 1_000, Some(40)));
        next.push(1, 50, 10, None);
        assert!(next.follows(&first) && !first.follows(&next));
        assert_eq!((next.before(), next.total(), next.time), (first.cursor(), 160, Some(50)));
        // As an older version wrote it.
        let text = first.to_text();
        let shorter = text.rsplitn(4, ' ').nth(3).unwrap();
        assert_eq!(Record::parse(shorter).unwrap(), first);
        for bad in ["", "1", "x append", "1 append x", "1 other 0 0 0 0 0 0 0 0 0 0 0 0 0 0"] {
            assert!(matches!(Record::parse(bad), Err(StoreError::Corrupt(_))), "{bad:?}");
        }
        for (base, count, bytes) in [(u64::MAX, 0, 0), (u64::MAX, 1, 0), (1, u64::MAX, 0), (1, 1, u64::MAX)] {
            let text = Record { base, count, bytes, ..first }.to_text();
            assert!(matches!(Record::parse(&text), Err(StoreError::Corrupt(_))), "{text}");
        }
        let newer = Record::parse("9 anything");
        assert!(matches!(newer, Err(StoreError::NewerFormat { stored: 9, supported: NEWEST_FORMAT, .. })), "{newer:?}");
    }
}
