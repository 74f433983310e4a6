//! Reading the idempotency keys of a channel that others wrote to. When a call fails or times out, what has been read
//! is kept and the next call continues there: otherwise a channel with many keys could never be written to over a slow
//! connection.

use std::mem;

use super::{
    api::{FetchLimit, ReadFrom, Selector},
    body::{self, Message},
    error::{CallError, corrupt, unavailable},
    keys::Keys,
    log::{Log, SearchFrom, SearchOrder},
    record::Record,
};
use crate::{
    event::EventKey,
    store::{StoreError, kit::Known},
};

/// A key, what it was appended as, and the append's stamp.
pub(super) type StoredKey = (EventKey, Known, u64);

/// How far the keys of a channel have been read.
pub(super) struct KeyLoader {
    found: Vec<StoredKey>,
    /// The last message read: its stream sequence and record.
    last: Option<(u64, Record)>,
    /// The stream sequence from which copied keys have not been read yet.
    copied: u64,
    /// How many messages to fetch at once.
    fetch_count: usize,
}

impl Default for KeyLoader {
    fn default() -> Self {
        Self { found: Vec::new(), last: None, copied: 1, fetch_count: FIRST_FETCH }
    }
}

impl KeyLoader {
    /// Reads the keys since this time, up to `last`, the newest message.
    pub(super) async fn read(&mut self, log: &Log<'_>, last: &Message, since: u64) -> Result<Keys, StoreError> {
        let is_past = |(at, record): (u64, Record)| at > last.at || (at == last.at && record != last.record);
        if self.last.is_some_and(is_past) {
            *self = Self::default();
        }
        if self.last.is_none() {
            let judge =
                |record: &Record| if record.stamp >= since { SearchOrder::MatchOrAfter } else { SearchOrder::Before };
            if let Some(first) = log.first(last, SearchFrom::Newest, judge).await? {
                self.take(&first)?;
            }
        }
        self.read_messages(log, last).await?;
        // After the messages: what is trimmed meanwhile was copied there before.
        self.read_copied(log).await?;
        Ok(self.finish(&last.record, since))
    }

    async fn read_messages(&mut self, log: &Log<'_>, last: &Message) -> Result<(), StoreError> {
        while let Some((at, _)) = self.last.filter(|(at, _)| *at < last.at) {
            let messages = self.fetch_count;
            // Reduced until the messages arrive: what times out is fetched in smaller pieces next time.
            self.fetch_count = (messages / 2).max(1);
            let next = log.messages(at + 1, FetchLimit { messages, ..MAX_FETCH }).await?;
            self.fetch_count = (messages * 2).min(MAX_FETCH.messages);
            if next.first().is_none_or(|first| first.at > last.at) {
                return Err(unavailable("a replica is behind, or the channel was trimmed while its keys were read"));
            }
            // Messages after `last` may be included; the next append reads those anyway.
            for message in next.into_iter().take_while(|message| message.at <= last.at) {
                let follows =
                    |(at, record): (u64, Record)| message.after == Some(at) && message.record.follows(&record);
                if !self.last.is_some_and(follows) {
                    *self = Self::default();
                    return Err(unavailable("the channel was trimmed or replaced while its keys were read"));
                }
                self.take(&message)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, message: &Message) -> Result<(), StoreError> {
        let stamp = message.record.stamp;
        // An init stores no keys, so it contributes none.
        self.found.extend(message.keys()?.into_iter().map(|(key, known)| (key, known, stamp)));
        self.last = Some((message.at, message.record));
        Ok(())
    }

    /// Reads the copied keys of trimmed messages.
    async fn read_copied(&mut self, log: &Log<'_>) -> Result<(), StoreError> {
        let subject = log.place.keys(log.channel);
        let next = |from| {
            log.place.stream.message(
                log.connection,
                &subject,
                Selector::AtOrAfter(from),
                ReadFrom::Leader,
                log.request_timeout,
            )
        };
        while let Some(raw) = next(self.copied).await.map_err(CallError::into_store_error)? {
            self.found.extend(body::take_keys(raw.body).ok_or_else(|| corrupt("a channel's keys"))?);
            self.copied = raw.at + 1;
        }
        Ok(())
    }

    /// Keeps the keys of this log; those of an earlier one may have been copied too.
    fn finish(&mut self, head: &Record, since: u64) -> Keys {
        let mut found = mem::take(self).found;
        let is_ours = |known: &Known| {
            let at = known.receipt.cursor;
            at.epoch == head.epoch && at.seq > head.start
        };
        found.retain(|(_, known, stamp)| *stamp >= since && is_ours(known));
        found.sort_by_key(|(_, _, stamp)| *stamp);
        let mut keys = Keys::default();
        found.into_iter().for_each(|(key, known, stamp)| keys.remember(key, known, stamp));
        keys
    }
}

/// The keys of all messages from the first to the last.
pub(super) async fn keys_between(log: &Log<'_>, first: &Message, last: &Message) -> Result<Vec<StoredKey>, StoreError> {
    let mut loading = KeyLoader::default();
    loading.take(first)?;
    loading.read_messages(log, last).await?;
    Ok(loading.found)
}

/// The most to fetch at once.
pub(super) const MAX_FETCH: FetchLimit = FetchLimit { messages: 256, bytes: 4 << 20 };

const FIRST_FETCH: usize = 64;
