//! What the integration tests share: servers on real sockets, clients that read the wire themselves, and a parser of
//! event streams that is written from the standard and shares no code with the crate. Whoever starts a server has a
//! deadline.
//!
//! ```ignore
//! let app = App::start().await;
//! for http in BOTH {
//!     let mut stream = app.get("/events?channel=a").over(http).sse().await;
//!     app.publish("a", Event::text("hello")).await;
//!     assert_eq!(stream.next().await.data, "hello");
//! }
//! ```
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "every test file uses its own part; a helper's panic is a failed test"
)]

use std::{
    fmt,
    future::Future,
    time::{Duration, Instant},
};

mod app;
mod client;
mod deadline;
mod http1;
mod proxy;
mod server;
mod sse;
mod stream_parser;

#[allow(unused_imports, reason = "every test file uses its own part")]
pub use self::{
    app::{App, channel},
    client::{Answer, BOTH, BodyStream, Http, Request},
    http1::Http1,
    proxy::Proxy,
    server::{Server, serve, serve_in_memory},
    sse::Sse,
    stream_parser::{Message, Parser},
};

/// Waits until `holds`, letting the other tasks run; a failed test when it does not come true. Costs no time of a paused
/// clock.
pub async fn eventually(what: &str, holds: impl FnMut() -> bool) {
    comes_to(what, true, holds).await;
}

/// Waits until what is looked at is `wanted`, as [`eventually`] does.
pub async fn comes_to<T: PartialEq + fmt::Debug>(what: &str, wanted: T, mut look: impl FnMut() -> T) {
    let (mut looked, mut waited) = (Instant::now(), Duration::ZERO);
    loop {
        let seen = look();
        if seen == wanted {
            return;
        }
        assert!(waited < Duration::from_secs(30), "{what}: never {wanted:?}, but {seen:?}");
        tokio::task::yield_now().await;
        waited += looked.elapsed().min(PAUSE);
        looked = Instant::now();
    }
}

/// Longer than this a program does not pause by itself: the system gave the processor to others.
const PAUSE: Duration = Duration::from_millis(10);

/// What `future` gives, unless it takes longer than `patience`. It counts only while this program runs: a part of it that
/// ends late, for others had the processor, counts no more than one that ends in time.
pub async fn within<T>(patience: Duration, future: impl Future<Output = T>) -> Option<T> {
    const PARTS: u32 = 30;
    let waited = async {
        for _ in 0..PARTS {
            tokio::time::sleep(patience / PARTS).await;
        }
    };
    tokio::select! {
        biased;
        done = future => Some(done),
        () = waited => None,
    }
}
