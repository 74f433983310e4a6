//! The positions of readers: in one channel, and the token that holds the positions in several.
//!
//! Pure functions and plain values.

mod filter_hash;
mod token;

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::BufMut as _;

pub(crate) use self::filter_hash::FilterHash;
pub use self::token::Cursors;
use crate::{channel::Channel, error::InvalidCursor};

/// A position in one channel: just after the entry that it names.
///
/// As text it is always [`Cursor::TEXT_LEN`] characters of `[A-Za-z0-9_-]`. A cursor is a position, not a permission: whether a
/// client may read a channel is decided on every request.
///
/// ```
/// use tower_events::Cursor;
///
/// let cursor = Cursor { epoch: 7, seq: 3, tag: 0xfeed };
/// let text = cursor.to_string();
/// assert_eq!(text.len(), Cursor::TEXT_LEN);
/// assert_eq!(text.parse(), Ok(cursor));
/// assert!("a\nb".parse::<Cursor>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Identifies the log: drawn anew when the log is replaced, and mixed with the channel's name ([`epoch_of`]).
    pub epoch: u64,
    /// Dense position within the epoch (+1 per entry).
    pub seq: u64,
    /// The entry's random tag, never 0; 0 before the first entry of a channel. It distinguishes two histories that reached the
    /// same `seq`.
    pub tag: u32,
}

impl Cursor {
    /// Length of the text form.
    pub const TEXT_LEN: usize = 28;

    /// The text form, which is ASCII.
    pub(crate) fn to_text(self) -> [u8; Self::TEXT_LEN] {
        let mut text = [0; Self::TEXT_LEN];
        // Cannot fail: 21 bytes are exactly 28 characters.
        let _ = URL_SAFE_NO_PAD.encode_slice(self.to_bytes(), &mut text);
        text
    }

    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != Self::TEXT_LEN {
            return None;
        }
        let mut bytes = [0; 21];
        URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        Self::from_bytes(&bytes)
    }

    fn to_bytes(self) -> [u8; 21] {
        let mut bytes = [0; 21];
        let mut fields = bytes.as_mut_slice();
        fields.put_u8(VERSION);
        fields.put_u64(self.epoch);
        fields.put_u64(self.seq);
        fields.put_u32(self.tag);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION], rest) = bytes.split_first_chunk::<1>()? else { return None };
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let tag = rest.try_into().ok()?;
        Some(Self { epoch: u64::from_be_bytes(*epoch), seq: u64::from_be_bytes(*seq), tag: u32::from_be_bytes(tag) })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_text();
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes()).ok_or(InvalidCursor(()))
    }
}

/// First byte of a one-channel cursor.
const VERSION: u8 = 1;

/// The epoch of a channel's log in a place whose own epoch is `place`: stable across processes and versions, and different
/// for each channel, so that another channel's cursor is foreign.
#[must_use]
pub fn epoch_of(place: u64, channel: &Channel) -> u64 {
    mix(hash(channel.as_str()) ^ mix(place))
}

/// FNV-1a, 64 bits: `draft-eastlake-fnv`. Stored cursors depend on it, so it never changes.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_a_fixed_width_and_reads_back() {
        for (epoch, seq, tag) in [(0, 0, 0), (u64::MAX, u64::MAX, u32::MAX), (1, 2, 3)] {
            let cursor = Cursor { epoch, seq, tag };
            let text = cursor.to_string();
            assert_eq!(text.len(), Cursor::TEXT_LEN);
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
            assert_eq!(text.parse(), Ok(cursor));
        }
    }

    #[test]
    fn what_is_no_cursor_is_an_error() {
        for bad in ["", "0", "é1", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA", &"A".repeat(4096), "AQAAAAAAAAAAAAAAAAAAAAAAAA\nA"]
        {
            assert!(bad.parse::<Cursor>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn epochs_differ_by_channel_and_place_and_never_change() {
        let (a, b) = (Channel::new("a").unwrap(), Channel::new("b").unwrap());
        assert_ne!(epoch_of(1, &a), epoch_of(1, &b));
        assert_ne!(epoch_of(1, &a), epoch_of(2, &a));
        assert_eq!(epoch_of(1, &a), PINNED);
    }

    const PINNED: u64 = 2_841_994_784_060_530_217;
}
