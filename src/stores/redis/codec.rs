//! How events, records and hints are written down. Pure; the other half is in the scripts.

use std::str::FromStr;

use bytes::Bytes;

use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Data, Event, EventName},
    store::{Change, Entry, Head, resume::Record},
};

/// An event for the store: how its datum is meant, its name, NUL, and its datum. Names hold no control characters.
pub(super) fn blob_of(event: &Event) -> Vec<u8> {
    let (kind, data) = match event.data().as_text() {
        Some(text) => (b't', text),
        None => (b'j', event.data().as_shown()),
    };
    let name = event.name().map_or("", |name| name.as_str());
    let mut blob = Vec::with_capacity(2 + name.len() + data.len());
    blob.push(kind);
    blob.extend_from_slice(name.as_bytes());
    blob.push(0);
    blob.extend_from_slice(data.as_bytes());
    blob
}

fn event_of(blob: &Bytes) -> Option<(Data, Option<EventName>)> {
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

/// An entry from its header and event, both as stored.
pub(super) fn entry_of(channel: &Channel, epoch: u64, seq: u64, header: &[u8], blob: &Bytes) -> Option<Entry> {
    let mut fields = Fields::new(header)?;
    let (tag, prev_tag) = (fields.next()?, fields.next()?);
    let (appended, time) = (fields.next()?, fields.next()?);
    let (data, name) = event_of(blob)?;
    let cursor = Cursor { epoch, seq, tag };
    Some(Entry { channel: channel.clone(), cursor, prev_tag, appended, time, name, data })
}

/// A channel's record, and when it was last appended to.
pub(super) fn record_of(text: &[u8]) -> Option<(Record, u64)> {
    let mut fields = Fields::new(text)?;
    let (epoch, seq, tag) = (fields.epoch()?, fields.next()?, fields.next()?);
    let closed = fields.next::<u8>()? == 1;
    let earliest = Cursor { epoch, seq: fields.next()?, tag: fields.next()? };
    let dropped_time = fields.next::<i64>()?.try_into().ok();
    // The largest time, both sums and the oldest stamp are the scripts' own.
    let last = fields.0.nth(4)?.parse().ok()?;
    let head = Head { cursor: Cursor { epoch, seq, tag }, closed };
    Some((Record { head, earliest, dropped_time }, last))
}

/// The fields of a text, separated by spaces.
pub(super) struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    pub(super) fn new(text: &'a [u8]) -> Option<Self> {
        Some(Self(std::str::from_utf8(text).ok()?.split(' ')))
    }

    pub(super) fn word(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    pub(super) fn next<T: FromStr>(&mut self) -> Option<T> {
        self.0.next()?.parse().ok()
    }

    pub(super) fn epoch(&mut self) -> Option<u64> {
        u64::from_str_radix(self.0.next()?, 16).ok()
    }

    pub(super) fn cursor(&mut self) -> Option<Cursor> {
        Some(Cursor { epoch: self.epoch()?, seq: self.next()?, tag: self.next()? })
    }

    pub(super) fn head(&mut self) -> Option<Head> {
        Some(Head { cursor: self.cursor()?, closed: self.next::<u8>()? == 1 })
    }
}

/// The hints of one message; `None` when it is not one of ours.
pub(super) fn changes_of(message: Vec<u8>) -> Option<Vec<Change>> {
    let (mut rest, mut changes) = (Bytes::from(message), Vec::new());
    while !rest.is_empty() {
        let line = take_line(&mut rest)?;
        let text = std::str::from_utf8(&line).ok()?;
        // The channel comes last, for its name may hold spaces.
        let mut words = text.splitn(7, ' ');
        let kind = words.next()?;
        let epoch = u64::from_str_radix(words.next()?, 16).ok()?;
        let cursor = Cursor { epoch, seq: words.next()?.parse().ok()?, tag: words.next()?.parse().ok()? };
        let (closed, count) = (words.next()? == "1", words.next()?.parse::<usize>().ok()?);
        let channel = Channel::new(words.next()?).ok()?;
        changes.push(match kind {
            "H" => Change::Head(channel, Head { cursor, closed }),
            _ => Change::Entries(entries_of(&mut rest, &channel, cursor, count)?),
        });
    }
    Some(changes)
}

fn entries_of(rest: &mut Bytes, channel: &Channel, after: Cursor, count: usize) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    for nth in 1..=count as u64 {
        let header = take_line(rest)?;
        let length = std::str::from_utf8(&header).ok()?.rsplit(' ').next()?.parse().ok()?;
        if length > rest.len() {
            return None;
        }
        // Copied, so that one event does not keep a message of many in memory.
        let blob = Bytes::copy_from_slice(&rest.split_to(length));
        entries.push(entry_of(channel, after.epoch, after.seq.checked_add(nth)?, &header, &blob)?);
    }
    Some(entries)
}

fn take_line(rest: &mut Bytes) -> Option<Bytes> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let line = rest.split_to(end);
    _ = rest.split_to(1);
    Some(line)
}
