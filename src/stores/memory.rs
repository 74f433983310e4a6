//! A store in this process's memory: nothing to set up, nothing left when the process ends. Knows no other process.
//!
//! The default keeps, per channel, 1 000 events, 1 hour and 8 MiB ([`Retention::default`]):
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
//! Customised, with a clock that a test moves:
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
//!     .with_clock(clock)
//!     .largest_append(64 << 10);
//! now.fetch_add(61_000, Ordering::Relaxed); // whatever it held is too old now
//! # drop(store);
//! ```
//!
//! # The end of the process
//! Everything is gone, and every store has an epoch of its own: after a restart each cursor of before is answered with
//! [`Reason::EpochChanged`](crate::store::Reason::EpochChanged), never with silence. Several processes that must share
//! events need another store; so do those that a process forks, which would draw the same tags for different events.
//!
//! # Retention
//! Count and bytes are exact after each append; the newest entry of an init stays even if it alone is larger than
//! [`Retention::bytes`]. Age is judged whenever a channel is used, and for channels that nobody uses by the operations on
//! others: each looks after a few channels that are due. No thread and no timer runs, so a store that nobody calls keeps
//! what it has. Time never goes back here: while the clock is behind where it was, nothing ages.
//!
//! # Memory
//! What all channels take together is counted in real bytes, and bounded by [`MemoryStore::max_bytes`]. Above it, appends
//! that would make the store grow are [`StoreError::Full`], on channels that hold less than they may keep and on new ones;
//! those that drop as much as they bring go on, as do reads.
//!
//! # Cancel safety
//! No method waits for anything: a future is done when it is first polled, and one that never was polled did nothing.

mod changes;
mod counted_map;
mod heap_size;
mod keys;
mod log;
mod place;
mod watchers;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures_core::Stream;

use self::{changes::Changes, place::Place};
use crate::{
    channel::Channel,
    event::Event,
    store::{
        Append, Appended, Change, Clock, Expect, Head, Limit, Page, Prints, Retention, Start, Store, StoreError,
        fits_append, fits_init,
    },
};

/// A [`Store`] in memory. Clones share what it holds. See the [module docs](self).
#[derive(Clone)]
pub struct MemoryStore {
    place: Arc<Mutex<Place>>,
    clock: Clock,
    retention: Retention,
    largest_append: u64,
}

impl MemoryStore {
    /// An empty store that keeps this much per channel.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self {
            place: Arc::new(Mutex::new(Place::new(&retention))),
            clock: Clock::system(),
            retention,
            largest_append: LARGEST_APPEND,
        }
    }

    /// Takes the time from `clock`, in this handle and its later clones. Default: the system's.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Sets the most bytes of one append or init, by [`Entry::size`](crate::store::Entry::size), in this handle and its
    /// later clones; more is [`StoreError::TooLarge`], as is an append of more than half of what is kept. Default 16 MiB.
    #[must_use]
    pub fn largest_append(self, bytes: u64) -> Self {
        Self { largest_append: bytes, ..self }
    }

    /// Sets the most bytes that the store takes in all, of all handles: entries, keys and records of channels, with what the
    /// allocator adds. What would make it grow beyond that is [`StoreError::Full`] until something has gone; what was
    /// appended before is still read, and still a duplicate. A quarter of it is the most that the keys of one channel take.
    /// Default 512 MiB.
    #[must_use]
    pub fn max_bytes(self, bytes: u64) -> Self {
        self.at_place(|place| place.max_bytes = bytes);
        self
    }

    /// How many bytes the store takes now, by the count that [`max_bytes`](Self::max_bytes) limits.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.at_place(|place| place.heap_bytes())
    }

    /// Cuts the last `n` entries off, as a power loss does on a disk that lied: for tests of what follows.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn lose_tail(&self, channel: &Channel, n: u64) {
        self.at_place(|place| place.lose_tail(channel, n));
    }

    /// Another handle, which keeps `own`, while the place keeps `all` from now on: what other stores are that are opened again
    /// with other settings, for tests of tests.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn reopened(&self, own: Retention, all: &Retention) -> Self {
        self.at_place(|place| place.keep = crate::store::Keep::new(all));
        Self { retention: own, ..self.clone() }
    }

    /// The only way to the state: takes the time before the lock, and wakes after it, for both run foreign code.
    fn at_place<T>(&self, act: impl FnOnce(&mut Place) -> T) -> T {
        let now = self.clock.now();
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.begin(now);
        let done = act(&mut place);
        let wakers = place.watchers.take_wakers();
        drop(place);
        wakers.into_iter().for_each(std::task::Waker::wake);
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
        f.debug_struct("MemoryStore").field("largest_append", &self.largest_append).finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        fits_append(&self.retention, channel, &append.events, self.largest_append)?;
        // Before the lock: it reads all of the data.
        let prints = Prints::of(&append.events);
        self.at_place(|place| place.append(channel, append, &prints))
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        Ok(self.at_place(|place| place.read(channel, start, limit)))
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        Ok(self.at_place(|place| channels.iter().map(|channel| place.head(channel)).collect()))
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        fits_init(channel, &events, self.largest_append)?;
        self.at_place(|place| place.init(channel, events, expect))
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.at_place(|place| place.delete(channel));
        Ok(())
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        Ok(self.at_place(|place| place.channels(prefix, after, limit)))
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        Changes::new(Arc::clone(&self.place))
    }

    fn retention(&self) -> Retention {
        self.retention.clone()
    }
}

/// Default of [`MemoryStore::largest_append`], in bytes.
const LARGEST_APPEND: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_watcher_is_no_longer_told() {
        let store = MemoryStore::default();
        let (one, two) = (store.changes(), store.changes());
        assert_eq!(store.at_place(|place| place.watchers.len()), 2);
        drop(one);
        assert_eq!(store.at_place(|place| place.watchers.len()), 1);
        drop(two);
        assert_eq!(store.at_place(|place| place.watchers.len()), 0);
    }
}
