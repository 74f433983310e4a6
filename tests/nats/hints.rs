//! Waiting for the hints of a store, with a timeout.

use std::{future::poll_fn, pin::Pin, time::Duration};

use futures_core::Stream;
use tower_events::{
    Channel, Store,
    store::{Change, Entry},
};

pub struct Hints(Pin<Box<dyn Stream<Item = Change> + Send>>);

impl Hints {
    pub fn of(store: &impl Store) -> Self {
        Self(Box::pin(store.changes()))
    }

    pub async fn next(&mut self) -> Change {
        let next = poll_fn(|cx| self.0.as_mut().poll_next(cx));
        tokio::time::timeout(Duration::from_secs(30), next).await.expect("a hint in time").expect("no end")
    }

    pub async fn resync(&mut self) {
        while !matches!(self.next().await, Change::Resync) {}
    }

    /// Takes hints until one concerns `channel` at `seq`; returns the entries received.
    pub async fn until(&mut self, channel: &Channel, seq: u64) -> Vec<Entry> {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Change::Entries(entries) => {
                    all.extend(entries.into_iter().filter(|entry| entry.channel == *channel));
                    if all.last().is_some_and(|last| last.cursor.seq >= seq) {
                        return all;
                    }
                }
                Change::Head(of, head) if of == *channel && head.cursor.seq >= seq => return all,
                Change::Head(..) | Change::Resync => {}
            }
        }
    }
}
