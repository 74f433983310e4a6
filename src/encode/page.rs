//! The object that answers `format=page`: it includes what is otherwise in response headers. Pure functions.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::{
    escape::escape_breaks,
    values::{CORRUPT, millis},
    view::View,
};
use crate::{cursor::Cursors, hub::Listened};

/// The object around the events in `array`.
pub(crate) fn page(array: &[u8], listened: &Listened, view: &View) -> Bytes {
    let of = |channel, reason| ChannelReason { channel: view.channel(channel), reason };
    let resets = listened.resets.iter().map(|reset| of(&reset.channel, reset.reason.as_str()));
    let errors = listened.failed.iter().map(|failed| of(&failed.channel, CORRUPT));
    let members = PageMembers {
        cursor: Some(listened.cursors.to_string()).filter(|_| !listened.cursors.is_empty()),
        live: listened.live,
        resets: resets.collect(),
        closed: listened.ended.iter().map(|channel| view.channel(channel)).collect(),
        errors: errors.collect(),
        retry_ms: listened.retry.map(millis),
    };
    encode(array, &members)
}

/// The object for a client that should come back later, to `cursors`.
pub(crate) fn empty_page(cursors: &Cursors, retry: Duration) -> Bytes {
    let cursor = Some(cursors.to_string());
    encode(b"[]", &PageMembers { cursor, retry_ms: Some(millis(retry)), ..PageMembers::default() })
}

#[derive(Default, Serialize)]
struct PageMembers<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    live: bool,
    resets: Vec<ChannelReason<'a>>,
    closed: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ChannelReason<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u64>,
}

/// A channel that was reset or cannot be read, and why.
#[derive(Serialize)]
struct ChannelReason<'a> {
    channel: &'a str,
    reason: &'static str,
}

fn encode(array: &[u8], members: &PageMembers<'_>) -> Bytes {
    // Cannot fail: strings and numbers always serialise.
    let members = serde_json::to_vec(members).unwrap_or_default();
    let mut out = [b"{\"events\":", array, b","].concat();
    let start = out.len();
    out.extend_from_slice(members.get(1..).unwrap_or(b"}"));
    escape_breaks(&mut out, start);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Cursor;

    #[test]
    fn a_page_has_everything_in_its_body() {
        let at = Cursors::from(Cursor { epoch: 1, seq: 2, tag: 3 });
        let page = empty_page(&at, Duration::from_millis(1500));
        let expected =
            format!(r#"{{"events":[],"cursor":"{at}","live":false,"resets":[],"closed":[],"retry_ms":1500}}"#);
        assert_eq!(page, expected);
        let of = |reason| vec![ChannelReason { channel: "\u{2028}", reason }];
        let (resets, errors) = (of("trimmed"), of(CORRUPT));
        let members = PageMembers { live: true, resets, closed: vec!["a"], errors, ..PageMembers::default() };
        let expected = r#"{"events":[1],"live":true,"resets":[{"channel":"\u2028","reason":"trimmed"}],"closed":["a"],"errors":[{"channel":"\u2028","reason":"corrupt"}]}"#;
        assert_eq!(encode(b"[1]", &members), expected);
    }
}
