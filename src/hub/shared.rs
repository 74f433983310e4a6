//! What all handles of a hub share: which channels are followed and for whom, the bounds, and the end.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, time::Instant};

use super::{
    follower::Follower,
    heads::HeadRequests,
    options::HubOptions,
    outage::Outage,
    reads::ReadBudgets,
    stats::Stats,
    topic::{Occupancy, Topic, WaiterSlot},
    topics::Topics,
    turns::Turns,
};
use crate::{
    channel::Channel,
    store::{AnyStore, Appended, Head, Store, StoreError},
};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: AnyStore,
    pub(super) options: HubOptions,
    following: Mutex<Following>,
    /// What the rings of all followed channels hold, in bytes.
    ring_bytes: Arc<AtomicUsize>,
    /// How many readers there are.
    readers: AtomicUsize,
    /// The last reader went.
    gone: Notify,
    pub(super) reads: ReadBudgets,
    pub(super) head_requests: HeadRequests,
    /// Of those who hand out what they catch up.
    pub(super) turns: Arc<Turns>,
    /// Asks for a comparison of the heads before its time.
    pub(super) recheck: Arc<Notify>,
    /// Whether reads fail just now.
    pub(super) outage: Outage,
    /// Whether appends do.
    append_outage: Outage,
    /// The drain window, once draining.
    drain: OnceLock<Duration>,
}

#[derive(Debug, Default)]
struct Following {
    topics: Topics,
    /// Runs while anything is followed.
    follower: Option<Follower>,
}

impl Shared {
    pub(super) fn new(store: AnyStore, options: HubOptions) -> Self {
        let options = options.bounded();
        Self {
            store,
            following: Mutex::default(),
            ring_bytes: Arc::default(),
            readers: AtomicUsize::new(0),
            gone: Notify::new(),
            reads: ReadBudgets::new(&options),
            head_requests: HeadRequests::default(),
            turns: Arc::default(),
            recheck: Arc::default(),
            outage: Outage::new("reads"),
            append_outage: Outage::new("appends"),
            drain: OnceLock::new(),
            options,
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let store = self.store.health(); // before the lock: it is the store's code
        let topics = &self.following().topics;
        Stats {
            readers: self.readers.load(SeqCst),
            topics: topics.len(),
            lingering: topics.lingering(),
            ring_bytes: self.ring_bytes.load(Relaxed),
            store,
        }
    }

    pub(super) fn topic(&self, channel: &Channel) -> Option<Arc<Topic>> {
        self.following().topics.get(channel).cloned()
    }

    pub(super) fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.following().topics.iter().cloned().collect()
    }

    /// Takes notice of what became of an append. What the append itself is the reason of is no failure of the store.
    pub(super) fn tried_to_append(&self, tried: &Result<Appended, StoreError>) {
        match tried {
            Ok(_) => self.append_outage.succeeded(),
            Err(error) if error.is_retryable() => self.append_outage.failed(error),
            Err(_) => {}
        }
    }

    /// Takes notice of what this process appended.
    pub(super) fn appended(self: &Arc<Self>, channel: &Channel, appended: &Appended) {
        if let Some(topic) = self.topic(channel) {
            let advance = topic.feed(&appended.entries, Some(appended.head));
            self.advance_if(advance, &topic);
        }
    }

    /// Takes notice of a channel's new head, or that its old one is gone.
    pub(super) fn replaced(self: &Arc<Self>, channel: &Channel, head: Option<Head>) {
        if let Some(topic) = self.topic(channel) {
            let advance = head.map_or_else(|| topic.invalidate(), |head| topic.confirm_head(head));
            self.advance_if(advance, &topic);
        }
    }

    fn following(&self) -> MutexGuard<'_, Following> {
        self.following.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Readers come and go.
impl Shared {
    /// Counts a reader in, unless there are too many.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Reader> {
        let most = self.options.readers;
        let more = |readers| Some(readers + 1).filter(|more| *more <= most);
        self.readers.fetch_update(SeqCst, SeqCst, more).is_ok().then(|| Reader { shared: self.clone() })
    }

    /// Joins a channel, which is followed from now on.
    pub(super) fn join(self: &Arc<Self>, channel: &Channel) -> Result<Membership, StoreError> {
        let runtime = Handle::try_current().map_err(|source| StoreError::Unavailable(source.into()))?;
        let mut following = self.following();
        if following.follower.as_ref().is_none_or(Follower::is_finished) {
            following.follower = Some(Follower::start(self, &runtime));
        }
        let make = || Topic::new(channel.clone(), self.options.ring_bytes, self.ring_bytes.clone());
        let topic = following.topics.join(channel, make).clone();
        // Joined under the lock, so that it cannot be taken for one without readers.
        Ok(Membership { slot: topic.join(), topic, shared: self.clone() })
    }

    fn left(&self, channel: &Channel) {
        let most = if self.options.linger.is_zero() { 0 } else { self.options.lingering };
        self.following().topics.emptied(channel, Instant::now(), most);
    }

    /// Stops following channels that lingered long enough, and everything once nothing is followed. Says whether anything
    /// is left.
    pub(super) fn sweep(&self) -> bool {
        let now = Instant::now();
        self.reads.recent.expire(now);
        self.reads.leases.revoke_unused(now, self.options.stall_timeout);
        let mut following = self.following();
        following.topics.expire(now, self.options.linger);
        let any = following.topics.len() > 0;
        if !any {
            following.follower = None;
        }
        any
    }
}

/// A reader that is counted; dropping it counts it out.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Also without a drain: whether one has begun could be seen too late here, and it would wait for ever.
        if self.shared.readers.fetch_sub(1, SeqCst) == 1 {
            self.shared.gone.notify_waiters();
        }
    }
}

/// A reader's membership of a channel; dropping it leaves.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) topic: Arc<Topic>,
    pub(super) slot: WaiterSlot,
    pub(super) shared: Arc<Shared>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        if self.topic.leave(&self.slot) == Occupancy::Empty {
            self.shared.left(self.topic.channel());
        }
    }
}

/// The end.
impl Shared {
    /// Starts draining; the first window counts.
    pub(super) fn drain(&self, window: Duration) {
        let _ = self.drain.set(window);
        // A reader registers, then looks at `drain`: whoever did not see it is in a topic and is woken here.
        self.all_topics().iter().for_each(|topic| topic.wake_all());
    }

    /// While draining: when a reader should come back, drawn anew for each so that they come spread over the window.
    pub(super) fn drain_hint(&self) -> Option<Duration> {
        self.drain.get().map(|window| drain_hint(*window, self.options.drain_floor, fastrand::f64()))
    }

    pub(super) async fn no_readers(&self) {
        loop {
            let mut gone = pin!(self.gone.notified());
            // Registered before the count is read.
            gone.as_mut().enable();
            if self.readers.load(SeqCst) == 0 {
                return;
            }
            gone.await;
        }
    }
}

/// A part of the window, but not before `floor`: a client that comes back at once meets the process that it left, or a proxy
/// that has no other yet. A window too short to spread clients over is made longer.
fn drain_hint(window: Duration, floor: Duration, drawn: f64) -> Duration {
    let floor = floor.max(Duration::from_millis(1));
    let end = window.max(floor.saturating_mul(2));
    floor + (end - floor).mul_f64(drawn)
}

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_drain_spreads_its_readers_between_its_floor_and_its_end() {
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
