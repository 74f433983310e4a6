//! The readers that have a subject, and what ends them: a revocation, a limit, a check, or that a revocation may be missing.
//! Bookkeeping only: `revocation_follower` reads the store, `recheck` calls the application.

mod known;
mod publish_rate;
mod reader;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{Notify, Semaphore},
    task::{AbortHandle, JoinHandle},
    time::Instant,
};

pub(super) use self::known::{ReadFromStart, Verdict};
use self::{
    known::{Added, Circumstances, KnownRevocations, millis},
    publish_rate::PublishRates,
    reader::{End, ReaderSlot},
};
use super::{
    counters::Counters,
    options::SubjectOptions,
    stats::{EndReason, RefusedBy},
    terms::Terms,
};
use crate::store::{Entry, Retention};

#[derive(Debug)]
pub(super) struct Subjects {
    options: SubjectOptions,
    counters: Arc<Counters>,
    readers: Mutex<Readers>,
    revocations: Mutex<KnownRevocations>,
    /// Until when it is certain that no revocation is missing, in milliseconds since `base`; 0 when it is not.
    certain_until: AtomicU64,
    base: Instant,
    /// Wakes those who wait for certainty.
    pub(super) became_certain: Notify,
    /// Something may have been revoked.
    pub(super) hint: Notify,
    /// The task that follows the revocations.
    follower: Mutex<Option<OwnedTask>>,
    publish_rates: PublishRates,
    /// Bounds the checks that run at once.
    pub(super) rechecks: Semaphore,
    warned: AtomicBool,
}

/// Whose readers end together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum SubjectKey {
    Named(Arc<str>),
    /// One reader without a subject.
    Alone(u64),
}

#[derive(Debug, Default)]
struct Readers {
    subjects: HashMap<SubjectKey, Subject>,
    next_number: u64,
    /// When the last reader left, or somebody asked.
    last_used: Option<Instant>,
}

#[derive(Debug, Default)]
struct Subject {
    /// The oldest first.
    readers: BTreeMap<u64, Arc<ReaderSlot>>,
    recheck: Option<OwnedTask>,
}

/// Dropping it ends the task.
#[derive(Debug)]
struct OwnedTask(AbortHandle);

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Subjects {
    pub(super) fn new(options: SubjectOptions, counters: Arc<Counters>) -> Self {
        Self {
            options,
            counters,
            readers: Mutex::default(),
            revocations: Mutex::default(),
            certain_until: AtomicU64::new(0),
            base: Instant::now(),
            became_certain: Notify::new(),
            hint: Notify::new(),
            follower: Mutex::new(None),
            publish_rates: PublishRates::default(),
            rechecks: Semaphore::new(MAX_RECHECKS),
            warned: AtomicBool::new(false),
        }
    }

    pub(super) fn interval(&self) -> Duration {
        self.options.revocation_interval
    }

    /// Takes a token of the subject's publishes, or says when there is one again.
    pub(super) fn take_publish(&self, subject: &str) -> Result<(), Duration> {
        let taken = self.publish_rates.take(subject, self.options.max_publishes, Instant::now());
        taken.inspect_err(|_| self.counters.refused(RefusedBy::SubjectPublishRate))
    }
}

/// Readers.
impl Subjects {
    /// Adds a reader. The oldest of its subject ends if there are too many then.
    pub(super) fn join(self: &Arc<Self>, subject: Option<&Arc<str>>) -> SubjectReader {
        let slot = Arc::<ReaderSlot>::default();
        let mut readers = lock(&self.readers);
        let number = readers.next_number;
        readers.next_number += 1;
        let key = subject.map_or(SubjectKey::Alone(number), |subject| SubjectKey::Named(subject.clone()));
        let of_subject = &mut readers.subjects.entry(key.clone()).or_default().readers;
        of_subject.insert(number, slot.clone());
        let oldest = if of_subject.len() > self.options.max_readers { of_subject.pop_first() } else { None };
        drop(readers);
        if let Some((_, oldest)) = oldest {
            let retry = Some(RETRY_OVER_LIMIT.mul_f64(1.0 + fastrand::f64()));
            self.end_readers(&[oldest], End { over_at: self.grace(), retry }, EndReason::Evicted);
        }
        SubjectReader { subjects: self.clone(), key, number, slot }
    }

