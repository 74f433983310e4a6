//! All channels of one memory store: whatever needs the map, the floors or the watchers. Runs under the store's lock,
//! so nothing here calls foreign code.

mod capacity;

use std::{
    collections::{BTreeSet, VecDeque, hash_map::Entry},
    ops::Bound,
};

use super::{counted_map::CountedMap, heap_size, log::Log};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::Event,
    store::{
        Append, Appended, Change, Expect, Head, Limit, Page, Retention, Start, StoreError, floor,
        kit::{Before, Decision, Draft, Fingerprints, Keep, Wakers, Watchers, init_start, listing_start},
        resume::{self, Record},
    },
};

pub(super) struct Place {
    /// Drawn once: after a restart it is another place.
    epoch: u64,
    /// Per bucket of names: no forgotten or deleted channel had a higher `seq`.
    floors: Box<[u64]>,
    /// The latest time that the clock has shown, in Unix milliseconds.
    now: u64,
    pub(super) keep: Keep,
    logs: CountedMap<Channel, Log>,
    /// The channels that have a log, in listing order.
    names: BTreeSet<Channel>,
    /// When the janitor checks each channel next. All wait for the same period, so the front is always due first.
    janitor_queue: VecDeque<(u64, Channel)>,
    /// The heap bytes of all logs and their names, as last counted.
    counted_bytes: u64,
    pub(super) max_bytes: u64,
    pub(super) watchers: Watchers,
    /// To be woken once the store is unlocked.
    pub(super) wakers: Wakers,
}

impl Place {
    pub(super) fn new(retention: &Retention) -> Self {
        Self {
            epoch: resume::fresh_epoch(),
            floors: vec![0; usize::from(floor::BUCKETS)].into(),
            now: 0,
            keep: Keep::new(retention),
            logs: CountedMap::default(),
            names: BTreeSet::new(),
            janitor_queue: VecDeque::new(),
            counted_bytes: 0,
            max_bytes: MAX_BYTES,
            watchers: Watchers::armed(),
            wakers: Wakers::default(),
        }
    }

    /// Advances the time, and checks a few channels that are due.
    pub(super) fn begin(&mut self, now: u64) {
        self.now = self.now.max(now);
        // A store that is nearly full searches harder for what has expired.
        let checks = if self.heap_bytes() > self.max_bytes - self.max_bytes / 8 {
            CHECKS_WHEN_FULL
        } else {
            CHECKS_PER_OPERATION
        };
        for _ in 0..checks {
            if self.janitor_queue.front().is_none_or(|(due, _)| *due > self.now) {
                return;
            }
            let Some((due, channel)) = self.janitor_queue.pop_front() else { return };
            if self.logs.get(&channel).is_some_and(|log| log.state.due == due) {
                self.run_janitor(channel);
            }
        }
    }

    fn run_janitor(&mut self, channel: Channel) {
        self.apply_retention(&channel);
        let Some(log) = self.logs.get_mut(&channel) else { return };
        log.state.due = self.now.saturating_add(self.keep.period());
        self.janitor_queue.push_back((log.state.due, channel));
    }

    pub(super) fn append(
        &mut self,
        channel: &Channel,
        append: Append,
        prints: Fingerprints,
    ) -> Result<Appended, StoreError> {
        self.apply_retention(channel);
        let log = self.logs.get(channel);
        let before = self.before(channel, log);
        match before.decide(&append, prints, |key| Ok::<_, StoreError>(log.and_then(|log| log.key(key))))? {
            Decision::Unchanged(appended) => Ok(appended),
            Decision::Write(draft) => {
                self.check_append(channel, draft.new_events(&append.events))?;
                Ok(self.apply(channel, append.events, draft, before.head()))
            }
        }
    }

    fn apply(&mut self, channel: &Channel, events: Vec<Event>, draft: Draft, before: Head) -> Appended {
        let (now, keep) = (self.now, self.keep);
        let log = self.open(channel, before.cursor);
        let appended = log.append(draft, events, now);
        log.trim(&keep, now);
        let (was, is) = log.recount();
        self.counted_bytes = self.counted_bytes - was + is;
        let Appended { entries, head, .. } = &appended;
        if !entries.is_empty() {
            self.notify(|| Change::Entries(entries.clone()));
        }
        if head.closed != before.closed {
            self.notify(|| Change::Head(channel.clone(), *head));
        }
        appended
    }

    pub(super) fn read(&mut self, channel: &Channel, start: Start, limit: Limit) -> Page {
        self.apply_retention(channel);
        match self.logs.get(channel) {
            Some(log) => log.read(start, limit),
            // An absent channel reads as an empty one, and stays absent.
            None => Log::new(channel.clone(), self.head_of(channel).cursor, self.now).read(start, limit),
        }
    }

