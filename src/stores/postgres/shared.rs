//! What the clones of a store share.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::task::AbortHandle;
use tokio_postgres::types::Type;

use super::{
    append_queues::AppendQueues, database::Database, error::CallError, heads, janitor, listener::Listener,
    notifier::Notifier, page, settings::Settings,
};
use crate::{
    channel::Channel,
    store::{Appended, Change, Head, StoreError, floor, kit::Watchers},
};

/// What the clones of a store share.
pub(super) struct Inner {
    pub(super) database: Arc<Database>,
    pub(super) settings: Arc<Settings>,
    pub(super) append_queues: AppendQueues,
    /// Also holds the watchers, and the notifier of other processes.
    pub(super) listener: Listener,
    tasks: [AbortHandle; 2],
}

impl Inner {
    pub(super) fn new(database: Database, settings: Settings, tidy_every: Duration) -> Self {
        let (database, settings) = (Arc::new(database), Arc::new(settings));
        let listener = Listener {
            database: Arc::clone(&database),
            notifier: Arc::new(Notifier::new()),
            watchers: Watchers::unarmed(),
            own_received: Arc::new(AtomicU64::new(0)),
            reconnects: Arc::new(AtomicU64::new(0)),
            queue_warning: Arc::default(),
        };
        let notifier = Arc::clone(&listener.notifier).run(Arc::clone(&database));
        let janitor = janitor::run(Arc::clone(&database), Arc::clone(&settings), tidy_every);
        let runtime = &database.runtime;
        let tasks = [runtime.spawn(notifier).abort_handle(), runtime.spawn(janitor).abort_handle()];
        Self { database, settings, append_queues: AppendQueues::default(), listener, tasks }
    }

    pub(super) async fn head(&self, channel: &Channel) -> Result<Head, StoreError> {
        let heads = heads::heads(&self.database, std::slice::from_ref(channel)).await?;
        heads.first().copied().ok_or_else(|| StoreError::Corrupt("the server returned no head".into()))
    }

    /// The head of the absent channel, if there was one to delete.
    pub(super) async fn delete(&self, channel: &Channel) -> Result<Option<Head>, StoreError> {
        let (name, settings) = (channel.as_str(), &self.settings);
        let params = [
            (&name as _, Type::TEXT),
            (&settings.lock_ms as _, Type::INT4),
            (&settings.sync as _, Type::TEXT),
            (&page::bucket(channel) as _, Type::INT4),
            (&(floor::raised(0, 0) as i64) as _, Type::INT8),
        ];
        let rows =
            self.database.write(&self.database.sql.delete, &params).await.map_err(CallError::into_write_error)?;
        let Some(row) = rows.first() else { return Ok(None) };
        let read = || Ok((row.try_get::<_, Option<i64>>(0)?, row.try_get::<_, Option<i64>>(1)?));
        let (place, floor) = read().map_err(|error: tokio_postgres::Error| StoreError::Corrupt(error.into()))?;
        Ok(place.zip(floor).map(|(place, floor)| page::absent_record(channel, place, floor).head))
    }

    /// Tells this process's watchers what was appended; returns the head of which other processes must be notified, if
    /// any.
    pub(super) fn notify_appended(&self, channel: &Channel, results: &[Result<Appended, StoreError>]) -> Option<Head> {
        let done = || results.iter().filter_map(|result| result.as_ref().ok());
        let head = done().next_back()?.head;
        let is_new = done().any(|done| !done.entries.is_empty());
        if is_new {
            self.listener.watchers.notify(|| Change::Entries(done().flat_map(|done| done.entries.clone()).collect()));
        }
        if head.closed {
            self.listener.watchers.notify(|| Change::Head(channel.clone(), head));
        }
        (is_new || head.closed).then_some(head)
    }

    pub(super) fn notify_head(&self, channel: &Channel, head: Head) {
        self.listener.watchers.notify(|| Change::Head(channel.clone(), head));
        self.listener.notifier.note(channel, head);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        let notifier = Arc::clone(&self.listener.notifier);
        self.database.runtime.spawn(notifier.finish(Arc::clone(&self.database)));
    }
}
