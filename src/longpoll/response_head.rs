//! The headers of responses: at most 3 500 bytes, including what a server adds, because many proxies accept only 4 kB.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    cursor::Cursors,
    edge::{ACCEPT, ReadTarget, position_header},
    encode::CORRUPT,
    hub::{Batch, Listened, Reset},
    request::{EVENTS_CLOSED, EVENTS_ERROR, EVENTS_LIVE, EVENTS_RESET, LAST_EVENT_ID, next_link},
    retry::retry_after,
};

/// Whether a response includes everything there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Live {
    Yes,
    No,
}

/// The headers of an array of what was gathered.
pub(super) fn array(target: &ReadTarget, listened: &Listened) -> HeaderMap {
    let live = if listened.live { Live::Yes } else { Live::No };
    let mut headers = array_with(&listened.cursors, live, |position| match listened.run() {
        Some(events) if listened.cursors.as_one() == Some(events.next()) => {
            shared_link(events, &target.next_query, position)
        }
        _ => link(&target.next_query, position),
    });
    headers.extend(resets_value(target, &listened.resets).map(|value| (EVENTS_RESET, value)));
    let mut failed = listened.failed.iter().map(|failed| &failed.channel);
    if let Some(first) = failed.next() {
        let alone = Some(target.view.channel(first)).filter(|_| failed.next().is_none());
        headers.extend(reason_value(CORRUPT, alone).map(|value| (EVENTS_ERROR, value)));
    }
    if listened.closed {
        headers.insert(EVENTS_CLOSED, HeaderValue::from_static("true"));
    }
    if let Some(retry) = listened.retry {
        headers.insert(header::RETRY_AFTER, retry_after(retry));
    }
    headers
}

/// The headers of an object, which has everything else in its body.
pub(super) fn page(retry: Option<Duration>) -> HeaderMap {
    let mut headers = common();
    headers.extend(retry.map(|retry| (header::RETRY_AFTER, retry_after(retry))));
    headers
}

/// The headers that every array has; the next page starts at `cursors`.
pub(super) fn array_at(next_query: &[u8], cursors: &Cursors, live: Live) -> HeaderMap {
    array_with(cursors, live, |position| link(next_query, position))
}

fn array_with(cursors: &Cursors, live: Live, link: impl FnOnce(&HeaderValue) -> Option<Bytes>) -> HeaderMap {
    let mut headers = common();
    if let Some(position) = position_header(cursors) {
        let link = link(&position).and_then(|link| HeaderValue::from_maybe_shared(link).ok());
        headers.extend(link.map(|link| (header::LINK, link)));
        headers.insert(LAST_EVENT_ID, position);
    }
    if live == Live::Yes {
        headers.insert(EVENTS_LIVE, HeaderValue::from_static("true"));
    }
    headers
}

/// The link to the page after `position`, unless it is too long.
fn link(next_query: &[u8], position: &HeaderValue) -> Option<Bytes> {
    let link = next_link(next_query, position.to_str().ok()?);
    (link.len() + position.len() <= MAX_LINK_AND_POSITION).then(|| link.into())
}

/// The link to the page after exactly these events. All polls that wait at a position get the same events, and mostly for the same
/// query, so they share it.
fn shared_link(events: &Batch, next_query: &[u8], position: &HeaderValue) -> Option<Bytes> {
    let link = events.derived(next_query, || link(next_query, position).unwrap_or_default());
    Some(link).filter(|link| !link.is_empty())
}

fn common() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, ACCEPT);
    headers
}

/// Each reason once, because there may be many channels. If exactly one of several channels was reset, its name follows:
/// `trimmed;channel="a%20b"`.
pub(super) fn resets_value(target: &ReadTarget, resets: &[Reset]) -> Option<HeaderValue> {
    match resets {
        [] => None,
        [reset] => reason_value(
            reset.reason.as_str(),
            Some(target.view.channel(&reset.channel)).filter(|_| target.channels().len() > 1),
        ),
        several => {
            let mut reasons: Vec<_> = several.iter().map(|reset| reset.reason.as_str()).collect();
            reasons.sort_unstable();
            reasons.dedup();
            HeaderValue::try_from(reasons.join(", ")).ok()
        }
    }
}

