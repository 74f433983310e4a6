//! Gathers what all channels of a subscription have into one answer, bounded in events and bytes.

use std::{sync::Arc, task::Context};

use super::{
    channel_reader::{ChannelReader, PageSlot, Peeked},
    channel_readers::Visit,
    delivery::{Batch, Failed, Reset, Snapshot},
    entry_run::EntryRun,
    error::ReadError,
    stats::ReaderKind,
    subscriber::Subscriber,
};
use crate::{channel::Channel, store::Entry};

#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) events: Vec<Batch>,
    pub(super) resets: Vec<Reset>,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) failed: Vec<Failed>,
    /// Why a channel cannot be read now.
    pub(super) failure: Option<ReadError>,
    /// Whether every channel was seen at its head.
    pub(super) live: bool,
    kind: ReaderKind,
    events_left: usize,
    bytes_left: usize,
    /// How many more entries may be looked at that a filter hides.
    pub(super) examined_left: u32,
}

/// Whether a visit of all channels needs an answer of the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum GatherStatus {
    Complete,
    ReadPending,
}

/// What is left in a channel after what was gathered from it.
enum Remaining {
    Nothing,
    /// The answer was full before that was known.
    Unknown,
    ReadPending,
    NeedsPageSlot,
    Unreadable(ReadError),
}

impl Gathered {
    /// Nothing yet, for a reader of this kind: at most `max_events`, and as many that a filter hides as `max_examined`.
    pub(super) fn new(max_events: usize, max_examined: u32, kind: ReaderKind) -> Self {
        Self {
            events: Vec::new(),
            resets: Vec::new(),
            snapshots: Vec::new(),
            failed: Vec::new(),
            failure: None,
            live: true,
            kind,
            events_left: max_events,
            bytes_left: MAX_BYTES,
            examined_left: max_examined,
        }
    }

    pub(super) fn has_any(&self) -> bool {
        !self.events.is_empty() || !self.resets.is_empty() || !self.snapshots.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.events_left == 0 || self.bytes_left == 0 || self.examined_left == 0
    }

    /// Takes what is there.
    pub(super) fn gather(&mut self, subscriber: &mut Subscriber, cx: &mut Context<'_>) -> GatherStatus {
        let mut status = GatherStatus::Complete;
        let mut readable = false;
        self.live = true;
        subscriber.visit(|channel_reader, page_slot| -> Visit<()> {
            let remaining = self.gather_from(channel_reader, page_slot, cx);
            // A channel that needs the page slot is visited again, or waits for another one, which is not live then.
            self.live &= matches!(remaining, Remaining::Nothing | Remaining::NeedsPageSlot);
            if !matches!(remaining, Remaining::Unreadable(_)) {
                readable = true;
            }
            match remaining {
                Remaining::Nothing | Remaining::Unknown => {}
                Remaining::ReadPending => status = GatherStatus::ReadPending,
                Remaining::NeedsPageSlot => return Visit::NeedsPageSlot,
                Remaining::Unreadable(error) => match error.corrupt() {
                    Some(corrupt) => self.note_failed(channel_reader.failed(corrupt.clone())),
                    None => self.failure = Some(error),
                },
            }
            Visit::Continue
        });
        // Waiting would be in vain if no channel can ever be read.
        if let (false, Some(failed)) = (readable, self.failed.first()) {
            self.failure.get_or_insert(ReadError::Store(failed.error.clone()));
        }
        status
    }

    fn gather_from(
        &mut self,
        channel_reader: &mut ChannelReader,
        page_slot: PageSlot,
        cx: &mut Context<'_>,
    ) -> Remaining {
        while !self.is_full() {
            match channel_reader.poll_peek(page_slot, cx) {
                Peeked::Run(run) => self.take(channel_reader, run),
                // Resets and snapshots come before events, so those after events of this answer are for the next one.
                Peeked::Reset(_) if self.has_events_of(channel_reader.channel()) => return Remaining::Unknown,
                Peeked::Snapshot(snapshot) => {
                    channel_reader.take_snapshot();
                    self.bytes_left = self.bytes_left.saturating_sub(snapshot.entry().size());
                    self.snapshots.push(snapshot);
                }
                Peeked::Skipped { entries } => {
                    let entries = u32::try_from(entries).unwrap_or(u32::MAX);
                    self.examined_left = self.examined_left.saturating_sub(entries);
                }
                Peeked::Reset(reset) => {
                    channel_reader.take_reset();
                    self.resets.push(reset);
                }
                Peeked::Closed(_) => channel_reader.take_close(),
                Peeked::Failed(error) => return Remaining::Unreadable(error),
                Peeked::ReadPending => return Remaining::ReadPending,
                Peeked::NeedsPageSlot => return Remaining::NeedsPageSlot,
                Peeked::Parked | Peeked::Corrupt | Peeked::Ended => return Remaining::Nothing,
            }
        }
        Remaining::Unknown
    }

    fn take(&mut self, channel_reader: &mut ChannelReader, run: Arc<EntryRun>) {
        let events = channel_reader.take(run, self.events_left, self.kind);
        let bytes: usize = events.entries().map(Entry::size).sum();
        self.events_left -= events.len().min(self.events_left);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        // Most answers have one: allocate no more.
        match self.events.is_empty() {
            true => self.events = vec![events],
            false => self.events.push(events),
        }
    }

    fn has_events_of(&self, channel: &Channel) -> bool {
        self.events.iter().flat_map(Batch::entries).any(|entry| entry.channel == *channel)
    }

    /// A channel may be visited several times.
    fn note_failed(&mut self, failed: Failed) {
        if self.failed.iter().all(|known| known.channel != failed.channel) {
            self.failed.push(failed);
        }
    }
}

/// Most bytes of one answer; a run that exceeds it is the last.
const MAX_BYTES: usize = 1 << 20;
