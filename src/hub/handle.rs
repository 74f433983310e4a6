//! The hub's handle: creating it, and what concerns all of it. `publish` and `read` add the calls.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    busiest::busiest,
    drain::Drained,
    options::HubOptions,
    shared::Shared,
    stats::{RefusedBy, Stats},
};
use crate::{
    channel::Channel,
    store::{AnyStore, Store},
};

/// Handle of one process on one store: publish, listen, subscribe, drain. Clones are cheap and share everything.
///
/// Creating one needs no runtime; reading does: one of tokio's, with timers enabled (`enable_all` or `#[tokio::main]`).
pub struct Hub<S = AnyStore> {
    pub(super) store: Arc<S>,
    pub(super) shared: Arc<Shared>,
}

impl Hub {
    /// A hub on any store, with default options.
    pub fn new(store: impl Store) -> Self {
        Self::with_options(store, HubOptions::default())
    }

    /// A hub on any store.
    pub fn with_options(store: impl Store, options: HubOptions) -> Self {
        let store = AnyStore::new(store);
        Self { shared: Arc::new(Shared::new(store.clone(), options)), store: Arc::new(store) }
    }
}

impl<S: Store> Hub<S> {
    /// A hub that keeps the store's type, with default options.
    pub fn typed(store: S) -> Self {
        Self::typed_with(store, HubOptions::default())
    }

    /// A hub that keeps the store's type.
    pub fn typed_with(store: S, options: HubOptions) -> Self {
        let store = Arc::new(store);
        Self { shared: Arc::new(Shared::new(AnyStore::new(store.clone()), options)), store }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    /// What the hub holds now, and what has happened in it.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The followed channels with the most readers, at most `count`, and their readers; the most first. Takes time in proportion to
    /// the number of followed channels: some milliseconds for 100 000.
    #[must_use]
    pub fn busiest_channels(&self, count: usize) -> Vec<(Channel, usize)> {
        busiest(&self.shared.all_topics(), count)
    }

    /// Whether [`Hub::drain`] was called: what a readiness check asks. From then on clients are told to go elsewhere, while the
    /// server still answers those that a load balancer sends.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    /// How long a client that is turned away because of a failing store should stay away: 1 s at first, doubling up to 30 s
    /// while reads keep failing.
    #[must_use]
    pub fn failure_backoff(&self) -> Duration {
        self.shared.store_calls.outage.backoff()
    }

    /// Ends every parked poll and open stream at an event boundary, at once and for good. Each reader is told to come back at
    /// its own time within `window`, but not before [`HubOptions::drain_floor`]. Publishing goes on. The drain starts with this
    /// call; the returned future only waits until the last reader has left.
    pub fn drain(&self, window: Duration) -> Drained {
        self.shared.drain(window);
        Drained::new(self.shared.clone())
    }
}

impl<S> Hub<S> {
    /// From here on only this process's producers publish to channels whose names begin with `prefix`.
    pub(crate) fn own(&self, prefix: &str) {
        self.shared.owned.add(prefix);
    }

    /// Whether nobody but a producer in this process may publish to the channel.
    pub(crate) fn owns(&self, channel: &Channel) -> bool {
        self.shared.owned.contain(channel)
    }

    /// Counts a request that was refused.
    pub(crate) fn count_refusal(&self, by: RefusedBy) {
        self.shared.counters.refused(by);
    }

    /// The same hub as [`Hub<AnyStore>`](Hub), for code that does not know the store's type. It shares everything with this
    /// one: channels that are followed, readers, bounds, the drain.
    ///
    /// ```
    /// use tower_events::{Hub, MemoryStore};
    ///
    /// let typed: Hub<MemoryStore> = Hub::typed(MemoryStore::default());
    /// let hub: Hub = typed.erase();
    /// assert_eq!(hub.stats().readers, typed.stats().readers);
    /// ```
    #[must_use]
    pub fn erase(&self) -> Hub {
        Hub { store: Arc::new(self.shared.store.clone()), shared: self.shared.clone() }
    }
}

impl<S> Clone for Hub<S> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), shared: self.shared.clone() }
    }
}

impl<S> fmt::Debug for Hub<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("stats", &self.shared.stats()).finish_non_exhaustive()
    }
}
