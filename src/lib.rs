//! Resumable event delivery over HTTP for existing `tower` stacks: Server-Sent Events and long polling over a pluggable
//! store. A client that drops, sleeps or lands on another node goes on exactly where it was, or is told plainly that it
//! cannot.
//!
//! A [`Store`] keeps events in [`Channel`]s; a [`Hub`] in each process follows the store and fans events out; small services
//! hand them to HTTP clients and take new ones in. The README lists the guarantees; [`http_contract`] is what clients send and
//! receive.
//!
//! ```
//! use tower_events::{Channel, Channels, Event, EventService, Hub, MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::new(MemoryStore::default());
//! // Anyone may read any channel. In axum: `.route_service("/events", events)`.
//! let events = EventService::new(hub.clone(), Channels::from_query);
//! // Every client that reads `GET /events?channel=news` receives this.
//! hub.publish(&Channel::new("news")?, Event::text("hello")).await?;
//! # drop(events);
//! # Ok(())
//! # }
//! ```
//!
//! # Reading order
//! 1. The vocabulary: [`channel`], [`event`], [`cursor`], [`error`].
//! 2. [`store`]: the contract that every store keeps; [`stores`]: those that come with the crate.
//! 3. [`hub`]: publish, listen, subscribe, drain; [`filter`]: which entries a reader sees; [`grant`]: what a client may read;
//!    [`snapshot`]: the state of a channel, for readers that come late; [`compaction`]: fewer events for those that catch up;
//!    [`runs`]: work that produces the events of a channel and always ends.
//! 4. The HTTP edge: [`http_contract`], [`request`], [`body`].
//! 5. The services: [`event_service`], [`sse`], [`longpoll`], [`publish`]; [`layer`] mounts them in front of another service;
//!    [`bearer`] finds the tokens of clients that cannot set headers.
//!
//! # Features
//! None is enabled by default, and enabling one never changes what the others do.
//!
//! | feature | what it adds |
//! |---|---|
//! | `axum` | the crate's errors and `SseBody` are `IntoResponse`, so that `?` works in a handler of axum 0.8 |
//! | `file` | `FileStore`: one file that several processes share; needs a C compiler |
//! | `metrics` | what a hub counts, for the `metrics` facade and its exporters (Prometheus, StatsD, OpenTelemetry) |
//! | `nats` | `NatsStore`: NATS JetStream; needs Rust 1.89 |
//! | `nats-nkeys` | the same with nkeys and credentials files; needs Rust 1.89 |
//! | `postgres` | `PostgresStore`: PostgreSQL, with an outbox in SQL |
//! | `redis` | `RedisStore`: Redis 7 or newer; needs Rust 1.88 |
//! | `redis-tls` | the same over TLS (`rediss://`); needs Rust 1.88 |
//! | `testing` | the conformance suite for stores, a fault-injecting store, a reader of event streams, for tests |
//!
//! # Rust versions
//! Where the table names none, Rust 1.85 is enough. Only a minor release may need a newer one, which is then at least six months
//! old; a patch release never does.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod channel;
pub mod cursor;
pub mod error;
pub mod event;

pub mod compaction;
pub mod filter;
pub mod grant;
pub mod hub;
pub mod runs;
pub mod snapshot;
pub mod store;
pub mod stores;

pub mod body;
mod edge;
mod encode;
#[doc = include_str!("../docs/http.md")]
pub mod http_contract {}
mod problem;
pub mod request;
mod retry;

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
mod axum;
pub mod bearer;
pub mod event_service;
pub mod layer;
pub mod longpoll;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub mod metrics;
pub mod publish;
pub mod sse;

#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;

// Compiles the README's code with the other documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(feature = "file")]
#[cfg_attr(docsrs, doc(cfg(feature = "file")))]
#[doc(inline)]
pub use self::stores::file::FileStore;
#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
#[doc(inline)]
pub use self::stores::nats::NatsStore;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
#[doc(inline)]
pub use self::stores::postgres::PostgresStore;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
#[doc(inline)]
pub use self::stores::redis::RedisStore;
#[doc(inline)]
pub use self::{
    body::Body,
    channel::{Channel, Channels},
    compaction::Compaction,
    cursor::{Cursor, Cursors},
    error::{InvalidChannel, InvalidChannels, InvalidCursor, InvalidEvent},
    event::{Data, Event, EventKey, EventName},
    event_service::EventService,
    filter::Filter,
    grant::Grant,
    hub::{
        Batch, Closed, Delivery, Drained, Failed, Hub, HubOptions, Listen, Listened, Recheck, Reset, Snapshot, Stats,
        SubscribeError, Subscriber, Subscription, Update, UpdateContent, Updates,
    },
    layer::EventsLayer,
    longpoll::LongPollService,
    publish::PublishService,
    request::{Rejection, Resolver},
    runs::{Run, RunOutcome, RunOver, RunState, Runs, RunsOptions, StartError, StopError},
    snapshot::{SnapshotRequest, Snapshots},
    sse::{SseBody, SseService},
    store::{AnyStore, Retention, Store, StoreError},
    stores::memory::MemoryStore,
};
