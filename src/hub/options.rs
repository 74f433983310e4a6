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
pub struct HubOptions {
    pub(super) ring_bytes: usize,
    pub(super) page: Limit,
    pub(super) max_reads: usize,
    pub(super) max_advancing_reads: usize,
    pub(super) recent_page_bytes: usize,
    pub(super) linger: Duration,
    pub(super) max_lingering: usize,
    pub(super) check_every: Duration,
    pub(super) read_timeout: Duration,
    pub(super) max_waiting_reads: usize,
    pub(super) read_queue_timeout: Duration,
    pub(super) stall_timeout: Duration,
    pub(super) max_readers: usize,
    pub(super) max_followed_channels: usize,
    pub(super) drain_floor: Duration,
    pub(super) subjects: SubjectOptions,
}

/// What concerns readers and publishers whose grants name a subject.
#[derive(Clone, Copy, Debug)]
pub(super) struct SubjectOptions {
    pub(super) max_readers: usize,
    pub(super) max_publishes: u32,
    pub(super) revocation_interval: Duration,
    pub(super) clock_skew: Duration,
}

impl Default for SubjectOptions {
    fn default() -> Self {
        Self {
            max_readers: usize::MAX,
            max_publishes: u32::MAX,
            revocation_interval: Duration::from_secs(5),
            clock_skew: Duration::from_secs(1),
        }
    }
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            ring_bytes: 512 << 10,
            page: Limit { events: 1_000, bytes: 256 << 10 },
            max_reads: 64,
            max_advancing_reads: 64,
            recent_page_bytes: 16 << 20,
            linger: Duration::from_secs(30),
            max_lingering: 1024,
            check_every: Duration::from_secs(3),
            read_timeout: Duration::from_secs(10),
            max_waiting_reads: 4096,
            read_queue_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(5 * 60),
            max_readers: 1 << 20,
            max_followed_channels: 1 << 20,
            drain_floor: Duration::from_secs(1),
            subjects: SubjectOptions::default(),
        }
    }
}

impl HubOptions {
    /// Sets the bytes of memory for the recent entries of each followed channel. Default 512 KiB.
    ///
    /// An entry counts twice its texts, because one encoding is kept with it, plus some 200 bytes. Each further encoding that
    /// readers ask for takes as much again as the texts, and the runs that readers share at most 8 times 64 KiB; these are not
    /// counted.
    #[must_use]
    pub fn ring_bytes(self, ring_bytes: usize) -> Self {
        Self { ring_bytes, ..self }
    }

    /// Sets the bounds of one read of the store on a subscriber's behalf; at least 1 event. Default 1 000 events, 256 KiB.
    #[must_use]
    pub fn page(self, page: Limit) -> Self {
        Self { page: Limit { events: page.events.max(1), ..page }, ..self }
    }

    /// Sets the most reads of the store under way at once on subscribers' behalf; at least 1. Default 64.
    #[must_use]
    pub fn max_reads(self, max_reads: usize) -> Self {
        Self { max_reads: max_reads.max(1), ..self }
    }

    /// Sets the most reads under way at once that bring followed channels up to date after hints were lost or came with a gap;
    /// at least 1. Live readers wait for these, so they are counted apart from `max_reads`. Default 64.
    #[must_use]
    pub fn max_advancing_reads(self, max_advancing_reads: usize) -> Self {
        Self { max_advancing_reads: max_advancing_reads.max(1), ..self }
    }

    /// Sets the memory for recently read pages, in bytes counted as for `ring_bytes`. Pages of all channels are kept for two
    /// seconds after they were read, for other readers that resume within them. Default 16 MiB.
    #[must_use]
    pub fn recent_page_bytes(self, recent_page_bytes: usize) -> Self {
        Self { recent_page_bytes, ..self }
    }

    /// Sets how long a channel is followed after its last reader left. Default 30 s.
    #[must_use]
    pub fn linger(self, linger: Duration) -> Self {
        Self { linger, ..self }
    }

    /// Sets the most channels that are followed without a reader. Default 1 024.
    #[must_use]
    pub fn max_lingering(self, max_lingering: usize) -> Self {
        Self { max_lingering, ..self }
    }

    /// Sets how often the heads of followed channels are compared with the store's; at least 1 ms. Default 3 s.
    #[must_use]
    pub fn check_every(self, check_every: Duration) -> Self {
        Self { check_every: check_every.max(Duration::from_millis(1)), ..self }
    }

    /// Sets how long a read of the store or of its heads may take once it has started, before it counts as failed. A store that
    /// hangs is treated as one that fails: requests are told to come back, and streams end at an event boundary. Default 10 s.
    #[must_use]
    pub fn read_timeout(self, read_timeout: Duration) -> Self {
        Self { read_timeout, ..self }
    }

    /// Sets the most reads that wait to start; one more is refused at once with
    /// [`SubscribeError::Overloaded`](crate::SubscribeError::Overloaded). Default 4 096.
    #[must_use]
    pub fn max_waiting_reads(self, max_waiting_reads: usize) -> Self {
        Self { max_waiting_reads, ..self }
    }

    /// Sets how long a read may wait to start. One that waited longer is refused as one too many is, so that reads serve
    /// readers that still wait for them. Default 2 s.
    #[must_use]
    pub fn read_queue_timeout(self, read_queue_timeout: Duration) -> Self {
        Self { read_queue_timeout, ..self }
    }