    pub(super) fn head(&mut self, channel: &Channel) -> Head {
        self.apply_retention(channel);
        self.head_of(channel)
    }

    pub(super) fn init(&mut self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        self.apply_retention(channel);
        let before = self.before(channel, self.logs.get(channel));
        before.check(expect)?;
        self.check_init(channel, &events)?;
        let start = init_start(channel, before.head().cursor.seq);
        let now = self.now;
        let log = self.open(channel, start);
        log.restart(start, now);
        log.append_unkeyed(events, now);
        let head = log.state.record.head;
        self.apply_retention(channel);
        self.notify(|| Change::Head(channel.clone(), head));
        Ok(head)
    }

    pub(super) fn delete(&mut self, channel: &Channel) {
        if self.logs.contains_key(channel) {
            self.forget(channel);
            let head = self.head_of(channel);
            self.notify(|| Change::Head(channel.clone(), head));
        }
    }

    pub(super) fn channels(&mut self, prefix: &str, after: Option<&Channel>, limit: usize) -> Vec<(Channel, Head)> {
        loop {
            let names = self.names_after(prefix, after, limit.min(MAX_LISTED));
            if names.is_empty() {
                return Vec::new();
            }
            // Expired records are forgotten first; a page that this empties is skipped, for an empty page ends the
            // list.
            names.iter().for_each(|channel| self.apply_retention(channel));
            let heads = names.into_iter().filter_map(|channel| {
                let head = self.logs.get(&channel)?.state.record.head;
                Some((channel, head))
            });
            let heads: Vec<_> = heads.collect();
            if !heads.is_empty() {
                return heads;
            }
        }
    }

    fn notify(&mut self, change: impl FnMut() -> Change) {
        self.wakers.append(self.watchers.queue(change));
    }

    fn names_after(&self, prefix: &str, after: Option<&Channel>, limit: usize) -> Vec<Channel> {
        let names = self.names.range::<str, _>((listing_start(prefix, after), Bound::Unbounded));
        names.take_while(|name| name.as_str().starts_with(prefix)).take(limit).cloned().collect()
    }

    #[cfg(feature = "testing")]
    pub(super) fn lose_tail(&mut self, channel: &Channel, n: u64) {
        let now = self.now;
        if let Some(log) = self.logs.get_mut(channel) {
            log.lose_tail(n, now);
            let (was, is) = log.recount();
            self.counted_bytes = self.counted_bytes - was + is;
        }
    }

    fn head_of(&self, channel: &Channel) -> Head {
        self.before(channel, self.logs.get(channel)).head()
    }

    /// The channel, whose log this is, as it is before a write.
    fn before(&self, channel: &Channel, log: Option<&Log>) -> Before {
        match log {
            Some(log) => Before::recorded(log.state.record.head),
            None => Before::absent(self.absent_head(channel)),
        }
    }

    /// The head of a channel that has no log.
    fn absent_head(&self, channel: &Channel) -> Head {
        let floor = self.floors.get(usize::from(floor::bucket_of(channel))).copied().unwrap_or_default();
        Record::absent(self.epoch, floor, channel).head
    }

    /// The channel's log, created if there is none.
    fn open(&mut self, channel: &Channel, start: Cursor) -> &mut Log {
        match self.logs.entry(channel.clone()) {
            Entry::Occupied(log) => log.into_mut(),
            Entry::Vacant(none) => {
                let janitor_due = self.now.saturating_add(self.keep.period());
                self.janitor_queue.push_back((janitor_due, channel.clone()));
                self.names.insert(channel.clone());
                self.counted_bytes += heap_size::shared_text(channel.as_str());
                let log = none.insert(Log::new(channel.clone(), start, self.now));
                log.state.due = janitor_due;
                log
            }
        }
    }

    /// Drops what has expired of one channel, and the channel itself if it is to be forgotten.
    fn apply_retention(&mut self, channel: &Channel) {
        let Some(log) = self.logs.get_mut(channel) else { return };
        log.trim(&self.keep, self.now);
        let (was, is) = log.recount();
        self.counted_bytes = self.counted_bytes - was + is;
        if log.is_forgotten(&self.keep, self.now) {
            self.forget(channel);
        }
    }

    fn forget(&mut self, channel: &Channel) {
        if let Some(log) = self.remove(channel) {
            if let Some(floor) = self.floors.get_mut(usize::from(floor::bucket_of(channel))) {
                *floor = floor::raised(*floor, log.state.record.head.cursor.seq);
            }
        }
    }

