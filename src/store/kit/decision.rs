//! What an append does to a channel, decided before anything is written. Pure.

use super::{
    keys::{self, Fingerprints, Known, Novelty},
    sequencer::Sequencer,
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    event::{Event, EventKey},
    store::{Append, Appended, Expect, Head, Receipt, StoreError, resume},
};

/// A channel just before a write: its head, and whether it has a record.
///
/// ```
/// use tower_events::{Channel, Event, EventKey, StoreError, store::{Append, Head, resume::{self, Record}}};
/// use tower_events::store::kit::{Before, Decision, Fingerprints};
///
/// let room = Channel::new("room")?;
/// let before = Before::absent(Record::absent(resume::fresh_epoch(), 0, &room).head);
/// let append = Append::new([Event::text("hello").keyed("k1")?, Event::text("again")]);
/// let prints = Fingerprints::of(&append.events);
/// let known = |_: &EventKey| Ok::<_, StoreError>(None); // looks up a key that was appended within the window
/// let Decision::Write(draft) = before.decide(&append, prints, known)? else { panic!("the events are new") };
/// let now = 1_732_094_400_123;
/// let addition = draft.complete(&room, append.events, now, resume::fresh_tag);
/// // In one transaction: write the entries, the keys and the head; then answer with `appended`.
/// assert_eq!((addition.appended.entries.len(), addition.keys.len()), (2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    head: Head,
    has_record: bool,
}

impl Before {
    /// A channel with a record, which says that this is its head.
    #[must_use]
    pub fn recorded(head: Head) -> Self {
        Self { head, has_record: true }
    }

    /// A channel without a record, with the head of [`Record::absent`](resume::Record::absent).
    #[must_use]
    pub fn absent(head: Head) -> Self {
        Self { head, has_record: false }
    }

    /// The head.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// Checks the condition of an init; [`Before::decide`] checks that of an append.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it does not hold.
    pub fn check(&self, expect: Expect) -> Result<(), StoreError> {
        let holds = match expect {
            Expect::Any => true,
            Expect::NeverUsed => !self.has_record,
            Expect::At(cursor) => cursor == self.head.cursor,
        };
        if holds { Ok(()) } else { Err(StoreError::Conflict { head: self.head }) }
    }

    /// Decides an append, by the checks and in the order of the [contract](crate::Store#conditions-and-closing). `known` looks up a
    /// key of this channel that was first appended within the window. It is called for each event with a key, in order.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`], [`StoreError::Closed`], [`StoreError::Conflict`]; and what `known` fails with.
    pub fn decide<E: From<StoreError>>(
        &self,
        append: &Append,
        prints: Fingerprints,
        known: impl FnMut(&EventKey) -> Result<Option<Known>, E>,
    ) -> Result<Decision, E> {
        let (head, events) = (self.head, &append.events);
        let draft = Draft { head, close: append.close, novelties: keys::judge(events, &prints, known)?, prints };
        let has_new = draft.new_events(events).next().is_some();
        // An append that changes nothing succeeds whatever it expects, so that a repeated append succeeds as the first did.
        if !has_new && (!append.close || head.closed) {
            let receipts = draft.novelties.iter().filter_map(|novelty| match novelty {
                Novelty::Known(receipt) => Some(*receipt),
                Novelty::New | Novelty::Repeats(_) => None,
            });
            return Ok(Decision::Unchanged(Appended { receipts: receipts.collect(), entries: Vec::new(), head }));
        }
        if has_new && head.closed {
            return Err(StoreError::Closed { head }.into());
        }
        self.check(append.expect)?;
        Ok(Decision::Write(draft))
    }
}

/// What an append comes to.
#[derive(Debug)]
pub enum Decision {
    /// It succeeds and changes nothing: not even a record is created.
    Unchanged(Appended),
    /// It is to be written.
    Write(Draft),
}

/// An append that is to be written, before its entries have a position.
#[derive(Debug)]
pub struct Draft {
    head: Head,
    close: bool,
    /// One per event; none if all are new because none has a key.
    novelties: Vec<Novelty>,
    prints: Fingerprints,
}

impl Draft {
    /// The events that become entries, of `events`, which are those of the append: so that a store can check that they fit before
    /// it writes any.
    pub fn new_events<'a>(&'a self, events: &'a [Event]) -> impl Iterator<Item = &'a Event> + Clone {
        let with_novelty = events.iter().enumerate().map(|(index, event)| (self.novelty(index), event));
        with_novelty.filter(|(novelty, _)| matches!(novelty, Novelty::New)).map(|(_, event)| event)
    }