    fn leave(&self, key: &SubjectKey, number: u64) {
        let mut readers = lock(&self.readers);
        let Some(subject) = readers.subjects.get_mut(key) else { return };
        subject.readers.remove(&number);
        let left = subject.readers.is_empty().then(|| readers.subjects.remove(key));
        readers.last_used = Some(Instant::now());
        drop(readers);
        // Dropping a check runs the application's code.
        drop(left);
    }

    /// Runs `recheck` while the key has readers, unless a check runs already.
    pub(super) fn start_recheck(&self, key: &SubjectKey, spawn: impl FnOnce() -> JoinHandle<()>) {
        if let Some(subject) = lock(&self.readers).subjects.get_mut(key) {
            if subject.recheck.as_ref().is_none_or(|task| task.0.is_finished()) {
                subject.recheck = Some(OwnedTask(spawn().abort_handle()));
            }
        }
    }

    /// Ends the readers of one subject.
    pub(super) fn end(&self, key: &SubjectKey, reason: EndReason) {
        let readers: Vec<_> = match lock(&self.readers).subjects.get(key) {
            Some(subject) => subject.readers.values().cloned().collect(),
            None => return,
        };
        self.end_readers(&readers, End { over_at: self.grace(), retry: None }, reason);
    }

    /// A reader that ends already is not counted again.
    fn end_readers(&self, readers: &[Arc<ReaderSlot>], end: End, reason: EndReason) {
        readers.iter().filter(|slot| slot.end(end)).for_each(|_| self.counters.ended(reason));
    }

    /// Until when a reader that ends may hand out what it has begun. Whatever was revoked meanwhile was not recorded yet when it
    /// was last certain that nothing was missing, so nothing is handed out later than an interval after it was recorded.
    fn grace(&self) -> Instant {
        self.certain_until().unwrap_or_else(|| Instant::now() + self.interval())
    }

    /// Ends all readers that have a subject.
    fn end_named(&self, over_at: Instant) {
        let readers: Vec<_> = {
            let readers = lock(&self.readers);
            let named = readers.subjects.iter().filter(|(key, _)| matches!(key, SubjectKey::Named(_)));
            named.flat_map(|(_, subject)| subject.readers.values().cloned()).collect()
        };
        self.end_readers(&readers, End { over_at, retry: None }, EndReason::RevocationsUnknown);
    }
}

/// Revocations.
impl Subjects {
    /// Whether it is certain that no revocation is missing that was recorded an interval ago.
    pub(super) fn is_certain(&self) -> bool {
        let until = self.certain_until.load(SeqCst);
        until > 0 && self.elapsed(Instant::now()) < until
    }

    pub(super) fn certain_until(&self) -> Option<Instant> {
        let until = self.certain_until.load(SeqCst);
        (until > 0).then(|| self.base + Duration::from_millis(until))
    }

    /// How much was known before a resolver is asked; nothing when it is not certain.
    pub(super) fn revision(&self) -> Option<u64> {
        self.is_certain().then(|| lock(&self.revocations).revision())
    }

    /// Every revocation is known that was recorded before `began`.
    pub(super) fn confirm(&self, began: Instant) {
        self.certain_until.store(self.elapsed(began + self.interval()), SeqCst);
        self.became_certain.notify_waiters();
    }

    /// Nothing is certain any longer: ends all readers that have a subject.
    pub(super) fn lapse(&self) {
        let until = self.certain_until().unwrap_or_else(Instant::now);
        self.certain_until.store(0, SeqCst);
        // A reader joins, then looks whether all is certain: either it is ended here, or it sees that nothing is.
        self.end_named(until);
    }

