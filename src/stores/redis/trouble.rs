//! What keeps a store from being written to while reads go on: no room, a disk that fails, a newer format.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Mutex, time::Instant};

use super::shared::Shared;
use crate::store::StoreError;

/// Whether there is any, as the last write found it.
#[derive(Default)]
pub(super) struct Trouble {
    is_there: AtomicBool,
    /// When it was last tried whether it is over; held while that is tried.
    tried: Arc<Mutex<Option<Instant>>>,
}

impl Trouble {
    pub(super) fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }

    /// Takes note of how a write ended.
    pub(super) fn note<T>(&self, written: &Result<T, StoreError>) {
        match written {
            Ok(_) => self.is_there.store(false, Ordering::Relaxed),
            Err(StoreError::Full(_) | StoreError::NewerFormat { .. }) => self.is_there.store(true, Ordering::Relaxed),
            // Tells nothing of it.
            Err(_) => {}
        }
    }
}

impl Shared {
    /// Tries whether trouble is over, for a node that writes nothing; not more often than makes sense.
    pub(super) fn try_to_write(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let Ok(mut tried) = Arc::clone(&self.trouble.tried).try_lock_owned() else { return };
        if self.trouble.is_there() && tried.is_none_or(|tried| tried.elapsed() > TRY_EVERY) {
            let shared = Arc::clone(self);
            runtime.spawn(async move {
                shared.trouble.note(&shared.open(shared.deadline()).await);
                *tried = Some(Instant::now());
            });
        }
    }
}

const TRY_EVERY: Duration = Duration::from_secs(1);
