//! The place that the keys are: its epoch and format, as they are now.

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
    /// The place's epoch; the place is made when there is none, and brought to this version's format.
    pub(super) async fn place(&self, deadline: Instant) -> Result<u64, StoreError> {
        match self.place.load(Ordering::Relaxed) {
            0 => {}
            known => return Ok(known),
        }
        // A server that is full can still be read from.
        let there = self.reads.send(&self.scripts.place(), deadline).await.map_err(CallError::into_read_error)?;
        match place_of(there)? {
            Some((epoch, format)) => {
                format.may_read(FORMAT.version())?;
                self.place.store(epoch, Ordering::Relaxed);
                Ok(epoch)
            }
            None => self.open(deadline).await,
        }
    }

    /// Makes the place unless it is there, and shows that it can be written to.
    pub(super) async fn open(&self, deadline: Instant) -> Result<u64, StoreError> {
        // Always a new epoch: one that was known before belongs to a place that is gone, and so do its cursors.
        let cmd = self.scripts.open(resume::fresh_epoch().max(1));
        let answer = self.writes.send(&cmd, deadline).await.map_err(CallError::into_read_error)?;
        let (epoch, format) = place_of(answer)?.ok_or_else(|| malformed("epoch"))?;
        format.may_read(FORMAT.version())?;
        self.place.store(epoch, Ordering::Relaxed);
        format.may_write(FORMAT.version())?;
        Ok(epoch)
    }

    /// A script found a format that it may not use; one of an older version is brought up.
    pub(super) fn check_format(&self, found: Option<Value>, op: Op) -> Result<(), StoreError> {
        let Some(Value::BulkString(text)) = found else { return Err(malformed("format")) };
        if let Some(format) = format_of(&text) {
            format.may_read(FORMAT.version())?;
            if !op.only_reads() {
                format.may_write(FORMAT.version())?;
            }
        }
        self.place.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Takes note that the place is not `old` any more.
    pub(super) fn note_place_changed(&self, old: u64) {
        if self.place.compare_exchange(old, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!("the Redis server holds another log than before: all cursors are reset");
        }
    }

    /// Tries whether observed_health is over, for a node that writes nothing; not more often than makes sense.
    pub(super) fn retry_write(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let Ok(mut tried) = Arc::clone(&self.observed_health.last_attempt).try_lock_owned() else { return };
        if self.observed_health.get().is_some() && tried.is_none_or(|tried| tried.elapsed() > RETRY_EVERY) {
            let shared = Arc::clone(self);
            runtime.spawn(async move {
                shared.observed_health.note_write(&shared.open(shared.deadline()).await);
                *tried = Some(Instant::now());
            });
        }
    }
}

/// The place's epoch and format; `None` when there is no place, or one of the first format.
pub(super) fn place_of(answer: Value) -> Result<Option<(u64, Format)>, StoreError> {
    let Value::Array(answer) = answer else { return Err(malformed("place")) };
    match &*answer {
        [Value::Nil, _] | [_, Value::Nil] => Ok(None),
        [Value::BulkString(epoch), Value::BulkString(format)] => {
            let format = format_of(format).ok_or_else(|| malformed("format"))?;
            // A format that may not be read may have other epochs.
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