    /// Makes entries of the new ones of `events`, which are those of the append. `stamp` is the time of the append in Unix
    /// milliseconds, not less than that of the channel's newest entry; `tag` draws a tag, as [`resume::fresh_tag`] does.
    #[must_use]
    pub fn complete(self, channel: &Channel, events: Vec<Event>, stamp: u64, mut tag: impl FnMut() -> u32) -> Addition {
        let mut log = Sequencer::new(channel, self.head.cursor, stamp);
        let new = self.new_events(&events).count();
        let (mut receipts, mut entries) = (Vec::with_capacity(events.len()), Vec::with_capacity(new));
        let mut keys = Vec::new();
        for (index, event) in events.into_iter().enumerate() {
            let receipt = match self.novelty(index) {
                Novelty::Known(receipt) => receipt,
                Novelty::Repeats(first) => match receipts.get(first) {
                    Some(first) => Receipt { duplicate: true, ..*first },
                    // Not reached: what is repeated comes first.
                    None => continue,
                },
                Novelty::New => {
                    let key = event.key().cloned();
                    let entry = log.entry(event, tag());
                    let receipt = Receipt::appended(entry.cursor, entry.time);
                    keys.extend(key.map(|key| (key, Known::new(receipt, Some(self.prints.at(index))))));
                    entries.push(entry);
                    receipt
                }
            };
            receipts.push(receipt);
        }
        let head = Head { cursor: log.position(), closed: self.head.closed || self.close };
        Addition { appended: Appended { receipts, entries, head }, keys }
    }

    fn novelty(&self, index: usize) -> Novelty {
        self.novelties.get(index).copied().unwrap_or(Novelty::New)
    }
}

/// What is to be written in one step: the entries, the head and the keys. The result of the append is in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Addition {
    /// The result, with the new entries and the head after them.
    pub appended: Appended,
    /// The new keys. A key that is still stored although its window is over is replaced.
    pub keys: Vec<(EventKey, Known)>,
}

