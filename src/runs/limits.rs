//! How much a run may publish: its beginning must still be there when it ends. Pure.

use std::time::Duration;

use super::options::RunsOptions;
use crate::{channel::Channel, event::Event, store::Retention};

/// What one append, and one run, may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) batch_events: usize,
    pub(super) batch_bytes: usize,
    pub(super) batch_within: Duration,
    pub(super) max_duration: Duration,
    pub(super) budget: Budget,
}

/// What is left for the events of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    events: u64,
    bytes: u64,
}

impl Limits {
    pub(super) fn new(options: &RunsOptions, retention: &Retention) -> Self {
        let at_most = |limit: u64, most: usize| usize::try_from(limit).unwrap_or(most).min(most);
        Self {
            batch_events: at_most(retention.max_append_events(), 512),
            batch_bytes: at_most(retention.max_append_bytes(), 256 << 10),
            batch_within: options.batch_within,
            max_duration: options.max_duration.min(retention.age / 10 * 9),
            budget: Budget {
                events: retention.events.saturating_sub(2),
                bytes: retention.bytes - RESERVED_BYTES.min(retention.bytes / 4),
            },
        }
    }
}

impl Budget {
    /// Takes room for one event; `false` if there is none.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let left = (self.events.checked_sub(1), self.bytes.checked_sub(bytes as u64));
        let (Some(events), Some(bytes)) = left else { return false };
        *self = Self { events, bytes };
        true
    }
}

/// What an event counts in a channel, in bytes: as [`Entry::size`](crate::store::Entry::size).
pub(super) fn size(channel: &Channel, event: &Event) -> usize {
    let name = event.name().map_or(0, |name| name.as_str().len());
    event.data().len() + name + channel.as_str().len() + 64
}

/// For the first and the last event of a run, whose texts are bounded.
const RESERVED_BYTES: u64 = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Entry;

    #[test]
    fn limits_follow_from_what_the_store_keeps() {
        let retention = Retention::default().events(100).bytes(10 << 10).age(Duration::from_secs(100));
        let limits = Limits::new(&RunsOptions::default(), &retention);
        assert_eq!((limits.batch_events, limits.batch_bytes), (50, 5 << 10));
        assert_eq!(limits.max_duration, Duration::from_secs(90));
        let endless = Retention::default().events(u64::MAX).bytes(u64::MAX).age(Duration::MAX);
        let limits = Limits::new(&RunsOptions::default().max_duration(Duration::from_secs(5)), &endless);
        assert_eq!((limits.batch_events, limits.batch_bytes, limits.max_duration.as_secs()), (512, 256 << 10, 5));
    }

    #[test]
    fn a_budget_ends_with_events_or_bytes() {
        let budget = |events, bytes| Budget { events, bytes };
        let table =
            [(budget(2, 100), vec![10, 10, 10], 2), (budget(9, 25), vec![10, 10, 10], 2), (budget(0, 9), vec![1], 0)];
        for (mut left, sizes, taken) in table {
            assert_eq!(sizes.iter().filter(|size| left.take(**size)).count(), taken, "{left:?}");
        }
    }

    #[test]
    fn the_size_of_an_event_is_that_of_its_entry() {
        let channel = Channel::new("run:1").unwrap();
        let event = Event::text("hello").named("token").unwrap();
        let cursor = crate::cursor::Cursor { epoch: 1, seq: 1, tag: 1 };
        let (data, name) = event.clone().into_parts();
        assert_eq!(size(&channel, &event), Entry::new(channel, cursor, data).named(name).size());
    }
}