    fn remove(&mut self, channel: &Channel) -> Option<Log> {
        let log = self.logs.remove(channel);
        self.names.remove(channel);
        if let Some(log) = &log {
            self.counted_bytes -= log.counted_bytes + heap_size::shared_text(channel.as_str());
        }
        // The entries of removed channels are purged once they are the majority, which amortises over the removals.
        if self.janitor_queue.len() > 2 * self.logs.len() {
            self.janitor_queue.retain(|(due, channel)| self.logs.get(channel).is_some_and(|log| log.state.due == *due));
            heap_size::shrink_deque(&mut self.janitor_queue);
        }
        log
    }
}

/// The most channels that the janitor checks per operation. More than one, so that it catches up.
const CHECKS_PER_OPERATION: usize = 4;

/// The same for a store that is nearly full.
const CHECKS_WHEN_FULL: usize = 256;

/// Default of [`MemoryStore::max_bytes`](super::MemoryStore::max_bytes).
const MAX_BYTES: u64 = 512 << 20;

/// The most channels listed at once, since the lock is held meanwhile.
const MAX_LISTED: usize = 1000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn append(place: &mut Place, channel: &str, texts: &[&str]) {
        let events = texts.iter().map(|text| Event::text(*text));
        let append = Append::new(events);
        let prints = Fingerprints::of(&append.events);
        place.append(&Channel::new(channel).unwrap(), append, prints).unwrap();
    }

    #[test]
    fn an_idle_channel_is_forgotten_while_others_are_used() {
        let hour = Duration::from_secs(3600);
        let mut place = Place::new(&Retention::default().forget_after(hour));
        append(&mut place, "idle", &["a", "b"]);
        for minute in 0..=190 {
            place.begin(minute * 60_000);
            append(&mut place, "busy", &["c"]);
        }
        assert!(!place.logs.contains_key("idle"));
        let raised: Vec<_> = place.floors.iter().filter(|floor| **floor > 0).collect();
        assert!(matches!(raised.as_slice(), [floor] if **floor > 2), "{raised:?}");
        assert_eq!((place.logs.len(), place.janitor_queue.len(), place.names.len()), (1, 1, 1));
    }

    #[test]
    fn queue_entries_of_deleted_channels_are_purged_when_they_are_the_majority() {
        let mut place = Place::new(&Retention::default());
        (0..10).for_each(|n| append(&mut place, &format!("{n}"), &["x"]));
        let queued = (0..1000).map(|_| {
            append(&mut place, "a", &["x"]);
            place.delete(&Channel::new("a").unwrap());
            place.janitor_queue.len()
        });
        assert_eq!(queued.max(), Some(20));
        let live = place
            .janitor_queue
            .iter()
            .filter(|(due, channel)| place.logs.get(channel).is_some_and(|l| l.state.due == *due));
        assert_eq!(live.count(), 10);
    }

    #[test]
    fn an_operation_checks_few_due_channels_and_many_in_a_nearly_full_store() {
        let mut place = Place::new(&Retention::default());
        let period = place.keep.period();
        (0..1000).for_each(|n| append(&mut place, &format!("{n}"), &["x"]));
        let begin = |place: &mut Place, now: u64| {
            let before: Vec<_> = place.janitor_queue.iter().take(CHECKS_WHEN_FULL + 1).cloned().collect();
            place.begin(now);
            let checked = before.into_iter().filter(|(due, channel)| place.logs.get(channel).unwrap().state.due > *due);
            checked.count()
        };
        assert_eq!(begin(&mut place, period - 1), 0);
        assert_eq!(begin(&mut place, period), CHECKS_PER_OPERATION);
        assert_eq!(begin(&mut place, period), CHECKS_PER_OPERATION);
        let used = place.heap_bytes();
        place.max_bytes = (used..).find(|max_bytes| max_bytes - max_bytes / 8 == used).unwrap();
        assert_eq!(begin(&mut place, period), CHECKS_PER_OPERATION);
        place.max_bytes -= 1;
        assert_eq!(begin(&mut place, period), CHECKS_WHEN_FULL);
        // Checked channels wait for the next period, behind all others.
        let dues: Vec<_> = place.janitor_queue.iter().map(|(due, _)| *due).collect();
        let checked = 3 * CHECKS_PER_OPERATION + CHECKS_WHEN_FULL;
        assert_eq!(dues, [vec![period; 1000 - checked], vec![2 * period; checked]].concat());
    }

    #[test]
    fn an_absent_channel_is_not_stored() {
        let mut place = Place::new(&Retention::default());
        let channel = Channel::new("a").unwrap();
        place.read(&channel, Start::Earliest, Limit::default());
        place.head(&channel);
        place.append(&channel, Append::new([]), Fingerprints::of(&[])).unwrap();
        place.delete(&channel);
        assert!(place.logs.is_empty() && place.janitor_queue.is_empty());
    }
}
