//! Makes entries of events.

use crate::{channel::Channel, cursor::Cursor, event::Event, store::Entry};

/// Makes events the next entries of a log, one after the other: each gets the next `seq`, the tag of its predecessor, and the stamp
/// of the append; an event without an explicit time gets that stamp as its time.
///
/// ```
/// use tower_events::{Channel, Cursor, Event, store::{kit::Sequencer, resume}};
///
/// let room = Channel::new("room")?;
/// let mut log = Sequencer::new(&room, Cursor { epoch: 7, seq: 41, tag: 4711 }, 1_732_094_400_123);
/// let entry = log.entry(Event::text("hello"), resume::fresh_tag());
/// assert_eq!((entry.cursor.seq, entry.prev_tag, log.position()), (42, 4711, entry.cursor));
/// # Ok::<(), tower_events::InvalidChannel>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sequencer<'a> {
    channel: &'a Channel,
    position: Cursor,
    stamp: u64,
}

impl<'a> Sequencer<'a> {
    /// Goes on after this position. `stamp` is when the entries are appended, in Unix milliseconds, and not less than that of the
    /// entries before them.
    #[must_use]
    pub fn new(channel: &'a Channel, after: Cursor, stamp: u64) -> Self {
        Self { channel, position: after, stamp }
    }

    /// The entry that `event` becomes, with a [fresh](crate::store::resume::fresh_tag) tag.
    pub fn entry(&mut self, event: Event, tag: u32) -> Entry {
        let prev = self.position;
        self.position = Cursor { seq: prev.seq + 1, tag, ..prev };
        let time = event.time().unwrap_or(self.stamp);
        let (data, name) = event.into_parts();
        let (channel, cursor) = (self.channel.clone(), self.position);
        Entry { channel, cursor, prev_tag: prev.tag, appended: self.stamp, time, name, data }
    }

    /// The position of the last entry so far.
    #[must_use]
    pub fn position(&self) -> Cursor {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_follow_each_other_and_have_their_own_time_or_that_of_the_append() {
        let (channel, start) = (Channel::new("a").unwrap(), Cursor { epoch: 1, seq: 5, tag: 50 });
        let mut log = Sequencer::new(&channel, start, 9);
        let entries = [
            log.entry(Event::text("x").at(3).unwrap(), 60),
            log.entry(Event::text("y").named("n").unwrap().keyed("k").unwrap(), 70),
        ];
        assert_eq!((entries[0].prev(), entries[1].prev()), (start, entries[0].cursor));
        assert_eq!(entries[1].cursor, Cursor { epoch: 1, seq: 7, tag: 70 });
        assert_eq!(log.position(), entries[1].cursor);
        assert_eq!(entries.each_ref().map(|entry| (entry.time, entry.appended)), [(3, 9), (9, 9)]);
        assert_eq!(entries[1].name.as_ref().map(|name| name.as_str()), Some("n"));
    }
}
