//! The positions of a whole subscription as one text.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Cursor, FilterHash, hash};
use crate::{
    channel::{Channel, Channels},
    error::InvalidCursor,
};

/// The resume position of a subscription: what `Last-Event-ID` and `after=` carry.
///
/// For one channel it is that channel's [`Cursor`]. For several it is one token that names every channel (by a hash) with
/// its position. A one-channel cursor in a subscription to several channels is tried on each of them: it continues on its own
/// channel, and is foreign to the others. A channel that a token does not name has no position. The positions of a reader with
/// a [`Filter`](crate::Filter) are valid only for that filter, which they name by a hash.
///
/// ```
/// use tower_events::{Channel, Cursor, Cursors};
///
/// let (a, b, c) = (Channel::new("a")?, Channel::new("b")?, Channel::new("c")?);
/// let at = |seq| Cursor { epoch: 1, seq, tag: 9 };
/// let token = Cursors::of([(&a, at(4)), (&b, at(7))]);
/// let read: Cursors = token.to_string().parse()?;
/// assert_eq!(read.position(&b), Some(at(7)));
/// assert_eq!(read.position(&c), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursors {
    positions: Positions,
    filter: Option<FilterHash>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Positions {
    One(Cursor),
    Many(Vec<(u32, Cursor)>),
}

impl Cursors {
    /// The maximum length of the text form: a filter, and 255 channels of at most 26 bytes, in base64.
    pub(crate) const MAX_TEXT_LEN: usize = (1 + 4 + Channels::MAX * 26).div_ceil(3) * 4;

    /// The token of these positions, which may be none.
    pub fn of<'a>(positions: impl IntoIterator<Item = (&'a Channel, Cursor)>) -> Self {
        Self::unfiltered(Positions::Many(
            positions.into_iter().map(|(channel, cursor)| (short(channel), cursor)).collect(),
        ))
    }

    /// The position of `channel`, if the token names it.
    #[must_use]
    pub fn position(&self, channel: &Channel) -> Option<Cursor> {
        match &self.positions {
            Positions::One(cursor) => Some(*cursor),
            Positions::Many(named) => {
                let wanted = short(channel);
                named.iter().find(|(name, _)| *name == wanted).map(|(_, cursor)| *cursor)
            }
        }
    }

    /// Sets the position of `channel`. The token of one channel becomes that cursor.
    #[must_use]
    pub fn with(mut self, channel: &Channel, cursor: Cursor) -> Self {
        self.set(channel, cursor);
        self
    }

    /// The same positions, reached under this filter.
    #[must_use]
    pub(crate) fn under(self, filter: Option<FilterHash>) -> Self {
        Self { filter, ..self }
    }

    /// The filter under which they were reached.
    pub(crate) fn filter(&self) -> Option<FilterHash> {
        self.filter
    }

    fn unfiltered(positions: Positions) -> Self {
        Self { positions, filter: None }
    }

    pub(crate) fn set(&mut self, channel: &Channel, cursor: Cursor) {
        let named = match &mut self.positions {
            Positions::One(position) => return *position = cursor,
            Positions::Many(named) => named,
        };
        let name = short(channel);
        match named.iter_mut().find(|(other, _)| *other == name) {
            Some((_, position)) => *position = cursor,
            None => named.push((name, cursor)),
        }
    }

    /// The cursor that is the whole token: that of a subscription to one channel without a filter.
    pub(crate) fn as_one(&self) -> Option<Cursor> {
        match (&self.positions, self.filter) {
            (Positions::One(cursor), None) => Some(*cursor),
            _ => None,
        }
    }

    /// Whether there is no position at all.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.positions, Positions::Many(named) if named.is_empty())
    }

    /// Parses a cursor or token from the bytes of a header or parameter.
    ///
    /// # Errors
    /// If they are neither.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidCursor> {
        if let Some(cursor) = Cursor::parse(bytes) {
            return Ok(cursor.into());
        }
        if bytes.len() > Self::MAX_TEXT_LEN {
            return Err(InvalidCursor(()));
        }
        let bytes = URL_SAFE_NO_PAD.decode(bytes).map_err(|_| InvalidCursor(()))?;
        decode(&bytes).ok_or(InvalidCursor(()))
    }
}

