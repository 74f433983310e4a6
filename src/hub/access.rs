//! Admits readers on the terms of their grants, and says when their access ends.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    counters::Counters,
    handle::Hub,
    recheck::recheck,
    revocation_follower::follow,
    shared::Shared,
    stats::EndReason,
    subjects::{SubjectReader, Verdict},
    terms::Terms,
};
use crate::store::{Store, StoreError};

/// The access of one reader while it lasts.
pub(crate) struct Access {
    expiry: Option<Expiry>,
    reader: Option<SubjectReader>,
}

struct Expiry {
    /// When it ends at an event boundary.
    end: Pin<Box<Sleep>>,
    /// From then on nothing is handed out.
    over_at: Instant,
    /// Counts the end; `None` once it has.
    counters: Option<Arc<Counters>>,
}

/// What was known of revocations when the application was asked for a grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked(Option<u64>);

impl Asked {
    /// It is not known: the application decided before it said so.
    pub(crate) const BEFORE: Self = Self(None);
}

/// Why a grant gives no access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It has ended, was revoked, or is so old that it may have been.
    Ended,
    /// It may have been issued before or after a revocation: ask again after this delay.
    Undecided { retry: Duration },
    /// Revocations may be missing: wait for [`Hub::following`].
    NotFollowing,
}

impl<S: Store> Hub<S> {
    /// Call it before a resolver is asked.
    pub(crate) fn asked(&self) -> Asked {
        Asked(self.shared.subjects.revision())
    }

    /// Waits until this process knows all revocations.
    pub(crate) fn following(&self) -> impl Future<Output = Result<(), StoreError>> + Send + use<S> {
        follow(self.shared.clone())
    }

    /// Whether a request on these terms is served now.
    pub(crate) fn check(&self, terms: &Terms, asked: Asked) -> Result<(), Denied> {
        expiry(&self.shared, terms)?;
        check_subject(&self.shared, terms, asked)
    }

    /// Counts a publish of the subject, or says when it may publish again.
    pub(crate) fn take_publish(&self, subject: &str) -> Result<(), Duration> {
        self.shared.subjects.take_publish(subject)
    }

    /// Admits a reader.
    pub(crate) fn admit(&self, terms: &Terms, asked: Asked) -> Result<Access, Denied> {
        let expiry = expiry(&self.shared, terms)?;
        let subjects = &self.shared.subjects;
        let needs_reader = terms.subject.is_some() || terms.recheck.is_some();
        // Uncertain is decided before joining, which may end the subject's oldest reader.
        check_subject(&self.shared, terms, asked)?;
        let reader = needs_reader.then(|| subjects.join(terms.subject.as_ref()));
        // Again: either what was revoked in between is seen here, or it ends the reader.
        check_subject(&self.shared, terms, asked)?;
        if let (Some(reader), Some(plan), Ok(runtime)) = (&reader, &terms.recheck, Handle::try_current()) {
            let check = recheck(Arc::downgrade(subjects), reader.key.clone(), plan.clone());
            subjects.start_recheck(&reader.key, || runtime.spawn(check));
        }
        Ok(Access { expiry, reader })
    }
}

fn check_subject(shared: &Shared, terms: &Terms, asked: Asked) -> Result<(), Denied> {
    let Some(subject) = &terms.subject else { return Ok(()) };
    let subjects = &shared.subjects;
    if !subjects.is_certain() {
        return Err(Denied::NotFollowing);
    }
    match subjects.judge(subject, terms, asked.0, shared.store.retention().age) {
        Verdict::Valid => Ok(()),
        Verdict::Revoked | Verdict::TooOld => Err(Denied::Ended),
        Verdict::Undecided => Err(Denied::Undecided { retry: subjects.clock_skew() }),
    }
}

/// The wall clock is read only now: what it does later changes nothing.
fn expiry(shared: &Shared, terms: &Terms) -> Result<Option<Expiry>, Denied> {
    let Some(until) = terms.until else { return Ok(None) };
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    if left.is_zero() {
        return Err(Denied::Ended);
    }
    // An end beyond what the clock can represent is none.
    let now = Instant::now();
    let (Some(end), Some(over_at)) = (now.checked_add(ends_after(left, fastrand::f64())), now.checked_add(left)) else {
        return Ok(None);
    };
    Ok(Some(Expiry { end: Box::pin(sleep_until(end)), over_at, counters: Some(shared.counters.clone()) }))
}

/// When a reader ends whose grant has `left`: before that, so that it still can, and at a time that is drawn, so that
/// clients whose tokens end together do not come back together.
fn ends_after(left: Duration, drawn: f64) -> Duration {
    let latest = (left / 16).min(Duration::from_secs(1));
    let earliest = (left / 4).min(Duration::from_secs(30));
    left - latest - (earliest - latest).mul_f64(drawn)
}

impl Access {
    /// Ready when the reader ends at the next event boundary, and from then on.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(expiry) = &mut self.expiry {
            // It must not be polled again once it was ready.
            if expiry.end.is_elapsed() || expiry.end.as_mut().poll(cx).is_ready() {
                if let Some(counters) = expiry.counters.take() {
                    counters.ended(EndReason::Expired);
                }
                return Poll::Ready(());
            }
        }
        self.reader.as_ref().map_or(Poll::Pending, |reader| reader.poll_end(cx))
    }

    /// Whether nothing may be handed out any longer.
    pub(crate) fn is_over(&self) -> bool {
        let now = Instant::now();
        self.expiry.as_ref().is_some_and(|expiry| expiry.over_at <= now)
            || self.reader.as_ref().is_some_and(|reader| reader.is_over(now))
    }

    /// When the client should come back, if not as usual.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.reader.as_ref()?.retry()
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("reader", &self.reader).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(tower_events_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_reader_ends_before_its_grant_at_a_drawn_time() {
        let secs = Duration::from_secs_f64;
        let table = [
            (3600.0, 0.0, 3599.0),
            (3600.0, 1.0, 3570.0),
            (60.0, 0.0, 59.0),
            (60.0, 0.5, 52.0),
            (60.0, 1.0, 45.0),
            (1.6, 0.0, 1.5),
            (1.6, 1.0, 1.2),
        ];
        for (left, drawn, end) in table {
            let ends = ends_after(secs(left), drawn).as_secs_f64();
            assert!((ends - end).abs() < 1e-6, "{left} {drawn}: {ends}");
        }
        assert_eq!(ends_after(Duration::from_nanos(1), 0.9), Duration::from_nanos(1));
        assert!(ends_after(Duration::MAX, 1.0) < Duration::MAX);
    }
}
