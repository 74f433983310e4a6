//! The store: threads, hints, health, and the file that is opened again after a failure.
//!
//! redb blocks, so that every call runs on a thread for that. A call that is dropped is finished all the same: as a whole.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_core::Stream;
use redb::{Database, DatabaseError, ReadTransaction};
use tokio::{runtime::Handle, task::spawn_blocking};
use tower_events::{
    Channel, Event, Retention, Store, StoreError,
    store::{
        Append, Appended, Change, Clock, Expect, Head, Health, Limit, Page, Start,
        kit::{Fingerprints, Keep, Watchers, WriteTransaction as _, check_append_size, check_init_size},
    },
};

use super::{
    tables::{self, Failure},
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
    keep: Keep,
    /// The limits with which the file was opened before, and until when they hold if they are larger: limits that were lowered
    /// by mistake can be raised again.
    earlier: (Keep, u64),
    clock: Clock,
    watchers: Watchers,
    /// Held from a write until its hints are queued, so that they come in the order of the writes.
    writing: Mutex<()>,
    /// Whether the last write failed, and whether another is being tried.
    is_failing: AtomicBool,
    is_trying: AtomicBool,
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
        let (keep, until) = (Keep::new(&retention), clock.now().saturating_add(LOWERED_AFTER.as_millis() as u64));
        let database = open().map_err(|error| Failure::from(error).0)?;
        let earlier = (writes::open(&database, keep).map_err(|failure| failure.0)?, until);
        Ok(Self(Arc::new(Inner {
            open: Box::new(open),
            database: Mutex::new(Some(Arc::new(database))),
            retention,
            keep,
            earlier,
            clock,
            watchers: Watchers::armed(),
            writing: Mutex::default(),
            is_failing: AtomicBool::default(),
            is_trying: AtomicBool::default(),
        })))
    }

    /// Runs `act` in a write transaction.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Writes<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call(move |inner| inner.write(act)).await
    }

    /// Runs `act` on a snapshot of these channels, after retention was applied to them.
    async fn read<T: Send + 'static>(
        &self,
        of: Vec<Channel>,
        act: impl FnOnce(&ReadTransaction, &[Channel], (Keep, u64)) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call(move |inner| {
            let (limits, mut snapshot) = (inner.limits(), inner.database()?.begin_read()?);
            let stale = tables::stale(&snapshot, &of, limits)?;
            if !stale.is_empty() {
                inner.write(|writes| stale.into_iter().try_for_each(|channel| writes.retained(channel).map(drop)))?;
                snapshot = inner.database()?.begin_read()?;
            }
            act(&snapshot, &of, limits)
        })
        .await
    }

    async fn call<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Inner) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        spawn_blocking(move || inner.call(act)).await.unwrap_or_else(|ended| Err(StoreError::Unknown(ended.into())))
    }
}

impl Inner {
    /// Calls `act`. After a failure of the medium the file is closed; the next call opens it again.
    fn call<T>(&self, act: impl FnOnce(&Self) -> Result<T, Failure>) -> Result<T, StoreError> {
        let done = act(self).map_err(|failure| failure.0);
        if let Err(StoreError::Unavailable(_) | StoreError::Full(_) | StoreError::Unknown(_)) = &done {
            self.is_failing.store(true, Ordering::SeqCst);
            *lock(&self.database) = None;
        }
        done
    }

    fn database(&self) -> Result<Arc<Database>, Failure> {
        let mut current = lock(&self.database);
        if let Some(database) = &*current {
            return Ok(Arc::clone(database));
        }
        Ok(Arc::clone(current.insert(Arc::new((self.open)()?))))
    }

    /// One write transaction, whose changes are told once it is committed.
    fn write<T>(&self, act: impl FnOnce(&mut Writes<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let order = lock(&self.writing);
        let transaction = self.database()?.begin_write()?;
        let mut writes = Writes::new(&transaction, self.limits())?;
        let done = act(&mut writes)?;
        writes.tidy()?;
        let changes = writes.into_changes();
        // After an error it is not known whether the transaction was committed.
        transaction.commit().map_err(|error| StoreError::Unknown(error.into()))?;
        self.is_failing.store(false, Ordering::SeqCst);
        let wakers = self.watchers.queue_all(&changes);
        drop(order);
        wakers.wake();
        Ok(done)
    }

    /// The limits, and the time at which they hold.
    fn limits(&self) -> (Keep, u64) {
        let ((earlier, until), now) = (&self.earlier, self.clock.now());
        (if now < *until { self.keep.largest(earlier) } else { self.keep }, now)
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
        self.read(vec![of.clone()], move |read, _, _| tables::page(read, &of, start, limit)).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let heads = |read: &ReadTransaction, of: &[Channel], _: (Keep, u64)| {
            of.iter().map(|channel| Ok(tables::record(read, channel)?.head)).collect()
        };
        self.read(channels.to_vec(), heads).await
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
        self.read(vec![], move |read, _, limits| tables::list(read, (&prefix, after.as_ref(), limit), limits)).await
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        self.0.watchers.watch()
    }

    fn retention(&self) -> Retention {
        self.0.retention.clone()
    }

    fn health(&self) -> Health {
        if !self.0.is_failing.load(Ordering::SeqCst) {
            return Health::Ready;
        }
        // Tries again, without waiting for it.
        if let (Ok(runtime), false) = (Handle::try_current(), self.0.is_trying.swap(true, Ordering::SeqCst)) {
            let inner = Arc::clone(&self.0);
            runtime.spawn_blocking(move || {
                _ = inner.call(|inner| inner.write(|_| Ok(())));
                inner.is_trying.store(false, Ordering::SeqCst);
            });
        }
        Health::Unavailable
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The largest append or init.
const MAX_APPEND_BYTES: u64 = 16 << 20;

/// The most channels in one page of a listing.
const MAX_LISTED: usize = 1_000;

/// How long the limits of the last opening hold if they were larger.
const LOWERED_AFTER: Duration = Duration::from_secs(300);
