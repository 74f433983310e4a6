//! What all handles of a hub share: the followed channels, the bounds, and the drain.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    counters::Counters,
    follower_tasks::FollowerTasks,
    head_requests::HeadRequests,
    options::HubOptions,
    outage::Outage,
    outage_log::OutageLog,
    owned_prefixes::OwnedPrefixes,
    read_budgets::ReadBudgets,
    stats::{ReaderKind, RefusedBy, Stats},
    store_calls::StoreCalls,
    subjects::Subjects,
    topic::{Topic, WaiterSlot},
    topics::Topics,
    turns::Turns,
};
use crate::{
    channel::Channel,
    store::{AnyStore, Store, log_pace::LogBudget},
};

#[derive(Debug)]
pub(super) struct Shared {
    /// Distinguishes this hub from all others of the process.
    pub(super) id: u64,
    pub(super) store: AnyStore,
    pub(super) store_calls: StoreCalls,
    pub(super) options: HubOptions,
    pub(super) counters: Arc<Counters>,
    followed: Mutex<Followed>,
    /// The size of the rings of all followed channels, in bytes.
    ring_bytes: Arc<AtomicUsize>,
    readers: AtomicUsize,
    last_reader_left: Notify,
    pub(super) reads: ReadBudgets,
    pub(super) head_requests: HeadRequests,
    /// Taken by readers that hand out what they catch up on.
    pub(super) turns: Arc<Turns>,
    /// Requests a comparison of heads ahead of schedule.
    pub(super) recheck: Arc<Notify>,
    /// Whether appends are failing.
    pub(super) append_outage: Outage,
    /// The names of channels whose events come from one producer each.
    pub(super) owned: OwnedPrefixes,
    /// Of channels that cannot be read.
    pub(super) unreadable: LogBudget,
    pub(super) subjects: Arc<Subjects>,
    /// Set once draining.
    drain_window: OnceLock<Duration>,
}

#[derive(Debug, Default)]
struct Followed {
    topics: Topics,
    /// Run while any channel is followed.
    follower: Option<FollowerTasks>,
}

impl Shared {
    pub(super) fn new(store: AnyStore, options: HubOptions) -> Self {
        static HUBS: AtomicU64 = AtomicU64::new(0);
        let counters = Arc::<Counters>::default();
        let outages = Arc::new(OutageLog::of_store());
        let reads = Outage::new("reads", outages.clone());
        Self {
            id: HUBS.fetch_add(1, Relaxed),
            store_calls: StoreCalls::new(store.clone(), options.read_timeout, counters.clone(), reads),
            counters: counters.clone(),
            store,
            followed: Mutex::default(),
            ring_bytes: Arc::default(),
            readers: AtomicUsize::new(0),
            last_reader_left: Notify::new(),
            reads: ReadBudgets::new(&options),
            head_requests: HeadRequests::default(),
            turns: Arc::default(),
            recheck: Arc::default(),
            append_outage: Outage::new("appends", outages),
            owned: OwnedPrefixes::default(),
            unreadable: LogBudget::default(),
            subjects: Arc::new(Subjects::new(options.subjects, counters)),
            drain_window: OnceLock::new(),
            options,
        }
    }

    pub(super) fn stats(&self) -> Stats {
        // Before the lock: this runs the store's code.
        let (store, upkeep) = (self.store.health(), self.store.upkeep());
        let followed = self.followed();
        let (followed_channels, lingering_channels) = (followed.topics.len(), followed.topics.lingering());
        drop(followed);
        Stats {
            readers: self.readers.load(SeqCst),
            readers_by_kind: self.counters.open_readers.load(),
            followed_channels,
            lingering_channels,
            ring_bytes: self.ring_bytes.load(Relaxed),
            running_reads: self.reads.catching_up.running(),
            waiting_reads: self.reads.catching_up.waiting(),
            draining: self.drain_window.get().is_some(),
            store,
            upkeep,
            totals: self.counters.totals(),
        }
    }

    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The followed channels.
impl Shared {
    pub(super) fn topic(&self, channel: &Channel) -> Option<Arc<Topic>> {
        self.followed().topics.get(channel).cloned()
    }

    pub(super) fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.followed().topics.iter().cloned().collect()
    }

