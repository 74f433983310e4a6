//! The encoding of events, records and hints. Pure; the other half is in the scripts.

use bytes::Bytes;

use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Data, Event, EventName},
    store::{Change, Entry, Expect, Head, resume::Record},
};

/// An event as scripts take and store it: its tag, its time (-1 for the append's), the kind of its data, its name, NUL,
/// and its data. Names hold no control characters.
pub(super) fn event_bytes(event: &Event, tag: u32) -> Vec<u8> {
    let (kind, data) = match event.data().as_text() {
        Some(text) => (b't', text),
        None => (b'j', event.data().as_shown()),
    };
    let name = event.name().map_or("", |name| name.as_str());
    let time = event.time().map_or(-1.0, |time| time as f64);
    let mut blob = Vec::with_capacity(TAG_AND_TIME + 2 + name.len() + data.len());
    blob.extend_from_slice(&tag.to_be_bytes());
    blob.extend_from_slice(&time.to_be_bytes());
    blob.push(kind);
    blob.extend_from_slice(name.as_bytes());
    blob.push(0);
    blob.extend_from_slice(data.as_bytes());
    blob
}

fn event_of(blob: Bytes) -> Option<(Data, Option<EventName>)> {
    let end = blob.iter().position(|byte| *byte == 0)?;
    let name = match std::str::from_utf8(blob.get(1..end)?).ok()? {
        "" => None,
        name => Some(EventName::new(name).ok()?),
    };
    let data = blob.slice(end + 1..);
    let data = match blob.first()? {
        b't' => Data::text_from_utf8(data).ok()?,
        b'j' => Data::from_json(data).ok()?,
        _ => return None,
    };
    Some((data, name))
}

const TAG_AND_TIME: usize = 4 + 8;

/// An entry from its header and event, both as stored.
pub(super) fn entry_of(channel: &Channel, epoch: u64, seq: u64, header: &[u8], blob: &Bytes) -> Option<Entry> {
    let mut header = Unpacker(header);
    let (_length, prev_tag) = (header.tag()?, header.tag()?);
    let (appended, time) = (header.number()?, header.number()?);
    let tag = Unpacker(blob).tag()?;
    let (data, name) = event_of((blob.len() >= TAG_AND_TIME).then(|| blob.slice(TAG_AND_TIME..))?)?;
    let cursor = Cursor { epoch, seq, tag };
    Some(Entry { channel: channel.clone(), cursor, prev_tag, appended, time, name, data })
}

/// The settings that determine how long a record is kept, in milliseconds.
#[derive(Clone, Copy)]
pub(super) struct RecordLifetime {
    pub(super) age: u64,
    pub(super) forget_after: u64,
    pub(super) window: u64,
}

/// How long a record is kept after its last append, in milliseconds. Each setting is the largest one among the nodes in
/// use: this node, and those listed in the place's `keep`.
pub(super) fn record_lifetime(own: RecordLifetime, keep: &[u8], now: u64) -> u64 {
    let line = |line: &[u8]| {
        let numbers: Option<Vec<u64>> =
            std::str::from_utf8(line).ok()?.split(' ').map(|number| number.parse().ok()).collect();
        let [_events, age, _bytes, forget_after, window, said, _ready] = numbers?.try_into().ok()?;
        (said.saturating_add(LEASE) >= now).then_some(RecordLifetime { age, forget_after, window })
    };
    let largest = keep.split(|byte| *byte == b'\n').filter_map(line).fold(own, |one, other| RecordLifetime {
        age: one.age.max(other.age),
        forget_after: one.forget_after.max(other.forget_after),
        window: one.window.max(other.window),
    });
    largest.age.saturating_add(largest.forget_after).max(largest.window)
}

/// How long a node counts as in use after it announced itself; the scripts have the same number.
const LEASE: u64 = 300_000;

/// A channel's record, and the time of its last append.
pub(super) fn record_of(text: &[u8]) -> Option<(Record, u64)> {
    let mut fields = Unpacker((text.len() == RECORD_BYTES).then_some(text)?);
    let (epoch, tag, closed, earliest_tag) = (fields.epoch()?, fields.tag()?, fields.flag()?, fields.tag()?);
    let (seq, earliest_seq) = (fields.number()?, fields.number()?);
    // -1 means none.
    let dropped_time = Some(fields.double()?).filter(|time| *time >= 0.0).map(|time| time as u64);
    // Only scripts use the largest time, both byte sums and the oldest stamp.
    let (_max, _sum, _earliest_sum, _first) = (fields.double()?, fields.double()?, fields.double()?, fields.double()?);
    let last = fields.number()?;
    let head = Head { cursor: Cursor { epoch, seq, tag }, closed };
    Some((Record { head, earliest: Cursor { epoch, seq: earliest_seq, tag: earliest_tag }, dropped_time }, last))
}

