//! The `name=value` pairs of a query, as bytes. Knows no particular parameter.

use std::borrow::Cow;

use memchr::memchr2;
use percent_encoding::percent_decode;

use super::field_syntax::split_once;

/// The decoded pairs (`application/x-www-form-urlencoded`). Bytes that are not UTF-8 stay as they are, so that a name or
/// cursor is never turned into another one.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    Pairs::of(query.as_bytes()).map(|pair| (pair.name, pair.value))
}

/// A decoded pair of a query.
pub(crate) struct Pair<'a> {
    pub(crate) name: Cow<'a, [u8]>,
    pub(crate) value: Cow<'a, [u8]>,
    /// As it is written in the query.
    pub(crate) written: &'a [u8],
}

/// An iterator over the pairs of a query, without empty ones.
pub(crate) struct Pairs<'a> {
    rest: &'a [u8],
    is_encoded: bool,
}

impl<'a> Pairs<'a> {
    pub(crate) fn of(query: &'a [u8]) -> Self {
        // Most queries consist of names, numbers and cursors, which need no decoding.
        Self { rest: query, is_encoded: memchr2(b'%', b'+', query).is_some() }
    }

    #[inline]
    fn decode(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        if self.is_encoded { decode(text) } else { Cow::Borrowed(text) }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    #[inline]
    fn next(&mut self) -> Option<Pair<'a>> {
        while !self.rest.is_empty() {
            let (written, rest) = split_once(self.rest, b'&');
            self.rest = rest;
            if !written.is_empty() {
                let (name, value) = split_once(written, b'=');
                return Some(Pair { name: self.decode(name), value: self.decode(value), written });
            }
        }
        None
    }
}

fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

/// A whole number of nothing but decimal digits; one that is too large becomes `u64::MAX`.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_as_bytes() {
        let read: Vec<_> = pairs("a=1&&b=x%20y+z&c&=v&d=%ff&e=a=b&f=%zz").collect();
        let expected: [(&[u8], &[u8]); 7] =
            [(b"a", b"1"), (b"b", b"x y z"), (b"c", b""), (b"", b"v"), (b"d", b"\xff"), (b"e", b"a=b"), (b"f", b"%zz")];
        assert_eq!(read.len(), expected.len());
        for ((name, value), (good_name, good_value)) in read.iter().zip(expected) {
            assert_eq!((name.as_ref(), value.as_ref()), (good_name, good_value));
        }
    }

    #[test]
    fn numbers_are_digits_and_saturate() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"0042"), Some(42));
        assert_eq!(number(b"99999999999999999999"), Some(u64::MAX));
        for bad in [&b""[..], b"-1", b"+1", b"1.0", b" 1", b"1e3", b"\xff", "１".as_bytes()] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }
}
