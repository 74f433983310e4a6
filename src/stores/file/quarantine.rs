//! Channels whose rows are damaged. Each is said once, and is kept out of the way of the others.

use std::{
    collections::HashMap,
    error::Error as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::error::corrupt;
use crate::store::StoreError;

/// The channels that were found damaged, by name, and when a write to them last was.
#[derive(Default)]
pub(super) struct Quarantine(Mutex<HashMap<String, Option<Instant>>>);

impl Quarantine {
    /// Says that a channel of this file is damaged, if it was not said before.
    pub(super) fn report(&self, file: &Path, channel: &str, error: &StoreError) {
        self.note(file, channel, error, None);
    }

    /// The same, of a write that failed: the next are refused at once for a while.
    pub(super) fn block_writes(&self, file: &Path, channel: &str, error: &StoreError) {
        self.note(file, channel, error, Some(Instant::now()));
    }

    fn note(&self, file: &Path, channel: &str, error: &StoreError, blocked_at: Option<Instant>) {
        let mut damaged = self.lock();
        if damaged.len() >= MAX_REMEMBERED {
            // They are said once more when they are met again.
            damaged.clear();
        }
        let known = damaged.get(channel).copied();
        damaged.insert(channel.to_owned(), blocked_at.or(known.flatten()));
        let is_new = known.is_none();
        drop(damaged);
        if is_new {
            let (file, why) = (file.display(), error.source().map(ToString::to_string));
            tracing::error!(%file, channel, why, "a channel of an event file is damaged; init or delete it to begin anew");
        }
    }

    /// Fails for a channel that was found damaged a moment ago: another attempt would fail too, and be rolled back with what
    /// others append at the same time.
    pub(super) fn check(&self, channel: &str) -> Result<(), StoreError> {
        match self.lock().get(channel) {
            Some(Some(blocked_at)) if blocked_at.elapsed() < BLOCK_FOR => Err(corrupt(format!("channel {channel} is damaged"))),
            _ => Ok(()),
        }
    }

    /// The channel was begun anew.
    pub(super) fn lift(&self, channel: &str) {
        self.lock().remove(channel);
    }

    /// Writes are tried again: the file was mended.
    pub(super) fn unblock_all(&self) {
        self.lock().values_mut().for_each(|blocked_at| *blocked_at = None);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<Instant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many are remembered.
const MAX_REMEMBERED: usize = 1024;

/// So long after it failed a write is tried again: somebody may have mended the file.
const BLOCK_FOR: Duration = Duration::from_secs(5);
