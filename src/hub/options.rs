//! The settings of a hub.

use std::time::Duration;

use crate::store::Limit;

/// Settings of a [`Hub`](crate::Hub).
///
/// ```
/// use std::time::Duration;
/// use tower_events::{Hub, HubOptions, MemoryStore};
///
/// let options = HubOptions::default().ring_bytes(64 << 10).linger(Duration::from_secs(5));
/// let hub = Hub::with_options(MemoryStore::default(), options);
/// # drop(hub);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HubOptions {
    /// Recent entries kept per followed channel, in bytes of memory: an entry counts twice its texts, because one encoding is
    /// kept with it, plus some 200 bytes. Each further encoding that readers ask for takes as much again as the texts, and the
    /// runs that readers share at most 8 times 64 KiB; these are not counted. Default 512 KiB.
    pub ring_bytes: usize,
    /// Bounds of one read of the store on a subscriber's behalf. Default 1 000 events, 256 KiB.
    pub page: Limit,
    /// Most such reads under way at once. Default 64.
    pub reads: usize,
    /// Most reads under way at once that bring followed channels up to date after hints were lost or came with a gap. Live
    /// readers wait for these, so they are counted apart from `reads`. Default 64.
    pub advancing_reads: usize,
    /// Pages of all channels that are kept for two seconds after they were read, for other readers that resume within them,
    /// in bytes counted as for `ring_bytes`. Default 16 MiB.
    pub recent_page_bytes: usize,
    /// How long a channel is followed after its last reader left. Default 30 s.
    pub linger: Duration,
    /// Most channels that are followed without a reader. Default 1 024.
    pub lingering: usize,
    /// How often the heads of followed channels are compared with the store's. Default 3 s.
    pub check_every: Duration,
    /// How long a read of the store may take once it has started, before it counts as failed. Default 10 s.
    pub read_timeout: Duration,
    /// Most reads that wait to start; one more is refused at once. Default 4 096.
    pub waiting_reads: usize,
    /// How long a read may wait to start before it is refused. Default 2 s.
    pub read_queue_timeout: Duration,
    /// How long a reader may leave a page untouched that was read for it. Then the page is freed, and the reader ends with
    /// [`SubscribeError::Stalled`](crate::SubscribeError::Stalled) when it is polled again; it counts as a reader until it is
    /// dropped. HTTP/2 windows and slow phones can pause for a minute. Default 5 min.
    pub stall_timeout: Duration,
    /// Most readers at once. Default: no bound.
    pub readers: usize,
    /// The shortest delay after which a draining hub tells a reader to come back. Default 1 s: earlier it would meet the same
    /// process, or a proxy that knows no other yet.
    pub drain_floor: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            ring_bytes: 512 << 10,
            page: Limit { events: 1_000, bytes: 256 << 10 },
            reads: 64,
            advancing_reads: 64,
            recent_page_bytes: 16 << 20,
            linger: Duration::from_secs(30),
            lingering: 1024,
            check_every: Duration::from_secs(3),
            read_timeout: Duration::from_secs(10),
            waiting_reads: 4096,
            read_queue_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(5 * 60),
            readers: usize::MAX,
            drain_floor: Duration::from_secs(1),
        }
    }
}

impl HubOptions {
    /// Sets the bytes of recent entries kept per followed channel.
    #[must_use]
    pub fn ring_bytes(self, ring_bytes: usize) -> Self {
        Self { ring_bytes, ..self }
    }

    /// Sets the bounds of one read; at least 1 event.
    #[must_use]
    pub fn page(self, page: Limit) -> Self {
        Self { page: Limit { events: page.events.max(1), ..page }, ..self }
    }

    /// Sets the most reads of the store under way at once; at least 1.
    #[must_use]
    pub fn reads(self, reads: usize) -> Self {
        Self { reads: reads.max(1), ..self }
    }

    /// Sets the most reads under way at once that bring followed channels up to date; at least 1.
    #[must_use]
    pub fn advancing_reads(self, advancing_reads: usize) -> Self {
        Self { advancing_reads: advancing_reads.max(1), ..self }
    }

    /// Sets the bytes of recently read pages that are kept for other readers that resume within them.
    #[must_use]
    pub fn recent_page_bytes(self, recent_page_bytes: usize) -> Self {
        Self { recent_page_bytes, ..self }
    }

    /// Sets how long a channel is followed after its last reader left.
    #[must_use]
    pub fn linger(self, linger: Duration) -> Self {
        Self { linger, ..self }
    }

    /// Sets the most channels that are followed without a reader.
    #[must_use]
    pub fn lingering(self, lingering: usize) -> Self {
        Self { lingering, ..self }
    }

    /// Sets how often heads are compared; at least 1 ms.
    #[must_use]
    pub fn check_every(self, check_every: Duration) -> Self {
        Self { check_every: check_every.max(Duration::from_millis(1)), ..self }
    }

    /// Sets how long a read of the store or of its heads may take once it has started. A store that hangs is treated as one
    /// that fails: requests are told to come back, and streams end at an event boundary.
    #[must_use]
    pub fn read_timeout(self, read_timeout: Duration) -> Self {
        Self { read_timeout, ..self }
    }

    /// Sets the most reads that wait to start; one more is refused at once with
    /// [`SubscribeError::Overloaded`](crate::SubscribeError::Overloaded).
    #[must_use]
    pub fn waiting_reads(self, waiting_reads: usize) -> Self {
        Self { waiting_reads, ..self }
    }

    /// Sets how long a read may wait to start. One that waited longer is refused as one too many is, so that reads serve
    /// readers that still wait for them.
    #[must_use]
    pub fn read_queue_timeout(self, read_queue_timeout: Duration) -> Self {
        Self { read_queue_timeout, ..self }
    }

    /// Sets how long a reader may leave a page untouched that was read for it before the reader ends.
    #[must_use]
    pub fn stall_timeout(self, stall_timeout: Duration) -> Self {
        Self { stall_timeout, ..self }
    }

    /// Sets the most readers at once; one more is refused with
    /// [`SubscribeError::TooManyReaders`](crate::SubscribeError::TooManyReaders).
    #[must_use]
    pub fn readers(self, readers: usize) -> Self {
        Self { readers, ..self }
    }

    /// Sets the shortest delay after which a draining hub tells a reader to come back; at least 1 ms. The window of a drain is
    /// at least twice as long.
    #[must_use]
    pub fn drain_floor(self, drain_floor: Duration) -> Self {
        Self { drain_floor, ..self }
    }

    /// The options with their bounds applied: the fields are public, and may have been set without the setters.
    pub(super) fn bounded(self) -> Self {
        let Self { page, reads, advancing_reads, check_every, .. } = self.clone();
        self.page(page).reads(reads).advancing_reads(advancing_reads).check_every(check_every)
    }
}
