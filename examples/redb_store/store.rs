//! The store: threads, hints, health, and the file that is opened again after a failure.
//!
//! redb blocks, so that every call runs on a thread for that. A call that is dropped is finished all the same: as a whole.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_core::Stream;
use redb::{Database, DatabaseError};
use tower_events::{
    Channel, Event, Retention, Store, StoreError,
    store::{
        Append, Appended, Change, Clock, Expect, Head, Health, Limit, Page, Start,
        kit::{Fingerprints, Keep, Watchers, check_append_size, check_init_size},
    },
};

use super::{
    place::{self, Failure},
    tables::{self, Tables},
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
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    pub(crate) fn open(path: impl Into<PathBuf>, retention: Retention) -> Result<Self, StoreError> {
        let path = path.into();
        Self::with(move || Database::create(&path), retention, Clock::system())
    }

    /// Opens whatever `open` opens, which is called again after an I/O error: then redb writes no more.
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub(crate) fn with(
        open: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
        retention: Retention,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let (keep, now) = (Keep::new(&retention), clock.now());
        let database = open().map_err(|error| Failure::from(redb::Error::from(error)).0)?;
        let earlier = tables::open(&database, &keep).map_err(|failure| failure.0)?;
        Ok(Self(Arc::new(Inner {
            open: Box::new(open),
            database: Mutex::new(Some(Arc::new(database))),
            retention,
            keep,
            earlier: (earlier, now.saturating_add(LOWERED_AFTER.as_millis() as u64)),
            clock,
            watchers: Watchers::armed(),
            writing: Mutex::new(()),
            is_failing: AtomicBool::new(false),
            is_trying: AtomicBool::new(false),
        })))
    }

    /// Removes the last `n` entries, as a disk does that loses what it acknowledged.
    #[cfg(test)]
    pub(crate) async fn lose_tail(&self, channel: &Channel, n: u64) -> Result<(), StoreError> {
        let channel = channel.clone();
        self.call(move |inner| inner.write(|tables, _| tables.lose_tail(&channel, n))).await
    }

    async fn call<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Inner) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || inner.noted(act)).await;
        done.unwrap_or_else(|ended| Err(StoreError::Unknown(ended.into())))
    }
}

impl Inner {
    /// Calls `act`. After a failure of the medium the file is closed; the next call opens it again.
    fn noted<T>(&self, act: impl FnOnce(&Self) -> Result<T, Failure>) -> Result<T, StoreError> {
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
        let database = Arc::new((self.open)().map_err(redb::Error::from)?);
        Ok(Arc::clone(current.insert(database)))
    }

    /// One write transaction, whose changes are told once it is committed.
    fn write<T>(
        &self,
        act: impl FnOnce(&mut Tables<'_>, (&Keep, u64)) -> Result<(T, Vec<Change>), Failure>,
    ) -> Result<T, Failure> {
        let order = lock(&self.writing);
        let transaction = self.database()?.begin_write()?;
        let (keep, now) = self.keep();
        let mut tables = Tables::open(&transaction)?;
        let (done, changes) = act(&mut tables, (&keep, now))?;
        tables.tidy((&keep, now))?;
        drop(tables);
        tables::commit(transaction)?;
        self.is_failing.store(false, Ordering::SeqCst);
        let wakers = self.watchers.queue_all(&changes);
        drop(order);
        wakers.wake();
        Ok(done)
    }

    /// A snapshot of these channels, after retention was applied to them.
    fn read<T>(
        &self,
        channels: &[Channel],
        act: impl FnOnce(&redb::ReadTransaction) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (keep, now) = self.keep();
        let snapshot = self.database()?.begin_read()?;
        let due = place::due(&snapshot, channels, (&keep, now))?;
        if due.is_empty() {
            return act(&snapshot);
        }
        self.write(|tables, keep| {
            due.into_iter().try_for_each(|channel| tables.retained(channel, keep).map(drop))?;
            Ok(((), Vec::new()))
        })?;
        act(&self.database()?.begin_read()?)
    }

    /// The limits, and the time at which they hold.
    fn keep(&self) -> (Keep, u64) {
        let now = self.clock.now();
        let (earlier, until) = &self.earlier;
        (if now < *until { self.keep.largest(earlier) } else { self.keep }, now)
    }
}

impl Store for RedbStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        check_append_size(&self.0.retention, channel, &append.events, MAX_APPEND_BYTES)?;
        let (channel, prints) = (channel.clone(), Fingerprints::of(&append.events));
        self.call(move |inner| inner.write(|tables, keep| tables.append(&channel, append, prints, keep))).await
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        let of = [channel.clone()];
        self.call(move |inner| inner.read(&of, |read| place::page(read, &of[0], start, limit))).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let of = channels.to_vec();
        self.call(move |inner| {
            inner.read(&of, |read| of.iter().map(|channel| Ok(place::record(read, channel)?.head)).collect())
        })
        .await
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        check_init_size(channel, &events, MAX_APPEND_BYTES)?;
        let channel = channel.clone();
        self.call(move |inner| inner.write(|tables, keep| tables.init(&channel, events, expect, keep))).await
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        let channel = channel.clone();
        self.call(move |inner| inner.write(|tables, _| tables.delete(&channel))).await
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        let (prefix, after, limit) = (prefix.to_owned(), after.cloned(), limit.min(MAX_LISTED));
        self.call(move |inner| {
            let (keep, now) = inner.keep();
            inner.read(&[], |read| place::list(read, (&prefix, after.as_ref(), limit), (&keep, now)))
        })
        .await
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
        if let (Ok(runtime), false) =
            (tokio::runtime::Handle::try_current(), self.0.is_trying.swap(true, Ordering::SeqCst))
        {
            let inner = Arc::clone(&self.0);
            runtime.spawn_blocking(move || {
                _ = inner.noted(|inner| inner.write(|_, _| Ok(((), Vec::new()))));
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
