//! How the suite opens and manipulates a store. Independent of the clauses.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    channel::Channel,
    store::{Clock, Retention, Store},
    stores::memory::MemoryStore,
};

/// Opens the stores that the suite runs on. Every clause opens a place of its own, so nothing needs to be cleaned up.
///
/// What a store cannot do (its clock cannot be set, its log cannot be truncated) is left to the default methods, which return
/// [`Unable`]; the clauses that need it are skipped with a message on standard error.
pub trait Harness: Send + Sync + 'static {
    /// The store.
    type Store: Store;
    /// What the stores of one place share, and what keeps the place alive: a temporary directory, a prefix, a clock.
    type Place: Send + Sync + 'static;

    /// A new and empty place, whose stores have this retention.
    fn place(&self, retention: Retention) -> impl Future<Output = Self::Place> + Send;

    /// A store on that place. Clauses about several processes call this twice; for a store that cannot be opened twice, return a
    /// clone.
    fn open(&self, place: &Self::Place) -> impl Future<Output = Self::Store> + Send;

    /// How time passes. The default is real time, with 50 ms per unit of the suite, for stores whose clock cannot be
    /// controlled.
    fn time(&self) -> Time {
        Time::Real { unit: Duration::from_millis(50) }
    }

    /// Lets at least this much time pass for the stores of the place. The default sleeps.
    fn advance(&self, place: &Self::Place, by: Duration) -> impl Future<Output = ()> + Send {
        _ = place;
        tokio::time::sleep(by)
    }

    /// Steps the clock of the place back.
    fn step_back(&self, place: &Self::Place, by: Duration) -> impl Future<Output = Result<(), Unable>> + Send {
        _ = (place, by);
        std::future::ready(Err(Unable("the store's clock cannot be stepped back")))
    }

    /// Removes the last `n` entries of the channel, as a power loss or a failover does.
    fn lose_tail(
        &self,
        place: &Self::Place,
        channel: &Channel,
        n: u64,
    ) -> impl Future<Output = Result<(), Unable>> + Send {
        _ = (place, channel, n);
        std::future::ready(Err(Unable("the store's log cannot be truncated")))
    }

    /// The same place, whose stores have this retention from now on. The stores that were open on it have been dropped.
    fn reopen(
        &self,
        place: Self::Place,
        retention: Retention,
    ) -> impl Future<Output = Result<Self::Place, Unable>> + Send {
        _ = (place, retention);
        std::future::ready(Err(Unable("the store cannot be reopened with other settings")))
    }

    /// Wipes the place and creates it again, as when a file is removed or a schema is dropped. The stores that were open on it
    /// have been dropped. The default creates another place.
    fn wipe(&self, place: Self::Place, retention: Retention) -> impl Future<Output = Self::Place> + Send {
        drop(place);
        self.place(retention)
    }

    /// Makes appends to the place fail from now on, as a server that hangs or a full disk does. The stored data stays.
    fn begin_trouble(&self, place: &Self::Place) -> impl Future<Output = Result<(), Unable>> + Send {
        _ = place;
        std::future::ready(Err(Unable("the store cannot be made to fail")))
    }

    /// Makes appends succeed again.
    fn end_trouble(&self, place: &Self::Place) -> impl Future<Output = ()> + Send {
        _ = place;
        std::future::ready(())
    }
}

/// How time passes for a harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Only by [`Harness::advance`].
    Controlled,
    /// By itself. The suite counts time in units of this length; the clauses about time let some tens of units pass, and assume
    /// that a few calls take less than ten units.
    Real {
        /// The length of a unit.
        unit: Duration,
    },
}

impl Time {
    /// The unit in which the suite counts time.
    #[must_use]
    pub fn unit(self) -> Duration {
        match self {
            Self::Controlled => Duration::from_secs(1),
            Self::Real { unit } => unit,
        }
    }
}

/// The reason why a harness cannot do something, for the message about a skipped clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unable(pub &'static str);

/// Runs the suite on [`MemoryStore`]. An example to copy from.
///
/// ```
/// use tower_events::testing::{MemoryHarness, run_all};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// run_all(&MemoryHarness).await;
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MemoryHarness;

/// The place of a [`MemoryHarness`]: one store and its clock.
#[derive(Debug)]
pub struct MemoryPlace {
    store: MemoryStore,
    now: Arc<AtomicU64>,
}

impl Harness for MemoryHarness {
    type Store = MemoryStore;
    type Place = MemoryPlace;

    async fn place(&self, retention: Retention) -> MemoryPlace {
        let now = Arc::new(AtomicU64::new(1_732_094_400_000));
        let clock = Clock::new({
            let now = Arc::clone(&now);
            move || now.load(Ordering::SeqCst)
        });
        MemoryPlace { store: MemoryStore::new(retention).clock(clock), now }
    }

    async fn open(&self, place: &MemoryPlace) -> MemoryStore {
        place.store.clone()
    }

    fn time(&self) -> Time {
        Time::Controlled
    }

    async fn advance(&self, place: &MemoryPlace, by: Duration) {
        place.now.fetch_add(millis(by), Ordering::SeqCst);
    }

    async fn step_back(&self, place: &MemoryPlace, by: Duration) -> Result<(), Unable> {
        place.now.fetch_sub(millis(by), Ordering::SeqCst);
        Ok(())
    }

    async fn lose_tail(&self, place: &MemoryPlace, channel: &Channel, n: u64) -> Result<(), Unable> {
        place.store.lose_tail(channel, n);
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
