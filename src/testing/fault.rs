//! A store that injects faults on request. It wraps any store, and injects nothing by itself.

mod channels;
mod gate;
mod hints;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_core::Stream;

use self::{
    channels::{Unreadable, UnreadableChannels},
    gate::Gate,
    hints::{FaultyHints, HintFaults},
};
use crate::{
    channel::Channel,
    event::Event,
    store::{
        Append, Appended, Change, Expect, Head, Health, Limit, Outcome, Page, Retention, Start, Store, StoreError,
        Upkeep,
    },
};

/// Forwards everything to the inner store, except for the faults that its [`Faults`] handle requests.
///
/// ```
/// use tower_events::{Channel, Event, MemoryStore, Store, StoreError};
/// use tower_events::{store::{Append, Limit, Start}, testing::FaultStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (store, faults) = FaultStore::new(MemoryStore::default());
/// let channel = Channel::new("a")?;
///
/// faults.fail_next_appends(1);
/// let failed = store.append(&channel, Append::new([Event::text("x")])).await;
/// assert!(matches!(failed, Err(StoreError::Unavailable(_))));
/// store.append(&channel, Append::new([Event::text("x")])).await?;
///
/// let hold = faults.hold_reads(); // from here on reads wait
/// let reading = tokio::spawn({
///     let (store, channel) = (store.clone(), channel.clone());
///     async move { store.read(&channel, Start::Earliest, Limit::default()).await }
/// });
/// hold.reached_by(1).await;
/// store.append(&channel, Append::new([Event::text("y")])).await?;
/// drop(hold);
/// assert_eq!(reading.await??.entries.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FaultStore<S> {
    inner: S,
    faults: Faults,
}

/// Controls the faults of a [`FaultStore`] and all its clones. Clones of the handle control the same store.
///
/// "Next" counts the calls of all callers together; calling a method again replaces the remaining number.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    reads: Calls,
    heads: Calls,
    writes: Calls,
    /// How many writes are lost before they reach the store.
    lost_writes: AtomicUsize,
    /// How many responses to writes are lost.
    lost_answers: AtomicUsize,
    /// How many reads end early.
    cut_reads: AtomicUsize,
    /// Closed while the responses of reads and heads are held back.
    answers: Arc<Gate>,
    /// In milliseconds.
    delay: AtomicU64,
    hints: Arc<HintFaults>,
    unreadable: UnreadableChannels,
    /// The health to report instead of the inner store's.
    health: Mutex<Option<Health>>,
}

/// The faults of one kind of call, and the number of calls.
#[derive(Debug, Default)]
struct Calls {
    made: AtomicU64,
    failing: AtomicUsize,
    gate: Arc<Gate>,
}

impl<S> FaultStore<S> {
    /// Wraps `inner`.
    pub fn new(inner: S) -> (Self, Faults) {
        let faults = Faults::default();
        (Self { inner, faults: faults.clone() }, faults)
    }

    /// The inner store, without faults.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Another handle to the faults of this store.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }
}

impl Faults {
    /// Fails the next `n` calls of [`Store::read`] with [`StoreError::Unavailable`]; `usize::MAX` for all until further notice.
    pub fn fail_next_reads(&self, n: usize) {
        self.0.reads.failing.store(n, Ordering::SeqCst);
    }

    /// Fails the next `n` calls of [`Store::heads`] with [`StoreError::Unavailable`].
    pub fn fail_next_heads(&self, n: usize) {
        self.0.heads.failing.store(n, Ordering::SeqCst);
    }

    /// Fails the next `n` appends, inits and deletes with [`StoreError::Unavailable`]; nothing is changed.
    pub fn fail_next_appends(&self, n: usize) {
        self.0.writes.failing.store(n, Ordering::SeqCst);
    }

    /// Fails the next `n` appends, inits and deletes with [`StoreError::Unknown`]; nothing is changed.
    pub fn lose_next_appends(&self, n: usize) {
        self.0.lost_writes.store(n, Ordering::SeqCst);
    }

    /// Fails the next `n` appends, inits and deletes with [`StoreError::Unknown`], but executes them.
    pub fn lose_next_answers(&self, n: usize) {
        self.0.lost_answers.store(n, Ordering::SeqCst);
    }

    /// Fails every read of `channel`, and of heads that include it, with [`StoreError::Unavailable`].
    pub fn fail_channel(&self, channel: &Channel) {
        self.0.unreadable.set(channel, Some(Unreadable::Unavailable));
    }

    /// Fails every read of `channel`, and of heads that include it, with [`StoreError::Corrupt`].
    pub fn corrupt_channel(&self, channel: &Channel) {
        self.0.unreadable.set(channel, Some(Unreadable::Corrupt));
    }

    /// Makes `channel` readable again.
    pub fn mend_channel(&self, channel: &Channel) {
        self.0.unreadable.set(channel, None);
    }

