//! A guess at which channels are absent. Makes no request.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crate::channel::Channel;

/// The channels that were absent when their heads were last asked for: a guess.
#[derive(Default)]
pub(super) struct AbsentChannels(Mutex<HashSet<Channel>>);

impl AbsentChannels {
    /// Which of these were absent.
    pub(super) fn were_absent(&self, channels: &[Channel]) -> Vec<bool> {
        let absent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        channels.iter().map(|channel| absent.contains(channel)).collect()
    }

    /// Takes note of which are absent now.
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

/// About how many absent channels are remembered.
const MAX_REMEMBERED: usize = 100_000;