    /// Adds a reader to the channel's topic; a follower is started if none runs. `None` when too many channels have readers.
    pub(super) fn join_topic(
        &self,
        channel: &Channel,
        start_follower: impl FnOnce() -> FollowerTasks,
    ) -> Option<(Arc<Topic>, WaiterSlot)> {
        let mut followed = self.followed();
        if !followed.topics.make_room(channel, self.options.max_followed_channels) {
            return None;
        }
        if followed.follower.as_ref().is_none_or(FollowerTasks::is_finished) {
            followed.follower = Some(start_follower());
        }
        let new_topic = || Topic::new(channel.clone(), self.options.ring_bytes, self.ring_bytes.clone());
        let topic = followed.topics.join(channel, new_topic).clone();
        // Joined under the lock, so that the topic is not mistaken for one without readers.
        let slot = topic.join();
        Some((topic, slot))
    }

    /// Starts the time for which the channel, whose last reader left, is still followed.
    pub(super) fn topic_emptied(&self, channel: &Channel) {
        let max_lingering = if self.options.linger.is_zero() { 0 } else { self.options.max_lingering };
        self.followed().topics.emptied(channel, Instant::now(), max_lingering);
    }

    /// Drops what is past its time: pages, leases, channels without readers, and the follower once nothing is followed.
    /// Returns whether any channel is still followed.
    pub(super) fn sweep(&self) -> bool {
        let now = Instant::now();
        self.reads.recent.expire(now);
        let revoked = self.reads.leases.revoke_unused(now, self.options.stall_timeout);
        self.counters.pages_revoked(revoked);
        let mut followed = self.followed();
        followed.topics.expire(now, self.options.linger);
        let any = followed.topics.len() > 0;
        if !any {
            followed.follower = None;
        }
        any
    }
}

/// Readers and the drain.
impl Shared {
    /// Counts a reader, unless there are too many.
    pub(super) fn admit(self: &Arc<Self>, kind: ReaderKind) -> Option<ReaderGuard> {
        let max = self.options.max_readers;
        let one_more = |readers| Some(readers + 1).filter(|readers| *readers <= max);
        if self.readers.fetch_update(SeqCst, SeqCst, one_more).is_err() {
            self.counters.refused(RefusedBy::MaxReaders);
            return None;
        }
        self.counters.readers.add(kind, 1);
        Some(ReaderGuard { shared: self.clone() })
    }

    /// Starts draining; only the first window counts.
    pub(super) fn drain(&self, window: Duration) {
        let _ = self.drain_window.set(window);
        // A reader registers its waker, then checks for a drain: one that saw none is in a topic and is woken here.
        self.all_topics().iter().for_each(|topic| topic.wake_all());
    }

    /// While draining: when a reader should come back, drawn anew for each so that they spread over the window.
    pub(super) fn drain_hint(&self) -> Option<Duration> {
        self.drain_window.get().map(|window| drain_hint(*window, self.options.drain_floor, fastrand::f64()))
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drain_window.get().is_some()
    }

    pub(super) async fn no_readers(&self) {
        loop {
            // Created before the count is read: from then on it misses no notification.
            let last_left = self.last_reader_left.notified();
            if self.readers.load(SeqCst) == 0 {
                return;
            }
            last_left.await;
        }
    }
}

/// A counted reader; dropping it ends the count.
#[derive(Debug)]
pub(super) struct ReaderGuard {
    pub(super) shared: Arc<Shared>,
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        // Notified without a drain too: one that begins now might be seen here too late, and would wait forever.
        if self.shared.readers.fetch_sub(1, SeqCst) == 1 {
            self.shared.last_reader_left.notify_waiters();
        }
    }
}

/// `drawn` of the way from `floor` to the end of the window: a client that came back at once would meet the process that it
/// left, or a proxy that knows no other yet. A window that is too short to spread clients is extended.
fn drain_hint(window: Duration, floor: Duration, drawn: f64) -> Duration {
    let floor = floor.max(Duration::from_millis(1));
    let end = window.max(floor.saturating_mul(2));
    floor + (end - floor).mul_f64(drawn)
}

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use super::*;

    #[test]
    fn drain_hints_spread_from_the_floor_to_the_end_of_the_window() {
        let second = Duration::from_secs(1);
        let table = [
            (second * 5, second, second, second * 5),
            (second, second, second, second * 2),
            (Duration::ZERO, second, second, second * 2),
            (second * 5, Duration::ZERO, Duration::from_millis(1), second * 5),
        ];
        for (window, floor, first, last) in table {
            let expected = [first, (first * 3 + last) / 4, (first + last) / 2, last];
            let hints = [0.0, 0.25, 0.5, 1.0].map(|drawn| drain_hint(window, floor, drawn));
            assert_eq!(hints, expected, "{window:?} {floor:?}");
        }
    }
}
