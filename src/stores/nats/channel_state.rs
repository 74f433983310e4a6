//! What this process knows about a channel that it writes to: enough to decide the next append, which the server
//! accepts only if nothing was written in between.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    body::Message,
    key_loader::{KeyLoader, MAX_FETCH},
    keys::Keys,
    log::Log,
    place::Place,
    record::{Kind, Record},
    server_clock::ServerClock,
};
use crate::{
    cursor::Cursor,
    store::{Head, StoreError, kit::Before},
};

/// A channel as it was last seen.
pub(super) struct ChannelState {
    pub(super) place: Arc<Place>,
    /// The stream sequence of its newest message; 0 when it has none.
    pub(super) at: u64,
    /// The newest record; `None` when there is no log.
    pub(super) record: Option<Record>,
    /// Where a log starts while there is none.
    pub(super) absent: Cursor,
    /// The announcement that the next log may follow: that of a log that was properly removed, or one that no log
    /// followed. 0 while there is a log, and when no announcement is known. The announcement of a lost log is never
    /// stored here.
    pub(super) announcement: u64,
    /// The keys in the window; `None` when they have not been read.
    pub(super) keys: Option<Keys>,
    /// Since when `keys` is complete.
    pub(super) keys_since: u64,
    /// What has been read of the keys so far, when reading was interrupted.
    pub(super) loading: Option<Box<KeyLoader>>,
    /// How often the connection had changed when the channel was last seen.
    pub(super) changes: u64,
    /// When it was last seen or written.
    pub(super) checked: Instant,
    /// Up to which seq, and up to which byte total, this process has trimmed.
    pub(super) trimmed: (u64, u64),
}

impl ChannelState {
    /// Adds the keys of all messages up to the last one; discards all keys when the messages do not follow each other.
    pub(super) async fn catch_up(&mut self, log: &Log<'_>, last: Option<&Message>) -> Result<(), StoreError> {
        let to = last.map_or(0, |last| last.at);
        if last.is_none_or(|last| last.record.kind == Kind::Gone) || to < self.at {
            self.keys = None;
        }
        while let Some(keys) = self.keys.as_mut().filter(|_| self.at < to) {
            // Usually there is only one, and it is at hand.
            let messages = match last.filter(|last| last.after == Some(self.at)) {
                Some(last) => vec![last.clone()],
                None => log.messages(self.at + 1, MAX_FETCH).await?,
            };
            let (before, mut follows) = (self.at, true);
            for message in messages {
                follows &= message.after == Some(self.at) && message.record.kind == Kind::Append;
                if !follows {
                    break;
                }
                message.keys()?.into_iter().for_each(|(key, of)| keys.remember(key, of, message.record.stamp));
                (self.at, self.record) = (message.at, Some(message.record));
            }
            if !follows || self.at == before {
                self.keys = None;
            }
        }
        Ok(())
    }

    pub(super) fn before(&self) -> Before {
        match self.record {
            Some(record) => Before::recorded(record.head()),
            None => Before::absent(Head::open(self.absent)),
        }
    }

    /// The stamp of the next message.
    pub(super) fn now(&self, clock: &ServerClock) -> u64 {
        clock.now().max(self.record.map_or(0, |record| record.stamp))
    }
}

/// Which announcement the next log may follow, according to the newest message and to what was known (see
/// [`ChannelState::announcement`]).
pub(super) fn followed(last: Option<&Record>, known: u64) -> u64 {
    match last {
        None => known,
        Some(gone) if gone.kind == Kind::Gone => known.max(gone.announcement),
        Some(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_follows_only_the_announcement_of_a_log_that_ended() {
        let record = |kind| Record { announcement: 7, ..Record::new(kind, Cursor { epoch: 1, seq: 0, tag: 0 }, 0) };
        let (gone, living) = (record(Kind::Gone), record(Kind::Append));
        assert_eq!((followed(Some(&gone), 0), followed(Some(&gone), 9)), (7, 9));
        assert_eq!((followed(Some(&living), 0), followed(Some(&living), 9)), (0, 0));
        assert_eq!((followed(None, 0), followed(None, 9)), (0, 9));
    }
}
