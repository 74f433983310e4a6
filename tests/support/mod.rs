//! Shared by the integration tests: servers on real sockets, clients that parse HTTP themselves, and a parser of event
//! streams that is written from the standard and shares no code with the crate. A test that starts a server gets a deadline.
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
    client::{Answer, BOTH, BodyStream, ConnectionError, Http, Request},
    http1::Http1,
    proxy::Proxy,
    server::{Server, serve, serve_in_memory},
    sse::Sse,
    stream_parser::{Message, Parser},
};

/// Gives the test that calls it a deadline, unless it starts a server, which does so.
pub fn arm_deadline() {
    deadline::arm();
}

/// Waits until `holds` returns true, letting other tasks run; panics if that never happens. Does not advance a paused clock.
pub async fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_eq(what, true, holds).await;
}

/// As [`eventually`], until `look` returns `wanted`.
pub async fn eventually_eq<T: PartialEq + fmt::Debug>(what: &str, wanted: T, mut look: impl FnMut() -> T) {
    let (mut last, mut waited) = (Instant::now(), Duration::ZERO);
    loop {
        let seen = look();
        if seen == wanted {
            return;
        }
        assert!(waited < Duration::from_secs(30), "{what}: never {wanted:?}, but {seen:?}");
        tokio::task::yield_now().await;
        waited += last.elapsed().min(LONGEST_PAUSE);
        last = Instant::now();
    }
}

/// A longer pause means that the system ran other processes, which must not count as waiting.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// The output of `future`, or `None` after `timeout`. The timeout is slept in parts, so that time in which the system ran
/// other processes counts for one part at most.
pub async fn within<T>(timeout: Duration, future: impl Future<Output = T>) -> Option<T> {
    const PARTS: u32 = 30;
    let waited = async {
        for _ in 0..PARTS {
            tokio::time::sleep(timeout / PARTS).await;
        }
    };
    tokio::select! {
        biased;
        done = future => Some(done),
        () = waited => None,
    }
}