impl From<Cursor> for Cursors {
    fn from(cursor: Cursor) -> Self {
        Self::unfiltered(Positions::One(cursor))
    }
}

impl fmt::Display for Cursors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        match (&self.positions, self.filter) {
            (Positions::One(cursor), None) => return cursor.fmt(f),
            (Positions::One(cursor), Some(FilterHash(filter))) => {
                bytes.push(ONE_FILTERED);
                bytes.extend(filter.to_be_bytes());
                push_cursor(&mut bytes, *cursor);
            }
            (Positions::Many(named), None) => {
                bytes.reserve(1 + named.len() * 20);
                bytes.push(MANY);
                push_named(&mut bytes, named);
            }
            (Positions::Many(named), Some(FilterHash(filter))) => {
                bytes.push(MANY_FILTERED);
                bytes.extend(filter.to_be_bytes());
                push_named(&mut bytes, named);
            }
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursors {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes())
    }
}

fn decode(bytes: &[u8]) -> Option<Cursors> {
    let (&[version], rest) = bytes.split_first_chunk::<1>()?;
    let (filter, rest) = match version {
        MANY => (None, rest),
        ONE_FILTERED | MANY_FILTERED => {
            let (filter, rest) = rest.split_first_chunk::<4>()?;
            (Some(FilterHash(u32::from_be_bytes(*filter))), rest)
        }
        _ => return None,
    };
    let positions = match version {
        ONE_FILTERED => Positions::One(split_cursor(rest).filter(|(_, rest)| rest.is_empty())?.0),
        _ => Positions::Many(decode_named(rest)?),
    };
    Some(Cursors { positions, filter })
}

fn decode_named(mut rest: &[u8]) -> Option<Vec<(u32, Cursor)>> {
    let mut named = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_first_chunk::<4>()?;
        let (cursor, after) = split_cursor(after)?;
        named.push((u32::from_be_bytes(*name), cursor));
        rest = after;
    }
    Some(named)
}

fn push_named(bytes: &mut Vec<u8>, named: &[(u32, Cursor)]) {
    for (name, cursor) in named {
        bytes.extend(name.to_be_bytes());
        push_cursor(bytes, *cursor);
    }
}

fn push_cursor(bytes: &mut Vec<u8>, cursor: Cursor) {
    bytes.extend(cursor.epoch.to_be_bytes());
    bytes.extend(cursor.tag.to_be_bytes());
    push_varint(bytes, cursor.seq);
}

fn split_cursor(bytes: &[u8]) -> Option<(Cursor, &[u8])> {
    let (epoch, rest) = bytes.split_first_chunk::<8>()?;
    let (tag, rest) = rest.split_first_chunk::<4>()?;
    let (seq, rest) = split_varint(rest)?;
    Some((Cursor { epoch: u64::from_be_bytes(*epoch), seq, tag: u32::from_be_bytes(*tag) }, rest))
}

/// LEB128: seven bits a byte, low ones first.
fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value as u8) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn split_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        value |= bits.checked_shl(7 * at as u32).filter(|shifted| shifted >> (7 * at) == bits)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

/// 32 bits are enough: epochs are mixed with the channel's name, so a collision can cause a reset but never a false
/// continuation.
fn short(channel: &Channel) -> u32 {
    (hash(channel.as_str()) >> 32) as u32
}

