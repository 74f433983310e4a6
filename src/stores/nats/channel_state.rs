//! What this process knows of a channel that it writes to: enough to decide the next append, which the server takes only if
//! nothing came in between.

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
    store::{Head, StoreError},
};

/// A channel as it was when it was last looked at.
pub(super) struct ChannelState {
    pub(super) place: Arc<Place>,
    /// Where its newest message is; 0 when it has none.
    pub(super) at: u64,
    /// The newest record; none when there is no log.
    pub(super) record: Option<Record>,
    /// Where a log begins when there is none.
    pub(super) absent: Cursor,
    /// Which announcement the next log may follow: that of a log that ended as it should, or one that no log came of. 0 while
    /// there is a log, and when none is known of: the announcement of a log that is lost is not one of these.
    pub(super) announcement: u64,
    /// The keys of the last while; none when they were not read yet.
    pub(super) keys: Option<Keys>,
    /// Since when all of them are among these.
    pub(super) keys_since: u64,
    /// What was read of them so far, when they were not read to the end.
    pub(super) loading: Option<Box<KeyLoader>>,
    /// How often the connection had changed when it was looked at.
    pub(super) changes: u64,
    /// When it was looked at, or written.
    pub(super) checked: Instant,
    /// Up to which seq and sum of bytes this process has trimmed.
    pub(super) trimmed: (u64, u64),
}

impl ChannelState {
    /// Adds the keys of the messages up to the last, one after the other; forgets all keys when they do not follow.
    pub(super) async fn catch_up(&mut self, log: &Log<'_>, last: Option<&Message>) -> Result<(), StoreError> {
        let to = last.map_or(0, |last| last.at);
        if last.is_none_or(|last| last.record.kind == Kind::Gone) || to < self.at {
            self.keys = None;
        }
        while let Some(keys) = self.keys.as_mut().filter(|_| self.at < to) {
            // Mostly there is one, and it is at hand.
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

    pub(super) fn head(&self) -> Head {
        self.record.map_or(Head { cursor: self.absent, closed: false }, |record| record.head())
    }

    /// The time of what is written next.
    pub(super) fn now(&self, clock: &ServerClock) -> u64 {
        clock.now().max(self.record.map_or(0, |record| record.stamp))
    }
}

/// Which announcement the next log may follow, as the newest message and what was known says (see [`ChannelState::announcement`]).
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
    fn a_log_follows_the_announcement_of_one_that_ended_and_of_no_other() {
        let record = |kind| Record { announcement: 7, ..Record::new(kind, Cursor { epoch: 1, seq: 0, tag: 0 }, 0) };
        let (gone, living) = (record(Kind::Gone), record(Kind::Append));
        assert_eq!((followed(Some(&gone), 0), followed(Some(&gone), 9)), (7, 9));
        assert_eq!((followed(Some(&living), 0), followed(Some(&living), 9)), (0, 0));
        assert_eq!((followed(None, 0), followed(None, 9)), (0, 9));
    }
}
