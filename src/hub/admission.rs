//! Admission control for reads of the store: how many run, how many wait, and how long they wait is bounded. A read beyond
//! these bounds is refused at once, so that capacity is spent on readers that still wait for their answer.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::stats::RefusedBy;

#[derive(Debug)]
pub(super) struct Admission {
    permits: Semaphore,
    max_concurrent: u32,
    queued: AtomicUsize,
    max_queued: usize,
    max_wait: Duration,
    retries: Mutex<RetrySchedule>,
}

/// The read was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) by: RefusedBy,
    /// When to come back.
    pub(super) retry: Duration,
}

impl Admission {
    pub(super) fn new(max_concurrent: usize, max_queued: usize, max_wait: Duration) -> Self {
        let max_concurrent = max_concurrent.min(Semaphore::MAX_PERMITS);
        Self {
            permits: Semaphore::new(max_concurrent),
            max_concurrent: u32::try_from(max_concurrent).unwrap_or(u32::MAX),
            queued: AtomicUsize::new(0),
            max_queued,
            max_wait,
            retries: Mutex::default(),
        }
    }

    /// Waits for a permit.
    pub(super) async fn acquire(&self) -> Result<ReadPermit<'_>, Refused> {
        // The semaphore is fair: no permit is free while a read waits.
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(self.permit(permit));
        }
        let _queued = QueueSlot::join(self).ok_or_else(|| self.refuse(RefusedBy::MaxWaitingReads))?;
        match timeout(self.max_wait, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(self.permit(permit)),
            _ => Err(self.refuse(RefusedBy::ReadQueueTimeout)),
        }
    }

    fn permit<'a>(&'a self, permit: SemaphorePermit<'a>) -> ReadPermit<'a> {
        ReadPermit { admission: self, began: Instant::now(), _permit: permit }
    }

    /// How many reads are under way.
    pub(super) fn running(&self) -> usize {
        (self.max_concurrent as usize).saturating_sub(self.permits.available_permits())
    }

    /// How many reads wait to start.
    pub(super) fn waiting(&self) -> usize {
        self.queued.load(Relaxed)
    }

    fn refuse(&self, by: RefusedBy) -> Refused {
        Refused { by, retry: self.retries().next_retry(Instant::now(), self.max_concurrent) }
    }

    fn retries(&self) -> MutexGuard<'_, RetrySchedule> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to read until it is dropped; records how long that took.
#[derive(Debug)]
pub(super) struct ReadPermit<'a> {
    admission: &'a Admission,
    began: Instant,
    _permit: SemaphorePermit<'a>,
}

impl Drop for ReadPermit<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.admission.retries().observe(took);
    }
}

/// A place in the queue.
struct QueueSlot<'a>(&'a Admission);

impl<'a> QueueSlot<'a> {
    fn join(admission: &'a Admission) -> Option<Self> {
        let one_more = |queued| (queued < admission.max_queued).then_some(queued + 1);
        admission.queued.fetch_update(Relaxed, Relaxed, one_more).ok().map(|_| Self(admission))
    }
}

impl Drop for QueueSlot<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Relaxed);
    }
}

/// When refused readers come back: one after another, at the rate at which the store reads, so that the delay grows with their
/// number. Pure.
#[derive(Debug)]
struct RetrySchedule {
    /// How long a read takes, as a moving average.
    mean_read: Duration,
    /// When the reader that was refused last is to come back.
    last_retry: Option<Instant>,
}

impl Default for RetrySchedule {
    fn default() -> Self {
        Self { mean_read: ASSUMED_READ, last_retry: None }
    }
}

impl RetrySchedule {
    fn observe(&mut self, took: Duration) {
        self.mean_read = (self.mean_read * 15 + took) / 16;
    }