/// A reason and the channel's name, which is left out when it is long.
fn reason_value(reason: &'static str, channel: Option<&str>) -> Option<HeaderValue> {
    let name = channel.map(|channel| utf8_percent_encode(channel, &ENCODED).to_string());
    match name.filter(|name| name.len() <= MAX_NAME_BYTES) {
        Some(name) => HeaderValue::try_from(format!("{reason};channel=\"{name}\"")).ok(),
        None => Some(HeaderValue::from_static(reason)),
    }
}

/// Maximum bytes of the two longest headers together. The rest takes about 900 at most, including a server's own.
const MAX_LINK_AND_POSITION: usize = 2_600;

/// Maximum bytes of an encoded channel name.
const MAX_NAME_BYTES: usize = 256;

/// All but the unreserved characters of RFC 3986.
const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channel::{Channel, Channels},
        cursor::Cursor,
        request::ReadSettings,
        store::Reason,
    };

    const AT: Cursor = Cursor { epoch: u64::MAX, seq: u64::MAX, tag: u32::MAX };

    fn target(names: &[&str]) -> ReadTarget {
        let channels = Channels::new(names.iter().map(|name| Channel::new(name).unwrap())).unwrap();
        ReadTarget::new(channels.into(), &ReadSettings::default(), None)
    }

    fn reset(name: &str, reason: Reason) -> Reset {
        Reset { channel: Channel::new(name).unwrap(), reason, earliest: AT, latest: AT, snapshot_follows: false }
    }

    #[test]
    fn each_reason_is_listed_once_and_one_channel_of_several_is_named() {
        use Reason::*;
        let (odd, long) = ("\u{447} \"a\"", "\u{447}".repeat(60));
        let several: &[&str] = &[odd, "b", &long];
        let table: [(&[&str], Vec<Reset>, Option<&str>); 6] = [
            (several, vec![], None),
            (&[odd], vec![reset(odd, Trimmed)], Some("trimmed")),
            (several, vec![reset(odd, Trimmed)], Some("trimmed;channel=\"%D1%87%20%22a%22\"")),
            (several, vec![reset(&long, Ahead)], Some("ahead")),
            (several, vec![reset(odd, Trimmed), reset("b", Trimmed)], Some("trimmed")),
            (several, vec![reset(odd, Unknown), reset("b", Ahead), reset(&long, Unknown)], Some("ahead, unknown")),
        ];
        for (names, happened, value) in table {
            let sent = resets_value(&target(names), &happened);
            assert_eq!(sent.as_ref().map(|sent| sent.to_str().unwrap()), value, "{happened:?}");
        }
    }

    #[test]
    fn a_name_of_at_most_256_bytes_is_sent() {
        // Three of the encoded bytes are one of the name.
        let value_with = |plain: usize| {
            let name = format!(" {}", "a".repeat(plain));
            reason_value(CORRUPT, Some(&name)).unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(value_with(253), format!("corrupt;channel=\"%20{}\"", "a".repeat(253)));
        assert_eq!(value_with(254), "corrupt");
    }

    #[test]
    fn a_link_is_left_out_when_it_and_the_position_are_too_long_together() {
        let position = Cursors::from(AT);
        for length in 1..MAX_OF_BOTH {
            let next_query = format!("channel={}", "a".repeat(length));
            let link = next_link(next_query.as_bytes(), &position.to_string());
            let fits = link.len() + position.to_string().len() <= MAX_OF_BOTH;
            assert_eq!(
                array_at(next_query.as_bytes(), &position, Live::No).contains_key(header::LINK),
                fits,
                "{length}"
            );
        }
    }

    /// Leaves room for the rest in 3 500 bytes of headers.
    const MAX_OF_BOTH: usize = 2_600;

    #[test]
    fn the_longest_position_that_fits_leaves_no_room_for_a_link() {
        let names: Vec<_> = (0..65).map(|n| Channel::new(format!("c{n}")).unwrap()).collect();
        let head = |count: usize| array_at(b"", &Cursors::of(names[..count].iter().map(|name| (name, AT))), Live::Yes);
        let has = |count, name| head(count).contains_key(name);
        assert_eq!([has(30, header::LINK), has(64, header::LINK), has(65, header::LINK)], [true, false, false]);
        assert_eq!([has(30, LAST_EVENT_ID), has(64, LAST_EVENT_ID), has(65, LAST_EVENT_ID)], [true, true, false]);
    }
}
