//! Entries as bytes, for a store that stores bytes. Pure.

use bytes::{Buf, BufMut};

use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Data, EventName},
    store::{Entry, Source, StoreError, Use, checksum::Checksum},
};

/// The entry as bytes, for [`decode_entry`]: all of it but its channel, which a store has in the key. They are about 50 bytes longer
/// than its name and data.
///
/// ```
/// use tower_events::{Channel, Cursor, Data, store::Entry};
/// use tower_events::store::kit::{decode_entry, encode_entry};
///
/// let (room, other) = (Channel::new("room")?, Channel::new("other")?);
/// let entry = Entry::new(room.clone(), Cursor { epoch: 7, seq: 41, tag: 11 }, Data::text("hello"));
/// let mut bytes = encode_entry(&entry);
/// assert_eq!(decode_entry(&room, &bytes)?, entry);
/// assert!(decode_entry(&other, &bytes).is_err());
/// bytes[50] ^= 1;
/// assert!(decode_entry(&room, &bytes).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let Entry { cursor: Cursor { epoch, seq, tag }, prev_tag, appended, time, name, data, .. } = entry;
    let name = name.as_ref().map_or("", EventName::as_str);
    let kind = if data.as_text().is_some() { TEXT } else { JSON };
    let mut bytes = Vec::with_capacity(FIXED_BYTES + name.len() + data.len());
    bytes.put_u8(VERSION);
    bytes.put_u64(*epoch);
    bytes.put_u64(*seq);
    bytes.put_u32(*tag);
    bytes.put_u32(*prev_tag);
    bytes.put_u64(*appended);
    bytes.put_u64(*time);
    bytes.put_u8(kind);
    // A name has at most 255 bytes.
    bytes.put_u8(name.len() as u8);
    bytes.put_slice(name.as_bytes());
    bytes.put_slice(data.as_shown().as_bytes());
    let sum = checksum(&entry.channel, &bytes);
    bytes.put_u64(sum);
    bytes
}

/// The entry of this channel that [`encode_entry`] made these bytes of, in this version of the crate or in an earlier one.
///
/// # Errors
/// [`StoreError::Corrupt`] if the bytes are damaged, or those of another channel; [`StoreError::NewerFormat`] if a later version
/// of the crate encoded them.
pub fn decode_entry(channel: &Channel, bytes: &[u8]) -> Result<Entry, StoreError> {
    // All versions end with the checksum.
    let damaged = || StoreError::Corrupt("an entry is not what was stored".into());
    let (body, sum) = bytes.split_last_chunk().ok_or_else(damaged)?;
    if checksum(channel, body) != u64::from_be_bytes(*sum) {
        return Err(damaged());
    }
    match body.split_first() {
        Some((&VERSION, body)) => decode_first_version(channel, body).map_err(StoreError::Corrupt),
        Some((&version, _)) if version > VERSION => {
            Err(StoreError::NewerFormat { stored: version.into(), supported: VERSION.into(), denied: Use::Read })
        }
        _ => Err(damaged()),
    }
}

fn decode_first_version(channel: &Channel, mut body: &[u8]) -> Result<Entry, Source> {
    let cursor = Cursor { epoch: body.try_get_u64()?, seq: body.try_get_u64()?, tag: body.try_get_u32()? };
    let (prev_tag, appended, time) = (body.try_get_u32()?, body.try_get_u64()?, body.try_get_u64()?);
    let (kind, name_length) = (body.try_get_u8()?, body.try_get_u8()?);
    let (name, data) = body.split_at_checked(name_length.into()).ok_or("an entry's name is cut off")?;
    let name = if name.is_empty() { None } else { Some(EventName::new(std::str::from_utf8(name)?)?) };
    let data = match kind {
        TEXT => Data::text_from_utf8(data)?,
        JSON => Data::from_json(data)?,
        _ => return Err("an entry's data are of an unknown kind".into()),
    };
    Ok(Entry { channel: channel.clone(), cursor, prev_tag, appended, time, name, data })
}

/// Detects flipped bits, and bytes that were stored for another channel.
fn checksum(channel: &Channel, body: &[u8]) -> u64 {
    Checksum::new().bytes(channel.as_str().as_bytes()).bytes(body).finish()
}

