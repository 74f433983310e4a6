//! What all handles of a hub share: which channels are followed and for whom, the bounds, and the end.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, time::Instant};

use super::{
    follower::Follower,
    heads::HeadCalls,
    options::HubOptions,
    outage::Outage,
    reads::Reads,
    stats::Stats,
    topic::{Left, Place, Topic},
};
use crate::{
    channel::Channel,
    store::{AnyStore, Appended, Head, Store, StoreError},
};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: AnyStore,
    pub(super) options: HubOptions,
    topics: Mutex<Topics>,
    /// How many readers there are.
    readers: AtomicUsize,
    /// The last reader went.
    gone: Notify,
    pub(super) reads: Reads,
    pub(super) head_calls: HeadCalls,
    /// Asks for a comparison of the heads before its time.
    pub(super) recheck: Arc<Notify>,
    /// Whether the store fails just now.
    pub(super) outage: Outage,
    /// The drain window, once draining.
    drain: OnceLock<Duration>,
}

#[derive(Debug, Default)]
struct Topics {
    followed: HashMap<Channel, Followed>,
    /// How many of them have no reader.
    lingering: usize,
    /// Runs while anything is followed.
    follower: Option<Follower>,
}

/// One followed channel.
#[derive(Debug)]
struct Followed {
    topic: Arc<Topic>,
    /// When its last reader was seen to be gone.
    idle_since: Option<Instant>,
}

impl Shared {
    pub(super) fn new(store: AnyStore, options: HubOptions) -> Self {
        Self {
            store,
            topics: Mutex::default(),
            readers: AtomicUsize::new(0),
            gone: Notify::new(),
            reads: Reads::new(&options),
            head_calls: HeadCalls::default(),
            recheck: Arc::default(),
            outage: Outage::default(),
            drain: OnceLock::new(),
            options,
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let store = self.store.health(); // before the lock: it is the store's code
        let topics = self.topics();
        Stats {
            readers: self.readers.load(SeqCst),
            topics: topics.followed.len(),
            lingering: topics.lingering,
            ring_bytes: topics.followed.values().map(|followed| followed.topic.ring_bytes()).sum(),
            store,
        }
    }

    pub(super) fn topic(&self, channel: &Channel) -> Option<Arc<Topic>> {
        self.topics().followed.get(channel).map(|followed| followed.topic.clone())
    }

    pub(super) fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.topics().followed.values().map(|followed| followed.topic.clone()).collect()
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
            let advance = head.map_or_else(|| topic.distrust(), |head| topic.check(head));
            self.advance_if(advance, &topic);
        }
    }

    fn topics(&self) -> std::sync::MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Takes a seat in a channel, which is followed from now on.
    pub(super) fn seat(self: &Arc<Self>, channel: &Channel) -> Result<Seat, StoreError> {
        let runtime = Handle::try_current().map_err(|source| StoreError::Unavailable(source.into()))?;
        let mut topics = self.topics();
        if topics.follower.as_ref().is_none_or(Follower::is_finished) {
            topics.follower = Some(Follower::start(self, &runtime));
        }
        let Topics { followed, lingering, .. } = &mut *topics;
        let place = followed.entry(channel.clone()).or_insert_with(|| {
            let topic = Arc::new(Topic::new(channel.clone(), self.options.ring_bytes));
            Followed { topic, idle_since: None }
        });
        if place.idle_since.take().is_some() {
            *lingering -= 1;
        }
        let topic = place.topic.clone();
        Ok(Seat { place: topic.join(), topic, shared: self.clone() })
    }

    /// Takes notice that a channel's last reader went. By now another may be there, or gone in turn.
    fn left(&self, channel: &Channel) {
        let mut topics = self.topics();
        let Some(place) = topics.followed.get_mut(channel) else { return };
        if place.idle_since.is_some() || place.topic.has_readers() {
            return;
        }
        place.idle_since = Some(Instant::now());
        topics.lingering += 1;
        if topics.lingering > self.options.lingering || self.options.linger.is_zero() {
            topics.followed.remove(channel);
            topics.lingering -= 1;
        }
    }

    /// Stops following channels that lingered long enough, and everything once nothing is followed. Says whether anything
    /// is left.
    pub(super) fn sweep(&self) -> bool {
        let mut topics = self.topics();
        let (now, linger) = (Instant::now(), self.options.linger);
        let stays = |place: &Followed| place.idle_since.is_none_or(|since| now.duration_since(since) < linger);
        topics.followed.retain(|_, place| stays(place));
        topics.lingering = topics.followed.values().filter(|place| place.idle_since.is_some()).count();
        let any = !topics.followed.is_empty();
        if !any {
            topics.follower = None;
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

/// A reader's place in a channel; dropping it leaves.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) topic: Arc<Topic>,
    pub(super) place: Place,
    pub(super) shared: Arc<Shared>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.topic.leave(&self.place) == Left::Empty {
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
        self.drain.get().map(|window| window.mul_f64(fastrand::f64()).max(Duration::from_millis(1)))
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
