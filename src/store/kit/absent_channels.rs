//! Guesses which channels are absent, without a request to the store.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crate::channel::Channel;

/// The channels that were absent when their heads were last read: a guess at which are absent now. For a store on a server, which
/// needs more of an absent channel than of others (the floor), and would rather not ask twice.
///
/// It remembers at most about 100 000 channels, and then forgets all and starts again: a wrong guess costs a request, nothing else.
///
/// ```
/// use tower_events::{Channel, store::kit::AbsentChannels};
///
/// let channels = ["open", "gone"].map(|name| Channel::new(name).unwrap());
/// let absent = AbsentChannels::default();
/// assert_eq!(absent.were_absent(&channels), [false, false]);
/// absent.record(channels.iter().zip([false, true])); // as the server has answered
/// assert_eq!(absent.were_absent(&channels), [false, true]);
/// ```
#[derive(Debug, Default)]
pub struct AbsentChannels(Mutex<HashSet<Channel>>);

impl AbsentChannels {
    /// For each channel whether it was absent.
    #[must_use]
    pub fn were_absent(&self, channels: &[Channel]) -> Vec<bool> {
        let absent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        channels.iter().map(|channel| absent.contains(channel)).collect()
    }

    /// Records for each channel whether it is absent now.
    pub fn record<'a>(&self, channels: impl IntoIterator<Item = (&'a Channel, bool)>) {
        let mut absent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.len() > MAX_REMEMBERED {
            absent.clear();
        }
        for (channel, is_absent) in channels {
            if !is_absent {
                absent.remove(channel);
            } else if !absent.contains(channel) {
                absent.insert(channel.clone());
            }
        }
    }
}

/// Roughly how many absent channels are remembered.
const MAX_REMEMBERED: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_answer_counts() {
        let (channels, absent) = (["a", "b", "c"].map(|name| Channel::new(name).unwrap()), AbsentChannels::default());
        absent.record(channels.iter().zip([true, true, false]));
        absent.record(channels.iter().zip([true, false]));
        assert_eq!(absent.were_absent(&channels), [true, false, false]);
    }

    #[test]
    fn not_many_more_are_remembered_than_the_limit() {
        let absent = AbsentChannels::default();
        let channels: Vec<_> = (0..=MAX_REMEMBERED).map(|n| Channel::new(format!("{n}")).unwrap()).collect();
        absent.record(channels.iter().map(|channel| (channel, true)));
        assert!(absent.were_absent(&channels).iter().all(|was_absent| *was_absent));
        absent.record([]);
        assert!(absent.were_absent(&channels).iter().all(|was_absent| !was_absent));
    }
}
