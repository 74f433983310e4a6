//! One run of one clause: a place, a store on it, and assertions whose messages say what was expected.

use std::{fmt::Debug, future::poll_fn, pin::Pin, task::Context, task::Poll, task::Waker, time::Duration};

use futures_core::Stream;

use super::harness::{Harness, Time, Unable};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::Event,
    store::{Append, Appended, Change, Entry, Head, Health, Limit, Outcome, Page, Retention, Start, Store, StoreError},
};

/// One run of one clause.
pub(super) struct Case<'a, H: Harness> {
    clause: &'static str,
    harness: &'a H,
    place: H::Place,
    pub(super) store: H::Store,
}

impl<'a, H: Harness> Case<'a, H> {
    /// Opens a place with the default retention.
    pub(super) async fn new(clause: &'static str, harness: &'a H) -> Self {
        Self::keeping(clause, harness, Retention::default()).await
    }

    pub(super) async fn keeping(clause: &'static str, harness: &'a H, retention: Retention) -> Self {
        let place = harness.place(retention).await;
        let store = harness.open(&place).await;
        Self { clause, harness, place, store }
    }

    /// A second store on the same place.
    pub(super) async fn second(&self) -> H::Store {
        self.harness.open(&self.place).await
    }

    /// Reopens the place with this retention, or reports that the clause is skipped.
    pub(super) async fn reopened(self, retention: Retention) -> Option<Self> {
        let Self { clause, harness, place, store } = self;
        drop(store);
        let place = able(clause, harness.reopen(place, retention).await)?;
        let store = harness.open(&place).await;
        Some(Self { clause, harness, place, store })
    }

    /// Wipes the place, and opens a store on the new one.
    pub(super) async fn wiped(self) -> Self {
        let Self { clause, harness, place, store } = self;
        let retention = store.retention();
        drop(store);
        let place = harness.wipe(place, retention).await;
        let store = harness.open(&place).await;
        Self { clause, harness, place, store }
    }

    /// Makes appends fail, or reports that the clause is skipped.
    pub(super) async fn begin_trouble(&self) -> Option<()> {
        able(self.clause, self.harness.begin_trouble(&self.place).await)
    }

    pub(super) async fn end_trouble(&self) {
        self.harness.end_trouble(&self.place).await;
    }

    pub(super) fn time(&self) -> Time {
        self.harness.time()
    }

    /// Lets some units of time pass.
    pub(super) async fn advance(&self, units: u32) {
        self.harness.advance(&self.place, self.harness.time().unit() * units).await;
    }

    /// Waits a little, in real time, for other tasks and threads of the store.
    pub(super) async fn wait(&self) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// Steps the clock back, or reports that the clause is skipped.
    pub(super) async fn step_back(&self, units: u32) -> Option<()> {
        let unit = self.harness.time().unit();
        able(self.clause, self.harness.step_back(&self.place, unit * units).await)
    }

    /// Removes the last entries, or reports that the clause is skipped.
    pub(super) async fn lose_tail(&self, channel: &Channel, n: u64) -> Option<()> {
        able(self.clause, self.harness.lose_tail(&self.place, channel, n).await)
    }

    /// Waits at most some seconds until the store is ready, and calls nothing but `health`.
    pub(super) async fn becomes_ready(&self) {
        for _ in 0..500 {
            if self.store.health() == Health::Ready {
                return;
            }
            self.wait().await;
        }
        self.same("the health", self.store.health(), Health::Ready);
    }

    /// Appends one event per text.
    pub(super) async fn append<T: Into<String>>(
        &self,
        channel: &Channel,
        texts: impl IntoIterator<Item = T>,
    ) -> Appended {
        let append = Append::new(texts.into_iter().map(Event::text));
        self.done("an append", self.store.append(channel, append).await)
    }

    pub(super) async fn append_all(&self, channel: &Channel, append: Append) -> Appended {
        self.done("an append", self.store.append(channel, append).await)
    }

    pub(super) async fn read(&self, channel: &Channel, start: Start) -> Page {
        self.read_at_most(channel, start, ALL).await
    }

    pub(super) async fn read_at_most(&self, channel: &Channel, start: Start, limit: Limit) -> Page {
        self.done("a read", self.store.read(channel, start, limit).await)
    }

    /// The page after a resume that must continue.
    pub(super) async fn continued(&self, channel: &Channel, after: Cursor) -> Page {
        let page = self.read(channel, Start::After(after)).await;
        self.same("the outcome of a resume that must continue", page.outcome, Outcome::Continued);
        self.same("where a continued page starts", page.from, after);
        page
    }

    pub(super) async fn head(&self, channel: &Channel) -> Head {
        let heads = self.done("heads", self.store.heads(std::slice::from_ref(channel)).await);
        self.same("the number of heads for one channel", heads.len(), 1);
        self.some("a head", heads.first().copied())
    }

