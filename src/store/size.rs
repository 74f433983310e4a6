//! The sizes of events, and the limits of one append. Shared by all stores.

use super::{
    error::{StoreError, Unit},
    page::ENTRY_BYTES,
    retention::Retention,
};
use crate::{channel::Channel, event::Event};

/// The size of the [`Entry`](super::Entry) that `event` becomes in `channel`, in bytes.
pub(crate) fn size_of(channel: &Channel, event: &Event) -> u64 {
    let name = event.name().map_or(0, |name| name.as_str().len());
    (event.data().len() + channel.as_str().len() + name + ENTRY_BYTES) as u64
}

/// Fails if an append has more than half of what retention keeps, or more bytes than `largest`. Depends on the append alone:
/// duplicates count too.
pub(crate) fn fits_append(
    retention: &Retention,
    channel: &Channel,
    events: &[Event],
    largest: u64,
) -> Result<(), StoreError> {
    let (size, max) = (events.len() as u64, retention.max_append_events());
    if size > max {
        return Err(StoreError::TooLarge { size, max, unit: Unit::Events });
    }
    fits(channel, events, largest.min(retention.max_append_bytes()))
}

/// Fails if an init has more bytes than `largest`. Events beyond the retention are no error: the oldest are dropped.
pub(crate) fn fits_init(channel: &Channel, events: &[Event], largest: u64) -> Result<(), StoreError> {
    fits(channel, events, largest)
}

fn fits(channel: &Channel, events: &[Event], max: u64) -> Result<(), StoreError> {
    let size = events.iter().map(|event| size_of(channel, event)).sum();
    if size > max { Err(StoreError::TooLarge { size, max, unit: Unit::Bytes }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_is_at_most_half_of_what_is_kept() {
        let channel = Channel::new("a").unwrap();
        let fits = |retention: Retention, count: usize, bytes: usize, largest: u64| {
            let event = Event::text("x".repeat(bytes - 65));
            match fits_append(&retention, &channel, &vec![event; count], largest) {
                Ok(()) => None,
                Err(StoreError::TooLarge { size, max, unit }) => Some((size, max, unit)),
                Err(other) => panic!("{other}"),
            }
        };
        let of = |events, bytes| Retention::default().events(events).bytes(bytes);
        let all = u64::MAX;
        for (retention, count, bytes, largest, refused) in [
            (of(10, all), 5, 100, all, None),
            (of(10, all), 6, 100, all, Some((6, 5, Unit::Events))),
            (of(11, all), 6, 100, all, Some((6, 5, Unit::Events))),
            (of(2, all), 1, 100, all, None),
            // Even the smallest retention accepts something.
            (of(1, all), 1, 100, all, None),
            (of(0, all), 1, 100, all, None),
            (of(1, all), 2, 100, all, Some((2, 1, Unit::Events))),
            (of(all, 1000), 5, 100, all, None),
            (of(all, 1000), 1, 501, all, Some((501, 500, Unit::Bytes))),
            (of(all, 1000), 5, 101, all, Some((505, 500, Unit::Bytes))),
            (of(all, 1000), 5, 100, 499, Some((500, 499, Unit::Bytes))),
            (of(1, 0), 0, 100, all, None),
        ] {
            assert_eq!(fits(retention.clone(), count, bytes, largest), refused, "{retention:?} {count} {bytes}");
        }
    }
}
