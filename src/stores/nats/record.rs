//! One message of the stream, as text in a header and bytes in a body. Pure: knows no server.
//!
//! Sums over the log so far travel with every message (bytes, largest time, newest key), so that any one message says what
//! lies before it without reading that.

use std::fmt::Write as _;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::fault;
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Data, Event, EventKey, EventName},
    store::{Entry, Head, Known, Receipt, StoreError, fingerprint_of, resume},
};

/// What a message is to its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It goes on where the one before ended.
    Append,
    /// It begins a new log and replaced all before it.
    Init,
    /// There is no log; `base` is the floor.
    Gone,
}

/// The header [`NAME`]. What it says of the log holds up to and including this message.
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
    /// When the message was made, in Unix milliseconds; never less than that of the one before.
    pub(super) stamp: u64,
    /// When the newest entry came, or the log was made.
    pub(super) entered: u64,
    /// When the newest key came; 0 when none did.
    pub(super) keyed: u64,
    /// What all entries before this message count, in bytes.
    pub(super) bytes_before: u64,
    /// What the entries of this message count.
    pub(super) bytes: u64,
    /// The largest time of the entries before this message.
    pub(super) time_before: Option<u64>,
    /// The largest time of all entries.
    pub(super) time: Option<u64>,
    /// As `time_before`, each no more than the stamp of its message: what is told of once they are dropped.
    pub(super) dropped_before: Option<u64>,
    /// The same of all entries.
    pub(super) dropped: Option<u64>,
}

impl Record {
    /// The record of a log without entries that begins after `start`.
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
        }
    }

    /// The record of the message that follows, still without entries.
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

    /// Takes note of one entry more.
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

    /// What all entries up to here count, in bytes.
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
        _ = write!(text, "1 {kind}");
        let optional = |time: Option<u64>| time.map_or(u64::MAX, |time| time);
        let closed = u64::from(self.closed);
        let fields = [self.epoch, self.start, self.base, u64::from(self.base_tag), self.count, u64::from(self.tag)]
            .into_iter()
            .chain([closed, self.stamp, self.entered, self.keyed, self.bytes_before, self.bytes])
            .chain([self.time_before, self.time, self.dropped_before, self.dropped].map(optional));
        for field in fields {
            // Writing to a String cannot fail.
            _ = write!(text, " {field:x}");
        }
        text
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()? != "1" {
            return None;
        }
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
        };
        // Older versions did not say: then it is no more than what may be.
        let at_most = |time: Option<u64>| time.map(|time| resume::dropped_time(time, record.stamp));
        let (before, all) = (at_most(record.time_before), at_most(record.time));
        record.dropped_before = field().map_or(before, optional);
        record.dropped = field().map_or(all, optional);
        Some(record)
    }
}

/// A message as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// Its place in the stream: grows, but not by 1 within a channel.
    pub(super) at: u64,
    /// The place of the one before it in the channel, when that was written with it.
    pub(super) after: Option<u64>,
    pub(super) record: Record,
    pub(super) body: Bytes,
}

impl Message {
    /// Its entries, as many as fit and follow the position `seq`.
    pub(super) fn entries(&self, channel: &Channel) -> Result<Vec<Entry>, StoreError> {
        Ok(self.items()?.into_iter().map(|item| item.entry(channel, &self.record)).collect())
    }

    /// Its keys, and what each was appended as.
    pub(super) fn keys(&self) -> Result<Vec<(EventKey, Known)>, StoreError> {
        let epoch = self.record.epoch;
        let known = |item: Item| {
            let cursor = Cursor { epoch, seq: item.seq, tag: item.tag };
            let receipt = Receipt { cursor, time: item.time, duplicate: true };
            let known = Known { receipt, print: item.print() };
            Some((item.key?, known))
        };
        Ok(self.items()?.into_iter().filter_map(known).collect())
    }

