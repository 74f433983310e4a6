//! What the integration tests share: a server on a real socket, clients that read the wire themselves, and a parser of
//! event streams that is written from the standard. Uses nothing of the crate under test.
//!
//! ```ignore
//! let server = support::serve(EventService::new(hub.clone(), Channels::from_query)).await;
//! for http in support::BOTH {
//!     let mut stream = server.get("/events?channel=a").over(http).sse().await;
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

mod client;
mod http1;
mod proxy;
mod server;
mod sse;
mod stream_parser;

#[allow(unused_imports, reason = "every test file uses its own part")]
pub use self::{
    client::{Answer, BOTH, BodyStream, Http, Request},
    http1::Http1,
    proxy::Proxy,
    server::{Server, serve, serve_in_memory},
    sse::Sse,
    stream_parser::{Message, Parser},
};
