//! Filling a page from the messages of an existing channel.

use std::collections::VecDeque;

use super::{
    api::{FetchLimit, Selector},
    body::Message,
    log::{Log, SearchFrom, SearchOrder},
    page_ends::PageEnds,
    record::Record,
    visibility::Visibility,
};
use crate::{
    cursor::Cursor,
    store::{
        Entry, Head, Limit, Outcome, Page, StoreError,
        resume::{self, Record as Known},
    },
};

/// One attempt to read an existing channel.
pub(super) struct Reader<'a> {
    pub(super) ends: &'a PageEnds,
    pub(super) log: Log<'a>,
    pub(super) last: Message,
    pub(super) visibility: Visibility,
    pub(super) limit: Limit,
}

/// The oldest visible position.
struct OldestVisible {
    cursor: Cursor,
    dropped_time: Option<u64>,
    /// The message with the next entry; `None` when no entry is visible.
    message: Option<Message>,
}

impl Reader<'_> {
    fn head(&self) -> Head {
        self.last.record.head()
    }

    /// An empty page.
    pub(super) fn at(&self, outcome: Outcome, at: Cursor) -> Page {
        Page { outcome, from: at, entries: Vec::new(), next: at, head: self.head() }
    }

    async fn oldest_visible(&self) -> Result<OldestVisible, StoreError> {
        let judge = |record: &Record| {
            if self.visibility.may_show(record) { SearchOrder::MatchOrAfter } else { SearchOrder::Before }
        };
        let (cursor, dropped_time, message) = match self.log.first(&self.last, SearchFrom::Oldest, judge).await? {
            Some(message) => {
                let (cursor, dropped) = self.visibility.oldest_visible_in(&message, self.log.channel)?;
                (cursor, dropped, Some(message))
            }
            None => (self.head().cursor, self.last.record.dropped, None),
        };
        let message = message.filter(|_| cursor != self.head().cursor);
        Ok(OldestVisible { cursor, dropped_time, message })
    }

    /// The message that holds `seq`, or else the first one after it.
    async fn locate(&self, seq: u64) -> Result<Option<Message>, StoreError> {
        let holds = |record: &Record| record.base < seq && seq <= record.end();
        if let Some(at) = self.ends.get(self.log.channel, seq - 1) {
            let found = self.log.get(Selector::AtOrAfter(at)).await?;
            if let Some(found) =
                found.filter(|found| holds(&found.record) && found.record.epoch == self.visibility.head.epoch)
            {
                return Ok(Some(found));
            }
        }
        let judge = |record: &Record| match record {
            record if record.end() < seq => SearchOrder::Before,
            record if record.base < seq => SearchOrder::Match,
            _ => SearchOrder::MatchOrAfter,
        };
        self.log.first(&self.last, SearchFrom::Newest, judge).await
    }

    pub(super) async fn page_from_oldest(&self, outcome: Outcome) -> Result<Option<Page>, StoreError> {
        let oldest = self.oldest_visible().await?;
        match oldest.message {
            Some(message) => self.page(outcome, oldest.cursor, message).await,
            None => Ok(Some(self.at(outcome, oldest.cursor))),
        }
    }

    pub(super) async fn last_entries(&self, n: u64) -> Result<Option<Page>, StoreError> {
        let head = self.head().cursor;
        let seq = head.seq.saturating_sub(n);
        if seq == head.seq {
            return Ok(Some(self.at(Outcome::Continued, head)));
        }
        match self.visible_after(seq).await? {
            Some((from, message)) => self.page(Outcome::Continued, from, message).await,
            None => self.page_from_oldest(Outcome::Continued).await,
        }
    }

    /// The stored position `seq` and the message with the entry after it, if that entry is visible.
    async fn visible_after(&self, seq: u64) -> Result<Option<(Cursor, Message)>, StoreError> {
        let Some(message) = self.locate(seq + 1).await? else { return Ok(None) };
        if message.record.base > seq || self.visibility.oldest_visible_in(&message, self.log.channel)?.0.seq > seq {
            return Ok(None);
        }
        let entries = message.entries(self.log.channel)?;
        let next = entries.iter().find(|entry| entry.cursor.seq == seq + 1);
        Ok(next.map(Entry::prev).map(|true_position| (true_position, message)))
    }

    pub(super) async fn resume(&self, cursor: Cursor) -> Result<Option<Page>, StoreError> {
        let head = self.head();
        let at_head = Known { head, earliest: head.cursor, dropped_time: None };
        if cursor.epoch != head.cursor.epoch || cursor.seq >= head.cursor.seq {
            return match resume::outcome(&at_head, cursor, |_| None) {
                Outcome::Continued => Ok(Some(self.at(Outcome::Continued, cursor))),
                reset => self.page_from_oldest(reset).await,
            };
        }
        let Some((earliest, message)) = self.visible_after(cursor.seq).await? else {
            return self.after_what_is_missing(cursor).await;
        };
        match resume::outcome(&Known { earliest, ..at_head }, cursor, |_| None) {
            Outcome::Continued => self.page(Outcome::Continued, cursor, message).await,
            reset => self.page_from_oldest(reset).await,
        }
    }

    /// Retention dropped the entries after the cursor, or they were deleted from the middle. The page must start
    /// behind the gap, or the reader would end up here for ever.
    async fn after_what_is_missing(&self, cursor: Cursor) -> Result<Option<Page>, StoreError> {
        let oldest = self.oldest_visible().await?;
        let reset = Outcome::Reset(crate::store::Reason::Trimmed);
        let next = self.locate(cursor.seq + 1).await?.filter(|next| next.record.base > oldest.cursor.seq);
        match next.or(oldest.message) {
            Some(message) => {
                let from = self.visibility.oldest_visible_in(&message, self.log.channel)?.0;
                self.page(reset, from, message).await
            }
            None => Ok(Some(self.at(reset, oldest.cursor))),
        }
    }

    async fn page(&self, outcome: Outcome, from: Cursor, message: Message) -> Result<Option<Page>, StoreError> {
        let page = self.fill(from, message, |_| true).await?;
        if page.entries.is_empty() && self.limit.events > 0 && !page.whole {
            return Ok(None);
        }
        let next = page.entries.last().map_or(from, |last| last.cursor);
        Ok(Some(Page { outcome, from, entries: page.entries, next, head: self.head() }))
    }

    pub(super) async fn since(&self, time: u64) -> Result<Option<Page>, StoreError> {
        let (oldest, head) = (self.oldest_visible().await?, self.head());
        let known = Known { head, earliest: oldest.cursor, dropped_time: oldest.dropped_time };
        let outcome = resume::outcome_of_time(&known, time);
        let judge =
            |record: &Record| if record.time > Some(time) { SearchOrder::MatchOrAfter } else { SearchOrder::Before };
        // The largest time so far leads to the first entry above `time`, unless one above it was dropped. An entry with
        // a future time may lead to a message that is no longer visible.
        let first = match oldest.message {
            Some(oldest) if outcome == Outcome::Continued => {
                let first = self.log.first(&self.last, SearchFrom::Newest, judge).await?;
                first.map(|first| if first.at < oldest.at { oldest } else { first })
            }
            oldest => oldest,
        };
        let Some(first) = first else { return Ok(Some(self.at(outcome, head.cursor))) };
        let page = self.fill(oldest.cursor, first, |entry| entry.time > time).await?;
        let Some(from) = page.first else {
            return Ok(page.whole.then(|| self.at(outcome, head.cursor)));
        };
        let next = if page.whole { head.cursor } else { page.entries.last().map_or(from, |last| last.cursor) };
        Ok(Some(Page { outcome, from, entries: page.entries, next, head }))
    }

    /// Takes the wanted entries after `from`, message by message, while they fit and are consecutive.
    async fn fill(
        &self,
        from: Cursor,
        first: Message,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<PageEntries, StoreError> {
        let mut page = PageEntries::default();
        let mut messages = VecDeque::from([first]);
        while let Some(message) = messages.pop_front() {
            let entries = message.entries(self.log.channel)?.into_iter();
            let due = entries.filter(|entry| entry.cursor.seq > from.seq && wanted(entry));
            if page.take(due, self.limit).is_none() {
                self.note_end(&page, message.at);
                break;
            }
            if message.record.end() >= self.head().cursor.seq {
                page.whole = true;
                break;
            }
            if messages.is_empty() {
                messages = self.log.messages(message.at + 1, page.remaining(self.limit)).await?.into();
            }
            // A replica that is behind, or a deleted message, ends the page early.
            if messages.front().is_none_or(|next| !next.record.follows(&message.record)) {
                self.note_end(&page, message.at + 1);
                break;
            }
        }
        Ok(page)
    }

    fn note_end(&self, page: &PageEntries, at: u64) {
        if let Some(last) = page.entries.last() {
            self.ends.note(self.log.channel, last.cursor.seq, at);
        }
    }
}

/// The contents of a page.
#[derive(Default)]
struct PageEntries {
    entries: Vec<Entry>,
    bytes: usize,
    /// The position before the first wanted entry.
    first: Option<Cursor>,
    /// Whether everything up to the head was examined.
    whole: bool,
}

impl PageEntries {
    /// Takes what fits; `None` when something does not.
    fn take(&mut self, due: impl Iterator<Item = Entry>, limit: Limit) -> Option<()> {
        for entry in due {
            self.first = self.first.or(Some(entry.prev()));
            self.bytes += entry.size();
            if self.entries.len() >= limit.events || (self.bytes > limit.bytes && !self.entries.is_empty()) {
                return None;
            }
            self.entries.push(entry);
        }
        Some(())
    }

    /// How many more messages may fit.
    fn remaining(&self, limit: Limit) -> FetchLimit {
        let messages = limit.events.saturating_sub(self.entries.len()).clamp(1, MAX_MESSAGES);
        FetchLimit { messages, bytes: limit.bytes.saturating_sub(self.bytes).clamp(64 << 10, 8 << 20) }
    }
}

/// Most messages in one response.
const MAX_MESSAGES: usize = 256;
