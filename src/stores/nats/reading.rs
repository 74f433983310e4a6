//! A page of a channel. Asks any replica first; what would be a reset is asked of the leader.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use tokio::time::timeout;

use super::{
    announcement::Absence,
    api::{FetchLimit, ReadFrom, Selector},
    body::Message,
    error,
    handle::Inner,
    log::{Log, SearchFrom, SearchOrder},
    place::Place,
    record::{Kind, Record},
    visibility::Visibility,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{
        Entry, Head, Limit, Outcome, Page, Start, StoreError,
        resume::{self, Record as Known},
    },
};

/// Where pages ended: most readers come back there.
#[derive(Default)]
pub(super) struct PageEnds(Mutex<HashMap<(Channel, u64), u64>>);

impl PageEnds {
    fn note(&self, channel: &Channel, seq: u64, at: u64) {
        let mut ends = lock(&self.0);
        if ends.len() >= MAX_ENDS {
            ends.clear();
        }
        ends.insert((channel.clone(), seq), at);
    }

    fn get(&self, channel: &Channel, seq: u64) -> Option<u64> {
        lock(&self.0).get(&(channel.clone(), seq)).copied()
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}

impl Inner {
    pub(super) async fn read(
        self: &Arc<Self>,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let read = timeout(self.settings.timeout, self.read_patiently(channel, start, limit)).await;
        self.note_result(read.unwrap_or_else(|_| Err(error::unavailable("no page in time"))))
    }

    async fn read_patiently(
        self: &Arc<Self>,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let mut failed = None;
        for attempt in 0..MAX_ATTEMPTS {
            let read_from = if attempt == 0 { ReadFrom::AnyReplica } else { ReadFrom::Leader };
            match self.read_once(channel, start, limit, read_from).await {
                Ok(Attempt::Page(page)) => return Ok(page),
                // Only the leader of the stream that there is now says that something is gone.
                Ok(Attempt::Retry) => self.invalidate_place(),
                Err(StoreError::Unavailable(source)) => {
                    self.invalidate_place();
                    failed = Some(source);
                }
                Err(error) => return Err(error),
            }
        }
        Err(failed.map_or_else(|| error::unavailable("the channel changed while it was read"), StoreError::Unavailable))
    }

    async fn read_once(
        self: &Arc<Self>,
        channel: &Channel,
        start: Start,
        limit: Limit,
        read_from: ReadFrom,
    ) -> Result<Attempt, StoreError> {
        let log = Log::new(self, self.place().await?, channel, read_from);
        let seen = self.queues.seen(channel);
        let last = log.get(Selector::Last).await?;
        let at = last.as_ref().map_or(0, |last| last.at);
        match read_from {
            ReadFrom::AnyReplica if at < seen => return Ok(Attempt::Retry),
            ReadFrom::AnyReplica => {}
            ReadFrom::Leader => self.queues.lower_seen(channel, seen, at),
        }
        let Some(last) = last.filter(|last| last.record.kind != Kind::Gone) else {
            return self.read_absent(&log, start, at).await;
        };
        let now = self.clock.since(last.record.stamp);
        let keep = self.recent_keep(&log.place).await?;
        if keep.is_forgotten(&last.record, now) {
            return match self.forget_or_pass_over(channel, &last.record).await? {
                Some(least) if read_from == ReadFrom::Leader => self.absent_page(&log, start, least).await,
                _ => Ok(Attempt::Retry),
            };
        }
        let reader = Reader { visibility: Visibility::new(last.record, keep, now), last, log, limit };
        let page = match start {
            Start::Latest => Some(reader.at(Outcome::Continued, reader.last.record.cursor())),
            Start::Beginning | Start::Earliest => reader.page_from_oldest(Outcome::Continued).await?,
            Start::Last(n) => reader.last_entries(n).await?,
            Start::After(cursor) => reader.resume(cursor).await?,
            Start::ServerClock(time) => reader.since(time).await?,
        };
        match page {
            Some(page) if read_from == ReadFrom::Leader || page.outcome == Outcome::Continued => {
                Ok(Attempt::Page(page))
            }
            _ => Ok(Attempt::Retry),
        }
    }