    /// Opens a stream of changes and takes its first hint, which must be a resync.
    pub(super) async fn watch(&self) -> Watch<'a, H> {
        let mut watch = Watch { clause: self.clause, harness: self.harness, stream: Box::pin(self.store.changes()) };
        let first = watch.next("the first hint").await;
        if !matches!(first, Change::Resync) {
            self.fail("the first hint", "Resync", &first);
        }
        watch
    }

    /// Fails unless `seen` equals `expected`.
    #[track_caller]
    pub(super) fn same<T: PartialEq + Debug>(&self, what: &str, seen: T, expected: T) {
        if seen != expected {
            self.fail(what, format_args!("{expected:?}"), &seen);
        }
    }

    /// Fails unless `seen` passes `test`; `expected` describes what passes.
    #[track_caller]
    pub(super) fn holds<T: Debug>(&self, expected: &str, seen: T, test: impl FnOnce(&T) -> bool) {
        if !test(&seen) {
            self.fail("the result", expected, &seen);
        }
    }

    #[track_caller]
    pub(super) fn done<T>(&self, what: &str, result: Result<T, StoreError>) -> T {
        result.unwrap_or_else(|error| self.fail(what, "success", &error))
    }

    #[track_caller]
    pub(super) fn some<T>(&self, what: &str, value: Option<T>) -> T {
        value.unwrap_or_else(|| self.fail(what, "a value", &"none"))
    }

    #[track_caller]
    pub(super) fn refused<T: Debug>(
        &self,
        what: &str,
        result: Result<T, StoreError>,
        test: impl FnOnce(&StoreError) -> bool,
    ) {
        match result {
            Err(error) if test(&error) => {}
            other => self.fail(what, "the matching error", &other),
        }
    }

    #[track_caller]
    pub(super) fn fail(&self, what: &str, expected: impl std::fmt::Display, seen: &dyn Debug) -> ! {
        panic!("clause `{}`: {what}: expected {expected}, got {seen:?}", self.clause)
    }
}

/// The value, or a report that the clause is skipped because the harness is unable.
fn able<T>(clause: &str, done: Result<T, Unable>) -> Option<T> {
    done.map_err(|Unable(why)| eprintln!("=== SKIPPED clause {clause}: {why} ===")).ok()
}

/// The hints of a store, with a time limit.
pub(super) struct Watch<'a, H: Harness> {
    clause: &'static str,
    harness: &'a H,
    stream: Pin<Box<dyn Stream<Item = Change> + Send>>,
}

impl<H: Harness> Watch<'_, H> {
    /// The next hint. Fails if there is none within 10 seconds, or within 200 units of real time if that is longer.
    pub(super) async fn next(&mut self, what: &str) -> Change {
        let next = poll_fn(|cx| self.stream.as_mut().poll_next(cx));
        let longest = match self.harness.time() {
            Time::Controlled => Duration::from_secs(10),
            Time::Real { unit } => (unit * 200).max(Duration::from_secs(10)),
        };
        match tokio::time::timeout(longest, next).await {
            Ok(Some(change)) => change,
            Ok(None) => panic!("clause `{}`: {what}: expected a hint, got the end of the stream", self.clause),
            Err(_) => panic!("clause `{}`: {what}: expected a hint, got none within {longest:?}", self.clause),
        }
    }

    /// The next hint, if one is available.
    pub(super) fn now(&mut self) -> Option<Change> {
        match self.stream.as_mut().poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(change)) => Some(change),
            Poll::Ready(None) => panic!("clause `{}`: changes: expected no end of the stream, got one", self.clause),
            Poll::Pending => None,
        }
    }

    /// Takes hints until one is about `channel` at `seq` or later, or is a resync. Returns the channel's entries in them.
    pub(super) async fn until(&mut self, channel: &Channel, seq: u64) -> Vec<Entry> {
        let mut seen = Vec::new();
        loop {
            match self.next(&format!("a hint of {channel:?} at {seq}")).await {
                Change::Resync => return seen,
                Change::Head(of, head) if of == *channel && head.cursor.seq >= seq => return seen,
                Change::Head(..) => {}
                Change::Entries(entries) => {
                    seen.extend(entries.into_iter().filter(|entry| entry.channel == *channel));
                    if seen.last().is_some_and(|last| last.cursor.seq >= seq) {
                        return seen;
                    }
                }
            }
        }
    }
}

/// The texts of some entries.
pub(super) fn texts(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.data.as_shown()).collect()
}

pub(super) fn seqs(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.cursor.seq).collect()
}

pub(super) fn numbered(from: u64, to: u64) -> Vec<String> {
    (from..=to).map(|n| n.to_string()).collect()
}

pub(super) fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap_or_else(|error| panic!("{name:?}: {error}"))
}

pub(super) fn keyed(text: &str, key: &str) -> Event {
    Event::text(text).keyed(key).unwrap_or_else(|error| panic!("{key:?}: {error}"))
}

pub(super) fn timed(text: &str, time: u64) -> Event {
    Event::text(text).at(time).unwrap_or_else(|error| panic!("{time}: {error}"))
}

/// More than any clause stores in a channel.
pub(super) const ALL: Limit = Limit { events: 1_000_000, bytes: 1 << 30 };
