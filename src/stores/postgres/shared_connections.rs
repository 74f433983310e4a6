//! Connections that writers share while all are in use: a few pipelined statements on each, so that the server always
//! has the next one and no connection is idle during a round trip. Knows no SQL.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use deadpool_postgres::{Object, Pool, PoolError};

/// The connections that writers hold now.
#[derive(Default)]
pub(super) struct SharedConnections(Mutex<Vec<Weak<SharedConnection>>>);

impl SharedConnections {
    /// A connection for this writer alone, or a shared one when the pool is exhausted.
    pub(super) async fn acquire(&self, pool: &Pool) -> Result<Arc<SharedConnection>, PoolError> {
        let status = pool.status();
        // No sharing while a caller waits for the pool: a connection that is shared again and again would never be
        // returned to it.
        if status.available == 0 && status.waiting == 0 && status.size >= status.max_size {
            if let Some(connection) = self.share_least_used() {
                return Ok(connection);
            }
        }
        let connection = Arc::new(SharedConnection::new(pool.get().await?));
        let mut connections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|connection| connection.strong_count() > 0);
        connections.push(Arc::downgrade(&connection));
        Ok(connection)
    }

    /// The connection with the fewest users, if it can take another.
    fn share_least_used(&self) -> Option<Arc<SharedConnection>> {
        let connections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let least_used = connections
            .iter()
            .filter(|connection| (1..MAX_USERS).contains(&connection.strong_count()))
            .min_by_key(|connection| connection.strong_count());
        least_used?.upgrade().filter(|connection| !connection.is_broken())
    }
}

/// A connection from the pool. Its last user returns it, unless a user found it broken.
pub(super) struct SharedConnection {
    /// `None` only while it is dropped.
    client: Option<Object>,
    broken: AtomicBool,
}

impl SharedConnection {
    pub(super) fn new(client: Object) -> Self {
        Self { client: Some(client), broken: AtomicBool::new(false) }
    }

    /// Makes the last user close the connection.
    pub(super) fn mark_broken(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.get().is_none_or(|client| client.is_closed())
    }

    pub(super) fn get(&self) -> Option<&Object> {
        self.client.as_ref()
    }
}

impl Drop for SharedConnection {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            if self.broken.load(Ordering::Relaxed) {
                drop(Object::take(client));
            }
        }
    }
}

/// Most pipelined statements. One that waits for a row delays those behind it.
const MAX_USERS: usize = 4;
