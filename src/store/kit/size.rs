//! The sizes of events, and the limits of one append.

use crate::{
    channel::Channel,
    event::Event,
    store::{Retention, StoreError, Unit, page::ENTRY_BYTES},
};

/// The size of the [`Entry`](crate::store::Entry) that `event` becomes in `channel`, in bytes: its
/// [`Entry::size`](crate::store::Entry::size).
#[must_use]
pub fn entry_size(channel: &Channel, event: &Event) -> u64 {
    let name = event.name().map_or(0, |name| name.as_str().len());
    (event.data().len() + channel.as_str().len() + name + ENTRY_BYTES) as u64
}

/// The size of all of these events in `channel`, in bytes, as [`entry_size`] counts it.
#[must_use]
pub fn events_size(channel: &Channel, events: &[Event]) -> u64 {
    events.iter().map(|event| entry_size(channel, event)).sum()
}

/// Checks the limits of an append, which a store does before anything else: they depend on the append alone, and duplicates count
/// too. `max_bytes` is what the store accepts at most, whatever its retention.
///
/// # Errors
/// [`StoreError::TooLarge`] if the append has more events or bytes than [`Retention::max_append_events`] and
/// [`Retention::max_append_bytes`], or more bytes than `max_bytes`.
pub fn check_append_size(
    retention: &Retention,
    channel: &Channel,
    events: &[Event],
    max_bytes: u64,
) -> Result<(), StoreError> {
    let (size, max) = (events.len() as u64, retention.max_append_events());
    if size > max {
        return Err(StoreError::TooLarge { size, max, unit: Unit::Events });
    }
    check_bytes(channel, events, max_bytes.min(retention.max_append_bytes()))
}

/// Checks the limit of an init. Events beyond the retention are no error: the oldest are dropped.
///
/// # Errors
/// [`StoreError::TooLarge`] if it has more bytes than `max_bytes`.
pub fn check_init_size(channel: &Channel, events: &[Event], max_bytes: u64) -> Result<(), StoreError> {
    check_bytes(channel, events, max_bytes)
}

fn check_bytes(channel: &Channel, events: &[Event], max: u64) -> Result<(), StoreError> {
    let size = events_size(channel, events);
    if size > max { Err(StoreError::TooLarge { size, max, unit: Unit::Bytes }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cursor::Cursor, store::kit::Sequencer};

    #[test]
    fn an_event_has_the_size_of_its_entry() {
        let channel = Channel::new("room").unwrap();
        for event in [Event::text(""), Event::text("é").named("name").unwrap().keyed("key").unwrap()] {
            let size = entry_size(&channel, &event);
            let entry = Sequencer::new(&channel, Cursor { epoch: 1, seq: 0, tag: 0 }, 0).entry(event, 1);
            assert_eq!(size, entry.size() as u64);
        }
    }

    #[test]
    fn an_append_is_at_most_half_of_what_is_kept() {
        let (channel, retention) = (Channel::new("a").unwrap(), Retention::default().events(4).bytes(400));
        // Each has 67 bytes.
        let events = |count| (0..count).map(|_| Event::text("xx")).collect::<Vec<_>>();
        let table = [
            (0, 400, None),
            (2, 400, None),
            (2, 134, None),
            (2, 133, Some((134, 133, Unit::Bytes))),
            (3, 400, Some((3, 2, Unit::Events))),
        ];
        for (count, max_bytes, expected) in table {
            let refused = match check_append_size(&retention, &channel, &events(count), max_bytes) {
                Err(StoreError::TooLarge { size, max, unit }) => Some((size, max, unit)),
                other => other.map(|()| None).unwrap(),
            };
            assert_eq!(refused, expected, "{count} events, {max_bytes} bytes");
        }
        let few_bytes = retention.bytes(267);
        assert!(matches!(
            check_append_size(&few_bytes, &channel, &events(2), 400),
            Err(StoreError::TooLarge { size: 134, max: 133, unit: Unit::Bytes })
        ));
        // An init may have more than is kept.
        assert!(check_init_size(&channel, &events(5), 335).is_ok());
        assert!(check_init_size(&channel, &events(5), 334).is_err());
    }
}
