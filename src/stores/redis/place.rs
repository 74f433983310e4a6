//! The place, which is what all keys of the prefix are together: its current epoch and format.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use redis::Value;
use tokio::{runtime::Handle, time::Instant};

use super::{
    error::{CallError, malformed},
    script::{FORMAT, Op, parse_epoch_text},
    shared::Shared,
};
use crate::store::{Format, StoreError, resume};

impl Shared {
    /// The place's epoch. Creates the place if there is none, and upgrades it to this version's format.
    pub(super) async fn place(&self, deadline: Instant) -> Result<u64, StoreError> {
        match self.place.load(Ordering::Relaxed) {
            0 => {}
            known => return Ok(known),
        }
        // Read first: a full server still answers reads.
        let stored = self.reads.send(&self.scripts.place(), deadline).await.map_err(CallError::into_read_error)?;
        match place_of(stored)? {
            Some((epoch, format)) => {
                format.may_read(FORMAT.version())?;
                self.place.store(epoch, Ordering::Relaxed);
                Ok(epoch)
            }
            None => self.open(deadline).await,
        }
    }

    /// Creates the place unless it exists, which also shows whether the server takes writes.
    pub(super) async fn open(&self, deadline: Instant) -> Result<u64, StoreError> {
        // Always a fresh epoch: one that was known before belongs to a place that is gone, and so do its cursors.
        let cmd = self.scripts.open(resume::fresh_epoch().max(1));
        let answer = self.writes.send(&cmd, deadline).await.map_err(CallError::into_read_error)?;
        let (epoch, format) = place_of(answer)?.ok_or_else(|| malformed("epoch"))?;
        format.may_read(FORMAT.version())?;
        self.place.store(epoch, Ordering::Relaxed);
        format.may_write(FORMAT.version())?;
        Ok(epoch)
    }

    /// A script found a format that it may not use. An older one is upgraded by the next call.
    pub(super) fn check_format(&self, found: Option<Value>, op: Op) -> Result<(), StoreError> {
        let Some(Value::BulkString(text)) = found else { return Err(malformed("format")) };
        if let Some(format) = format_of(&text) {
            format.may_read(FORMAT.version())?;
            if !op.is_read_only() {
                format.may_write(FORMAT.version())?;
            }
        }
        self.place.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Records that the place is no longer `old`.
    pub(super) fn note_place_changed(&self, old: u64) {
        if self.place.compare_exchange(old, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!("the Redis server holds a different log than before: all cursors are reset");
        }
    }

    /// While there is a problem, writes again to see whether it is over, for a node that otherwise writes nothing; at most
    /// once per second.
    pub(super) fn retry_write(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let Some(probe) = self.observed_health.probe() else { return };
        let shared = Arc::clone(self);
        runtime.spawn(async move {
            shared.note_write(&shared.open(shared.deadline()).await);
            drop(shared);
            tokio::time::sleep(RETRY_EVERY).await;
            drop(probe);
        });
    }
}

/// The place's epoch and format; `None` when there is no place, or it has the first format.
pub(super) fn place_of(answer: Value) -> Result<Option<(u64, Format)>, StoreError> {
    let Value::Array(answer) = answer else { return Err(malformed("place")) };
    match &*answer {
        [Value::Nil, _] | [_, Value::Nil] => Ok(None),
        [Value::BulkString(epoch), Value::BulkString(format)] => {
            let format = format_of(format).ok_or_else(|| malformed("format"))?;
            // A format that may not be read may encode epochs differently.
            format.may_read(FORMAT.version())?;
            Ok(Some((parse_epoch_text(epoch).ok_or_else(|| malformed("epoch"))?, format)))
        }
        _ => Err(malformed("place")),
    }
}

pub(super) fn format_of(text: &[u8]) -> Option<Format> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

const RETRY_EVERY: Duration = Duration::from_secs(1);