    /// Delays every call by this long (tokio's clock) before it reaches the store. Zero ends the delay.
    pub fn delay(&self, delay: Duration) {
        self.0.delay.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Returns an empty page for the next `n` resumes that can be continued, as a stale replica does: nothing seems to follow.
    pub fn cut_next_reads(&self, n: usize) {
        self.0.cut_reads.store(n, Ordering::SeqCst);
    }

    /// Holds back calls of [`Store::read`] before they reach the store, until the guard is dropped.
    pub fn hold_reads(&self) -> Hold {
        Hold::new(&self.0.reads.gate)
    }

    /// Holds back the results of [`Store::read`] and [`Store::heads`] until the guard is dropped, so that they are outdated then.
    pub fn hold_answers(&self) -> Hold {
        Hold::new(&self.0.answers)
    }

    /// Holds back calls of [`Store::heads`] before they reach the store, until the guard is dropped.
    pub fn hold_heads(&self) -> Hold {
        Hold::new(&self.0.heads.gate)
    }

    /// Holds back appends, inits and deletes before they reach the store, until the guard is dropped.
    pub fn hold_appends(&self) -> Hold {
        Hold::new(&self.0.writes.gate)
    }

    /// Holds back hints until the guard is dropped.
    pub fn hold_hints(&self) -> HintHold {
        HintHold::new(&self.0.hints)
    }

    /// Loses the next `n` hints of all watchers together; `usize::MAX` for all until further notice. [`Change::Resync`] counts as
    /// a hint.
    pub fn lose_hints(&self, n: usize) {
        self.0.hints.lose(n);
    }

    /// Yields each of the next `n` hints twice.
    pub fn duplicate_hints(&self, n: usize) {
        self.0.hints.duplicate(n);
    }

    /// Swaps each of the next `n` hints with the one after it; a hint is held back until the one after it arrives.
    pub fn reorder_hints(&self, n: usize) {
        self.0.hints.reorder(n);
    }

    /// Yields a [`Change::Resync`] to every watcher, as after a lost connection.
    pub fn resync(&self) {
        self.0.hints.resync();
    }

    /// Sets the result of [`Store::health`]; `None` reports the inner store's again. Does not make calls fail.
    pub fn report(&self, health: Option<Health>) {
        *self.0.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// The number of calls of [`Store::read`].
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.0.reads.made.load(Ordering::SeqCst)
    }

    /// The number of calls of [`Store::heads`].
    #[must_use]
    pub fn heads(&self) -> u64 {
        self.0.heads.made.load(Ordering::SeqCst)
    }

    /// The number of appends, inits and deletes.
    #[must_use]
    pub fn appends(&self) -> u64 {
        self.0.writes.made.load(Ordering::SeqCst)
    }

    /// The number of streams of [`Store::changes`] that are alive.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.0.hints.watchers()
    }

    /// Delays and fails a call before it reaches the store.
    async fn enter(&self, calls: &Calls) -> Result<(), StoreError> {
        calls.made.fetch_add(1, Ordering::SeqCst);
        let delay = self.0.delay.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        calls.gate.pass().await;
        if count_down(&calls.failing) { Err(StoreError::Unavailable("an injected fault".into())) } else { Ok(()) }
    }

    fn cut(&self, start: Start, page: Page) -> Page {
        let resumed = matches!(start, Start::After(_)) && page.outcome == Outcome::Continued;
        if !resumed || !count_down(&self.0.cut_reads) {
            return page;
        }
        let head = Head { cursor: page.from, closed: false };
        Page { entries: Vec::new(), next: page.from, head, ..page }
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.enter(&self.0.writes).await?;
        if count_down(&self.0.lost_writes) {
            return Err(StoreError::Unknown("an injected fault: the request was lost".into()));
        }
        let done = write.await?;
        if count_down(&self.0.lost_answers) {
            return Err(StoreError::Unknown("an injected fault: the response was lost".into()));
        }
        Ok(done)
    }
}

impl<S: Store> Store for FaultStore<S> {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        self.faults.write(self.inner.append(channel, append)).await
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        self.faults.enter(&self.faults.0.reads).await?;
        self.faults.0.unreadable.check(std::slice::from_ref(channel))?;
        let page = self.inner.read(channel, start, limit).await;
        self.faults.0.answers.pass().await;
        page.map(|page| self.faults.cut(start, page))
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        self.faults.enter(&self.faults.0.heads).await?;
        self.faults.0.unreadable.check(channels)?;
        let heads = self.inner.heads(channels).await;
        self.faults.0.answers.pass().await;
        heads
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        self.faults.write(self.inner.init(channel, events, expect)).await
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.faults.write(self.inner.delete(channel)).await
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        self.faults.enter(&self.faults.0.heads).await?;
        self.inner.channels(prefix, after, limit).await
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        FaultyHints::new(Box::pin(self.inner.changes()), Arc::clone(&self.faults.0.hints))
    }

    fn retention(&self) -> Retention {
        self.inner.retention()
    }

    fn health(&self) -> Health {
        let said = *self.faults.0.health.lock().unwrap_or_else(PoisonError::into_inner);
        said.unwrap_or_else(|| self.inner.health())
    }

    fn upkeep(&self) -> Upkeep {
        self.inner.upkeep()
    }
}

/// Holds calls back until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it lets the calls continue"]
pub struct Hold(Arc<Gate>);

impl Hold {
    fn new(gate: &Arc<Gate>) -> Self {
        gate.close();
        Self(Arc::clone(gate))
    }

    /// Waits until `n` calls are held back.
    pub async fn reached_by(&self, n: usize) {
        self.0.reached_by(n).await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Holds hints back until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it lets the hints continue"]
pub struct HintHold(Arc<HintFaults>);

impl HintHold {
    fn new(hints: &Arc<HintFaults>) -> Self {
        hints.hold();
        Self(Arc::clone(hints))
    }
}

impl Drop for HintHold {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Decrements `left`, unless it is 0.
fn count_down(left: &AtomicUsize) -> bool {
    let less = |left: usize| if left == usize::MAX { Some(left) } else { left.checked_sub(1) };
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
}