/// The first byte of a token says what it is; that of a one-channel cursor is 1.
const MANY: u8 = 2;
const MANY_FILTERED: u8 = 3;
const ONE_FILTERED: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::new(name).unwrap()
    }

    #[test]
    fn tokens_read_back() {
        let names: Vec<_> = (0..Channels::MAX).map(|n| channel(&format!("c{n}"))).collect();
        let at = |n: usize| Cursor { epoch: u64::MAX - n as u64, seq: u64::MAX >> (n % 64), tag: n as u32 };
        let token = Cursors::of(names.iter().enumerate().map(|(n, name)| (name, at(n))));
        let read: Cursors = token.to_string().parse().unwrap();
        assert_eq!(read, token);
        for (n, name) in names.iter().enumerate() {
            assert_eq!(read.position(name), Some(at(n)));
        }
    }

    #[test]
    fn the_texts_never_change_for_clients_keep_them() {
        let at = |seq| Cursor { epoch: 0x0102_0304_0506_0708, seq, tag: 0x090a_0b0c };
        let (a, long) = (channel("a"), channel("r\u{e4}ume/7"));
        let token = Cursors::of([(&a, at(1)), (&long, at(0x1234_5678_9abc))]);
        let table = [
            (Cursors::from(at(0x1234_5678_9abc)), "AQECAwQFBgcIAAASNFZ4mrwJCgsM"),
            (token, "Aq9j3EwBAgMEBQYHCAkKCwwBp0Kh4AECAwQFBgcICQoLDLy14rPFxgQ"),
            (Cursors::of([]), "Ag"),
        ];
        for (cursors, text) in table {
            assert_eq!(cursors.to_string(), text);
            assert_eq!(text.parse(), Ok(cursors));
        }
    }

    #[test]
    fn a_position_is_replaced_or_added() {
        let (a, b, c) = (channel("a"), channel("b"), channel("c"));
        let at = |seq| Cursor { epoch: 1, seq, tag: 9 };
        let token = Cursors::of([(&a, at(4)), (&b, at(7))]).with(&b, at(8)).with(&c, at(1));
        assert_eq!([&a, &b, &c].map(|channel| token.position(channel)), [Some(at(4)), Some(at(8)), Some(at(1))]);
        assert_eq!(Cursors::from(at(1)).with(&a, at(2)), Cursors::from(at(2)));
    }

    #[test]
    fn what_is_no_token_is_an_error() {
        let good = Cursors::of([(&channel("a"), Cursor { epoch: 1, seq: 300, tag: 1 })]).to_string();
        assert!(good.parse::<Cursors>().is_ok());
        for cut in 0..good.len() {
            assert!(good[..cut].parse::<Cursors>().is_err(), "{cut}");
        }
        assert!(Cursors::parse(&[0xff, 0xfe]).is_err());
        let bytes = URL_SAFE_NO_PAD.decode(good).unwrap();
        let read = |bytes: &[u8]| Cursors::parse(URL_SAFE_NO_PAD.encode(bytes).as_bytes());
        assert!(read(&bytes).is_ok());
        assert!(read(&[&[ONE_FILTERED + 1], &bytes[1..]].concat()).is_err());
        assert!(read(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn what_is_longer_than_any_token_is_an_error_whatever_it_says() {
        let longest = |count: usize| {
            let names: Vec<_> = (0..count).map(|n| channel(&format!("c{n}"))).collect();
            let at = Cursor { epoch: u64::MAX, seq: u64::MAX, tag: u32::MAX };
            Cursors::of(names.iter().map(|name| (name, at))).to_string()
        };
        let most = longest(Channels::MAX);
        assert_eq!(most.len(), (1 + Channels::MAX * 26).div_ceil(3) * 4 - (3 - (1 + Channels::MAX * 26) % 3) % 3);
        assert!(most.parse::<Cursors>().is_ok());
        // A token, except for its length.
        assert!(longest(Channels::MAX + 1).parse::<Cursors>().is_err());
    }

    #[test]
    fn numbers_take_a_byte_for_each_seven_bits() {
        for (value, length) in
            [(0, 1), (0x7f, 1), (0x80, 2), (0x3fff, 2), (0x4000, 3), (u64::MAX >> 1, 9), (u64::MAX, 10)]
        {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, value);
            assert_eq!(bytes.len(), length, "{value}");
            assert_eq!(split_varint(&[&bytes[..], b"x"].concat()), Some((value, &b"x"[..])));
            assert_eq!(split_varint(&bytes[..length - 1]), None, "{value}");
        }
        assert_eq!(split_varint(&[0xff; 11]), None, "more than 64 bits");
    }

    #[test]
    fn a_one_channel_cursor_is_every_channels_position() {
        let cursor = Cursor { epoch: 1, seq: 2, tag: 3 };
        let read: Cursors = cursor.to_string().parse().unwrap();
        assert_eq!(read.position(&channel("any")), Some(cursor));
        assert_eq!(read.to_string(), cursor.to_string());
    }
}
