//! Where pages ended. Asks nothing.

use std::{collections::HashMap, sync::Mutex};

use super::sync::lock;
use crate::channel::Channel;

/// The stream sequence at which the entry after a page's last one is found: most readers continue there.
#[derive(Default)]
pub(super) struct PageEnds(Mutex<HashMap<(Channel, u64), u64>>);

impl PageEnds {
    pub(super) fn note(&self, channel: &Channel, seq: u64, at: u64) {
        let mut ends = lock(&self.0);
        if ends.len() >= MAX_ENDS {
            ends.clear();
        }
        ends.insert((channel.clone(), seq), at);
    }

    pub(super) fn get(&self, channel: &Channel, seq: u64) -> Option<u64> {
        lock(&self.0).get(&(channel.clone(), seq)).copied()
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}

/// Most page ends that are remembered.
const MAX_ENDS: usize = 16_384;
