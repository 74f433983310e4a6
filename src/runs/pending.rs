//! What the work of a run has handed over and the producer has not stored yet, and what the producer does next. Pure: time is
//! passed in.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{
    limits::{Budget, Limits},
    marks::End,
};
use crate::event::Event;

/// What waits to be stored.
#[derive(Debug)]
pub(super) struct Pending {
    limits: Limits,
    /// The most that may wait.
    room: Amount,
    /// What is left of the run's size.
    budget: Budget,
    queue: VecDeque<(Event, usize)>,
    queued: Amount,
    /// What is being appended.
    appending: Amount,
    /// When the queue got its first event.
    since: Option<Instant>,
    /// When the run has taken too long.
    deadline: Option<Instant>,
    end: Option<End>,
    news: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// What the producer does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing until something changes, or until then.
    Wait(Option<Instant>),
    Append(Vec<Event>),
    /// The channel may have been closed by others.
    Look,
    End(End),
}

impl Pending {
    pub(super) fn new(limits: Limits, room: Amount, now: Instant) -> Self {
        Self {
            limits,
            room,
            budget: limits.budget,
            queue: VecDeque::new(),
            queued: Amount::default(),
            appending: Amount::default(),
            since: None,
            // A time that the clock cannot represent never comes.
            deadline: now.checked_add(limits.max_duration),
            end: None,
            news: false,
        }
    }

    /// Takes an event of this size in bytes if there is room. A single event always finds room in an empty queue.
    pub(super) fn offer(&mut self, event: Event, bytes: usize, now: Instant) -> Result<(), Event> {
        let waiting = self.waiting();
        let fits = waiting.events < self.room.events && waiting.bytes.saturating_add(bytes) <= self.room.bytes;
        if !fits && waiting.events > 0 {
            return Err(event);
        }
        self.since.get_or_insert(now);
        self.queue.push_back((event, bytes));
        self.queued.events += 1;
        self.queued.bytes += bytes;
        Ok(())
    }

    /// The append succeeded.
    pub(super) fn stored(&mut self) {
        self.appending = Amount::default();
    }