    fn items(&self) -> Result<Vec<Item>, StoreError> {
        let (mut body, mut prev_tag) = (self.body.clone(), self.record.base_tag);
        let mut items = Vec::new();
        for seq in self.record.base + 1..=self.record.end() {
            let item = Item::take(&mut body, seq, prev_tag).ok_or_else(|| fault::corrupt("a message's body"))?;
            prev_tag = item.tag;
            items.push(item);
        }
        Ok(items)
    }
}

/// One entry of a body.
struct Item {
    seq: u64,
    tag: u32,
    prev_tag: u32,
    time: u64,
    dated: Option<Dated>,
    name: Option<EventName>,
    key: Option<EventKey>,
    data: Data,
}

/// Where the time of an event with a key came from; versions before fingerprints did not say.
#[derive(Clone, Copy)]
enum Dated {
    Itself,
    ByAppend,
}

impl Item {
    fn take(body: &mut Bytes, seq: u64, prev_tag: u32) -> Option<Self> {
        let tag = body.try_get_u32().ok()?;
        let time = body.try_get_u64().ok()?;
        let flags = body.try_get_u8().ok()?;
        let dated = match flags & (DATED | UNDATED) {
            0 => None,
            UNDATED => Some(Dated::ByAppend),
            _ => Some(Dated::Itself),
        };
        let name = if flags & NAMED == 0 { None } else { Some(EventName::new(text(body)?).ok()?) };
        let key = if flags & KEYED == 0 { None } else { Some(EventKey::new(text(body)?).ok()?) };
        let bytes = chunk(body)?;
        let data = if flags & JSON == 0 { Data::text_from_utf8(bytes).ok()? } else { Data::from_json(bytes).ok()? };
        Some(Self { seq, tag, prev_tag, time, dated, name, key, data })
    }

    /// Of the event as it was given, which is all here: so the fingerprint takes no room in the stream.
    fn print(&self) -> Option<u64> {
        let time = match self.dated? {
            Dated::Itself => Some(self.time),
            Dated::ByAppend => None,
        };
        Some(fingerprint_of(&self.data, self.name.as_ref(), time))
    }

    fn entry(self, channel: &Channel, record: &Record) -> Entry {
        Entry {
            channel: channel.clone(),
            cursor: Cursor { epoch: record.epoch, seq: self.seq, tag: self.tag },
            prev_tag: self.prev_tag,
            appended: record.stamp,
            time: self.time,
            name: self.name,
            data: self.data,
        }
    }
}

/// Adds an entry to a body, with the key of the event that it was, if that is to be remembered.
pub(super) fn put(body: &mut BytesMut, entry: &Entry, event: Option<&Event>) {
    let key = event.and_then(Event::key);
    let dated = if event.is_some_and(|event| event.time().is_some()) { DATED } else { UNDATED };
    let json = if entry.data.as_text().is_some() { 0 } else { JSON };
    let named = if entry.name.is_some() { NAMED } else { 0 };
    let keyed = if key.is_some() { KEYED | dated } else { 0 };
    body.put_u32(entry.cursor.tag);
    body.put_u64(entry.time);
    body.put_u8(json | named | keyed);
    if let Some(name) = &entry.name {
        put_chunk(body, name.as_str());
    }
    if let Some(key) = key {
        put_chunk(body, key.as_str());
    }
    put_chunk(body, entry.data.as_shown());
}

/// At most this many bytes of a body for one entry, besides its datum, name and key.
pub(super) const ITEM_BYTES: usize = 13 + 3 * 4;

/// Keys that outlived their messages, as a body of their own.
pub(super) fn put_key(body: &mut BytesMut, key: &EventKey, known: &Known, stamp: u64) {
    let Known { receipt, print } = known;
    body.put_u64(receipt.cursor.epoch);
    body.put_u64(receipt.cursor.seq);
    body.put_u32(receipt.cursor.tag);
    body.put_u64(receipt.time);
    body.put_u64(stamp);
    // Keys are short, so the length has bits to spare.
    let length = u32::try_from(key.as_str().len()).unwrap_or(u32::MAX);
    match print {
        Some(print) => {
            body.put_u32(length | PRINTED);
            body.put_u64(*print);
        }
        None => body.put_u32(length),
    }
    body.put_slice(key.as_str().as_bytes());
}

