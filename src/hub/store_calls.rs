//! Reading calls to the store: each is bounded in time, and failures are recorded.

use std::{
    future::Future,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{counters::Counters, error::ReadError, outage::Outage, stats::ReadPurpose};
use crate::{
    channel::Channel,
    store::{AnyStore, Head, Limit, Page, Start, Store, StoreError},
};

#[derive(Debug)]
pub(super) struct StoreCalls {
    store: AnyStore,
    timeout: Duration,
    counters: Arc<Counters>,
    /// Whether reads are failing.
    pub(super) outage: Outage,
    /// Every `heads` call of the last round failed.
    all_heads_failed: AtomicBool,
}

impl StoreCalls {
    pub(super) fn new(store: AnyStore, timeout: Duration, counters: Arc<Counters>, outage: Outage) -> Self {
        Self { store, timeout, counters, outage, all_heads_failed: AtomicBool::new(false) }
    }

    pub(super) async fn read_page(
        &self,
        purpose: ReadPurpose,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let page = self.timed(purpose, self.store.read(channel, start, limit)).await;
        match &page {
            Ok(_) => self.outage.succeeded(),
            // A corrupt channel says nothing about the others.
            Err(StoreError::Corrupt(_)) => {}
            Err(error) => self.outage.failed(error),
        }
        page
    }

    /// The heads of `channels`, in their order. A channel that cannot be read does not cost the others their heads: a call
    /// that fails is bisected until that channel is alone.
    pub(super) async fn each_head(&self, channels: &[Channel]) -> Vec<Result<Head, ReadError>> {
        let mut heads = Vec::with_capacity(channels.len());
        for channels in channels.chunks(MAX_CHANNELS_PER_CALL) {
            heads.append(&mut self.heads_by_bisection(channels).await);
        }
        if channels.is_empty() {
            return heads;
        }
        let any = heads.iter().any(Result::is_ok);
        match heads.first() {
            Some(Err(ReadError::Store(error))) if !any => self.outage.failed(error),
            _ => self.outage.succeeded(),
        }
        self.all_heads_failed.store(!any, Relaxed);
        heads
    }

    async fn heads_by_bisection(&self, channels: &[Channel]) -> Vec<Result<Head, ReadError>> {
        let missing = || Err(StoreError::Corrupt("the store left out a head".into()).into());
        let mut heads: Vec<_> = channels.iter().map(|_| missing()).collect();
        // A store that fails altogether must not cost a call per channel, nor one that hangs a timeout per channel. After a
        // round of failures both halves are still tried: one unreadable channel must not be mistaken for a failing store.
        let max_failures = if self.all_heads_failed.load(Relaxed) { 1 } else { MAX_FAILURES_IN_A_ROW };
        // `None`: beyond what the clock can represent, which is never.
        let deadline = Instant::now().checked_add(self.timeout.saturating_mul(2));
        let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let mut failures = 0;
        let mut parts: Vec<Range<usize>> = Vec::new();
        parts.push(0..channels.len());
        while let Some(part) = parts.pop() {
            let Some((asked, slots)) = channels.get(part.clone()).zip(heads.get_mut(part.clone())) else { continue };
            if is_late() {
                slots.fill(Err(StoreError::Unavailable("reading the heads took too long".into()).into()));
                continue;
            }
            match self.timed(ReadPurpose::Heads, self.store.heads(asked)).await.map_err(ReadError::from) {
                Ok(found) => {
                    failures = 0;
                    slots.iter_mut().zip(found).for_each(|(slot, head)| *slot = Ok(head));
                }
                Err(error) => {
                    failures += 1;
                    let is_hopeless = error.corrupt().is_none() && failures > max_failures;
                    if part.len() == 1 || is_hopeless {
                        slots.fill(Err(error));
                        continue;
                    }
                    let middle = part.start + part.len() / 2;
                    parts.extend([part.start..middle, middle..part.end]);
                }
            }
        }
        heads
    }

    /// The result of `call`, counted, or a failure when it takes too long.
    async fn timed<T>(
        &self,
        purpose: ReadPurpose,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let result = timeout(self.timeout, call).await;
        let result = result.unwrap_or_else(|elapsed| Err(StoreError::Unavailable(elapsed.into())));
        self.counters.read_finished(purpose, began.elapsed(), &result);
        result
    }
}

/// Most channels in one call.
const MAX_CHANNELS_PER_CALL: usize = 1000;

/// Most consecutive failures before the remaining channels are assumed to fail too: more than it takes to isolate one
/// channel among [`MAX_CHANNELS_PER_CALL`].
const MAX_FAILURES_IN_A_ROW: usize = 11;
