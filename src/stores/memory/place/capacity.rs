//! How many bytes a place takes on the heap, and which operations would exceed its limit.

use super::Place;
use crate::{
    channel::Channel,
    event::Event,
    store::StoreError,
    stores::memory::{heap_size, log::Log},
};

impl Place {
    pub(in crate::stores::memory) fn heap_bytes(&self) -> u64 {
        self.counted_bytes
            + self.logs.heap_bytes()
            + heap_size::btree_set(self.names.len())
            + heap_size::deque(&self.janitor_queue)
    }

    /// Fails if these `new` events of an append would exceed the limit.
    pub(super) fn check_append<'a>(
        &self,
        to: &Channel,
        new: impl Iterator<Item = &'a Event> + Clone,
    ) -> Result<(), StoreError> {
        let own = self.channel_growth(to);
        match self.logs.get(to) {
            Some(log) => self.check_log_growth(log, own, new),
            None => self.check_log_growth(&Log::new(to.clone(), self.absent_head(to).cursor, self.now), own, new),
        }
    }

    fn check_log_growth<'a>(
        &self,
        log: &Log,
        own: u64,
        new: impl Iterator<Item = &'a Event> + Clone,
    ) -> Result<(), StoreError> {
        let keys = log.key_growth(new.clone().filter_map(Event::key));
        if keys != 0 && log.key_bytes() + keys > self.max_bytes / KEY_SHARE {
            return Err(StoreError::Full("the keys of one channel have reached their limit".into()));
        }
        self.check_growth(own + keys + log.growth(&self.keep, new))
    }

    /// Fails if these events, in place of what the channel holds, would exceed the limit.
    pub(super) fn check_init(&self, channel: &Channel, events: &[Event]) -> Result<(), StoreError> {
        let replaced = self.logs.get(channel).map(|log| log.counted_bytes).unwrap_or_default();
        let none = Log::new(channel.clone(), self.absent_head(channel).cursor, self.now);
        let growth = none.growth(&self.keep, events.iter()).saturating_sub(replaced);
        self.check_growth(self.channel_growth(channel) + growth)
    }

    /// By how many bytes a record of this channel would grow the maps and queues, if it has none.
    fn channel_growth(&self, channel: &Channel) -> u64 {
        if self.logs.contains_key(channel) {
            return 0;
        }
        heap_size::shared_text(channel.as_str())
            + self.logs.growth(1)
            + heap_size::NAME_BYTES
            + heap_size::deque_growth(&self.janitor_queue, 1)
    }

    fn check_growth(&self, growth: u64) -> Result<(), StoreError> {
        let (used, max_bytes) = (self.heap_bytes(), self.max_bytes);
        if growth == 0 || used + growth <= max_bytes {
            return Ok(());
        }
        Err(StoreError::Full(format!("{used} of {max_bytes} bytes are used, and {growth} more are needed").into()))
    }
}

