//! The syntax of header fields, as bytes: lists, quoted strings and parameters (RFC 9110, section 5.6). Knows no particular
//! header.

use std::{borrow::Cow, iter};

use memchr::memchr2;

/// The parts of `value` between `separator`s outside quoted strings, without the white space around them.
/// Empty parts are left out (RFC 9110, section 5.6.1.2: a recipient ignores empty list elements).
pub(crate) fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    let parts = iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (part, after) = rest.split_at_checked(end_of_part(rest, separator))?;
        rest = after.get(1..).unwrap_or_default();
        Some(part)
    });
    parts.map(trim).filter(|part| !part.is_empty())
}

/// What is before the first `separator`, and what is after it; without a `separator` nothing is after it. No vectorised
/// search, because most values are too short to gain from one.
pub(crate) fn split_once(value: &[u8], separator: u8) -> (&[u8], &[u8]) {
    let at = value.iter().position(|&byte| byte == separator).unwrap_or(value.len());
    let (before, after) = value.split_at_checked(at).unwrap_or((value, b""));
    (before, after.get(1..).unwrap_or_default())
}

/// The name and the value of `name=value`; without a value it is empty. White space around `=` is an error that recipients
/// ignore (BWS).
pub(crate) fn parameter(part: &[u8]) -> (&[u8], &[u8]) {
    let (name, value) = split_once(part, b'=');
    (trim(name), trim(value))
}

/// What is before the first `;`, and the parameters after it.
pub(crate) fn split_parameters(value: &[u8]) -> (&[u8], impl Iterator<Item = (&[u8], &[u8])>) {
    let mut parts = split(value, b';');
    (parts.next().unwrap_or_default(), parts.map(parameter))
}

/// A token, or the content of a quoted string; `None` when the quotes are not closed at the end.
pub(crate) fn unquote(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(quoted) = value.strip_prefix(b"\"") else { return Some(Cow::Borrowed(value)) };
    let mut content = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    loop {
        match bytes.next()? {
            b'"' => return bytes.as_slice().is_empty().then_some(Cow::Owned(content)),
            // RFC 9110, section 5.6.4: a backslash quotes the octet after it.
            b'\\' => content.push(*bytes.next()?),
            byte => content.push(*byte),
        }
    }
}

/// `value` without spaces and tabs around it.
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// The index of the first `separator` outside quoted strings, or the length.
fn end_of_part(value: &[u8], separator: u8) -> usize {
    let mut at = 0;
    while let Some((found, byte)) = find(value, at, separator, b'"') {
        if byte == separator {
            return found;
        }
        at = end_of_quoted(value, found + 1);
    }
    value.len()
}

/// The index after a quoted string, given where its content begins.
fn end_of_quoted(value: &[u8], mut at: usize) -> usize {
    while let Some((found, byte)) = find(value, at, b'"', b'\\') {
        if byte == b'"' {
            return found + 1;
        }
        // RFC 9110, section 5.6.4: a backslash quotes the octet after it.
        at = found + 2;
    }
    value.len()
}

/// The first of two bytes at or after `from`, and its index.
fn find(value: &[u8], from: usize, one: u8, other: u8) -> Option<(usize, u8)> {
    let at = from + memchr2(one, other, value.get(from..)?)?;
    Some((at, *value.get(at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_quotes_do_not_split() {
        let parts = |value: &'static str| split(value.as_bytes(), b',').map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(parts("a, b ,,c"), [b"a", b"b", b"c"]);
        assert_eq!(parts(r#"a="x,y", b"#), [b"a=\"x,y\"".to_vec(), b"b".to_vec()]);
        assert_eq!(parts(r#"a="x\",y", b"#), [br#"a="x\",y""#.to_vec(), b"b".to_vec()]);
        assert_eq!(parts("a,b"), [b"a", b"b"]);
        assert_eq!(parts(",a"), [b"a"]);
        assert_eq!(parts(r#"a="x",b"#), [b"a=\"x\"".to_vec(), b"b".to_vec()]);
        assert_eq!(parts(r#"a="",b"#), [b"a=\"\"".to_vec(), b"b".to_vec()]);
        assert_eq!(parts(r#"a="\"",b"#), [b"a=\"\\\"\"".to_vec(), b"b".to_vec()]);
        assert_eq!(parts(r#"a="x,y"#), [b"a=\"x,y"]);
        assert!(parts(" , ").is_empty());
    }

    #[test]
    fn tokens_and_quoted_strings_are_unquoted() {
        assert_eq!(unquote(b"abc").as_deref(), Some(&b"abc"[..]));
        assert_eq!(unquote(br#""a\"b\\""#).as_deref(), Some(&br#"a"b\"#[..]));
        for bad in [&b"\""[..], b"\"a", b"\"a\"b", b"\"a\\"] {
            assert_eq!(unquote(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn parameters_follow_semicolons() {
        let (first, rest) = split_parameters(b"text/plain; Charset = utf-8 ;flag");
        assert_eq!(first, b"text/plain");
        assert_eq!(rest.collect::<Vec<_>>(), [(&b"Charset"[..], &b"utf-8"[..]), (b"flag", b"")]);
    }
}