/// The version, which is the first byte.
const VERSION: u8 = 1;

/// How long an entry without name and data is.
const FIXED_BYTES: usize = 1 + 8 + 8 + 4 + 4 + 8 + 8 + 1 + 1 + 8;

const TEXT: u8 = 0;
const JSON: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn room() -> Channel {
        Channel::new("room").unwrap()
    }

    fn entries() -> impl Strategy<Value = Entry> {
        let data =
            prop_oneof![any::<String>().prop_map(Data::text), any::<i64>().prop_map(|n| Data::json(&[n]).unwrap())];
        let cursor = any::<(u64, u64, u32)>().prop_map(|(epoch, seq, tag)| Cursor { epoch, seq, tag });
        let name = option::of("[a-rt-zé]{1,100}").prop_map(|name| name.map(|name| EventName::new(name).unwrap()));
        (cursor, any::<(u32, u64, u64)>(), name, data).prop_map(|(cursor, (prev_tag, appended, time), name, data)| {
            Entry::new(room(), cursor, data).after(prev_tag).appended(appended).at(time).named(name)
        })
    }

    /// The bytes with a checksum that holds, as if another version had encoded them.
    fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.put_u64(checksum(&room(), &bytes));
        bytes
    }

    proptest! {
        #[test]
        fn an_entry_reads_back(entry in entries()) {
            let bytes = encode_entry(&entry);
            let texts = entry.name.as_ref().map_or(0, |name| name.as_str().len()) + entry.data.len();
            prop_assert_eq!(bytes.len(), FIXED_BYTES + texts);
            prop_assert_eq!(decode_entry(&room(), &bytes).unwrap(), entry);
        }

        #[test]
        fn whatever_is_stored_is_read_or_refused(bytes in vec(any::<u8>(), 0..100)) {
            prop_assert!(matches!(decode_entry(&room(), &bytes), Err(StoreError::Corrupt(_))));
            let stored = [vec![VERSION], bytes].concat();
            let decoded = decode_entry(&room(), &with_checksum(stored));
            prop_assert!(matches!(decoded, Ok(_) | Err(StoreError::Corrupt(_))));
        }
    }

    #[test]
    fn damage_and_another_channel_are_corrupt() {
        let entry = Entry::new(room(), Cursor { epoch: 7, seq: 41, tag: 11 }, Data::text("hello"));
        let whole = encode_entry(&entry.named(EventName::new("n").ok()));
        let is_corrupt = |channel: &str, bytes: &[u8]| {
            let decoded = decode_entry(&Channel::new(channel).unwrap(), bytes);
            matches!(decoded, Err(StoreError::Corrupt(_)))
        };
        assert!(!is_corrupt("room", &whole) && is_corrupt("moor", &whole));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(is_corrupt("room", &flipped), "{bit}");
        }
        for end in 0..whole.len() {
            assert!(is_corrupt("room", &whole[..end]), "{end}");
        }
    }

    #[test]
    fn a_later_version_is_refused_and_the_first_one_is_no_version() {
        let decode = |version| decode_entry(&room(), &with_checksum(vec![version, 1, 2, 3]));
        assert!(matches!(decode(2), Err(StoreError::NewerFormat { stored: 2, supported: 1, denied: Use::Read })));
        assert!(matches!(decode(0), Err(StoreError::Corrupt(_))));
    }

    #[test]
    fn stored_entries_stay_readable() {
        let entry = Entry::new(room(), Cursor { epoch: 1, seq: 2, tag: 3 }, Data::from_json("[1]").unwrap());
        let entry = entry.after(4).appended(5).at(6).named(EventName::new("n").ok());
        let numbers = "01 0000000000000001 0000000000000002 00000003 00000004 0000000000000005 0000000000000006";
        let body: String = numbers.split(' ').chain(["01", "01", "6e", "5b315d"]).collect();
        let body = (0..body.len()).step_by(2).map(|at| u8::from_str_radix(&body[at..at + 2], 16).unwrap());
        assert_eq!(encode_entry(&entry), with_checksum(body.collect()));
    }
}
