//! The position that a request resumes from, in its header or its query.

use http::{HeaderMap, HeaderValue};

use super::headers::LAST_EVENT_ID;
use crate::{cursor::Cursors, error::InvalidCursor};

/// The names of the query parameters for a position: this crate's, and those of clients that cannot set headers.
pub(super) fn is_position(name: &[u8]) -> bool {
    matches!(name, b"last_event_id" | b"lastEventId" | b"lastEventID" | b"Last-Event-ID")
}

/// The position in the header, or in the parameters. `EventSource` gives up for good on a 400, and clients that imitate it
/// where no header can be set append the parameter to whatever the URL has: so a malformed or contradictory position leads to
/// a reset, never to an error.
#[derive(Default)]
pub(super) struct Position {
    first: Option<Box<[u8]>>,
    contradictory: bool,
}

impl Position {
    /// The header's, which wins over the query's, because `EventSource` repeats its first URL on every reconnect.
    pub(super) fn of_header(headers: &HeaderMap) -> Self {
        let mut position = Self::default();
        headers.get_all(LAST_EVENT_ID).iter().map(HeaderValue::as_bytes).for_each(|value| position.add(value));
        position
    }

    /// Adds a value, which may be a list: intermediaries join header lines of one name with commas (RFC 9110, section 5.3).
    pub(super) fn add(&mut self, value: &[u8]) {
        for part in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty()) {
            // What is longer than any position is not copied.
            let part = part.get(..=Cursors::MAX_TEXT_LEN).unwrap_or(part);
            let first = self.first.get_or_insert_with(|| part.into());
            self.contradictory |= **first != *part;
        }
    }

    /// The position, if there was one.
    pub(super) fn cursors(&self) -> Option<Result<Cursors, InvalidCursor>> {
        let first = self.first.as_deref()?;
        Some(if self.contradictory { Err(InvalidCursor(())) } else { Cursors::parse(first) })
    }
}