/// The keys of one channel may take one part in this many, which leaves room for other channels.
const KEY_SHARE: u64 = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use allocation_counter::measure;

    use super::*;
    use crate::store::{Append, Appended, Expect, Limit, Retention, Start, kit::Fingerprints};

    fn channel(name: &str) -> Channel {
        Channel::new(name).unwrap()
    }

    fn append(place: &mut Place, to: &str, events: Vec<Event>) -> Result<Appended, StoreError> {
        let append = Append::new(events);
        let prints = Fingerprints::of(&append.events);
        place.append(&channel(to), append, prints)
    }

    fn texts(count: usize, bytes: usize) -> Vec<Event> {
        (0..count).map(|_| Event::text("x".repeat(bytes))).collect()
    }

    /// Events with keys from `first` on.
    fn keyed(first: usize, count: usize) -> Vec<Event> {
        (first..first + count).map(|n| Event::text("x").keyed(format!("key-{n:05}")).unwrap()).collect()
    }

    fn plenty() -> Retention {
        Retention::default().events(1 << 40).bytes(1 << 40)
    }

    /// Does the steps in a place whose limit is exactly what it takes after each step. With a byte less, a step that
    /// makes the place grow is refused and changes nothing.
    fn check_exact_limit(retention: &Retention, steps: &[(String, Vec<Event>)]) {
        let (mut free, mut full) = (Place::new(retention), Place::new(retention));
        for (nth, (to, events)) in steps.iter().enumerate() {
            let before = free.heap_bytes();
            append(&mut free, to, events.clone()).unwrap();
            let after = free.heap_bytes();
            if after > before {
                full.max_bytes = after - 1;
                let refused = append(&mut full, to, events.clone());
                assert!(matches!(refused, Err(StoreError::Full(_))), "step {nth}, from {before} to {after}");
                assert_eq!(full.heap_bytes(), before);
            }
            full.max_bytes = if after > before { after } else { u64::MAX };
            append(&mut full, to, events.clone()).unwrap();
            assert_eq!(full.heap_bytes(), after, "step {nth}");
        }
    }

    #[test]
    fn an_append_is_refused_when_one_byte_is_missing() {
        let in_a = |events: Vec<Event>| ("a".to_owned(), events);
        // Large entries first, so that the keys do not reach their share.
        let mut steps = vec![in_a(texts(1, 1 << 20)), in_a(texts(1, 0))];
        steps.extend((0..20).map(|n| in_a(vec![Event::text("x".repeat(n)).named("n".repeat(n + 1)).unwrap()])));
        steps.extend([2, 3, 5, 9, 17, 60].map(|count| in_a(texts(count, 10))));
        steps.extend((0..20).map(|n| in_a(keyed(n, 1))));
        steps.extend([2, 3, 5, 9, 17, 60].map(|count| in_a(keyed(count * 100, count))));
        steps.extend((0..40).map(|n| (format!("new-{n}"), [texts(n % 3, n), keyed(0, n % 2)].concat())));
        // Some of these keys are known.
        steps.push(in_a(keyed(0, 30)));
        check_exact_limit(&plenty(), &steps);
    }

    #[test]
    fn an_append_may_use_the_room_of_what_it_drops() {
        let in_a = |(count, bytes)| ("a".to_owned(), texts(count, bytes));
        let steps = [(5, 10), (5, 10), (1, 500), (3, 500), (2, 600), (5, 2_000), (5, 2_000), (1, 10), (4, 3_000)];
        check_exact_limit(&plenty().events(10), &steps.map(in_a));
        // First fill retention exactly.
        let mut steps = vec![(1, 35); 101];
        steps.extend([(1, 10); 133]);
        steps.extend([(1, 3_000), (1, 10), (2, 2_000), (1, 4_000), (1, 4_900)]);
        check_exact_limit(&plenty().bytes(10_000), &steps.into_iter().map(in_a).collect::<Vec<_>>());
    }

    #[test]
    fn an_init_is_refused_when_one_byte_is_missing() {
        let others =
            [0, 1, 2, 3, 4, 6, 7, 8, 14, 15, 16, 28].into_iter().flat_map(|others| [0, 1, 40].map(|had| (others, had)));
        for (others, had, new) in others.flat_map(|(others, had)| [0, 1, 5, 50].map(|new| (others, had, new))) {
            let filled = || {
                let mut place = Place::new(&plenty());
                (0..others).for_each(|n| drop(append(&mut place, &format!("{n}"), texts(1, 1)).unwrap()));
                append(&mut place, "a", [texts(had, 10), keyed(0, had / 2)].concat()).unwrap();
                place
            };
            let init = |place: &mut Place| place.init(&channel("a"), texts(new, 10), Expect::Any);
            let (mut free, mut full) = (filled(), filled());
            let before = free.heap_bytes();
            init(&mut free).unwrap();
            let after = free.heap_bytes();
            if after > before {
                full.max_bytes = after - 1;
                assert!(matches!(init(&mut full), Err(StoreError::Full(_))), "{others}, {had}, {new}");
            }
            full.max_bytes = after;
            init(&mut full).unwrap();
            assert_eq!((full.heap_bytes(), full.janitor_queue.len()), (after, full.logs.len()));
        }
    }

    #[test]
    fn the_keys_of_a_channel_take_at_most_a_quarter() {
        for had in [0, 1, 20] {
            let filled = || {
                let mut place = Place::new(&plenty());
                append(&mut place, "a", keyed(0, had)).unwrap();
                place
            };
            let (mut free, mut full) = (filled(), filled());
            append(&mut free, "a", keyed(had, 30)).unwrap();
            let max_bytes = free.logs.get("a").unwrap().key_bytes() * 4;
            assert!(max_bytes > free.heap_bytes());
            full.max_bytes = max_bytes - 1;
            let refused = append(&mut full, "a", keyed(had, 30));
            assert!(matches!(refused, Err(StoreError::Full(_))), "{had}");
            full.max_bytes = max_bytes;
            append(&mut full, "a", keyed(had, 30)).unwrap();
            // Its keys now exceed their share; other entries and channels do not.
            full.max_bytes = max_bytes - 1;
            append(&mut full, "a", texts(1, 1)).unwrap();
            append(&mut full, "b", keyed(0, 1)).unwrap();
            append(&mut full, "a", keyed(0, 30)).unwrap();
        }
    }

    #[test]
    fn operations_that_do_not_grow_a_full_place_succeed() {
        let mut place = Place::new(&plenty().events(10));
        append(&mut place, "a", texts(5, 10)).unwrap();
        append(&mut place, "a", texts(5, 10)).unwrap();
        append(&mut place, "a", keyed(0, 1)).unwrap();
        place.max_bytes = 1;
        append(&mut place, "a", texts(5, 10)).unwrap();
        append(&mut place, "a", keyed(0, 1)).unwrap();
        append(&mut place, "a", Vec::new()).unwrap();
        place.init(&channel("a"), texts(1, 10), Expect::Any).unwrap();
        assert!(append(&mut place, "a", texts(1, 1)).is_err());
        assert!(place.init(&channel("b"), Vec::new(), Expect::Any).is_err());
    }

    /// Runs `act` on a place, and compares its count with what has been allocated since it was new.
    fn compare_with_allocator(place: &mut Place, bytes: &mut (i64, i64), what: &str, act: impl FnOnce(&mut Place)) {
        let real = measure(|| act(place));
        *bytes = (bytes.0 + real.bytes_current, bytes.1 + real.count_current);
        let (taken, allocations) = (bytes.0 as u64, bytes.1 as u64);
        let counted_bytes = place.heap_bytes() - heap_size::btree_set(place.names.len()) + 200;
        assert!(
            (taken..=taken + allocations * 24 + 400).contains(&counted_bytes),
            "{what}: {taken} bytes, {counted_bytes} counted"
        );
        let parts = place.logs.iter().map(|(name, log)| heap_size::shared_text(name.as_str()) + log.counted_bytes);
        assert_eq!(place.counted_bytes, parts.sum::<u64>(), "{what}");
    }

    #[test]
    fn a_place_counts_what_it_allocates() {
        let (age, window) = (Duration::from_millis(100), Duration::from_millis(50));
        let mut place = Place::new(&plenty().events(200).age(age).key_window(window).forget_after(age));
        let mut bytes = (0, 0);
        let mut then = |what, act: &dyn Fn(&mut Place)| compare_with_allocator(&mut place, &mut bytes, what, act);
        then("events", &|place| drop(append(place, "a", texts(100, 100)).unwrap()));
        then("keys", &|place| drop(append(place, "a", keyed(0, 90)).unwrap()));
        then("more than is kept", &|place| drop(append(place, "a", texts(100, 10)).unwrap()));
        then("an init of more than is kept", &|place| {
            place.init(&channel("b"), texts(1_000, 10), Expect::Any).unwrap();
            // Entries that were read share their data with the log.
            place.read(&channel("b"), Start::Earliest, Limit::default());
        });
        then("later keys", &|place| {
            place.begin(30);
            append(place, "a", keyed(1_000, 5)).unwrap();
        });
        then("expired keys", &|place| {
            place.begin(51);
            place.head(&channel("a"));
        });
        then("expired entries", &|place| {
            place.begin(101);
            place.head(&channel("a"));
            place.head(&channel("b"));
        });
        then("an init of an existing channel", &|place| {
            place.init(&channel("a"), texts(1, 10), Expect::Any).unwrap();
        });
        then("a lost tail", &|place| place.lose_tail(&channel("a"), 1));
        then("a delete", &|place| place.delete(&channel("a")));
        then("forgotten records", &|place| place.begin(1_000));
        assert_eq!(place.logs.len(), 0);
    }

    #[test]
    fn a_place_frees_what_it_no_longer_needs() {
        let hour = Duration::from_secs(3600);
        let mut place = Place::new(&plenty().age(hour).key_window(hour).forget_after(hour));
        append(&mut place, "a", [texts(2_000, 1), keyed(0, 2_000)].concat()).unwrap();
        (0..2_000).for_each(|n| drop(append(&mut place, &format!("{n}"), texts(1, 1)).unwrap()));
        place.begin(3_600_000);
        append(&mut place, "a", keyed(2_000, 1)).unwrap();
        let full = place.heap_bytes();
        assert!(full > 1_000_000, "{full}");
        place.begin(3_600_001);
        (0..2_000).for_each(|n| place.delete(&channel(&format!("{n}"))));
        place.head(&channel("a"));
        assert_eq!((place.logs.len(), place.logs.get("a").unwrap().after(0).count()), (1, 1));
        assert!(place.heap_bytes() < 3_000, "{} of {full}", place.heap_bytes());
    }
}
