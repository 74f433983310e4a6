//! The channels of one subscription, which take turns.

use std::ops::{Deref, DerefMut};

use super::channel_reader::{ChannelReader, PageSlot};
use crate::store::Limit;

/// Most subscribers read one channel, and need no list.
#[derive(Debug)]
pub(super) enum ChannelReaders {
    One(ChannelReader),
    Several(Box<[ChannelReader]>),
}

/// Whether to go on visiting.
pub(super) enum Visit<T> {
    Break(T),
    Continue,
    /// The channel needs the page slot, which another one has.
    NeedsPageSlot,
}

impl ChannelReaders {
    /// Visits the channels, beginning at index `first`, until a visit breaks: then `first` becomes the index after it. Channels
    /// that need the page slot, which has the given limit, are visited again when another one has freed it.
    pub(super) fn visit<T>(
        &mut self,
        first: &mut u8,
        limit: Limit,
        mut visit: impl FnMut(&mut ChannelReader, PageSlot) -> Visit<T>,
    ) -> Option<T> {
        let count = self.len();
        let mut slot_owner = self.iter().position(ChannelReader::has_page);
        loop {
            let mut needs_slot = false;
            for n in 0..count {
                let index = (usize::from(*first) + n) % count;
                let Some(channel_reader) = self.get_mut(index) else { continue };
                let page_slot = match slot_owner {
                    Some(owner) if owner != index => PageSlot::Taken,
                    _ => PageSlot::Free(limit),
                };
                let visited = visit(channel_reader, page_slot);
                match (channel_reader.has_page(), slot_owner) {
                    (true, _) => slot_owner = Some(index),
                    (false, Some(owner)) if owner == index => slot_owner = None,
                    (false, _) => {}
                }
                match visited {
                    Visit::Break(value) => {
                        // There are at most `Channels::MAX`.
                        *first = u8::try_from((index + 1) % count).unwrap_or(0);
                        return Some(value);
                    }
                    Visit::NeedsPageSlot => needs_slot = true,
                    Visit::Continue => {}
                }
            }
            if !needs_slot || slot_owner.is_some() {
                return None;
            }
        }
    }
}

impl Deref for ChannelReaders {
    type Target = [ChannelReader];

    fn deref(&self) -> &[ChannelReader] {
        match self {
            Self::One(channel_reader) => std::slice::from_ref(channel_reader),
            Self::Several(channel_readers) => channel_readers,
        }
    }
}

impl DerefMut for ChannelReaders {
    fn deref_mut(&mut self) -> &mut [ChannelReader] {
        match self {
            Self::One(channel_reader) => std::slice::from_mut(channel_reader),
            Self::Several(channel_readers) => channel_readers,
        }
    }
}
