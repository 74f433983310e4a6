//! Helpers that several of the tests share.

use std::{pin::Pin, time::Duration};

use futures_core::Stream;
use tower_events::{
    Channel, Store,
    store::{Change, Entry},
    stores::postgres::PostgresStore,
};

use super::server::Server;

pub fn a() -> Channel {
    Channel::new("a").unwrap()
}

/// A store with an existing schema.
pub async fn store_in(server: &Server, schema: &str) -> PostgresStore {
    let store = PostgresStore::options().schema(schema).connections(4).connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    store
}

pub fn texts(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.data.as_shown()).collect()
}

/// Polls until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..4000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited too long until {what}");
}

/// The hints of a store.
pub struct Watch(Pin<Box<dyn Stream<Item = Change> + Send>>);

impl Watch {
    /// Watches, and waits for the first hint, a resync.
    pub async fn armed(store: &PostgresStore) -> Self {
        let mut watch = Self(Box::pin(store.changes()));
        watch.until("the first resync", |change| matches!(change, Change::Resync)).await;
        watch
    }

    /// Takes hints until one matches.
    pub async fn until(&mut self, what: &str, mut fits: impl FnMut(&Change) -> bool) -> Change {
        loop {
            let next = std::future::poll_fn(|cx| self.0.as_mut().poll_next(cx));
            match tokio::time::timeout(Duration::from_secs(40), next).await {
                Ok(Some(change)) if fits(&change) => return change,
                Ok(Some(_)) => {}
                Ok(None) => panic!("the hints ended before {what}"),
                Err(_) => panic!("no hint of {what} arrived"),
            }
        }
    }
}
