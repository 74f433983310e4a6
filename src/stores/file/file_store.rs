//! The handle of a store: writes go to the writer's queue, reads to the read pool.

use std::{fmt, sync::Arc};

use futures_core::Stream;
use rusqlite::Connection;

use super::{
    changes::Changes,
    core::Core,
    head_cache::HeadCache,
    listing,
    read::{self, StaleRecord},
    read_pool::ReadPool,
    request::{Operation, Reply},
    write_queue::WriteHandle,
};
use crate::{
    channel::Channel,
    event::Event,
    store::{
        Append, Appended, Change, Expect, Head, Health, Limit, Page, Retention, Start, Store, StoreError, Upkeep,
        kit::{check_append_size, check_init_size},
    },
};

/// A [`Store`] in a file that several processes share. Clones are cheap and share everything. See the
/// [module docs](crate::stores::file).
#[derive(Clone)]
pub struct FileStore {
    pub(super) core: Arc<Core>,
    pub(super) write_handle: Arc<WriteHandle>,
    pub(super) read_pool: Arc<ReadPool>,
}

impl FileStore {
    /// How many transactions this store has begun. For measurements.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn attempts(&self) -> u64 {
        self.core.attempts.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// How many transactions this store has committed. For measurements.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn commits(&self) -> u64 {
        self.core.commits.load(std::sync::atomic::Ordering::Relaxed)
    }

    async fn submit(&self, operation: Operation) -> Result<Reply, StoreError> {
        // A forked child has none of the writer's threads.
        self.core.paths.check_process()?;
        let done = self.write_handle.submit(operation).await;
        self.wake_retry(done)
    }

    async fn page(
        &self,
        channel: &Channel,
        start: Start,
        limit: Limit,
        stale: StaleRecord,
    ) -> Result<Option<Page>, StoreError> {
        let (now, channel) = (self.core.now(), channel.clone());
        let read = move |core: &Core, db: &mut Connection| {
            let page = read::page(db, (&core.keep, now, stale), &channel, start, limit);
            if let Err(error @ StoreError::Corrupt(_)) = &page {
                core.quarantine.report(&core.paths.db, channel.as_str(), error);
            }
            page
        };
        self.record_read(self.read_pool.read(&self.core, read).await)
    }

    async fn read_heads(
        &self,
        channels: &[Channel],
        stale: StaleRecord,
    ) -> Result<(Vec<Head>, Vec<Channel>), StoreError> {
        let (now, channels) = (self.core.now(), channels.to_vec());
        let read = move |core: &Core, cache: &mut HeadCache| cache.read(core, (now, stale), &channels);
        self.record_read(self.read_pool.read_heads(&self.core, read).await)
    }

    /// Has the writer forget stale records, unless writes are failing.
    async fn forget(&self, channels: Vec<Channel>) {
        if !self.core.health.writes.is_failing() {
            _ = self.submit(Operation::Maintain(channels)).await;
        }
    }

    /// Records in the store's health how a read ended.
    fn record_read<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        match &done {
            Ok(_) => self.core.health.reads.recover(&self.core.paths.db),
            Err(error) => self.core.health.reads.record_failure(&self.core.paths.db, error),
        }
        self.wake_retry(done)
    }

    /// After a failure, wakes the writer's thread to retry until the store has recovered.
    fn wake_retry<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if done.is_err() && self.core.health.needs_retry() {
            self.write_handle.0.queue.wake_thread();
        }
        done
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("file", &self.core.paths.db).finish_non_exhaustive()
    }
}

impl Store for FileStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let options = &self.core.options;
        check_append_size(&options.retention, channel, &append.events, options.max_append_bytes)?;
        match self.submit(Operation::Append(channel.clone(), append)).await? {
            Reply::Appended(appended) => Ok(appended),
            _ => Err(wrong_reply()),
        }
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        if let Some(page) = self.page(channel, start, limit, StaleRecord::Report).await? {
            return Ok(page);
        }
        self.forget(vec![channel.clone()]).await;
        self.page(channel, start, limit, StaleRecord::TreatAsForgotten).await?.ok_or_else(wrong_reply)
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        let (heads, stale) = self.read_heads(channels, StaleRecord::Report).await?;
        if stale.is_empty() {
            return Ok(heads);
        }
        self.forget(stale).await;
        self.read_heads(channels, StaleRecord::TreatAsForgotten).await.map(|(heads, _)| heads)
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        check_init_size(channel, &events, self.core.options.max_append_bytes)?;
        match self.submit(Operation::Init(channel.clone(), events, expect)).await? {
            Reply::Head(head) => Ok(head),
            _ => Err(wrong_reply()),
        }
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.submit(Operation::Delete(channel.clone())).await.map(|_| ())
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        let (now, prefix, after) = (self.core.now(), prefix.to_owned(), after.cloned());
        let read = move |core: &Core, db: &mut _| listing::channels(core, db, now, &prefix, after.as_ref(), limit);
        self.record_read(self.read_pool.read(&self.core, read).await)
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        Changes::new(Arc::clone(&self.core))
    }

    fn retention(&self) -> Retention {
        self.core.options.retention.clone()
    }

    fn health(&self) -> Health {
        self.core.health()
    }

    fn upkeep(&self) -> Upkeep {
        self.core.upkeep.upkeep()
    }
}

fn wrong_reply() -> StoreError {
    StoreError::Unknown("the writer sent the reply of another request".into())
}