/// What [`put_key`] wrote, with the stamp.
pub(super) fn take_keys(mut body: Bytes) -> Option<Vec<(EventKey, Known, u64)>> {
    let mut keys = Vec::new();
    while body.has_remaining() {
        let epoch = body.try_get_u64().ok()?;
        let cursor = Cursor { epoch, seq: body.try_get_u64().ok()?, tag: body.try_get_u32().ok()? };
        let (time, stamp) = (body.try_get_u64().ok()?, body.try_get_u64().ok()?);
        let length = body.try_get_u32().ok()?;
        let print = if length & PRINTED == 0 { None } else { Some(body.try_get_u64().ok()?) };
        let key = text_of(&mut body, length & !PRINTED)?;
        let receipt = Receipt { cursor, time, duplicate: true };
        keys.push((EventKey::new(key).ok()?, Known { receipt, print }, stamp));
    }
    Some(keys)
}

fn put_chunk(body: &mut BytesMut, text: &str) {
    body.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    body.put_slice(text.as_bytes());
}

fn chunk(body: &mut Bytes) -> Option<Bytes> {
    let length = body.try_get_u32().ok()?;
    taken(body, length)
}

fn taken(body: &mut Bytes, length: u32) -> Option<Bytes> {
    let length = length as usize;
    (body.remaining() >= length).then(|| body.split_to(length))
}

fn text(body: &mut Bytes) -> Option<String> {
    let length = body.try_get_u32().ok()?;
    text_of(body, length)
}

fn text_of(body: &mut Bytes, length: u32) -> Option<String> {
    String::from_utf8(taken(body, length)?.to_vec()).ok()
}

/// About how long the text of a record is.
const TEXT_BYTES: usize = 190;

/// The header that holds the record.
pub(super) const NAME: &str = "Tower-Events";

const JSON: u8 = 1;
const NAMED: u8 = 2;
const KEYED: u8 = 4;
/// The event had a key and a time of its own.
const DATED: u8 = 8;
/// The event had a key, and its time is the append's.
const UNDATED: u8 = 16;

