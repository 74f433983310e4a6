//! Counts what happens in a hub, for its statistics. Relaxed atomics that change per batch or per change of state, never per
//! waker: what every delivery changes lies in a cache line of its thread.

mod deliveries;

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use self::deliveries::{Deliveries, Sample, Weight};
use super::{
    delivery::Batch,
    error::SubscribeError,
    stats::{AtomicHistogram, EndReason, LabelledCounters, PublishFailure, ReadPurpose, ReaderKind, RefusedBy, Totals},
};
use crate::store::{Appended, Reason, StoreError};

#[derive(Debug, Default)]
pub(super) struct Counters {
    deliveries: Deliveries,
    pub(super) open_readers: LabelledCounters<ReaderKind>,
    pub(super) readers: LabelledCounters<ReaderKind>,
    pub(super) resumes: LabelledCounters<ReaderKind>,
    ended_readers: LabelledCounters<EndReason>,
    resets: LabelledCounters<Reason>,
    refusals: LabelledCounters<RefusedBy>,
    publishes: AtomicU64,
    published_events: AtomicU64,
    duplicates: AtomicU64,
    publish_failures: LabelledCounters<PublishFailure>,
    catch_up_reads: AtomicHistogram,
    advancing_reads: AtomicHistogram,
    head_reads: AtomicHistogram,
    read_failures: LabelledCounters<ReadPurpose>,
    catch_up_pages: AtomicU64,
    ring_misses: AtomicU64,
    revoked_pages: AtomicU64,
    delivery_lag: AtomicHistogram,
}

/// Readers.
impl Counters {
    pub(super) fn delivered(&self, kind: ReaderKind, events: &Batch) {
        self.deliveries.add_events(kind, events.len());
    }

    /// As [`Counters::delivered`], to a reader that keeps up.
    pub(super) fn delivered_live(&self, kind: ReaderKind, events: &Batch) {
        self.deliveries.add_events(kind, events.len());
        let weight = if events.is_first_delivery() { Weight::First } else { Weight::OneOfMany };
        // The clock is read for few of them: that takes half as long as a delivery.
        if self.deliveries.sample(weight) == Sample::Measure {
            let appended = events.entries().next().map_or(0, |entry| entry.appended);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.delivery_lag.record(now.saturating_sub(Duration::from_millis(appended)));
        }
    }

    pub(super) fn sent(&self, kind: ReaderKind, bytes: usize) {
        self.deliveries.add_bytes(kind, bytes);
    }

    pub(super) fn reset(&self, reason: Reason) {
        self.resets.add(reason, 1);
    }

    pub(super) fn ended(&self, reason: EndReason) {
        self.ended_readers.add(reason, 1);
    }

    pub(super) fn ended_with(&self, error: &SubscribeError) {
        self.ended(match error {
            SubscribeError::Store(_) => EndReason::StoreFailed,
            SubscribeError::Stalled => EndReason::Stalled,
            // The application ended it, and not the hub.
            SubscribeError::Ended => return,
            SubscribeError::Draining { .. } => EndReason::Drained,
            SubscribeError::Snapshot { .. } => EndReason::SnapshotFailed,
            SubscribeError::Overloaded { .. }
            | SubscribeError::TooManyReaders { .. }
            | SubscribeError::TooManyChannels { .. } => EndReason::Overloaded,
        });
    }

    pub(super) fn refused(&self, by: RefusedBy) {
        self.refusals.add(by, 1);
    }

    pub(super) fn ring_missed(&self) {
        self.ring_misses.fetch_add(1, Relaxed);
    }

    pub(super) fn pages_revoked(&self, count: usize) {
        self.revoked_pages.fetch_add(count as u64, Relaxed);
    }
}

/// The store.
impl Counters {
    pub(super) fn append_finished(&self, result: &Result<Appended, StoreError>) {
        let appended = match result {
            Ok(appended) => appended,
            Err(error) => return self.publish_failures.add(PublishFailure::of(error), 1),
        };
        self.publishes.fetch_add(1, Relaxed);
        self.published_events.fetch_add(appended.entries.len() as u64, Relaxed);
        let duplicates = appended.receipts.iter().filter(|receipt| receipt.duplicate).count();
        if duplicates > 0 {
            self.duplicates.fetch_add(duplicates as u64, Relaxed);
        }
    }

    pub(super) fn read_finished<T, E>(&self, purpose: ReadPurpose, took: Duration, result: &Result<T, E>) {
        match (result, purpose) {
            (Err(_), purpose) => self.read_failures.add(purpose, 1),
            (Ok(_), ReadPurpose::CatchUp) => self.catch_up_reads.record(took),
            (Ok(_), ReadPurpose::Advance) => self.advancing_reads.record(took),
            (Ok(_), ReadPurpose::Heads) => self.head_reads.record(took),
        }
    }

    pub(super) fn caught_up_by_a_page(&self) {
        self.catch_up_pages.fetch_add(1, Relaxed);
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            readers: self.readers.load(),
            resumes: self.resumes.load(),
            ended_readers: self.ended_readers.load(),
            deliveries: self.deliveries.events(),
            bytes: self.deliveries.bytes(),
            resets: self.resets.load(),
            refusals: self.refusals.load(),
            publishes: self.publishes.load(Relaxed),
            published_events: self.published_events.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            publish_failures: self.publish_failures.load(),
            catch_up_reads: self.catch_up_reads.load(),
            advancing_reads: self.advancing_reads.load(),
            head_reads: self.head_reads.load(),
            read_failures: self.read_failures.load(),
            catch_up_pages: self.catch_up_pages.load(Relaxed),
            ring_misses: self.ring_misses.load(Relaxed),
            revoked_pages: self.revoked_pages.load(Relaxed),
            delivery_lag: self.delivery_lag.load(),
        }
    }
}