const RECORD_BYTES: usize = 97;

/// Reads what a script packed: big-endian, numbers as doubles.
pub(super) struct Unpacker<'a>(pub(super) &'a [u8]);

impl<'a> Unpacker<'a> {
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn kind(&mut self) -> Option<u8> {
        self.take::<1>().map(|[kind]| *kind)
    }

    fn double(&mut self) -> Option<f64> {
        self.take().map(|bytes| f64::from_be_bytes(*bytes))
    }

    /// A number of at most 53 bits.
    pub(super) fn number(&mut self) -> Option<u64> {
        self.double().map(|number| number as u64)
    }

    pub(super) fn tag(&mut self) -> Option<u32> {
        self.take().map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn flag(&mut self) -> Option<bool> {
        self.kind().map(|byte| byte == 1)
    }

    fn epoch(&mut self) -> Option<u64> {
        parse_epoch(self.take::<16>()?)
    }

    pub(super) fn head(&mut self) -> Option<Head> {
        let (epoch, seq, tag) = (self.epoch()?, self.number()?, self.tag()?);
        Some(Head { cursor: Cursor { epoch, seq, tag }, closed: self.flag()? })
    }
}

/// What precedes the events of a group: which of the call's channels, how many events, flags, and the epoch that the
/// channel has while it is absent.
pub(super) fn group_header(channel: usize, events: usize, flags: u8, absent: u64) -> Vec<u8> {
    let mut packed = Vec::with_capacity(2 + 4 + 1 + 16);
    // A call has few channels, and its size bounds the number of events. Lua counts from 1.
    packed.extend_from_slice(&u16::try_from(channel + 1).unwrap_or(u16::MAX).to_be_bytes());
    packed.extend_from_slice(&u32::try_from(events).unwrap_or(u32::MAX).to_be_bytes());
    packed.push(flags);
    packed.extend_from_slice(hex(absent).as_bytes());
    packed
}

/// An epoch as scripts see it: Lua's numbers do not hold 64 bits.
pub(super) fn hex(epoch: u64) -> String {
    format!("{epoch:016x}")
}

pub(super) fn parse_epoch(hex: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

/// An expectation as the script compares it.
pub(super) fn expectation(expect: Expect) -> Vec<u8> {
    match expect {
        Expect::Any => Vec::new(),
        Expect::NeverUsed => b"new".to_vec(),
        Expect::At(cursor) => expectation_at(cursor),
    }
}

/// The expectation that the head is at `cursor`, as the script compares it: a packed head without its last byte.
pub(super) fn expectation_at(cursor: Cursor) -> Vec<u8> {
    let mut packed = Vec::with_capacity(28);
    packed.extend_from_slice(hex(cursor.epoch).as_bytes());
    packed.extend_from_slice(&(cursor.seq as f64).to_be_bytes());
    packed.extend_from_slice(&cursor.tag.to_be_bytes());
    packed
}

/// The hints in one message; `None` when this crate did not write it.
pub(super) fn changes_of(message: Vec<u8>) -> Option<Vec<Change>> {
    let (mut rest, mut changes) = (Unpacker(&message), Vec::new());
    while let Some(kind) = rest.kind() {
        let (head, count) = (rest.head()?, rest.tag()?);
        let length = u16::from_be_bytes(*rest.take()?);
        let channel = Channel::new(std::str::from_utf8(rest.slice(length.into())?).ok()?).ok()?;
        changes.push(match kind {
            b'H' => Change::Head(channel, head),
            b'E' => Change::Entries(entries_of(&mut rest, &channel, head.cursor, count)?),
            _ => return None,
        });
    }
    Some(changes)
}

fn entries_of(rest: &mut Unpacker<'_>, channel: &Channel, after: Cursor, count: u32) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    for nth in 1..=u64::from(count) {
        let header = rest.take::<40>()?;
        let length = Unpacker(header).tag()?;
        // Copied, so that one event does not keep the whole message in memory.
        let blob = Bytes::copy_from_slice(rest.slice(length as usize)?);
        entries.push(entry_of(channel, after.epoch, after.seq.checked_add(nth)?, header, &blob)?);
    }
    Some(entries)
}
