//! Connections that writers share while all are in use: a few statements one behind the other on each, so that the server
//! always has the next one and no connection idles for a round trip. Knows no SQL.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use deadpool_postgres::{Object, Pool, PoolError};

/// The connections that writers hold now.
#[derive(Default)]
pub(super) struct Lanes(Mutex<Vec<Weak<Lane>>>);

impl Lanes {
    /// A connection of the writer's own, or one to share when the pool has none left.
    pub(super) async fn take(&self, pool: &Pool) -> Result<Arc<Lane>, PoolError> {
        let status = pool.status();
        // Nobody shares while somebody waits, or a connection that is shared again and again would never come to them.
        if status.available == 0 && status.waiting == 0 && status.size >= status.max_size {
            if let Some(lane) = self.join() {
                return Ok(lane);
            }
        }
        let lane = Arc::new(Lane::new(pool.get().await?));
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|lane| lane.strong_count() > 0);
        lanes.push(Arc::downgrade(&lane));
        Ok(lane)
    }

    /// The least used one that still takes someone.
    fn join(&self) -> Option<Arc<Lane>> {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let least = lanes
            .iter()
            .filter(|lane| (1..DEPTH).contains(&lane.strong_count()))
            .min_by_key(|lane| lane.strong_count());
        least?.upgrade().filter(|lane| !lane.is_spoilt())
    }
}

/// A connection out of the pool. It goes back with its last user, unless one of them found it of no use.
pub(super) struct Lane {
    /// None only while it is dropped.
    client: Option<Object>,
    spoilt: AtomicBool,
}

impl Lane {
    pub(super) fn new(client: Object) -> Self {
        Self { client: Some(client), spoilt: AtomicBool::new(false) }
    }

    /// The connection is to be closed.
    pub(super) fn spoil(&self) {
        self.spoilt.store(true, Ordering::Relaxed);
    }

    fn is_spoilt(&self) -> bool {
        self.spoilt.load(Ordering::Relaxed) || self.get().is_none_or(|client| client.is_closed())
    }

    pub(super) fn get(&self) -> Option<&Object> {
        self.client.as_ref()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            if self.spoilt.load(Ordering::Relaxed) {
                drop(Object::take(client));
            }
        }
    }
}

/// Most statements that are one behind the other. One that waits for a row holds those behind it up.
const DEPTH: usize = 4;