    /// Sets how long a reader may leave a page untouched that was read for it. Then the page is freed, and the reader ends with
    /// [`SubscribeError::Stalled`](crate::SubscribeError::Stalled) when it is polled again; it counts as a reader until it is
    /// dropped. HTTP/2 windows and slow phones can pause for a minute. Default 5 min.
    #[must_use]
    pub fn stall_timeout(self, stall_timeout: Duration) -> Self {
        Self { stall_timeout, ..self }
    }

    /// Sets the most readers at once: streams, waiting polls and subscribers in the process. One more is refused with
    /// [`SubscribeError::TooManyReaders`](crate::SubscribeError::TooManyReaders). Default 1 048 576.
    #[must_use]
    pub fn max_readers(self, max_readers: usize) -> Self {
        Self { max_readers, ..self }
    }

    /// Sets the most channels that are followed at once. A reader of one more takes the place of a channel that has no reader;
    /// if there is none, it is refused with [`SubscribeError::TooManyChannels`](crate::SubscribeError::TooManyChannels). A
    /// followed channel takes about 1 KiB, and up to `ring_bytes` once events are published. Default 1 048 576.
    #[must_use]
    pub fn max_followed_channels(self, max_followed_channels: usize) -> Self {
        Self { max_followed_channels, ..self }
    }

    /// Sets the shortest delay after which a draining hub tells a reader to come back; at least 1 ms. Earlier it would meet the
    /// same process, or a proxy that knows no other yet. The window of a drain is at least twice as long. Default 1 s.
    #[must_use]
    pub fn drain_floor(self, drain_floor: Duration) -> Self {
        Self { drain_floor: drain_floor.max(Duration::from_millis(1)), ..self }
    }

    /// Sets the most readers of one [subject](crate::Grant::subject) in this process; at least 1. One more ends the oldest:
    /// a stream with `stream-retry` (and a longer delay than usual), a poll with `[]`. Other processes count their own. Default:
    /// no bound.
    #[must_use]
    pub fn max_readers_per_subject(self, max_readers: usize) -> Self {
        self.with_subjects(|subjects| subjects.max_readers = max_readers.max(1))
    }

    /// Sets the most requests per second with which one [subject](crate::Grant::subject) publishes through the services of this
    /// process; at least 1. As many may come at once; more get a 429 with `Retry-After`. Other processes count their own.
    /// Default: no bound.
    #[must_use]
    pub fn max_publishes_per_subject(self, per_second: u32) -> Self {
        self.with_subjects(|subjects| subjects.max_publishes = per_second.max(1))
    }

    /// Sets the time after which a [revocation](crate::Hub::revoke) has taken effect in every process; at least 100 ms. A
    /// process that cannot make sure within this time that no revocation is missing ends all readers that have a subject, so set
    /// it longer than what the store's short failures last. The store is asked four times in each interval. Default 5 s.
    #[must_use]
    pub fn revocation_interval(self, interval: Duration) -> Self {
        self.with_subjects(|subjects| subjects.revocation_interval = interval.max(Duration::from_millis(100)))
    }

    /// Sets by how much the clocks of those who issue grants, of the store and of this process may differ: a grant that
    /// [was issued](crate::Grant::issued_at) up to this long *after* a revocation counts as issued before it. Default 1 s, which is also what
    /// tokens need that are issued in whole seconds.
    #[must_use]
    pub fn revocation_clock_skew(self, skew: Duration) -> Self {
        self.with_subjects(|subjects| subjects.clock_skew = skew)
    }

    fn with_subjects(mut self, change: impl FnOnce(&mut SubjectOptions)) -> Self {
        change(&mut self.subjects);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_their_documented_defaults_and_bounds() {
        let secs = Duration::from_secs;
        let HubOptions {
            ring_bytes,
            page,
            max_reads,
            max_advancing_reads,
            recent_page_bytes,
            linger,
            max_lingering,
            ..
        } = HubOptions::default();
        assert_eq!(
            (ring_bytes, page.events, page.bytes, max_reads, max_advancing_reads),
            (524_288, 1_000, 262_144, 64, 64)
        );
        assert_eq!((recent_page_bytes, linger, max_lingering), (16_777_216, secs(30), 1_024));
        let HubOptions { check_every, read_timeout, max_waiting_reads, read_queue_timeout, stall_timeout, .. } =
            HubOptions::default();
        assert_eq!((check_every, read_timeout, max_waiting_reads), (secs(3), secs(10), 4_096));
        assert_eq!((read_queue_timeout, stall_timeout), (secs(2), secs(300)));
        let HubOptions { max_readers, max_followed_channels, drain_floor, .. } = HubOptions::default();
        assert_eq!((max_readers, max_followed_channels, drain_floor), (1_048_576, 1_048_576, secs(1)));

        let least =
            HubOptions::default().page(Limit::POSITION).max_reads(0).max_advancing_reads(0).check_every(Duration::ZERO);
        assert_eq!((least.page.events, least.max_reads, least.max_advancing_reads), (1, 1, 1));
        assert_eq!(least.check_every, Duration::from_millis(1));
        assert_eq!(HubOptions::default().drain_floor(Duration::ZERO).drain_floor, Duration::from_millis(1));

        let SubjectOptions { max_readers, max_publishes, revocation_interval, clock_skew } = SubjectOptions::default();
        assert_eq!((max_readers, max_publishes), (usize::MAX, u32::MAX));
        assert_eq!((revocation_interval, clock_skew), (secs(5), secs(1)));
        let least = HubOptions::default()
            .max_readers_per_subject(0)
            .max_publishes_per_subject(0)
            .revocation_interval(Duration::ZERO)
            .subjects;
        assert_eq!((least.max_readers, least.max_publishes), (1, 1));
        assert_eq!(least.revocation_interval, Duration::from_millis(100));
    }
}
