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
    pub(super) fn say(&self, file: &Path, channel: &str, error: &StoreError) {
        self.note(file, channel, error, None);
    }

    /// The same, of a write that failed: the next are refused at once for a while.
    pub(super) fn shut(&self, file: &Path, channel: &str, error: &StoreError) {
        self.note(file, channel, error, Some(Instant::now()));
    }

    fn note(&self, file: &Path, channel: &str, error: &StoreError, shut: Option<Instant>) {
        let mut damaged = self.lock();
        if damaged.len() >= MOST {
            // They are said once more when they are met again.
            damaged.clear();
        }
        let known = damaged.get(channel).copied();
        damaged.insert(channel.to_owned(), shut.or(known.flatten()));
        let is_news = known.is_none();
        drop(damaged);
        if is_news {
            let (file, why) = (file.display(), error.source().map(ToString::to_string));
            tracing::error!(%file, channel, why, "a channel of an event file is damaged; init or delete it to begin anew");
        }
    }

    /// Fails for a channel that was found damaged a moment ago: another attempt would fail too, and be rolled back with what
    /// others append at the same time.
    pub(super) fn check(&self, channel: &str) -> Result<(), StoreError> {
        match self.lock().get(channel) {
            Some(Some(shut)) if shut.elapsed() < LOOK_AGAIN => Err(corrupt(format!("channel {channel} is damaged"))),
            _ => Ok(()),
        }
    }

    /// The channel was begun anew.
    pub(super) fn lift(&self, channel: &str) {
        self.lock().remove(channel);
    }

    /// Writes are tried again: the file was mended.
    pub(super) fn open_all(&self) {
        self.lock().values_mut().for_each(|shut| *shut = None);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<Instant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many are remembered.
const MOST: usize = 1024;

/// So long after it failed a write is tried again: somebody may have mended the file.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
