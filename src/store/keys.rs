//! The fingerprints by which a store recognises an event that was appended before. Pure.

use crate::event::{Data, Event, EventName};

/// A 64-bit hash of everything that the caller gave of an event, except for the key. It is stored with the key and compared by
/// nodes of different versions, so it never changes.
///
/// FNV-1a (64 bits, `draft-eastlake-fnv`) of these bytes: the event's explicit time in Unix milliseconds as 8 bytes, big-endian,
/// all ones if there is none; `t` if the data are a text and `j` for any other JSON value; the name, if any; a zero byte; the
/// text, or the compact JSON. It distinguishes events that differ by mistake; it is no protection against forgery.
///
/// ```
/// use tower_events::{Event, store::fingerprint};
///
/// let event = Event::text("hello").keyed("k")?;
/// assert_eq!(fingerprint(&event), fingerprint(&Event::text("hello")));
/// assert_ne!(fingerprint(&event), fingerprint(&event.named("greeting")?));
/// # Ok::<(), tower_events::InvalidEvent>(())
/// ```
#[must_use]
pub fn fingerprint(event: &Event) -> u64 {
    fingerprint_of(event.data(), event.name(), event.time())
}

/// [`fingerprint`] of the parts of an event; `time` is its explicit time, if any.
pub(crate) fn fingerprint_of(data: &Data, name: Option<&EventName>, time: Option<u64>) -> u64 {
    let time = time.unwrap_or(u64::MAX).to_be_bytes();
    let kind = if data.as_text().is_some() { b"t" } else { b"j" };
    let name = name.map_or("", EventName::as_str);
    let parts = [&time, kind.as_slice(), name.as_bytes(), b"\0", data.as_shown().as_bytes()];
    parts.into_iter().flatten().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Event {
        Event::text(text)
    }

    #[test]
    fn what_was_stored_is_recognised_for_ever() {
        let json = |json: &str| Event::new(Data::from_json(json).unwrap());
        let table = [
            (text(""), 0xe00b_70b7_889b_8eb1_u64),
            (text("hello"), 0x3682_6909_9a7d_601f),
            (text("hello").keyed("k").unwrap(), 0x3682_6909_9a7d_601f),
            (text("hello").named("n").unwrap(), 0xb1ea_931e_754b_dce3),
            (text("hello").at(0).unwrap(), 0x523e_f183_1a10_5937),
            (text("hello").at(1_732_094_400_123).unwrap().named("é").unwrap(), 0x81c1_eeb2_aee1_f2f1),
            (json("{ \"a\" : [1, 2.0] }"), 0x162d_8390_bc58_b5a7),
            (json("1"), 0xc843_e1dd_6503_473a),
            (text("1"), 0x4eff_07dd_2053_2380),
        ];
        let seen: Vec<_> = table.iter().map(|(event, _)| format!("{:#x}", fingerprint(event))).collect();
        let pinned: Vec<_> = table.iter().map(|(_, pinned)| format!("{pinned:#x}")).collect();
        assert_eq!(seen, pinned);
    }
}
