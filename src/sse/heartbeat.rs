//! The only timer of a stream: heartbeats after silence, and the end at a maximum age. Knows nothing of what is sent.

use std::{
    future::Future,
    num::NonZeroU32,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

pub(super) struct HeartbeatTimer {
    silence: Option<Silence>,
    /// Since when nothing was sent. Output clears it, and the next poll that finds nothing to send sets it, so that each wake
    /// reads the clock only once.
    quiet_since: Option<Instant>,
    ends_at: Option<Instant>,
    /// Created when the stream first has nothing to send.
    wakeup: Option<Wakeup>,
}

/// The silence after which a heartbeat is due. Drawn again for each heartbeat, because the silences of all streams that an
/// event reached begin at the same time.
#[derive(Clone, Copy)]
struct Silence {
    /// Not zero, so that none at all takes no more room.
    longest_ms: NonZeroU32,
    drawn_ms: u32,
}

impl Silence {
    /// At least a millisecond, and at most 49 days, which is what the milliseconds can hold.
    fn new(longest: Duration) -> Self {
        let longest_ms = u32::try_from(longest.as_millis()).unwrap_or(u32::MAX);
        Self::drawn(NonZeroU32::new(longest_ms).unwrap_or(NonZeroU32::MIN))
    }

    fn drawn(longest_ms: NonZeroU32) -> Self {
        let longest = longest_ms.get();
        Self { longest_ms, drawn_ms: longest - fastrand::u32(..=longest / 4) }
    }
}

/// A sleep, and the task that it wakes. Output does not reset it, because each reset takes a lock: it may fire too early, and
/// is then set again.
struct Wakeup {
    sleep: Pin<Box<Sleep>>,
    waker: Waker,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tick {
    Heartbeat,
    End,
}

impl HeartbeatTimer {
    pub(super) fn new(silence: Option<Duration>, max_age: Option<Duration>) -> Self {
        let now = Instant::now();
        // An age beyond what the clock can represent is no limit.
        let ends_at = max_age.and_then(|age| now.checked_add(age - age.mul_f64(fastrand::f64() / 4.0)));
        Self { silence: silence.map(Silence::new), quiet_since: Some(now), ends_at, wakeup: None }
    }

    /// Notes that something was sent.
    pub(super) fn sent(&mut self) {
        self.quiet_since = None;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ends_at.is_some_and(|end| end <= Instant::now())
    }

    /// Whether [`HeartbeatTimer::poll`] is known to be still pending, without reading the clock.
    pub(super) fn is_waiting(&self, cx: &Context<'_>) -> bool {
        let wakes = |wakeup: &Wakeup| wakeup.waker.will_wake(cx.waker()) && !wakeup.sleep.is_elapsed();
        self.quiet_since.is_some() && self.wakeup.as_ref().is_some_and(wakes)
    }

    /// Waits for the next tick.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Tick> {
        loop {
            let now = Instant::now();
            let quiet_since = *self.quiet_since.get_or_insert(now);
            // A task that output woke finds the sleep as it left it.
            if self
                .wakeup
                .as_ref()
                .is_some_and(|wakeup| now < wakeup.sleep.deadline() && wakeup.waker.will_wake(cx.waker()))
            {
                return Poll::Pending;
            }
            let heartbeat = self
                .silence
                .and_then(|silence| quiet_since.checked_add(Duration::from_millis(silence.drawn_ms.into())));
            if self.ends_at.is_some_and(|end| end <= now) {
                return Poll::Ready(Tick::End);
            }
            if heartbeat.is_some_and(|heartbeat| heartbeat <= now) {
                self.silence = self.silence.map(|silence| Silence::drawn(silence.longest_ms));
                return Poll::Ready(Tick::Heartbeat);
            }
            let Some(deadline) = heartbeat.into_iter().chain(self.ends_at).min() else { return Poll::Pending };
            ready!(self.poll_until(deadline, cx));
        }
    }

    /// Has `cx` woken at `deadline`; ready when that has passed.
    fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let wakeup = self
            .wakeup
            .get_or_insert_with(|| Wakeup { sleep: Box::pin(sleep_until(deadline)), waker: cx.waker().clone() });
        if wakeup.sleep.deadline() != deadline {
            wakeup.sleep.as_mut().reset(deadline);
        }
        wakeup.waker.clone_from(cx.waker());
        wakeup.sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_follows_silence_and_not_output() {
        let start = Instant::now();
        let mut timer = HeartbeatTimer::new(Some(Duration::from_secs(15)), None);
        assert_eq!(poll_fn(|cx| timer.poll(cx)).await, Tick::Heartbeat);
        let first = start.elapsed();
        assert!(SILENCE.contains(&first.as_millis()), "{first:?}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        timer.sent();
        let sent = Instant::now();
        assert_eq!(poll_fn(|cx| timer.poll(cx)).await, Tick::Heartbeat);
        assert!(SILENCE.contains(&sent.elapsed().as_millis()), "{:?}", sent.elapsed());
    }

    /// Timers fire up to a millisecond late.
    const SILENCE: std::ops::RangeInclusive<u128> = 11_250..=15_001;

    #[tokio::test(start_paused = true)]
    async fn streams_that_fell_silent_together_do_not_send_heartbeats_together() {
        let start = Instant::now();
        let mut beats = Vec::new();
        for _ in 0..200 {
            let mut timer = HeartbeatTimer::new(Some(Duration::from_secs(15)), None);
            beats.push(tokio::spawn(async move {
                poll_fn(|cx| timer.poll(cx)).await;
                start.elapsed().as_millis()
            }));
        }
        let mut at = Vec::new();
        for tick in beats {
            at.push(tick.await.unwrap());
        }
        let in_half = at.iter().filter(|at| **at < 13_125).count();
        assert!(at.iter().all(|at| SILENCE.contains(at)) && (60..140).contains(&in_half), "{in_half} of 200 in half");
    }

    #[tokio::test(start_paused = true)]
    async fn the_maximum_age_ends_it_early_by_at_most_a_quarter() {
        let start = Instant::now();
        let mut timer = HeartbeatTimer::new(None, Some(Duration::from_secs(100)));
        assert_eq!(poll_fn(|cx| timer.poll(cx)).await, Tick::End);
        assert!((75..=100).contains(&start.elapsed().as_secs()));
        assert!(timer.has_ended());
        assert!(!HeartbeatTimer::new(Some(Duration::MAX), Some(Duration::MAX)).has_ended());
    }

    #[tokio::test(start_paused = true)]
    async fn ages_and_silences_are_drawn_from_their_whole_quarter() {
        let mut eighths = [[0; 8]; 2];
        let mut beats = HeartbeatTimer::new(Some(Duration::from_secs(100)), None);
        for _ in 0..800 {
            let start = Instant::now();
            let mut ages = HeartbeatTimer::new(None, Some(Duration::from_secs(100)));
            assert_eq!(poll_fn(|cx| ages.poll(cx)).await, Tick::End);
            let age = start.elapsed();
            beats.sent();
            let start = Instant::now();
            // Each silence of a stream is drawn again.
            assert_eq!(poll_fn(|cx| beats.poll(cx)).await, Tick::Heartbeat);
            for (eighths, time) in eighths.iter_mut().zip([age, start.elapsed()]) {
                assert!(time >= Duration::from_secs(75), "{time:?}");
                // Timers fire up to a millisecond late.
                let part = (time.as_secs_f64() - 75.0) / 25.0;
                eighths[((part * 8.0) as usize).min(7)] += 1;
            }
        }
        assert!(eighths.iter().flatten().all(|count| *count > 50), "{eighths:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_until_it_fires_for_the_task_that_polled_it_last() {
        let mut timer = HeartbeatTimer::new(Some(Duration::from_secs(15)), None);
        let is_waiting = async |timer: &HeartbeatTimer| poll_fn(|cx| Poll::Ready(timer.is_waiting(cx))).await;
        assert!(!is_waiting(&timer).await, "nothing is set");
        assert!(timer.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(!is_waiting(&timer).await, "another task is woken");
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(cx))).await.is_pending());
        assert!(is_waiting(&timer).await);
        assert!(!timer.is_waiting(&Context::from_waker(Waker::noop())), "another task is to be woken");
        timer.sent();
        assert!(!is_waiting(&timer).await, "the silence begins again");
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(cx))).await.is_pending());
        tokio::time::sleep(Duration::from_secs(16)).await;
        assert!(!is_waiting(&timer).await, "it fired");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_takes_over_is_woken() {
        let most = Some(Duration::from_secs(15));
        for (silence, age) in [(most, None), (None, most)] {
            let mut timer = HeartbeatTimer::new(silence, age);
            assert!(timer.poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let tick = tokio::spawn(async move { poll_fn(|cx| timer.poll(cx)).await });
            tokio::time::timeout(Duration::from_secs(16), tick).await.expect("in time").unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_age_beyond_the_clock_is_no_limit() {
        let mut timer = HeartbeatTimer::new(None, Some(Duration::MAX));
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(cx))).await.is_pending());
        let mut timer = HeartbeatTimer::new(Some(Duration::MAX), None);
        // Some 49 days, less up to a quarter.
        let start = Instant::now();
        assert_eq!(poll_fn(|cx| timer.poll(cx)).await, Tick::Heartbeat);
        assert!((37..50).contains(&(start.elapsed().as_secs() / 86_400)), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_now_comes_now() {
        let now = async |timer: &mut HeartbeatTimer| poll_fn(|cx| Poll::Ready(timer.poll(cx))).await;
        let mut ended = HeartbeatTimer::new(None, Some(Duration::ZERO));
        assert_eq!((ended.has_ended(), now(&mut ended).await), (true, Poll::Ready(Tick::End)));
        let mut shortest = HeartbeatTimer::new(Some(Duration::ZERO), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(now(&mut shortest).await, Poll::Ready(Tick::Heartbeat));
        let mut timer = HeartbeatTimer::new(Some(Duration::from_secs(15)), None);
        assert!(now(&mut timer).await.is_pending());
        let due = timer.wakeup.as_ref().unwrap().sleep.deadline();
        tokio::time::advance(due - Instant::now()).await;
        assert_eq!(now(&mut timer).await, Poll::Ready(Tick::Heartbeat));
    }
}