/// Where the log of an init begins: under a new epoch, above the head at `seq` of the log that it replaces. Otherwise forgetting
/// the new log would not raise the floor above the replaced one.
#[must_use]
pub fn init_start(channel: &Channel, seq: u64) -> Cursor {
    Cursor { epoch: epoch_of(resume::fresh_epoch(), channel), seq, tag: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fingerprint;

    fn channel() -> Channel {
        Channel::new("a").unwrap()
    }

    fn at(seq: u64) -> Cursor {
        Cursor { epoch: 1, seq, tag: seq as u32 }
    }

    fn keyed(data: &str, key: &str) -> Event {
        Event::text(data).keyed(key).unwrap()
    }

    /// The receipt of the key `old`, whose event is the text `a`.
    fn old() -> Receipt {
        Receipt::duplicate(at(3), 30)
    }

    fn decide(before: Before, append: &Append) -> Result<Decision, StoreError> {
        let known = Known::new(old(), Some(fingerprint(&Event::text("a"))));
        let find = |key: &EventKey| Ok((key.as_str() == "old").then_some(known));
        before.decide(append, Fingerprints::of(&append.events), find)
    }

    /// The decision in a word; receipts and entries are counted.
    fn word(decided: Result<Decision, StoreError>) -> String {
        match decided {
            Ok(Decision::Unchanged(done)) => format!("unchanged {}", done.receipts.len()),
            Ok(Decision::Write(_)) => "write".to_owned(),
            Err(StoreError::KeyReused { index }) => format!("reused {index}"),
            Err(StoreError::Closed { .. }) => "closed".to_owned(),
            Err(StoreError::Conflict { .. }) => "conflict".to_owned(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_condition_holds_for_the_head_and_the_record() {
        let (absent, recorded) = (Before::absent(Head::open(at(5))), Before::recorded(Head::open(at(5))));
        let other_tag = Cursor { tag: 9, ..at(5) };
        let table = [Expect::Any, Expect::NeverUsed, Expect::At(at(5)), Expect::At(at(4)), Expect::At(other_tag)];
        let holds = |before: Before| table.map(|expect| before.check(expect).is_ok());
        assert_eq!(holds(absent), [true, true, true, false, false]);
        assert_eq!(holds(recorded), [true, false, true, false, false]);
        let refused = recorded.check(Expect::NeverUsed);
        assert!(matches!(refused, Err(StoreError::Conflict { head }) if head == Head::open(at(5))));
    }

    #[test]
    fn the_first_check_that_fails_decides_unless_nothing_would_change() {
        let (open, closed) = (Before::recorded(Head::open(at(5))), Before::recorded(Head::closed(at(5))));
        let absent = Before::absent(Head::open(at(5)));
        let conflict = Expect::At(at(1));
        let append = |events: &[&Event]| Append::new(events.iter().copied().cloned());
        let (new, repeated, reused) = (Event::text("n"), keyed("a", "old"), keyed("b", "old"));
        let table = [
            (open, append(&[&new]), "write"),
            (absent, append(&[&new]).expecting(Expect::NeverUsed), "write"),
            (open, append(&[&new]).expecting(conflict), "conflict"),
            (closed, append(&[&new]).expecting(conflict), "closed"),
            (closed, append(&[&new, &reused]).expecting(conflict), "reused 1"),
            (open, append(&[]).closing(), "write"),
            (open, append(&[]).closing().expecting(conflict), "conflict"),
            (absent, append(&[]).closing(), "write"),
            // Nothing would change, whatever is expected.
            (open, append(&[]).expecting(conflict), "unchanged 0"),
            (absent, append(&[]).expecting(conflict), "unchanged 0"),
            (closed, append(&[]).closing().expecting(conflict), "unchanged 0"),
            (closed, append(&[&repeated, &repeated]).expecting(conflict), "unchanged 2"),
            (open, append(&[&repeated]).closing().expecting(conflict), "conflict"),
            (open, append(&[&repeated, &new]).expecting(conflict), "conflict"),
            (open, append(&[&repeated]).closing(), "write"),
        ];
        for (nth, (before, append, expected)) in table.into_iter().enumerate() {
            assert_eq!(word(decide(before, &append)), expected, "row {nth}");
        }
    }

    #[test]
    fn what_is_written_are_the_new_events_with_their_keys_and_the_head_after_them() {
        let events = vec![keyed("a", "old"), keyed("b", "new"), Event::text("c"), keyed("b", "new"), keyed("d", "k")];
        let append = Append::new(events).closing();
        let Ok(Decision::Write(draft)) = decide(Before::recorded(Head::open(at(5))), &append) else { panic!() };
        let fits: Vec<_> = draft.new_events(&append.events).map(|event| event.data().as_shown()).collect();
        assert_eq!(fits, ["b", "c", "d"]);

        let mut tags = 6..;
        let Addition { appended, keys } = draft.complete(&channel(), append.events, 70, || tags.next().unwrap());
        let positions: Vec<_> = appended.entries.iter().map(|entry| (entry.cursor, entry.prev_tag)).collect();
        assert_eq!(positions, [(at(6), 5), (at(7), 6), (at(8), 7)]);
        let new = [6, 7, 8].map(|seq| Receipt::appended(at(seq), 70));
        assert_eq!(appended.receipts, [old(), new[0], new[1], Receipt::duplicate(at(6), 70), new[2]]);
        assert_eq!(appended.head, Head::closed(at(8)));
        let keys: Vec<_> = keys.into_iter().map(|(key, known)| (key.as_str().to_owned(), known)).collect();
        let known = |seq, data: &str| Known::new(Receipt::appended(at(seq), 70), Some(fingerprint(&Event::text(data))));
        assert_eq!(keys, [("new".to_owned(), known(6, "b")), ("k".to_owned(), known(8, "d"))]);
    }

    #[test]
    fn a_close_alone_leaves_the_position() {
        let append = Append::new([]).closing();
        let Ok(Decision::Write(draft)) = decide(Before::recorded(Head::open(at(5))), &append) else { panic!() };
        let done = draft.complete(&channel(), append.events, 70, || panic!("no entry, no tag")).appended;
        assert_eq!((done.head, done.receipts, done.entries), (Head::closed(at(5)), vec![], vec![]));
    }

    #[test]
    fn an_init_begins_above_what_it_replaces_in_another_epoch() {
        let (one, two) = (init_start(&channel(), 5), init_start(&channel(), 5));
        assert_eq!((one.seq, one.tag, two.seq), (5, 0, 5));
        assert_ne!(one.epoch, two.epoch);
    }
}