    /// The delay for the next refused reader.
    fn next_retry(&mut self, now: Instant, max_concurrent: u32) -> Duration {
        let soonest = now + MIN_RETRY;
        let last = self.last_retry.map_or(soonest, |last| last.max(soonest)) + self.mean_read / max_concurrent.max(1);
        let last = last.min(now + MAX_RETRY);
        self.last_retry = Some(last);
        // Jitter: after a burst the readers at the bound would otherwise all come back at the same moment.
        (last - now).mul_f64(1.0 + fastrand::f64() / 4.0)
    }
}

/// How long a read is assumed to take until one was observed.
const ASSUMED_READ: Duration = Duration::from_millis(10);

const MIN_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use std::{future::Future, pin::pin, task::Context};

    use super::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn refused_readers_come_back_at_the_rate_at_which_the_store_reads() {
        let mut retries = RetrySchedule { mean_read: secs(0.5), last_retry: None };
        let now = Instant::now();
        // 10 at once, half a second each: 20 per second.
        for refused in 1..=400 {
            let (retry, due) = (retries.next_retry(now, 10), secs(1.0 + f64::from(refused) * 0.05));
            assert!(retry >= due - secs(0.001) && retry <= due.mul_f64(1.26), "{refused} {retry:?}");
        }
        for _ in 0..1000 {
            let retry = retries.next_retry(now, 10);
            assert!(retry <= MAX_RETRY.mul_f64(1.25), "{retry:?}");
        }
        let at_the_bound: Vec<_> = (0..200).map(|_| retries.next_retry(now, 10)).collect();
        let parts = [(1.0, 1.1), (1.15, 1.25)].map(|(first, last)| MAX_RETRY.mul_f64(first)..MAX_RETRY.mul_f64(last));
        let counts = parts.map(|part| at_the_bound.iter().filter(|retry| part.contains(retry)).count());
        assert!(counts.iter().all(|count| *count > 40), "spread over time: {counts:?}");
        assert!(at_the_bound.iter().any(|retry| *retry > MAX_RETRY.mul_f64(1.21)), "spread over a quarter");
        assert!(retries.next_retry(now, 0) >= MAX_RETRY, "no number divides by zero");
        let later = now + secs(60.0);
        assert!(retries.next_retry(later, 10) < secs(1.4), "all are back by then");
        retries.observe(secs(8.5));
        assert_eq!(retries.mean_read, secs(1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_measured_from_the_reads() {
        // The last of 100 refused readers comes back when the others have been served, one at a time.
        let last_of_100 = |admission: &Admission| {
            let last = (0..100).map(|_| admission.refuse(RefusedBy::MaxWaitingReads).retry).last().unwrap();
            // The average of the reads comes near their time only.
            let spread = 0.99..1.25;
            move |served: f64| {
                spread.start * (1.0 + served) <= last.as_secs_f64() && last.as_secs_f64() <= spread.end * (1.0 + served)
            }
        };
        let admission = Admission::new(1, 1, secs(1.0));
        assert!(last_of_100(&admission)(1.0), "100 reads a second are assumed");

        let admission = Admission::new(1, 1, secs(1.0));
        for _ in 0..100 {
            let permit = admission.acquire().await.unwrap();
            tokio::time::advance(secs(0.1)).await;
            drop(permit);
        }
        assert!(last_of_100(&admission)(10.0), "10 reads a second");
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_number_and_time() {
        let admission = Admission::new(2, 3, secs(2.0));
        let permits = [admission.acquire().await.unwrap(), admission.acquire().await.unwrap()];
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(admission.acquire())).collect();
        for waits in &mut waiting {
            assert!(waits.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        }
        let start = Instant::now();
        assert!(admission.acquire().await.is_err(), "the queue is full");
        assert_eq!(start.elapsed(), Duration::ZERO);
        drop(waiting.pop());
        let last = pin!(admission.acquire());
        drop(permits);
        let mut served = Vec::new();
        for waits in waiting {
            served.push(waits.await.unwrap());
        }
        assert!(last.await.is_err(), "it waited too long");
        assert_eq!(start.elapsed(), secs(2.0));
        drop(served);
        assert!(admission.acquire().await.is_ok());
    }
}
