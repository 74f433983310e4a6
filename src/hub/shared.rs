//! What all handles of a hub share: which channels are followed and for whom, the bounds, and the end.

use std::{
    collections::HashMap,
    error::Error as _,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore},
    time::{Instant, timeout},
};

use super::{
    fetch::{Answer, Completion, Fetch, Fetched},
    follower::Follower,
    options::HubOptions,
    outage::Outage,
    stats::Stats,
    topic::{Advance, Left, Place, Topic},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{AnyStore, Appended, Head, Limit, Page, Start, Store, StoreError},
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
    /// Bounds the reads of the store.
    pub(super) reads: Semaphore,
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
            reads: Semaphore::new(options.reads.min(Semaphore::MAX_PERMITS)),
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

/// Reads of the store.
impl Shared {
    /// Reads on a subscriber's behalf. Those who resume from the same position share one read; the other starts are pinned
    /// to their own moment and never shared.
    pub(super) fn fetch(self: &Arc<Self>, topic: &Arc<Topic>, start: Start) -> Arc<Fetch> {
        // The version comes first: a change during the read makes it one of which the read says nothing.
        let version = topic.version();
        let Start::After(cursor) = start else {
            let fetch = Arc::new(Fetch::new(version));
            self.drive(topic, start, &fetch);
            return fetch;
        };
        let (fetch, is_new) = topic.fetches.share(cursor, version);
        if is_new {
            self.drive(topic, start, &fetch);
        }
        fetch
    }

    fn drive(self: &Arc<Self>, topic: &Arc<Topic>, start: Start, fetch: &Arc<Fetch>) {
        let completion = Completion(Arc::downgrade(fetch));
        // Without a runtime the completion is dropped, which answers.
        let Ok(runtime) = Handle::try_current() else { return };
        let (shared, topic) = (self.clone(), topic.clone());
        let task = runtime.spawn(async move {
            let answer = shared.read(&topic, start).await;
            completion.complete(answer);
        });
        fetch.driven_by(task.abort_handle());
    }

    async fn read(self: &Arc<Self>, topic: &Arc<Topic>, start: Start) -> Answer {
        let limit = match start {
            Start::Latest => Limit::POSITION,
            _ => self.options.page,
        };
        let page = self.read_page(topic.channel(), start, limit).await?;
        let advance = topic.anchor(page.head);
        self.advance_if(advance, topic);
        let fetched = Fetched::new(page);
        // What a time was asked for may have gaps.
        if !matches!(start, Start::Time(_)) {
            topic.backfill(&fetched);
        }
        Ok(Arc::new(fetched))
    }

    async fn read_page(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        // The wait for a turn counts too: reads that hang would else hold up all who come after them, one after the other.
        self.in_time(async {
            let _permit = self.reads.acquire().await;
            self.store.read(channel, start, limit).await
        })
        .await
    }

    /// What `call` gives, unless it takes longer than a read may.
    pub(super) async fn in_time<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let called = timeout(self.options.read_timeout, call).await;
        let called = called.unwrap_or_else(|elapsed| Err(StoreError::Unavailable(elapsed.into())));
        match &called {
            Ok(_) => self.outage.succeeded(),
            // A corrupt channel says nothing of the others.
            Err(StoreError::Corrupt(_)) => {}
            Err(error) => self.outage.failed(error, error.source()),
        }
        called
    }

    pub(super) fn advance_if(self: &Arc<Self>, advance: Advance, topic: &Arc<Topic>) {
        if advance == Advance::No {
            return;
        }
        // Without a runtime the topic stays stale, and the next comparison of heads brings it on.
        let (Ok(runtime), Some(from)) = (Handle::try_current(), topic.begin_advance()) else { return };
        runtime.spawn(advance_topic(self.clone(), Advancing { topic: topic.clone(), is_done: false }, from));
    }
}

/// Reads on the ring's behalf until nothing newer was seen. A failure leaves the ring as it is: the next comparison of
/// heads tries again.
async fn advance_topic(shared: Arc<Shared>, mut advancing: Advancing, mut from: Cursor) {
    let topic = advancing.topic.clone();
    loop {
        match shared.read_page(topic.channel(), Start::After(from), shared.options.page).await {
            Ok(page) => topic.advance(&page),
            Err(error) => return tracing::warn!(channel = %topic.channel(), %error, "cannot follow the store"),
        }
        match topic.go_on_advancing() {
            Some(next) => from = next,
            None => return advancing.is_done = true,
        }
    }
}

/// The right to read on the ring's behalf; given back when the task ends, however it ends.
struct Advancing {
    topic: Arc<Topic>,
    /// The topic took the right back itself.
    is_done: bool,
}

impl Drop for Advancing {
    fn drop(&mut self) {
        if !self.is_done {
            self.topic.abandon_advance();
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
