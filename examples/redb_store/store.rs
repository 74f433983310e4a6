//! The store: threads, hints, health, and the file that is opened again after a failure.
//!
//! redb blocks, so that every call runs on a thread for that. A call that is dropped is finished all the same: as a whole.

use std::{slice, sync::Arc};

use futures_core::Stream;
use redb::{Database, DatabaseError};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard},
    task::spawn_blocking,
};
use tower_events::{
    Channel, Event, Retention, Store, StoreError,
    store::{
        Append, Appended, Change, Clock, Expect, Head, Health, Limit, Page, Start,
        kit::{
            Fingerprints, Keep, ObservedHealth, Watchers, WriteTransaction as _, check_append_size, check_init_size,
        },
    },
};

use super::{
    tables::{Failure, Snapshot},
    writes::{self, Writes},
};

/// A [`Store`] in one file, of one process. Clones share it.
#[derive(Clone)]
pub(crate) struct RedbStore(Arc<Inner>);

struct Inner {
    open: Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>,
    /// `None` after a failure, until it is opened again.
    database: Mutex<Option<Arc<Database>>>,
    retention: Retention,
    /// The limits with which the file was opened before, and until when they hold if they are larger: limits that were lowered
    /// by mistake can be raised again.
    earlier: (Keep, u64),
    clock: Clock,
    watchers: Watchers,
    /// Held from a write until its hints are queued, so that they come in the order of the writes. Given in the order of the calls:
    /// one that was dropped, and is being done all the same, is over before the next.
    turn: Arc<Mutex<()>>,
    health: ObservedHealth,
}

impl RedbStore {
    /// Opens what `open` opens or creates. It is called again after an I/O error: then redb writes no more.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Full`], [`StoreError::Corrupt`].
    pub(crate) fn open(
        open: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
        retention: Retention,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let database = open().map_err(|error| Failure::from(error).0)?;
        let earlier = writes::open(&database, Keep::new(&retention)).map_err(|failure| failure.0)?;
        let until = clock.now().saturating_add(LOWERED_AFTER);
        Ok(Self(Arc::new(Inner {
            open: Box::new(open),
            database: Mutex::new(Some(Arc::new(database))),
            retention,
            earlier: (earlier, until),
            clock,
            watchers: Watchers::armed(),
            turn: Arc::default(),
            health: ObservedHealth::default(),
        })))
    }

    /// Runs `act` on a snapshot, after retention was applied to these channels.
    async fn read<T: Send + 'static>(
        &self,
        of: &[Channel],
        act: impl FnOnce(&Snapshot) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let of = of.to_vec();
        self.call(move |inner| {
            let stale = inner.snapshot()?.stale(&of)?;
            if !stale.is_empty() {
                let turn = Arc::clone(&inner.turn).blocking_lock_owned();
                inner.write(turn, |writes| stale.iter().try_for_each(|channel| writes.retained(channel).map(drop)))?;
            }
            act(&inner.snapshot()?)
        })
        .await
    }

    /// Runs `act` in a write transaction.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Writes<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = Arc::clone(&self.0.turn).lock_owned().await;
        self.call(move |inner| inner.write(turn, act)).await
    }

    /// Calls `act` on a thread that may block. After a failure of the medium the file is closed; the next call opens it again.
    async fn call<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Inner) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        let called = spawn_blocking(move || {
            let done = act(&inner).map_err(|failure| failure.0);
            if done.as_ref().is_err_and(StoreError::is_retryable) {
                inner.health.set(Health::Unavailable);
                *inner.database.blocking_lock() = None;
            }
            done
        });
        called.await.unwrap_or_else(|ended| Err(StoreError::Unknown(ended.into())))
    }
}

impl Inner {
    fn database(&self) -> Result<Arc<Database>, Failure> {
        let mut current = self.database.blocking_lock();
        if let Some(database) = &*current {
            return Ok(Arc::clone(database));
        }
        Ok(Arc::clone(current.insert(Arc::new((self.open)()?))))
    }

    fn snapshot(&self) -> Result<Snapshot, Failure> {
        Ok(Snapshot { read: self.database()?.begin_read()?, limits: self.limits() })
    }

    /// One write transaction, whose changes are told once it is committed.
    fn write<T>(
        &self,
        turn: OwnedMutexGuard<()>,
        act: impl FnOnce(&mut Writes<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let transaction = self.database()?.begin_write()?;
        let mut writes = Writes { transaction: &transaction, limits: self.limits(), changes: Vec::new() };
        let done = act(&mut writes)?;
        writes.tidy()?;
        let changes = writes.changes;
        // After an error it is not known whether the transaction was committed.
        transaction.commit().map_err(|error| StoreError::Unknown(error.into()))?;
        self.health.set(Health::Ready);
        let wakers = self.watchers.queue_all(&changes);
        drop(turn);
        wakers.wake();
        Ok(done)
    }

    /// The limits, and the time at which they hold.
    fn limits(&self) -> (Keep, u64) {
        let (own, (earlier, until), now) = (Keep::new(&self.retention), &self.earlier, self.clock.now());
        (if now < *until { own.largest(earlier) } else { own }, now)
    }
}

impl Store for RedbStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        check_append_size(&self.0.retention, channel, &append.events, MAX_APPEND_BYTES)?;
        let (channel, prints) = (channel.clone(), Fingerprints::of(&append.events));
        self.write(move |writes| writes.append(&channel, &append, prints)).await
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        let of = channel.clone();
        self.read(slice::from_ref(channel), move |snapshot| snapshot.page(&of, start, limit)).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let of = channels.to_vec();
        self.read(channels, move |snapshot| of.iter().map(|of| Ok(snapshot.record(of)?.head)).collect()).await
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        check_init_size(channel, &events, MAX_APPEND_BYTES)?;
        let channel = channel.clone();
        self.write(move |writes| writes.init(&channel, &events, expect)).await
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        let channel = channel.clone();
        self.write(move |writes| writes.delete(&channel)).await
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        let (prefix, after, limit) = (prefix.to_owned(), after.cloned(), limit.min(MAX_LISTED));
        self.read(&[], move |snapshot| snapshot.list(&prefix, after.as_ref(), limit)).await
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        self.0.watchers.watch()
    }

    fn retention(&self) -> Retention {
        self.0.retention.clone()
    }

    fn health(&self) -> Health {
        // After a failure, tries again, without waiting for it.
        if let (Ok(runtime), Some(probe)) = (Handle::try_current(), self.0.health.probe()) {
            let store = self.clone();
            runtime.spawn(async move {
                _ = store.write(|_| Ok(())).await;
                drop(probe);
            });
        }
        self.0.health.get()
    }
}

/// The largest append or init.
const MAX_APPEND_BYTES: u64 = 16 << 20;

/// The most channels in one page of a listing.
const MAX_LISTED: usize = 1_000;

/// How long the limits of the last opening hold if they were larger, in milliseconds.
const LOWERED_AFTER: u64 = 300_000;
