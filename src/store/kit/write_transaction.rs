//! The writes of a store that keeps logs as rows, and changes them in transactions.

use super::{
    decision::{Addition, Before, Decision, init_start},
    keep::Keep,
    keys::{Fingerprints, Known},
    log_state::LogState,
    sequencer::Sequencer,
};
use crate::{
    channel::Channel,
    event::{Event, EventKey},
    store::{Append, Appended, Change, Entry, Expect, Head, StoreError, resume},
};

/// A write transaction of a store that keeps a row per channel, per entry and per key. The required methods say how they are
/// stored; the provided methods are the writes of the contract. They neither begin the transaction nor end it: after an error, the
/// store rolls it back, unless the error is a refusal.
///
/// `examples/redb_store` in the repository implements it, and so does [`FileStore`](../../stores/file/struct.FileStore.html).
pub trait WriteTransaction {
    /// What is stored of a channel: its [`LogState`], and whatever else the store needs.
    type Row: AsRef<LogState> + AsMut<LogState>;
    /// Why the transaction cannot go on, or what the store refuses.
    type Error: From<StoreError>;

    /// The limits, and the time of the transaction in Unix milliseconds.
    fn limits(&self) -> (Keep, u64);

    /// The channel's row, if it has a record.
    ///
    /// # Errors
    /// When it cannot be read; then [`remove_damaged`](Self::remove_damaged) may be called.
    fn row(&mut self, channel: &Channel) -> Result<Option<Self::Row>, Self::Error>;

    /// The head that [`Record::absent`](resume::Record::absent) says a channel without a record has.
    ///
    /// # Errors
    /// When the floor cannot be read.
    fn absent_head(&mut self, channel: &Channel) -> Result<Head, Self::Error>;

    /// The row of a channel that had none. It is [stored](Self::store) before the transaction ends.
    ///
    /// # Errors
    /// When it cannot be written.
    fn create(&mut self, channel: &Channel, log: LogState) -> Result<Self::Row, Self::Error>;

    /// Stores the row, and sets [`LogState::due`], for example to [`LogState::next_due`].
    ///
    /// # Errors
    /// When it cannot be written.
    fn store(&mut self, channel: &Channel, row: &mut Self::Row) -> Result<(), Self::Error>;

    /// Removes the row, and all entries and keys of the channel.
    ///
    /// # Errors
    /// When they cannot be removed.
    fn remove(&mut self, channel: &Channel, row: Self::Row) -> Result<(), Self::Error>;

