//! Channels whose rows are damaged. Each is logged once, and does not disturb the others.

use std::{
    collections::HashMap,
    error::Error as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::error::corrupt;
use crate::store::StoreError;

/// The channels that were found damaged, by name, and when a write to each last failed.
#[derive(Default)]
pub(super) struct Quarantine(Mutex<HashMap<String, Option<Instant>>>);

impl Quarantine {
    /// Logs that a channel of this file is damaged, the first time.
    pub(super) fn report(&self, file: &Path, channel: &str, error: &StoreError) {
        self.record(file, channel, error, None);
    }

    /// The same after a write has failed; refuses further writes for [`BLOCK_FOR`].
    pub(super) fn block_writes(&self, file: &Path, channel: &str, error: &StoreError) {
        self.record(file, channel, error, Some(Instant::now()));
    }

    fn record(&self, file: &Path, channel: &str, error: &StoreError, blocked_at: Option<Instant>) {
        let mut damaged = self.lock();
        if damaged.len() >= MAX_REMEMBERED {
            // Those that are still damaged are logged again.
            damaged.clear();
        }
        let known = damaged.get(channel).copied();
        damaged.insert(channel.to_owned(), blocked_at.or(known.flatten()));
        let is_new = known.is_none();
        drop(damaged);
        if is_new {
            let (file, source) = (file.display(), error.source());
            tracing::error!(
                %file,
                channel,
                %error,
                source,
                "a channel of an event file is damaged; init or delete it to start a new log"
            );
        }
    }

    /// Fails for a channel to which a write has just failed: another attempt would fail too, and roll back the appends
    /// of others in the same transaction.
    pub(super) fn check(&self, channel: &str) -> Result<(), StoreError> {
        match self.lock().get(channel) {
            Some(Some(blocked_at)) if blocked_at.elapsed() < BLOCK_FOR => {
                Err(corrupt(format!("channel {channel} is damaged")))
            }
            _ => Ok(()),
        }
    }

    /// The channel has a new log, or none.
    pub(super) fn lift(&self, channel: &str) {
        self.lock().remove(channel);
    }

    /// Allows writes again: the file was repaired.
    pub(super) fn unblock_all(&self) {
        self.lock().values_mut().for_each(|blocked_at| *blocked_at = None);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<Instant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of channels remembered.
const MAX_REMEMBERED: usize = 1024;

/// How long writes are refused after one failed. Then they are tried again, since the file may have been repaired.
const BLOCK_FOR: Duration = Duration::from_secs(5);