    /// Nothing is there, or a replica does not know of it yet. `gone` is where it is said that a log went, or 0.
    async fn read_absent(&self, log: &Log<'_>, start: Start, gone: u64) -> Result<Attempt, StoreError> {
        if log.read_from == ReadFrom::AnyReplica {
            return Ok(Attempt::Retry);
        }
        match self.confirm_absence(log, gone).await? {
            Absence::Absent { least } => self.absent_page(log, start, least).await,
            Absence::Retry => Ok(Attempt::Retry),
        }
    }

    /// The page of a channel that is absent, and had no more than the floor and `least`.
    async fn absent_page(&self, log: &Log<'_>, start: Start, least: u64) -> Result<Attempt, StoreError> {
        let (place, channel) = (&log.place, log.channel);
        let floor = self.floor(place, Place::floor_of(channel), ReadFrom::Leader).await?.0.max(least);
        // After all that was asked of it: else what was lost with another place is taken for nothing.
        if !self.confirm_place().await? {
            return Ok(Attempt::Retry);
        }
        let known = Known::absent(place.epoch, floor, channel);
        let outcome = match start {
            Start::After(cursor) => resume::outcome(&known, cursor, |_| None),
            _ => Outcome::Continued,
        };
        let at = known.head.cursor;
        Ok(Attempt::Page(Page { outcome, from: at, entries: Vec::new(), next: at, head: known.head }))
    }
}

/// What one attempt gives.
enum Attempt {
    Page(Page),
    /// It decides nothing.
    Retry,
}

/// One attempt to read a channel that is there.
struct Reader<'a> {
    log: Log<'a>,
    last: Message,
    visibility: Visibility,
    limit: Limit,
}

/// The oldest position that is seen.
struct OldestVisible {
    cursor: Cursor,
    dropped_time: Option<u64>,
    /// The message that holds the next entry; none when no entry is seen.
    message: Option<Message>,
}