    /// Removes a channel whose row could not be read, because of `error`, and which is to be replaced or deleted. Returns the
    /// largest `seq` that its log may have had. By default this fails, with `error`.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove_damaged(&mut self, channel: &Channel, error: Self::Error) -> Result<u64, Self::Error> {
        _ = channel;
        Err(error)
    }

    /// Raises the floor of the channel's bucket above `seq`: to [`floor::raised`](crate::store::floor::raised).
    ///
    /// # Errors
    /// When it cannot be written.
    fn raise_floor(&mut self, channel: &Channel, seq: u64) -> Result<(), Self::Error>;

    /// Inserts an entry of the channel with this row. It is counted by the caller.
    ///
    /// # Errors
    /// When it cannot be written.
    fn insert_entry(&mut self, row: &Self::Row, entry: &Entry) -> Result<(), Self::Error>;

    /// What is known of a key that was first appended at `since` or later.
    ///
    /// # Errors
    /// When it cannot be read.
    fn key(
        &mut self,
        channel: &Channel,
        row: &Self::Row,
        key: &EventKey,
        since: u64,
    ) -> Result<Option<Known>, Self::Error>;

    /// Inserts a key that was appended at `stamp`. One that is still stored although its window is over is replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    fn insert_key(
        &mut self,
        channel: &Channel,
        row: &Self::Row,
        key: &EventKey,
        known: Known,
        stamp: u64,
    ) -> Result<(), Self::Error>;

    /// Drops the oldest entries while [`LogState::exceeds`] says so, by [`LogState::drop_oldest`]; returns whether it dropped any.
    /// `added` entries are new since the last call. A store may exceed the limits a little, so that it drops many at once.
    ///
    /// # Errors
    /// When they cannot be read or removed.
    fn trim(&mut self, channel: &Channel, row: &mut Self::Row, added: usize) -> Result<bool, Self::Error>;

    /// Whether a key of the channel was first appended at `since` or later, for a store that does not store
    /// [`LogState::newest_key`]. By default none was.
    ///
    /// # Errors
    /// When they cannot be read.
    fn has_keys(&mut self, channel: &Channel, row: &Self::Row, since: u64) -> Result<bool, Self::Error> {
        _ = (channel, row, since);
        Ok(false)
    }

    /// A hint for [`Store::changes`](crate::Store::changes), once the transaction is committed. `row` is that of the channel, unless
    /// it was deleted.
    fn changed(&mut self, row: Option<&Self::Row>, change: Change);

    /// [`Store::append`](crate::Store::append), after [`check_append_size`](super::check_append_size). `prints` are those of its
    /// events.
    ///
    /// # Errors
    /// Those of [`Before::decide`]; and what the required methods fail with.
    fn append(&mut self, channel: &Channel, append: &Append, prints: Fingerprints) -> Result<Appended, Self::Error> {
        let row = self.retained(channel)?;
        let before = self.before(channel, row.as_ref())?;
        let (keep, now) = self.limits();
        let known = |key: &EventKey| match &row {
            Some(row) => self.key(channel, row, key, keep.oldest_key(now)),
            None => Ok(None),
        };
        let draft = match before.decide(append, prints, known)? {
            Decision::Unchanged(appended) => return Ok(appended),
            Decision::Write(draft) => draft,
        };
        let mut row = match row {
            Some(row) => row,
            None => self.create(channel, LogState::new(before.head().cursor, now))?,
        };
        let stamp = row.as_ref().stamp(now);
        let Addition { appended, keys } = draft.complete(channel, append.events.clone(), stamp, resume::fresh_tag);
        for entry in &appended.entries {
            self.insert_entry(&row, entry)?;
            row.as_mut().add(entry);
        }
        for (key, known) in keys {
            self.insert_key(channel, &row, &key, known, stamp)?;
            row.as_mut().newest_key = Some(stamp);
        }
        row.as_mut().record.head = appended.head;
        self.trim(channel, &mut row, appended.entries.len())?;
        if !appended.entries.is_empty() {
            self.changed(Some(&row), Change::Entries(appended.entries.clone()));
        }
        if append.close {
            self.changed(Some(&row), Change::Head(channel.clone(), appended.head));
        }
        self.store(channel, &mut row)?;
        Ok(appended)
    }

    /// [`Store::init`](crate::Store::init), after [`check_init_size`](super::check_init_size).
    ///
    /// # Errors
    /// [`StoreError::Conflict`]; and what the required methods fail with.
    fn init(&mut self, channel: &Channel, events: &[Event], expect: Expect) -> Result<Head, Self::Error> {
        let (_, now) = self.limits();
        let (above, stamp) = match self.retained(channel) {
            Ok(old) => {
                let before = self.before(channel, old.as_ref())?;
                before.check(expect)?;
                let stamp = old.as_ref().map_or(now, |old| old.as_ref().stamp(now));
                if let Some(old) = old {
                    self.remove(channel, old)?;
                }
                (before.head().cursor.seq, stamp)
            }
            // No other condition can hold for a record that cannot be read.
            Err(error) if expect == Expect::Any => {
                let above = self.remove_damaged(channel, error)?;
                (above.max(self.absent_head(channel)?.cursor.seq), now)
            }
            Err(error) => return Err(error),
        };
        let start = init_start(channel, above);
        let mut row = self.create(channel, LogState::new(start, stamp))?;
        let mut log = Sequencer::new(channel, start, stamp);
        for event in events {
            let entry = log.entry(event.clone(), resume::fresh_tag());
            self.insert_entry(&row, &entry)?;
            row.as_mut().add(&entry);
        }
        self.trim(channel, &mut row, events.len())?;
        let head = row.as_ref().record.head;
        self.changed(Some(&row), Change::Head(channel.clone(), head));
        self.store(channel, &mut row)?;
        Ok(head)
    }

    /// [`Store::delete`](crate::Store::delete).
    ///
    /// # Errors
    /// What the required methods fail with.
    fn delete(&mut self, channel: &Channel) -> Result<(), Self::Error> {
        match self.retained(channel) {
            Ok(None) => return Ok(()),
            Ok(Some(row)) => self.forget(channel, row)?,
            Err(error) => {
                let above = self.remove_damaged(channel, error)?;
                self.raise_floor(channel, above)?;
            }
        }
        let head = self.absent_head(channel)?;
        self.changed(None, Change::Head(channel.clone(), head));
        Ok(())
    }

    /// Applies retention to the channel: drops old entries, and forgets the record once it is over. Returns the row, if there is
    /// still one. The writes do this themselves; for a channel that is not used, a janitor does it when it is due.
    ///
    /// # Errors
    /// What the required methods fail with.
    fn retained(&mut self, channel: &Channel) -> Result<Option<Self::Row>, Self::Error> {
        let (keep, now) = self.limits();
        let Some(mut row) = self.row(channel)? else { return Ok(None) };
        // Age is judged by the clock, not by stamps: otherwise a process whose clock is ahead would make all others drop young
        // entries.
        if self.trim(channel, &mut row, 0)? {
            self.store(channel, &mut row)?;
        }
        if row.as_ref().is_over(&keep, now) && !self.has_keys(channel, &row, keep.oldest_key(now))? {
            self.forget(channel, row)?;
            return Ok(None);
        }
        Ok(Some(row))
    }

    /// Removes a channel, and raises the floor above its log.
    ///
    /// # Errors
    /// What the required methods fail with.
    fn forget(&mut self, channel: &Channel, row: Self::Row) -> Result<(), Self::Error> {
        let seq = row.as_ref().record.head.cursor.seq;
        self.remove(channel, row)?;
        self.raise_floor(channel, seq)
    }

    /// The channel with this row, or without one.
    ///
    /// # Errors
    /// What [`absent_head`](Self::absent_head) fails with.
    fn before(&mut self, channel: &Channel, row: Option<&Self::Row>) -> Result<Before, Self::Error> {
        Ok(match row {
            Some(row) => Before::recorded(row.as_ref().record.head),
            None => Before::absent(self.absent_head(channel)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, HashMap},
        time::Duration,
    };

    use super::*;
    use crate::{
        cursor::Cursor,
        store::{Retention, floor, resume::Record},
    };

    /// One channel's rows, which can be damaged.
    struct Rows {
        limits: (Keep, u64),
        floor: u64,
        log: Option<LogState>,
        is_damaged: bool,
        entries: BTreeMap<u64, Entry>,
        keys: HashMap<EventKey, (Known, u64)>,
        changes: Vec<Change>,
    }

    impl Rows {
        fn new() -> Self {
            let second = Duration::from_secs(1);
            let retention = Retention::default().events(4).age(second).forget_after(second).key_window(4 * second);
            let (log, entries, keys, changes) = Default::default();
            Self { limits: (Keep::new(&retention), 1_000), floor: 0, log, is_damaged: false, entries, keys, changes }
        }

        fn add(&mut self, append: Append) -> Result<Appended, StoreError> {
            self.append(&room(), &append, Fingerprints::of(&append.events))
        }
    }

    impl WriteTransaction for Rows {
        type Row = LogState;
        type Error = StoreError;

        fn limits(&self) -> (Keep, u64) {
            self.limits
        }

        fn row(&mut self, _: &Channel) -> Result<Option<LogState>, StoreError> {
            if self.is_damaged { Err(StoreError::Corrupt("damaged".into())) } else { Ok(self.log) }
        }

        fn absent_head(&mut self, channel: &Channel) -> Result<Head, StoreError> {
            Ok(Record::absent(7, self.floor, channel).head)
        }

        fn create(&mut self, _: &Channel, log: LogState) -> Result<LogState, StoreError> {
            Ok(log)
        }

        fn store(&mut self, _: &Channel, row: &mut LogState) -> Result<(), StoreError> {
            row.due = row.next_due(&self.limits.0, self.limits.1);
            self.log = Some(*row);
            Ok(())
        }

        fn remove(&mut self, _: &Channel, _: LogState) -> Result<(), StoreError> {
            *self = Self { limits: self.limits, floor: self.floor, changes: self.changes.split_off(0), ..Self::new() };
            Ok(())
        }

        fn remove_damaged(&mut self, channel: &Channel, error: StoreError) -> Result<u64, StoreError> {
            let Some(log) = self.log.filter(|_| matches!(error, StoreError::Corrupt(_))) else { return Err(error) };
            self.remove(channel, log).map(|()| log.record.head.cursor.seq)
        }

        fn raise_floor(&mut self, _: &Channel, seq: u64) -> Result<(), StoreError> {
            self.floor = floor::raised(self.floor, seq);
            Ok(())
        }

        fn insert_entry(&mut self, _: &LogState, entry: &Entry) -> Result<(), StoreError> {
            self.entries.insert(entry.cursor.seq, entry.clone());
            Ok(())
        }

        fn key(&mut self, _: &Channel, _: &LogState, key: &EventKey, since: u64) -> Result<Option<Known>, StoreError> {
            Ok(self.keys.get(key).filter(|(_, stamp)| *stamp >= since).map(|(known, _)| *known))
        }

        fn insert_key(
            &mut self,
            _: &Channel,
            _: &LogState,
            key: &EventKey,
            known: Known,
            stamp: u64,
        ) -> Result<(), StoreError> {
            self.keys.insert(key.clone(), (known, stamp));
            Ok(())
        }

        fn trim(&mut self, _: &Channel, row: &mut LogState, _: usize) -> Result<bool, StoreError> {
            let count = row.count();
            while row.exceeds(&self.limits.0, self.limits.1) {
                let Some((_, first)) = self.entries.pop_first() else { break };
                row.drop_oldest(first.cursor, first.time, first.size() as u64, self.limits.1);
                row.oldest = self.entries.values().next().map_or(0, |next| next.appended);
            }
            Ok(row.count() < count)
        }

        fn changed(&mut self, _: Option<&LogState>, change: Change) {
            self.changes.push(change);
        }
    }

    fn room() -> Channel {
        Channel::new("room").unwrap()
    }

    fn event(key: &str) -> Event {
        Event::text("x").keyed(key).unwrap()
    }

    #[test]
    fn an_append_writes_entries_keys_and_head_and_drops_what_exceeds_the_limits() {
        let mut rows = Rows::new();
        let first = rows.add(Append::new(["a", "b", "c"].map(event))).unwrap();
        assert_eq!((first.entries.len(), rows.keys.len(), rows.log.unwrap().record.head), (3, 3, first.head));
        let again = rows.add(Append::new(["b", "d", "e"].map(event)).closing()).unwrap();
        assert_eq!((again.receipts[0].cursor, again.entries.len()), (first.receipts[1].cursor, 2));
        assert_eq!(rows.entries.keys().copied().collect::<Vec<_>>(), [2, 3, 4, 5]);
        let [Change::Entries(three), Change::Entries(two), Change::Head(_, head)] = &rows.changes[..] else {
            panic!("{:?}", rows.changes)
        };
        assert_eq!((three.len(), two.len(), *head), (3, 2, Head::closed(again.entries[1].cursor)));
        assert!(matches!(rows.add(Append::new([event("f")])), Err(StoreError::Closed { .. })));
        assert_eq!((rows.entries.len(), rows.changes.len()), (4, 3), "a refusal changes nothing");
    }

    #[test]
    fn a_record_is_forgotten_once_its_entries_and_keys_have_expired_and_its_floor_is_raised() {
        let mut rows = Rows::new();
        let head = rows.add(Append::new([event("a")])).unwrap().head;
        rows.limits.1 += 1_001;
        assert_eq!(rows.retained(&room()).unwrap().map(|log| (log.count(), log.record.head)), Some((0, head)));
        rows.limits.1 += 2_999;
        assert!(rows.retained(&room()).unwrap().is_some() && rows.log.unwrap().due == rows.limits.1 + 1);
        rows.limits.1 += 1;
        assert!(rows.retained(&room()).unwrap().is_none() && rows.log.is_none() && rows.floor > head.cursor.seq);
    }

    #[test]
    fn an_init_continues_above_the_log_that_it_replaces_under_another_epoch() {
        let mut rows = Rows::new();
        let old = rows.add(Append::new([event("a"), event("b")])).unwrap().head;
        let wrong = Expect::At(Cursor { tag: old.cursor.tag.wrapping_add(1), ..old.cursor });
        assert!(matches!(rows.init(&room(), &[], wrong), Err(StoreError::Conflict { .. })));
        let head = rows.init(&room(), &[event("a")], Expect::At(old.cursor)).unwrap();
        assert!(head.cursor.seq == 3 && head.cursor.epoch != old.cursor.epoch && rows.keys.is_empty());
        assert!(matches!(rows.changes.last(), Some(Change::Head(_, told)) if *told == head));
    }

    #[test]
    fn a_delete_raises_the_floor_and_tells_the_head_of_the_absent_channel() {
        let mut rows = Rows::new();
        rows.delete(&room()).unwrap();
        assert!(rows.changes.is_empty() && rows.floor == 0, "an absent channel stays as it is");
        let head = rows.add(Append::new([event("a")])).unwrap().head;
        rows.delete(&room()).unwrap();
        assert!(rows.log.is_none() && rows.entries.is_empty() && rows.floor > head.cursor.seq);
        let absent = rows.absent_head(&room()).unwrap();
        assert!(matches!(rows.changes.last(), Some(Change::Head(_, told)) if *told == absent));
    }

    #[test]
    fn a_damaged_channel_can_be_replaced_and_deleted_but_not_conditionally() {
        for replaced in [true, false] {
            let mut rows = Rows::new();
            let head = rows.add(Append::new([event("a"), event("b")])).unwrap().head;
            rows.is_damaged = true;
            assert!(matches!(rows.init(&room(), &[], Expect::NeverUsed), Err(StoreError::Corrupt(_))));
            if replaced {
                assert_eq!(rows.init(&room(), &[event("a")], Expect::Any).unwrap().cursor.seq, head.cursor.seq + 1);
            } else {
                rows.delete(&room()).unwrap();
                assert!(rows.floor > head.cursor.seq);
            }
            assert!(!rows.is_damaged);
        }
    }
}
