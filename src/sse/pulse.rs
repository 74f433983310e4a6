//! The one timer of a stream: heartbeats after silence, and the end at a maximum age. Knows nothing of what is sent.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

pub(super) struct Pulse {
    /// The silence after which a heartbeat is due.
    silence: Option<Duration>,
    /// Since when nothing was sent; after output, from the next time on that the stream has nothing to send. So a wake
    /// reads the clock once.
    quiet_since: Option<Instant>,
    ends: Option<Instant>,
    /// Made when the stream first has nothing to send.
    alarm: Option<Alarm>,
}

/// A sleep that is under way. It is not reset on output, which would cost a lock each time: it may ring too early, and is
/// then set anew.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// When it rings.
    at: Instant,
    /// Whom it wakes.
    waker: Waker,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Heartbeat,
    End,
}

impl Pulse {
    pub(super) fn new(silence: Option<Duration>, max_age: Option<Duration>) -> Self {
        let now = Instant::now();
        // Too far away to be told is never.
        let ends = max_age.and_then(|age| now.checked_add(age.min(LONGEST).mul_f64(0.75 + fastrand::f64() / 4.0)));
        Self { silence: silence.map(|silence| silence.min(LONGEST)), quiet_since: Some(now), ends, alarm: None }
    }

    /// Something was sent.
    pub(super) fn sent(&mut self) {
        self.quiet_since = None;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ends.is_some_and(|ends| ends <= Instant::now())
    }

    /// Whether [`Pulse::poll`] has nothing to say yet, told without the clock.
    pub(super) fn sleeps(&self, cx: &Context<'_>) -> bool {
        let wakes = |alarm: &Alarm| alarm.waker.will_wake(cx.waker()) && !alarm.sleep.is_elapsed();
        self.quiet_since.is_some() && self.alarm.as_ref().is_some_and(wakes)
    }

    /// Waits for the next beat.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Beat> {
        loop {
            let now = Instant::now();
            let quiet_since = *self.quiet_since.get_or_insert(now);
            // What is woken by output finds the alarm as it left it.
            if self.alarm.as_ref().is_some_and(|alarm| now < alarm.at && alarm.waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            let heartbeat = self.silence.and_then(|silence| quiet_since.checked_add(silence));
            if self.ends.is_some_and(|ends| ends <= now) {
                return Poll::Ready(Beat::End);
            }
            if heartbeat.is_some_and(|heartbeat| heartbeat <= now) {
                self.quiet_since = Some(now);
                return Poll::Ready(Beat::Heartbeat);
            }
            let Some(next) = heartbeat.into_iter().chain(self.ends).min() else { return Poll::Pending };
            ready!(self.set(next, cx));
        }
    }

    /// Has `cx` woken at `next`; ready when that is already over.
    fn set(&mut self, next: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let alarm = self.alarm.get_or_insert_with(|| Alarm {
            sleep: Box::pin(sleep_until(next)),
            at: next,
            waker: cx.waker().clone(),
        });
        if alarm.at != next {
            alarm.sleep.as_mut().reset(next);
            alarm.at = next;
        }
        alarm.waker.clone_from(cx.waker());
        alarm.sleep.as_mut().poll(cx)
    }
}

/// Keeps durations far from overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_follows_silence_and_not_output() {
        let start = Instant::now();
        let mut pulse = Pulse::new(Some(Duration::from_secs(15)), None);
        assert_eq!(poll_fn(|cx| pulse.poll(cx)).await, Beat::Heartbeat);
        assert_eq!(start.elapsed().as_secs(), 15);
        tokio::time::sleep(Duration::from_secs(10)).await;
        pulse.sent();
        assert_eq!(poll_fn(|cx| pulse.poll(cx)).await, Beat::Heartbeat);
        assert_eq!(start.elapsed().as_secs(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn the_maximum_age_ends_it_early_by_at_most_a_quarter() {
        let start = Instant::now();
        let mut pulse = Pulse::new(None, Some(Duration::from_secs(100)));
        assert_eq!(poll_fn(|cx| pulse.poll(cx)).await, Beat::End);
        assert!((75..=100).contains(&start.elapsed().as_secs()));
        assert!(pulse.has_ended());
        assert!(!Pulse::new(Some(Duration::MAX), Some(Duration::MAX)).has_ended());
    }

    #[tokio::test(start_paused = true)]
    async fn it_sleeps_until_it_rings_for_whoever_polled_it_last() {
        let mut pulse = Pulse::new(Some(Duration::from_secs(15)), None);
        let sleeps = async |pulse: &Pulse| poll_fn(|cx| Poll::Ready(pulse.sleeps(cx))).await;
        assert!(!sleeps(&pulse).await, "nothing is set");
        assert!(poll_fn(|cx| Poll::Ready(pulse.poll(cx))).await.is_pending());
        assert!(sleeps(&pulse).await);
        assert!(!pulse.sleeps(&Context::from_waker(Waker::noop())), "another task is to be woken");
        pulse.sent();
        assert!(!sleeps(&pulse).await, "silence begins anew");
        assert!(poll_fn(|cx| Poll::Ready(pulse.poll(cx))).await.is_pending());
        tokio::time::sleep(Duration::from_secs(16)).await;
        assert!(!sleeps(&pulse).await, "it rang");
    }
}
