//! A store in this process's memory: nothing to set up, and nothing left when the process ends. It is not shared
//! between processes.
//!
//! By default it keeps 1 000 events, 1 hour and 8 MiB per channel ([`Retention::default`]):
//!
//! ```
//! use tower_events::{Channel, Event, MemoryStore, Store, store::{Append, Limit, Start}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::default();
//! let room = Channel::new("room:1")?;
//! let before = store.read(&room, Start::Latest, Limit::POSITION).await?;
//! store.append(&room, Append::new([Event::text("hello"), Event::text("again")])).await?;
//!
//! let page = store.read(&room, Start::After(before.next), Limit::default()).await?;
//! let texts: Vec<_> = page.entries.iter().filter_map(|entry| entry.data.as_text()).collect();
//! assert_eq!(texts, ["hello", "again"]);
//! # Ok(())
//! # }
//! ```
//!
//! With other limits, and a clock that a test advances:
//!
//! ```
//! use std::{sync::{Arc, atomic::{AtomicU64, Ordering}}, time::Duration};
//! use tower_events::{MemoryStore, Retention, store::Clock};
//!
//! let now = Arc::new(AtomicU64::new(1_732_094_400_000));
//! let clock = Clock::new({
//!     let now = now.clone();
//!     move || now.load(Ordering::Relaxed)
//! });
//! let store = MemoryStore::new(Retention::default().events(100).age(Duration::from_secs(60)))
//!     .clock(clock)
//!     .max_append_bytes(64 << 10);
//! now.fetch_add(61_000, Ordering::Relaxed); // everything it held has expired
//! # drop(store);
//! ```
//!
//! # The end of the process
//! Everything is lost, and each store has its own epoch: after a restart, every earlier cursor is answered with
//! [`Reason::EpochChanged`](crate::store::Reason::EpochChanged), never with silence. Processes that share events need
//! another store, and so do forked processes, which would draw the same tags for different events.
//!
//! # Retention
//! Count and bytes are exact after each append; the newest entry of an init is kept even if it alone exceeds
//! [`Retention::bytes`]. Age is checked whenever a channel is used; each operation also checks a few other channels that are
//! due, so idle channels expire too. There is no thread and no timer: a store that is not called keeps what it has. Time
//! never goes back: after the clock stepped back, nothing ages until it has caught up.
//!
//! # Memory
//! The heap bytes of all channels together are counted and bounded by [`MemoryStore::max_bytes`]. At the bound, an append
//! that would make the store grow (to a new channel, or to one that is below its own limits) fails with
//! [`StoreError::Full`]; appends that drop as much as they add still succeed, as do reads.
//!
//! # Cancel safety
//! No method waits: each future completes when it is first polled. One that is never polled does nothing.

mod counted_map;
mod heap_size;
mod keys;
mod log;
mod place;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures_core::Stream;

use self::place::Place;
use crate::{
    channel::Channel,
    event::Event,
    store::{
        Append, Appended, Change, Clock, Expect, Head, Limit, Page, Retention, Start, Store, StoreError,
        kit::{self, Fingerprints, Watchers},
    },
};

/// A [`Store`] in memory. Clones share its contents. See the [module docs](self).
#[derive(Clone)]
pub struct MemoryStore {
    place: Arc<Mutex<Place>>,
    /// Those of the place, which need not be locked for them.
    watchers: Watchers,
    clock: Clock,
    retention: Retention,
    max_append_bytes: u64,
}

impl MemoryStore {
    /// An empty store with this retention per channel.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        let place = Place::new(&retention);
        Self {
            watchers: place.watchers.clone(),
            place: Arc::new(Mutex::new(place)),
            clock: Clock::system(),
            retention,
            max_append_bytes: LARGEST_APPEND,
        }
    }

    /// Takes the time from `clock`, in this handle and its later clones. Default: the system clock.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Sets the largest append or init in bytes, by [`Entry::size`](crate::store::Entry::size), for this handle and its
    /// later clones. A larger one fails with [`StoreError::TooLarge`], as does an append of more than half of the
    /// retention. Default: 16 MiB.
    #[must_use]
    pub fn max_append_bytes(self, bytes: u64) -> Self {
        Self { max_append_bytes: bytes, ..self }
    }

    /// Sets how many bytes the store may take on the heap, over all handles: entries, keys and records, including what
    /// the allocator adds. Operations that would exceed it fail with [`StoreError::Full`] until something expires;
    /// earlier events can still be read, and repeating them is still a duplicate. The keys of one channel may take at
    /// most a quarter of it. Default: 512 MiB.
    #[must_use]
    pub fn max_bytes(self, bytes: u64) -> Self {
        self.with_place(|place| place.max_bytes = bytes);
        self
    }

    /// How many bytes the store takes now, as [`max_bytes`](Self::max_bytes) counts them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.with_place(|place| place.heap_bytes())
    }

    /// Drops the last `n` entries, as a power loss does on a disk that acknowledged too early. For tests.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn lose_tail(&self, channel: &Channel, n: u64) {
        self.with_place(|place| place.lose_tail(channel, n));
    }

    /// Another handle, with the retention `own`, while the place keeps `all` from now on: stands for a store that is
    /// opened again with other settings. For tests of tests.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn reopened(&self, own: Retention, all: &Retention) -> Self {
        self.with_place(|place| place.keep = kit::Keep::new(all));
        Self { retention: own, ..self.clone() }
    }

    /// The only access to the state. Reads the clock before it locks, and wakes after it has unlocked: both run foreign
    /// code.
    fn with_place<T>(&self, act: impl FnOnce(&mut Place) -> T) -> T {
        let now = self.clock.now();
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.begin(now);
        let done = act(&mut place);
        let wakers = std::mem::take(&mut place.wakers);
        drop(place);
        wakers.wake();
        done
    }
}

impl Default for MemoryStore {
    /// Keeps the default [`Retention`].
    fn default() -> Self {
        Self::new(Retention::default())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("max_append_bytes", &self.max_append_bytes).finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        kit::check_append_size(&self.retention, channel, &append.events, self.max_append_bytes)?;
        // Before locking, since it hashes all of the data.
        let prints = Fingerprints::of(&append.events);
        self.with_place(|place| place.append(channel, append, prints))
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        Ok(self.with_place(|place| place.read(channel, start, limit)))
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        Ok(self.with_place(|place| channels.iter().map(|channel| place.head(channel)).collect()))
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        kit::check_init_size(channel, &events, self.max_append_bytes)?;
        self.with_place(|place| place.init(channel, events, expect))
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.with_place(|place| place.delete(channel));
        Ok(())
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        Ok(self.with_place(|place| place.channels(prefix, after, limit)))
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        self.watchers.watch()
    }

    fn retention(&self) -> Retention {
        self.retention.clone()
    }
}

/// Default of [`MemoryStore::max_append_bytes`], in bytes.
const LARGEST_APPEND: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_watcher_is_no_longer_notified() {
        let store = MemoryStore::default();
        let (one, two) = (store.changes(), store.changes());
        assert_eq!(store.watchers.count(), 2);
        drop(one);
        assert_eq!(store.watchers.count(), 1);
        drop(two);
        assert_eq!(store.watchers.count(), 0);
    }
}
