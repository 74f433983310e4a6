//! Helpers that several of the tests share.

use std::{
    future::poll_fn,
    pin::Pin,
    time::{Duration, Instant},
};

use futures_core::Stream;
use tower_events::{
    Event,
    store::{Append, Change},
};

/// A server with these settings, or the end of the test where Redis is not installed.
macro_rules! server {
    ($($setting:expr),*) => {
        match crate::server::Server::start(&[$($setting),*]).await {
            Some(server) => server,
            None => return,
        }
    };
}
pub(crate) use server;

pub(crate) fn text(text: &str) -> Append {
    Append::new([Event::text(text)])
}

pub(crate) async fn next(changes: &mut Pin<&mut impl Stream<Item = Change>>) -> Change {
    let next = poll_fn(|cx| changes.as_mut().poll_next(cx));
    tokio::time::timeout(Duration::from_secs(10), next).await.expect("a hint in time").expect("no end")
}

/// Takes hints until one concerns the channel.
pub(crate) async fn hint_of(changes: &mut Pin<&mut impl Stream<Item = Change>>, name: &str) {
    loop {
        match next(changes).await {
            Change::Entries(entries) if entries[0].channel.as_str() == name => return,
            Change::Head(of, _) if of.as_str() == name => return,
            _ => {}
        }
    }
}

/// Polls until a condition holds.
pub(crate) async fn until(what: &str, within: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + within;
    while !holds().await {
        assert!(Instant::now() < end, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
