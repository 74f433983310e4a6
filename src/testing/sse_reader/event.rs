//! An event that was read.

use std::time::Duration;

/// An event, as a page's listener sees it. From [`SseReader::next`](super::SseReader::next).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SseEvent {
    /// `type`: `message` unless the block names it.
    pub name: String,
    /// `lastEventId`: of this block, or of the last block that had one.
    pub id: String,
    /// `data`: the lines, joined by line feeds.
    pub data: String,
    /// The reconnection delay, if this block sets one.
    pub retry: Option<Duration>,
}
