//! Channels whose data cannot be read, while all others can.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{
    channel::Channel,
    store::{Source, StoreError},
};

/// How reading a channel fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unreadable {
    /// Temporarily.
    Unavailable,
    /// Permanently.
    Corrupt,
}

#[derive(Debug, Default)]
pub(super) struct UnreadableChannels(Mutex<HashMap<Channel, Unreadable>>);

impl UnreadableChannels {
    /// `None` makes it readable again.
    pub(super) fn set(&self, channel: &Channel, unreadable: Option<Unreadable>) {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match unreadable {
            Some(unreadable) => channels.insert(channel.clone(), unreadable),
            None => channels.remove(channel),
        };
    }

    /// Fails if one of `asked` cannot be read.
    pub(super) fn check(&self, asked: &[Channel]) -> Result<(), StoreError> {
        let channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let source: Source = "an injected fault".into();
        match asked.iter().find_map(|channel| channels.get(channel)) {
            Some(Unreadable::Unavailable) => Err(StoreError::Unavailable(source)),
            Some(Unreadable::Corrupt) => Err(StoreError::Corrupt(source)),
            None => Ok(()),
        }
    }
}