    /// Nothing more is taken; the run ends once what waits is stored. Only the first end counts.
    pub(super) fn close(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// How the run will end, if that is decided.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The channel may have been closed by others.
    pub(super) fn notice(&mut self) {
        self.news = true;
    }

    pub(super) fn next(&mut self, now: Instant) -> Next {
        if std::mem::take(&mut self.news) {
            return Next::Look;
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.close(End::too_large());
        }
        if let Some(since) = self.since {
            let due = since + self.limits.batch_within;
            if now < due && !self.is_urgent() {
                return Next::Wait(Some(self.deadline.map_or(due, |deadline| due.min(deadline))));
            }
            let batch = self.take_batch();
            if !batch.is_empty() {
                return Next::Append(batch);
            }
        }
        match &self.end {
            Some(end) => Next::End(end.clone()),
            None => Next::Wait(self.deadline),
        }
    }

    /// Whether waiting for more events would not make the batch larger.
    fn is_urgent(&self) -> bool {
        let waiting = self.waiting();
        self.end.is_some()
            || self.queued.events >= self.limits.batch_events
            || self.queued.bytes >= self.limits.batch_bytes
            || waiting.events >= self.room.events
            || waiting.bytes >= self.room.bytes
    }

    /// At least one event, unless the run has reached its size: then that ends it.
    fn take_batch(&mut self) -> Vec<Event> {
        let mut batch = Vec::new();
        while let Some((_, bytes)) = self.queue.front() {
            let bytes = *bytes;
            let is_full = batch.len() >= self.limits.batch_events
                || self.appending.bytes.saturating_add(bytes) > self.limits.batch_bytes;
            if is_full && !batch.is_empty() {
                return batch;
            }
            if !self.budget.take(bytes) {
                self.queue.clear();
                self.queued = Amount::default();
                self.end = Some(End::too_large());
                break;
            }
            batch.extend(self.queue.pop_front().map(|(event, _)| event));
            self.queued.events -= 1;
            self.queued.bytes -= bytes;
            self.appending.events += 1;
            self.appending.bytes += bytes;
        }
        self.since = None;
        batch
    }

    fn waiting(&self) -> Amount {
        Amount { events: self.queued.events + self.appending.events, bytes: self.queued.bytes + self.appending.bytes }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        runs::{options::RunsOptions, outcome::RunOutcome},
        store::Retention,
    };

    fn event(n: usize) -> Event {
        Event::text(n.to_string())
    }

    fn pending(retention: Retention, room: Amount, now: Instant) -> Pending {
        Pending::new(Limits::new(&RunsOptions::default(), &retention), room, now)
    }

    const ROOM: Amount = Amount { events: 4, bytes: 1_000 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn events_wait_for_each_other_for_as_long_as_a_batch_may_take() {
        let now = Instant::now();
        let mut pending = pending(Retention::default(), ROOM, now);
        let deadline = now + Duration::from_secs(54 * 60);
        assert_eq!(pending.next(now), Next::Wait(Some(deadline)));
        pending.offer(event(1), 10, now).unwrap();
        pending.offer(event(2), 10, now + ms(19)).unwrap();
        assert_eq!(pending.next(now + ms(19)), Next::Wait(Some(now + ms(20))));
        assert_eq!(pending.next(now + ms(20)), Next::Append(vec![event(1), event(2)]));
        pending.offer(event(3), 10, now + ms(30)).unwrap();
        assert_eq!(pending.next(now + ms(30)), Next::Wait(Some(now + ms(50))));
        pending.close(End::plain(RunOutcome::Finished));
        pending.close(End::plain(RunOutcome::Abandoned));
        assert_eq!(pending.next(now + ms(30)), Next::Append(vec![event(3)]), "what waits comes before the end");
        assert_eq!(pending.next(now + ms(30)), Next::End(End::plain(RunOutcome::Finished)));
    }

    #[test]
    fn a_full_queue_refuses_until_its_events_are_stored() {
        let now = Instant::now();
        let mut pending = pending(Retention::default(), ROOM, now);
        (0..4).for_each(|n| pending.offer(event(n), 10, now).unwrap());
        assert_eq!(pending.offer(event(4), 10, now), Err(event(4)), "by number");
        assert!(matches!(pending.next(now), Next::Append(batch) if batch.len() == 4), "a full queue does not wait");
        assert_eq!(pending.offer(event(4), 10, now), Err(event(4)), "what is being appended counts");
        pending.stored();
        pending.offer(event(4), 2_000, now).unwrap();
        assert_eq!(pending.offer(event(5), 10, now), Err(event(5)), "by bytes");
        assert_eq!(pending.next(now), Next::Append(vec![event(4)]), "one event may be larger than the queue");
    }

    #[test]
    fn batches_are_bounded_by_what_one_append_may_have() {
        let now = Instant::now();
        let room = Amount { events: 100, bytes: 100_000 };
        let mut by_number = pending(Retention::default().events(20), room, now);
        (0..15).for_each(|n| by_number.offer(event(n), 10, now).unwrap());
        assert!(matches!(by_number.next(now), Next::Append(batch) if batch.len() == 10));
        assert_eq!(by_number.next(now), Next::Wait(Some(now + ms(20))));
        let mut by_bytes = pending(Retention::default().bytes(4_000), room, now);
        for bytes in [900, 900, 900, 50] {
            by_bytes.offer(event(bytes), bytes, now).unwrap();
        }
        assert_eq!(by_bytes.next(now), Next::Append(vec![event(900), event(900)]));
    }

    #[test]
    fn a_run_ends_as_failed_before_it_outgrows_what_is_kept() {
        let now = Instant::now();
        let mut by_number = pending(Retention::default().events(4), ROOM, now);
        (0..4).for_each(|n| by_number.offer(event(n), 10, now).unwrap());
        assert_eq!(by_number.next(now), Next::Append(vec![event(0), event(1)]), "with the start and the end, four");
        by_number.stored();
        assert_eq!(by_number.next(now), Next::End(End::too_large()));
        let mut by_age = pending(Retention::default().age(Duration::from_secs(10)), ROOM, now);
        assert_eq!(by_age.next(now + ms(8_999)), Next::Wait(Some(now + ms(9_000))));
        assert_eq!(by_age.next(now + ms(9_000)), Next::End(End::too_large()));
    }

    #[test]
    fn news_of_the_channel_come_first() {
        let now = Instant::now();
        let mut pending = pending(Retention::default(), ROOM, now);
        pending.close(End::plain(RunOutcome::Finished));
        pending.notice();
        assert_eq!(pending.next(now), Next::Look);
        assert_eq!(pending.next(now), Next::End(End::plain(RunOutcome::Finished)));
    }
}
