//! The position that a request resumes from, in its header or its query.

use http::{HeaderMap, HeaderValue};

use super::headers::LAST_EVENT_ID;
use crate::{cursor::Cursors, error::InvalidCursor};

/// The names that a position has in the query: ours, and those of clients that cannot set headers.
pub(super) fn is_position(name: &[u8]) -> bool {
    matches!(name, b"last_event_id" | b"lastEventId" | b"lastEventID" | b"Last-Event-ID")
}

/// What a header or the parameters of these names say. `EventSource` gives up for good on a 400, and what imitates it where
/// no header can be set appends the parameter to whatever the URL has: so what is no cursor, or contradictory, is a reset and never
/// an error.
#[derive(Default)]
pub(super) struct Position {
    first: Option<Box<[u8]>>,
    contradictory: bool,
}

impl Position {
    /// `EventSource` repeats its first URL on every reconnect, so the header wins over the query.
    pub(super) fn of_header(headers: &HeaderMap) -> Self {
        let mut position = Self::default();
        headers.get_all(LAST_EVENT_ID).iter().map(HeaderValue::as_bytes).for_each(|value| position.add(value));
        position
    }

    /// Takes one more value: a list, for intermediaries join equal header lines with commas (RFC 9110, section 5.3).
    pub(super) fn add(&mut self, value: &[u8]) {
        for part in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty()) {
            let first = self.first.get_or_insert_with(|| part.into());
            self.contradictory |= **first != *part;
        }
    }

    /// What was given, if anything was.
    pub(super) fn cursors(&self) -> Option<Result<Cursors, InvalidCursor>> {
        let first = self.first.as_deref()?;
        Some(if self.contradictory { Err(InvalidCursor(())) } else { Cursors::parse(first) })
    }
}
