//! The entries and keys in the body of a message. Pure: knows no server.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{error, record::Record};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Data, Event, EventKey, EventName},
    store::{Entry, Receipt, StoreError, fingerprint_of, kit::Known},
};

/// A stored message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// Its stream sequence: increasing within a channel, but not by 1.
    pub(super) at: u64,
    /// The stream sequence of its predecessor in the channel, if it was published on that condition.
    pub(super) after: Option<u64>,
    pub(super) record: Record,
    pub(super) body: Bytes,
}

impl Message {
    /// Its entries.
    pub(super) fn entries(&self, channel: &Channel) -> Result<Vec<Entry>, StoreError> {
        Ok(self.items()?.into_iter().map(|item| item.entry(channel, &self.record)).collect())
    }

    /// Its keys, each with what it was appended as.
    pub(super) fn keys(&self) -> Result<Vec<(EventKey, Known)>, StoreError> {
        let epoch = self.record.epoch;
        let known = |item: Item| {
            let cursor = Cursor { epoch, seq: item.seq, tag: item.tag };
            let receipt = Receipt { cursor, time: item.time, duplicate: true };
            let known = Known { receipt, print: item.fingerprint() };
            Some((item.key?, known))
        };
        Ok(self.items()?.into_iter().filter_map(known).collect())
    }

    fn items(&self) -> Result<Vec<Item>, StoreError> {
        let (mut body, mut prev_tag) = (self.body.clone(), self.record.base_tag);
        let mut items = Vec::new();
        for seq in self.record.base + 1..=self.record.end() {
            let item = Item::take(&mut body, seq, prev_tag).ok_or_else(|| error::corrupt("a message's body"))?;
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

/// Where the time of an event with a key came from; versions before fingerprints did not store that.
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
        let name = if flags & NAMED == 0 { None } else { Some(EventName::new(take_text(body)?).ok()?) };
        let key = if flags & KEYED == 0 { None } else { Some(EventKey::new(take_text(body)?).ok()?) };
        let bytes = take_chunk(body)?;
        let data = if flags & JSON == 0 { Data::text_from_utf8(bytes).ok()? } else { Data::from_json(bytes).ok()? };
        Some(Self { seq, tag, prev_tag, time, dated, name, key, data })
    }

    /// The fingerprint of the original event. It is computed, because everything it covers is stored anyway.
    fn fingerprint(&self) -> Option<u64> {
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

/// Adds an entry to a body, with the event's key if it is to be remembered.
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

/// The most bytes that an entry takes in a body besides its data, name and key.
pub(super) const ITEM_BYTES: usize = 13 + 3 * 4;

/// Adds a key that outlives its message to a body of such keys.
pub(super) fn put_key(body: &mut BytesMut, key: &EventKey, known: &Known, stamp: u64) {
    let Known { receipt, print } = known;
    body.put_u64(receipt.cursor.epoch);
    body.put_u64(receipt.cursor.seq);
    body.put_u32(receipt.cursor.tag);
    body.put_u64(receipt.time);
    body.put_u64(stamp);
    // Keys are short, so the length has spare bits.
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

/// Parses what [`put_key`] wrote: keys with what they were appended as, and the append's stamp.
pub(super) fn take_keys(mut body: Bytes) -> Option<Vec<(EventKey, Known, u64)>> {
    let mut keys = Vec::new();
    while body.has_remaining() {
        let epoch = body.try_get_u64().ok()?;
        let cursor = Cursor { epoch, seq: body.try_get_u64().ok()?, tag: body.try_get_u32().ok()? };
        let (time, stamp) = (body.try_get_u64().ok()?, body.try_get_u64().ok()?);
        let length = body.try_get_u32().ok()?;
        let print = if length & PRINTED == 0 { None } else { Some(body.try_get_u64().ok()?) };
        let key = take_text_of(&mut body, length & !PRINTED)?;
        let receipt = Receipt { cursor, time, duplicate: true };
        keys.push((EventKey::new(key).ok()?, Known { receipt, print }, stamp));
    }
    Some(keys)
}

fn put_chunk(body: &mut BytesMut, text: &str) {
    body.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    body.put_slice(text.as_bytes());
}

fn take_chunk(body: &mut Bytes) -> Option<Bytes> {
    let length = body.try_get_u32().ok()?;
    take_bytes(body, length)
}

fn take_bytes(body: &mut Bytes, length: u32) -> Option<Bytes> {
    let length = length as usize;
    (body.remaining() >= length).then(|| body.split_to(length))
}

fn take_text(body: &mut Bytes) -> Option<String> {
    let length = body.try_get_u32().ok()?;
    take_text_of(body, length)
}

fn take_text_of(body: &mut Bytes, length: u32) -> Option<String> {
    String::from_utf8(take_bytes(body, length)?.to_vec()).ok()
}

const JSON: u8 = 1;
const NAMED: u8 = 2;
const KEYED: u8 = 4;
/// The event has a key and its own time.
const DATED: u8 = 8;
/// The event has a key, and its time is the append's.
const UNDATED: u8 = 16;

/// Flag in the length of a copied key: a fingerprint precedes the key.
const PRINTED: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::{super::record::Kind, *};
    use crate::store::fingerprint;

    fn record() -> Record {
        let start = Cursor { epoch: u64::MAX, seq: 7, tag: 0 };
        let mut record = Record::new(Kind::Append, start, 1_000);
        record.push(5, 40, 70, EventKey::new("k").ok().as_ref());
        record.push(u32::MAX, 30, 80, None);
        record
    }

    #[test]
    fn a_body_reads_back_and_a_truncated_one_is_corrupt() {
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
    fn a_key_reads_back_with_its_fingerprint_unless_an_older_version_wrote_it() {
        let keyed = Event::text("x").keyed("k").unwrap();
        for event in [keyed.clone(), keyed.clone().at(1_000).unwrap(), keyed.at(7).unwrap().named("n").unwrap()] {
            let (entry, body) = item(&event);
            let mut record = Record::new(Kind::Append, Cursor { epoch: 1, seq: 0, tag: 0 }, 1_000);
            record.push(5, entry.time, 70, event.key());
            let print = |body: Bytes| Message { at: 1, after: Some(0), record, body }.keys().unwrap()[0].1.print;
            assert_eq!(print(body.clone()), Some(fingerprint(&event)));
            // The flags as older versions wrote them.
            let mut older = body.to_vec();
            older[12] &= JSON | NAMED | KEYED;
            assert_eq!(print(older.into()), None);
        }
    }

    #[test]
    fn copied_keys_read_back_including_those_of_older_versions() {
        let key = EventKey::new("é".repeat(100)).unwrap();
        let cursor = Cursor { epoch: u64::MAX, seq: 8, tag: 9 };
        let known = |print| Known { receipt: Receipt { cursor, time: 3, duplicate: true }, print };
        let mut body = BytesMut::new();
        // As written before there were fingerprints.
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