impl Reader<'_> {
    fn head(&self) -> Head {
        self.last.record.head()
    }

    /// An empty page.
    fn at(&self, outcome: Outcome, at: Cursor) -> Page {
        Page { outcome, from: at, entries: Vec::new(), next: at, head: self.head() }
    }

    async fn oldest_visible(&self) -> Result<OldestVisible, StoreError> {
        let judge = |record: &Record| {
            if self.visibility.reaches(record) { SearchOrder::MatchOrAfter } else { SearchOrder::Before }
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

    /// The message that holds `seq`, or else the first after it.
    async fn locate(&self, seq: u64) -> Result<Option<Message>, StoreError> {
        let holds = |record: &Record| record.base < seq && seq <= record.end();
        if let Some(at) = self.log.inner.ends.get(self.log.channel, seq - 1) {
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

    async fn page_from_oldest(&self, outcome: Outcome) -> Result<Option<Page>, StoreError> {
        let oldest = self.oldest_visible().await?;
        match oldest.message {
            Some(message) => self.page(outcome, oldest.cursor, message).await,
            None => Ok(Some(self.at(outcome, oldest.cursor))),
        }
    }

    async fn last_entries(&self, n: u64) -> Result<Option<Page>, StoreError> {
        let head = self.head().cursor;
        let seq = head.seq.saturating_sub(n);
        if seq == head.seq {
            return Ok(Some(self.at(Outcome::Continued, head)));
        }
        match self.seen_after(seq).await? {
            Some((from, message)) => self.page(Outcome::Continued, from, message).await,
            None => self.page_from_oldest(Outcome::Continued).await,
        }
    }

    /// The true position `seq` and the message with the entry after it, when that entry is seen.
    async fn seen_after(&self, seq: u64) -> Result<Option<(Cursor, Message)>, StoreError> {
        let Some(message) = self.locate(seq + 1).await? else { return Ok(None) };
        if message.record.base > seq || self.visibility.oldest_visible_in(&message, self.log.channel)?.0.seq > seq {
            return Ok(None);
        }
        let entries = message.entries(self.log.channel)?;
        let next = entries.iter().find(|entry| entry.cursor.seq == seq + 1);
        Ok(next.map(Entry::prev).map(|true_position| (true_position, message)))
    }

    async fn resume(&self, cursor: Cursor) -> Result<Option<Page>, StoreError> {
        let head = self.head();
        let at_head = Known { head, earliest: head.cursor, dropped_time: None };
        if cursor.epoch != head.cursor.epoch || cursor.seq >= head.cursor.seq {
            return match resume::outcome(&at_head, cursor, |_| None) {
                Outcome::Continued => Ok(Some(self.at(Outcome::Continued, cursor))),
                reset => self.page_from_oldest(reset).await,
            };
        }
        let Some((earliest, message)) = self.seen_after(cursor.seq).await? else {
            return self.after_what_is_missing(cursor).await;
        };
        match resume::outcome(&Known { earliest, ..at_head }, cursor, |_| None) {
            Outcome::Continued => self.page(Outcome::Continued, cursor, message).await,
            reset => self.page_from_oldest(reset).await,
        }
    }

    /// Retention dropped what follows the cursor, or somebody deleted it from the middle: the page must then begin behind
    /// that, else the reader came here for ever.
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

    async fn since(&self, time: u64) -> Result<Option<Page>, StoreError> {
        let (oldest, head) = (self.oldest_visible().await?, self.head());
        let known = Known { head, earliest: oldest.cursor, dropped_time: oldest.dropped_time };
        let outcome = resume::outcome_of_time(&known, time);
        let judge =
            |record: &Record| if record.time > Some(time) { SearchOrder::MatchOrAfter } else { SearchOrder::Before };
        // The largest time so far tells where the first above `time` is, unless one above it was dropped; and then it is
        // not before what is seen, though one that was dated ahead may say so.
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

    /// Takes the wanted entries after `from`, message by message, as long as they fit and follow each other.
    async fn fill(
        &self,
        from: Cursor,
        first: Message,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<PageEntries, StoreError> {
        let mut page = PageEntries::default();
        let mut waiting = VecDeque::from([first]);
        while let Some(message) = waiting.pop_front() {
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
            if waiting.is_empty() {
                waiting = self.log.messages(message.at + 1, page.remaining(self.limit)).await?.into();
            }
            // A replica that is behind, or a message that somebody deleted, ends the page early.
            if waiting.front().is_none_or(|next| !next.record.follows(&message.record)) {
                self.note_end(&page, message.at + 1);
                break;
            }
        }
        Ok(page)
    }

    fn note_end(&self, page: &PageEntries, at: u64) {
        if let Some(last) = page.entries.last() {
            self.log.inner.ends.note(self.log.channel, last.cursor.seq, at);
        }
    }
}

/// What a page was filled with.
#[derive(Default)]
struct PageEntries {
    entries: Vec<Entry>,
    bytes: usize,
    /// The position before the first wanted entry.
    first: Option<Cursor>,
    /// Whether everything up to the head was looked at.
    whole: bool,
}

impl PageEntries {
    /// Takes what fits; none when something does not.
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

    /// How many messages more there may be room for.
    fn remaining(&self, limit: Limit) -> FetchLimit {
        let messages = limit.events.saturating_sub(self.entries.len()).clamp(1, MAX_AT_ONCE);
        FetchLimit { messages, bytes: limit.bytes.saturating_sub(self.bytes).clamp(64 << 10, 8 << 20) }
    }
}

/// How often a page is tried; the first time with any replica, then with the leader.
const MAX_ATTEMPTS: usize = 6;

/// Most messages in one answer.
const MAX_AT_ONCE: usize = 256;

/// Most page ends that are remembered.
const MAX_ENDS: usize = 16_384;
