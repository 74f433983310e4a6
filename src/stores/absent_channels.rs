//! Guesses which channels are absent, without a request to the store.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crate::channel::Channel;

/// The channels that were absent when their heads were last read: a guess at which are absent now.
#[derive(Default)]
pub(super) struct AbsentChannels(Mutex<HashSet<Channel>>);

impl AbsentChannels {
    /// For each channel whether it was absent.
    pub(super) fn were_absent(&self, channels: &[Channel]) -> Vec<bool> {
        let absent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        channels.iter().map(|channel| absent.contains(channel)).collect()
    }

    /// Records for each channel whether it is absent now.
    pub(super) fn record<'a>(&self, channels: impl Iterator<Item = (&'a Channel, bool)>) {
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