    /// Takes a revocation that the store has, and ends the readers of the subject that were admitted before.
    pub(super) fn revoked(&self, entry: &Entry, kept_for: Duration) {
        let Some(subject) = entry.data.as_text().map(Arc::from) else { return };
        let circumstances = self.circumstances(kept_for);
        let added = lock(&self.revocations).add(&subject, entry.cursor, entry.appended, circumstances);
        if added == Added::New {
            self.end(&SubjectKey::Named(subject), EndReason::Revoked);
        }
    }

    pub(super) fn read_all(&self, read: ReadFromStart, retention: &Retention) {
        lock(&self.revocations).read_all(read, retention);
    }

    /// What is known of a grant with a subject. Join first: then no revocation is missed between the two.
    pub(super) fn judge(&self, subject: &str, terms: &Terms, asked: Option<u64>, kept_for: Duration) -> Verdict {
        let issued = match (terms.issued_at, asked) {
            (Some(at), _) => known::Issued::Token(unix_millis(at)),
            (None, Some(revision)) => known::Issued::AtRevision(revision),
            (None, None) => known::Issued::Now(unix_millis(terms.created_at.unwrap_or(UNIX_EPOCH))),
        };
        let verdict = lock(&self.revocations).judge(subject, issued, self.circumstances(kept_for));
        if verdict == Verdict::TooOld && !self.warned.swap(true, SeqCst) {
            tracing::warn!(
                kept_for_seconds = kept_for.as_secs(),
                "a grant was refused that was issued longer ago than the event store keeps revocations"
            );
        }
        verdict
    }

    pub(super) fn clock_skew(&self) -> Duration {
        self.options.clock_skew
    }

    /// Starts the follower unless it runs.
    pub(super) fn ensure_follower(&self, spawn: impl FnOnce() -> JoinHandle<()>) {
        let mut follower = lock(&self.follower);
        lock(&self.readers).last_used = Some(Instant::now());
        if follower.as_ref().is_none_or(|task| task.0.is_finished()) {
            *follower = Some(OwnedTask(spawn().abort_handle()));
        }
    }

    /// Ends the follower that calls this, if nobody has needed it for `linger`.
    pub(super) fn is_unused_for(&self, linger: Duration) -> bool {
        let mut follower = lock(&self.follower);
        let readers = lock(&self.readers);
        let is_used = readers.subjects.keys().any(|key| matches!(key, SubjectKey::Named(_)))
            || readers.last_used.is_some_and(|last| last.elapsed() < linger);
        if !is_used {
            self.certain_until.store(0, SeqCst);
            *follower = None;
        }
        !is_used
    }

    fn circumstances(&self, kept_for: Duration) -> Circumstances {
        Circumstances { now: unix_millis(SystemTime::now()), kept_for, clock_skew: self.options.clock_skew }
    }

    fn elapsed(&self, at: Instant) -> u64 {
        millis(at.saturating_duration_since(self.base))
    }
}

/// A reader that is counted; dropping it ends that.
#[derive(Debug)]
pub(super) struct SubjectReader {
    subjects: Arc<Subjects>,
    pub(super) key: SubjectKey,
    number: u64,
    slot: Arc<ReaderSlot>,
}

impl SubjectReader {
    pub(super) fn poll_end(&self, cx: &Context<'_>) -> Poll<()> {
        self.slot.poll_end(cx)
    }

    /// Whether nothing may be handed out any longer.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        match (self.slot.ended(), &self.key) {
            (Some(end), _) => end.over_at <= now,
            (None, SubjectKey::Alone(_)) => false,
            (None, SubjectKey::Named(_)) => self.subjects.certain_until().is_none_or(|until| until <= now),
        }
    }

    /// When its client should come back, if not as usual.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.slot.ended()?.retry
    }
}

impl Drop for SubjectReader {
    fn drop(&mut self) {
        self.subjects.leave(&self.key, self.number);
    }
}

fn unix_millis(time: SystemTime) -> u64 {
    millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// When the oldest reader comes back that ended because of newer ones: after some time, so that two pages do not take
/// turns all the time.
const RETRY_OVER_LIMIT: Duration = Duration::from_secs(15);

const MAX_RECHECKS: usize = 64;

/// Locks, ignoring poison: a panic under these locks leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