/// In the length of a copied key: its fingerprint comes before it.
const PRINTED: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fingerprint;

    fn record() -> Record {
        let start = Cursor { epoch: u64::MAX, seq: 7, tag: 0 };
        let mut record = Record::new(Kind::Append, start, 1_000);
        record.push(5, 40, 70, EventKey::new("k").ok().as_ref());
        record.push(u32::MAX, 30, 80, None);
        record
    }

    #[test]
    fn a_record_reads_back_and_sums_up() {
        let first = record();
        assert_eq!(Record::parse(&first.to_text()), Some(first));
        assert_eq!((first.end(), first.total(), first.time, first.time_before), (9, 150, Some(40), None));
        let mut next = first.following(900);
        assert_eq!((next.stamp, next.keyed, next.time_before), (1_000, 1_000, Some(40)));
        next.push(1, 50, 10, None);
        assert!(next.follows(&first) && !first.follows(&next));
        assert_eq!((next.before(), next.total(), next.time), (first.cursor(), 160, Some(50)));
        // As an older version wrote it.
        let text = first.to_text();
        let shorter = text.rsplitn(3, ' ').nth(2).unwrap();
        assert_eq!(Record::parse(shorter), Some(first));
        for bad in ["", "1", "2 append", "1 append x", "1 other 0 0 0 0 0 0 0 0 0 0 0 0 0 0"] {
            assert_eq!(Record::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_body_reads_back_and_a_torn_one_is_corrupt() {
        let channel = Channel::new("a").unwrap();
        let event = Event::json(&[1, 2]).unwrap().named("n").unwrap();
        let mut body = BytesMut::new();
        let entries: Vec<_> = [(8, 5, event), (9, u32::MAX, Event::text("é\0"))]
            .into_iter()
            .map(|(seq, tag, event)| {
                let cursor = Cursor { epoch: u64::MAX, seq, tag };
                let (data, name) = event.into_parts();
                let prev_tag = if seq == 8 { 0 } else { 5 };
                Entry { channel: channel.clone(), cursor, prev_tag, appended: 1_000, time: 3, name, data }
            })
            .collect();
        let event = Event::json(&[1, 2]).unwrap().named("n").unwrap().keyed("k").unwrap();
        put(&mut body, &entries[0], Some(&event));
        put(&mut body, &entries[1], None);
        let body = body.freeze();
        let message = |body| Message { at: 1, after: Some(0), record: record(), body };
        assert_eq!(message(body.clone()).entries(&channel).unwrap(), entries);
        let keys = message(body.clone()).keys().unwrap();
        assert_eq!(
            keys.iter().map(|(key, known)| (key.as_str(), known.receipt.cursor.seq, known.print)).collect::<Vec<_>>(),
            [("k", 8, Some(fingerprint(&event)))]
        );
        for cut in 0..body.len() {
            assert!(matches!(message(body.slice(..cut)).entries(&channel), Err(StoreError::Corrupt(_))), "{cut}");
        }
    }

    fn item(event: &Event) -> (Entry, Bytes) {
        let (data, name) = event.clone().into_parts();
        let cursor = Cursor { epoch: 1, seq: 1, tag: 5 };
        let time = event.time().unwrap_or(1_000);
        let channel = Channel::new("a").unwrap();
        let entry = Entry { channel, cursor, prev_tag: 0, appended: 1_000, time, name, data };
        let mut body = BytesMut::new();
        put(&mut body, &entry, Some(event));
        (entry, body.freeze())
    }

    #[test]
    fn a_key_comes_back_with_the_fingerprint_of_its_event_unless_it_is_of_an_older_version() {
        let keyed = Event::text("x").keyed("k").unwrap();
        for event in [keyed.clone(), keyed.clone().at(1_000).unwrap(), keyed.at(7).unwrap().named("n").unwrap()] {
            let (entry, body) = item(&event);
            let mut record = Record::new(Kind::Append, Cursor { epoch: 1, seq: 0, tag: 0 }, 1_000);
            record.push(5, entry.time, 70, event.key());
            let print = |body: Bytes| Message { at: 1, after: Some(0), record, body }.keys().unwrap()[0].1.print;
            assert_eq!(print(body.clone()), Some(fingerprint(&event)));
            // The flags as they were before.
            let mut older = body.to_vec();
            older[12] &= JSON | NAMED | KEYED;
            assert_eq!(print(older.into()), None);
        }
    }

    #[test]
    fn copied_keys_read_back_those_of_an_older_version_too() {
        let key = EventKey::new("é".repeat(100)).unwrap();
        let cursor = Cursor { epoch: u64::MAX, seq: 8, tag: 9 };
        let known = |print| Known { receipt: Receipt { cursor, time: 3, duplicate: true }, print };
        let mut body = BytesMut::new();
        // As it was written before there were fingerprints.
        body.put_u64(u64::MAX);
        body.put_u64(8);
        body.put_u32(9);
        body.put_u64(3);
        body.put_u64(1_000);
        put_chunk(&mut body, key.as_str());
        put_key(&mut body, &key, &known(Some(u64::MAX)), 2_000);
        put_key(&mut body, &key, &known(None), 3_000);
        let expected = [(None, 1_000), (Some(u64::MAX), 2_000), (None, 3_000)];
        let expected: Vec<_> = expected.into_iter().map(|(print, stamp)| (key.clone(), known(print), stamp)).collect();
        assert_eq!(take_keys(body.clone().freeze()), Some(expected));
        assert_eq!(take_keys(body.freeze().slice(..60)), None);
    }
}
