//! What the integration tests share: servers on real sockets, clients that read the wire themselves, and a parser of
//! event streams that is written from the standard and shares no code with the crate.
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

mod app;
mod client;
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
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed().as_secs() < 30, "never: {what}");
        tokio::task::yield_now().await;
    }
}
