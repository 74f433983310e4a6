//! A few connections for reads, used on threads that may block.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::{runtime::Handle, sync::Semaphore};

use super::{connection, core::Core, error::from_sql, head_cache::HeadCache};
use crate::store::StoreError;

pub(super) struct ReadPool {
    idle: Idle<Connection>,
    /// Connections that cache heads.
    heads: Idle<HeadCache>,
    permits: Semaphore,
}

type Idle<T> = Arc<Mutex<Vec<T>>>;

impl ReadPool {
    pub(super) fn new() -> Self {
        Self { idle: Arc::default(), heads: Arc::default(), permits: Semaphore::new(MAX_CONNECTIONS) }
    }

    /// Runs `read` with a connection on a blocking thread of the runtime.
    ///
    /// # Cancel safety
    /// If the future is dropped, a `read` that has started runs to its end.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        core: &Arc<Core>,
        read: impl FnOnce(&Core, &mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(core, &self.idle, |connection| connection, read).await
    }

    /// The same, with a connection that caches heads.
    pub(super) async fn read_heads<T: Send + 'static>(
        &self,
        core: &Arc<Core>,
        read: impl FnOnce(&Core, &mut HeadCache) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(core, &self.heads, HeadCache::new, read).await
    }

    async fn run<C: Send + 'static, T: Send + 'static>(
        &self,
        core: &Arc<Core>,
        idle: &Idle<C>,
        new: fn(Connection) -> C,
        read: impl FnOnce(&Core, &mut C) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        core.check()?;
        let runtime = Handle::try_current().map_err(|error| StoreError::Unavailable(error.into()))?;
        let permit = self.permits.acquire().await.map_err(|error| StoreError::Unavailable(error.into()))?;
        let (idle, core) = (Arc::clone(idle), Arc::clone(core));
        let read = runtime.spawn_blocking(move || {
            let pooled = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match pooled {
                Some(connection) => connection,
                None => new(connection::open_reader(&core.paths, core.options.timeout).map_err(from_sql)?),
            };
            let done = read(&core, &mut connection);
            // A connection that failed is not reused: its state may be broken.
            if done.is_ok() {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            done
        });
        let done = read.await;
        drop(permit);
        done.unwrap_or_else(|error| Err(StoreError::Unavailable(error.into())))
    }
}

/// Concurrent reads. They do not block each other in SQLite, but share one disk.
const MAX_CONNECTIONS: usize = 8;
