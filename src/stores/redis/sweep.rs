//! The janitor's runs: trimming and forgetting unused channels, a few per script call.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use redis::{Cmd, Value};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    error::{CallError, malformed},
    script::Op,
    shared::Shared,
};
use crate::store::StoreError;

/// What one call reported.
struct SweepOutcome {
    looked_at: u64,
    /// Whether all keys expire as late as the retention requires.
    ready: bool,
}

impl Shared {
    /// Starts a run of the janitor if one is due.
    pub(super) fn sweep_if_due(self: &Arc<Self>) {
        if self.janitor.is_due(&self.settings.retention) {
            let shared = Arc::clone(self);
            tokio::spawn(async move { shared.sweep().await });
        }
    }

    /// Continues until nothing is due, but leaves the server most of its time for other clients, and stops after a
    /// while. The next run starts at once if anything is left.
    async fn sweep(&self) {
        let Ok(_running) = self.janitor.run.try_lock() else { return };
        let (began, mut renewed) = (Instant::now(), false);
        loop {
            let call = Instant::now();
            match self.sweep_batch().await {
                Ok(outcome) if !outcome.ready && !renewed => {
                    if let Err(error) = self.renew_lifetimes().await {
                        tracing::debug!(%error, "cannot extend the expiry of keys; trying again");
                    }
                    renewed = true;
                }
                Ok(outcome) if outcome.looked_at < MAX_SWEPT => return self.upkeep.janitor_is_done(),
                Ok(_) if began.elapsed() > MAX_RUN => {
                    self.upkeep.janitor_is_behind();
                    return self.janitor.next.store(0, Ordering::Relaxed);
                }
                Ok(_) => sleep(call.elapsed() * 3).await,
                Err(error) => {
                    self.upkeep.janitor_is_behind();
                    return tracing::debug!(%error, "a run of the janitor failed");
                }
            }
        }
    }

    async fn sweep_batch(&self) -> Result<SweepOutcome, StoreError> {
        let build = |_, cmd: &mut Cmd| _ = cmd.arg(self.floor_step()).arg(MAX_SWEPT);
        let (_, answer) =
            self.call(&self.writes, Op::Sweep, &[], self.deadline(), CallError::into_read_error, build).await?;
        let mut texts = answer.into_iter().map(text_of);
        let looked_at = texts.next().flatten().and_then(|count| count.parse().ok());
        let ready = texts.next().flatten().map(|ready| ready == "1");
        for channel in texts.flatten().filter(|channel| self.unreadable.is_due(channel)) {
            tracing::error!(
                channel,
                "a channel in the Redis server is unreadable; restore it from a backup, or delete it"
            );
        }
        let (looked_at, ready) = looked_at.zip(ready).ok_or_else(|| malformed("count"))?;
        Ok(SweepOutcome { looked_at, ready })
    }

    /// Announces this node's settings before anything else happens, so that no other node drops what this one keeps.
    pub(super) async fn announce_settings(self: &Arc<Self>) {
        match self.sweep_batch().await {
            Ok(outcome) if outcome.ready => {}
            Ok(_) => {
                let shared = Arc::clone(self);
                tokio::spawn(async move { shared.sweep().await });
            }
            Err(error) => tracing::debug!(%error, "cannot announce the retention settings to other nodes"),
        }
    }

    /// Rebuilds the list of all channels, unless that was done a moment ago. It continues even when no caller waits for
    /// it any more.
    pub(super) async fn rebuild_listing(self: &Arc<Self>, deadline: Instant) -> Result<(), StoreError> {
        let late = |_| StoreError::Unavailable("the list of all channels is being rebuilt".into());
        let mut listed = timeout_at(deadline, Arc::clone(&self.janitor.listed).lock_owned()).await.map_err(late)?;
        if listed.is_some_and(|at| at.elapsed() < LISTING_VALID_FOR) {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let listing = tokio::spawn(async move {
            shared.renew_lifetimes().await?;
            *listed = Some(Instant::now());
            Ok(())
        });
        let listed = timeout_at(deadline, listing).await.map_err(late)?;
        listed.unwrap_or_else(|_| Err(StoreError::Unavailable("the runtime of the store's task has shut down".into())))
    }

    /// Extends the expiry of keys that a shorter retention had set, before other calls rely on that, and lists all
    /// channels.
    async fn renew_lifetimes(&self) -> Result<(), StoreError> {
        let mut cursor = "0".to_owned();
        loop {
            let build = |_, cmd: &mut Cmd| _ = cmd.arg(self.floor_step()).arg(&cursor);
            let (_, answer) =
                self.call(&self.writes, Op::Renew, &[], self.deadline(), CallError::into_read_error, build).await?;
            match answer.into_iter().next().and_then(text_of) {
                Some(next) if next != "0" => cursor = next,
                _ => return Ok(()),
            }
        }
    }
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    }
}

/// Most channels per call: longer scripts would block the server for all clients.
const MAX_SWEPT: u64 = 64;

/// How long a rebuilt list counts as complete. Without this, janitor entries without a channel would cause it to be
/// rebuilt again and again.
const LISTING_VALID_FOR: Duration = Duration::from_secs(5);

/// The longest run.
const MAX_RUN: Duration = Duration::from_secs(5);
