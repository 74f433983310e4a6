//! What a hub holds, and what has happened in it.

mod counts;
mod histogram;
mod labels;

pub use self::{
    counts::Counts,
    histogram::{Bucket, Histogram},
    labels::{EndReason, Label, PublishFailure, ReadPurpose, ReaderKind, RefusedBy},
};
pub(super) use self::{counts::LabelledCounters, histogram::AtomicHistogram};
use crate::store::{Health, Reason, Upkeep};

/// What a [`Hub`](crate::Hub) holds at one moment, and what has happened since it was created.
///
/// The numbers are read one after another while the hub goes on, so that they need not agree exactly with each other.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_events::{Channel, Event, Hub, MemoryStore, hub::ReaderKind, store::Reason};
///
/// let hub = Hub::new(MemoryStore::default());
/// hub.publish(&Channel::new("room")?, Event::text("hello")).await?;
/// let stats = hub.stats();
/// assert_eq!((stats.readers, stats.totals.published_events), (0, 1));
/// assert_eq!(stats.readers_by_kind.of(ReaderKind::Sse), 0);
/// assert_eq!((stats.totals.resets.of(Reason::Trimmed), stats.totals.resets.sum()), (0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Open subscriptions: streams, parked polls, in-process subscribers.
    pub readers: usize,
    /// The same by how they read.
    pub readers_by_kind: Counts<ReaderKind>,
    /// Followed channels, including lingering ones.
    pub followed_channels: usize,
    /// Followed channels without a reader.
    pub lingering_channels: usize,
    /// Size of the recent entries kept for followed channels, in bytes as counted for
    /// [`HubOptions::ring_bytes`](crate::HubOptions::ring_bytes).
    pub ring_bytes: usize,
    /// Reads of the store that are under way for readers that catch up.
    pub running_reads: usize,
    /// Reads that wait to start, at most [`HubOptions::max_waiting_reads`](crate::HubOptions::max_waiting_reads).
    pub waiting_reads: usize,
    /// Whether the hub is draining.
    pub draining: bool,
    /// The health of the store.
    pub store: Health,
    /// The upkeep of the store by this process.
    pub upkeep: Upkeep,
    /// What has happened since the hub was created.
    pub totals: Totals,
}

/// What has happened in a [`Hub`](crate::Hub) since it was created. Every number only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Readers that were admitted. Each long poll is one.
    pub readers: Counts<ReaderKind>,
    /// Those of them that brought a position: reconnects, and each poll after a client's first.
    pub resumes: Counts<ReaderKind>,
    /// Readers that the hub ended, rather than their clients.
    pub ended_readers: Counts<EndReason>,
    /// Events that were handed to readers: an event that 10 readers get counts 10 times.
    pub deliveries: Counts<ReaderKind>,
    /// Bytes of the bodies that were handed to the HTTP server, with marks and heartbeats.
    pub bytes: Counts<ReaderKind>,
    /// Resets that were handed to readers.
    pub resets: Counts<Reason>,
    /// Requests and reads that were refused, by the limit that they were over.
    pub refusals: Counts<RefusedBy>,
    /// Appends that succeeded; one may hold a batch.
    pub publishes: u64,
    /// Events that were appended.
    pub published_events: u64,
    /// Events that were not appended because their key had been used before for the same event.
    pub duplicates: u64,
    /// Appends that failed.
    pub publish_failures: Counts<PublishFailure>,
    /// The times of successful reads for readers that catch up.
    pub catch_up_reads: Histogram,
    /// The times of successful reads that bring followed channels up to date after hints were lost or late.
    pub advancing_reads: Histogram,
    /// The times of successful calls for heads.
    pub head_reads: Histogram,
    /// Calls that failed.
    pub read_failures: Counts<ReadPurpose>,
    /// Pages with entries that were read for readers that catch up; those who read the same part share a page.
    pub catch_up_pages: u64,
    /// How often a reader's position was not among the recent entries of its channel, so that the store was asked.
    pub ring_misses: u64,
    /// Pages that were taken back from readers that left them untouched for
    /// [`HubOptions::stall_timeout`](crate::HubOptions::stall_timeout).
    pub revoked_pages: u64,
    /// From the store's append stamp to the hand-over to a reader that keeps up, of a sample: about one in 8 of the first
    /// deliveries of an event or burst, and one in 64 of the others. Across machines it contains the difference of their clocks.
    pub delivery_lag: Histogram,
}
