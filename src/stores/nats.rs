//! A store on NATS JetStream, for many machines. Feature `nats`; needs Rust 1.89 and server 2.9 or newer.
//!
//! ```no_run
//! use tower_events::{Hub, NatsStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::new(NatsStore::connect("nats://127.0.0.1:4222").await?);
//! # drop(hub);
//! # Ok(())
//! # }
//! ```
//!
//! Customised, on three servers with TLS:
//!
//! ```no_run
//! use std::time::Duration;
//! use tower_events::{NatsStore, Retention};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = NatsStore::options()
//!     .prefix("shop")
//!     .replicas(3)
//!     .retention(Retention::default().events(10_000))
//!     .timeout(Duration::from_secs(3))
//!     .root_certificates("/etc/ssl/nats-ca.pem")
//!     .connect("tls://app:secret@a.example:4222,tls://app:secret@b.example:4222")
//!     .await?;
//! # drop(store);
//! # Ok(())
//! # }
//! ```
//!
//! # What an acknowledgement means
//! JetStream has stored the message: with one replica, that server has written it to its file; with `R` replicas, most of
//! them have. It is **not** on disk at that point: the server calls `fsync` every `sync_interval`, by default every 2
//! minutes. If a server process is killed, nothing is lost; if a machine loses power, up to that interval is lost, unless
//! most replicas survive. Where that matters, set `jetstream { sync_interval: always }` in the server's configuration, or
//! run three replicas that do not fail together. The loss of a tail is detected: cursors in it are reset, as
//! [`Reason::Ahead`](crate::store::Reason::Ahead), or as [`Reason::EpochChanged`](crate::store::Reason::EpochChanged) once
//! others have appended.
//!
//! Several replicas require server 2.11 or newer. When the leader of three 2.9.10 servers was killed while nodes wrote,
//! the replicas were observed to hold different messages at the same sequences, and an acknowledged message was gone,
//! which no reader can detect. One replica on such a server is safe.
//!
//! # Layout
//! One stream, named like the prefix, with the subjects `<prefix>.<nonce>.>`. The nonce is drawn when the stream is
//! created, so that no message meant for a deleted stream reaches the next one.
//!
//! | subject | holds |
//! |---|---|
//! | `<prefix>.<nonce>.c.<channel>` | the channel's entries, one message per append; the newest message is its record |
//! | `<prefix>.<nonce>.b.<channel>` | the announcement of the channel's log, written before its first entry |
//! | `<prefix>.<nonce>.k.<channel>` | idempotency keys of trimmed messages |
//! | `<prefix>.<nonce>.f.<bucket>` | the floor: the `seq` above which new channels of a bucket of names start |
//! | `<prefix>.<nonce>.place` | the place's epoch, and the [`Format`](crate::store::Format) of what is stored |
//! | `<prefix>.<nonce>.time` | nothing: the server's stamp on the message tells its time |
//! | `<prefix>.<nonce>.janitor` | when a node last maintained idle channels |
//! | `<prefix>.<nonce>.kept` | the retention settings of the nodes, and when each was last announced |
//!
//! `<channel>` is the name in base64url, so that any name is one token. A message holds the events of one or more appends.
//! Its header `Tower-Events` holds the record (epoch, first `seq`, tags, whether the channel is closed, stamp, and running
//! totals of the log), and the server accepts it only right after the message that it was decided on
//! (`Nats-Expected-Last-Subject-Sequence`). That one condition makes order, keys, closing and [`Expect`] hold across all
//! nodes. Appends that wait for the same channel on one node share a message. `init` and `delete` write one message that
//! replaces all before it (a rollup).
//!
//! On `<prefix>.turns`, which nothing stores, nodes that are overtaken repeatedly ask the others to wait: so a node
//! near the server leaves room for one far away.
//!
//! A user and password, or a token, come from the URL or the options; certificates come from the options, and with the
//! feature `nats-nkeys` so do nkeys and credentials files.
//!
//! An append or init larger than the server's `max_payload` (1 MiB unless configured) is [`StoreError::TooLarge`], as
//! is an append of more than half of what is kept. Of an init, only what retention keeps counts: it is one message, so
//! that it is atomic. Up to 64 MiB and 65 536 calls may wait to be written on one node; further calls are refused at
//! once, as [`StoreError::Unavailable`].
//!
//! The stream is created when it is missing: file storage, one replica, no limits of its own (this crate decides what
//! may be deleted), `discard: new`, `allow_direct`, `allow_rollup_hdrs`, no denied purges or deletes. An existing one
//! is used as it is, unless it has limits by which the server deletes messages (`max_age`, `max_msgs`,
//! `max_msgs_per_subject`, `discard: old`): then opening fails and names them. Limits that are set later are logged as
//! an error; readers of what they delete are reset. The permissions that a user needs are listed in
//! `docs/stores/nats.md`; with an [inbox prefix](NatsOptions::inbox_prefix) of its own, it needs none outside its
//! prefix.
//!
//! # Reading
//! A page costs one request for the newest message and, unless the reader is at the head, a search for its position: no
//! further request where another page ended, otherwise as many as the logarithm of the distance from the head. Then the
//! messages are fetched: in one response from server 2.11 or newer, by an ephemeral consumer from older ones. Any
//! replica may respond; one that is behind ends a page early, but never before what this process has written. What
//! would be a reset or an absent channel is decided by the current leader of the current stream. Comparing the heads of
//! many channels costs one request while nothing in the stream changes, and otherwise one per two thousand channels, or
//! one per channel if the stream has several replicas; absent channels cost as much again, to find out whether a log of
//! theirs was lost.
//!
//! [`Store::changes`] uses one consumer per process for all new messages in the stream, however many channels and
//! subscribers there are: channels come and go without it. Every node receives every event of the prefix once.
//!
//! # Retention
//! The server's time decides what is old: stamps are in its time, and the nodes' clocks do not matter. Readers see
//! exactly what [`Retention`] specifies. The server stores more for a while: at most half as much again as is kept, for
//! channels in use; one node at a time maintains idle channels.
//!
//! Nodes should agree about [`Retention`]. While they differ, as during a rolling restart with a changed setting, the
//! largest of each setting applies among the nodes that were open within the last five minutes. A node reads these
//! settings right before it deletes anything, and otherwise at least every 5 s: for so long it may show less than the
//! others.
//!
//! An unreadable channel is skipped, logged, and retried later; the others are maintained.
//!
//! # Identity and loss
//! The place's epoch is a message of the stream: a stream that was purged, deleted or recreated, by anyone, is another
//! place. That is checked whenever the connection comes back, before anything is reported as gone, and after a log was
//! started. If the messages of a channel are purged or deleted from outside, its announcement reveals that, and the
//! channel starts again above a raised floor. A stream that is restored to an older state is the same place without its
//! tail. Only the deletion of everything stored for a channel, including its announcement, goes unnoticed by readers
//! that had none of its events.
//!
//! # Upgrades
//! The stream states the format of its contents. A node that does not know it cannot open the stream
//! ([`OpenErrorKind::NewerFormat`](crate::store::OpenErrorKind::NewerFormat)). One that has it open fails with
//! [`StoreError::NewerFormat`]: within 5 s of writing if the format was upgraded meanwhile, or when it meets a message that
//! it does not know. A stream from a version without formats is upgraded by the first node that opens it, which resets
//! readers of absent channels once; nodes of such versions must be stopped before.
//!
//! # Failure
//! Every call ends within [`NatsOptions::timeout`]. If an append was sent and not acknowledged, the store looks for it
//! when the connection is back. If that takes too long the result is [`StoreError::Unknown`]; if nothing was written it
//! is [`StoreError::Unavailable`]. Before a node first appends events with keys to a channel, it reads that channel's
//! messages of the last [`key_window`](crate::Retention::key_window) once. What does not fit into one call's timeout is
//! continued by the next call for that channel.
//!
//! Connections reconnect by themselves, after 50 ms to 2 s with jitter, and a half-open one is dropped after about one and
//! a half timeouts. [`Store::health`] is for health checks: degraded while hints do not arrive, read-only while the stream
//! accepts nothing, unavailable when the connection is lost or the last call failed. Each change is logged.

mod absence;
mod agreed_retention;
mod announcement;
mod announcing;
mod api;
mod body;
mod channel_state;
mod channel_states;
mod channel_update;
mod connection;
mod connection_settings;
mod consumer;
mod consumer_slot;
mod current_place;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod decoding;
mod error;
mod fairness;
#[cfg(feature = "testing")]
mod fault_injection;
mod floors;
mod head_table;
mod heads;
mod health;
mod identity;
mod janitor;
mod key_loader;
mod keys;
mod listing;
mod listing_cache;
mod log;
mod node_settings;
mod open;
mod options;
mod page;
mod page_ends;
mod permissions;
mod place;
mod place_lookup;
mod plan;
mod publishing;
mod reading;
mod record;
mod response;
mod rewriting;
mod scan;
mod server_clock;
mod settings;
mod shared;
mod sync;
mod time_sync;
mod timing;
mod trimming;
mod turns;
mod visibility;
mod write;
mod writer;
mod writing;

use std::{fmt, sync::Arc};

use futures_core::Stream;

pub use self::options::NatsOptions;
use self::{
    shared::Inner,
    write::{Removal, Work},
};
use crate::{
    channel::Channel,
    event::Event,
    store::{
        Append, Appended, Change, Expect, Head, Health, Limit, OpenError, Page, Retention, Start, Store, StoreError,
        Upkeep, kit::check_append_size,
    },
};

/// A [`Store`] on NATS JetStream. Clones share one connection. See the [module docs](self).
#[derive(Clone)]
pub struct NatsStore(Arc<Inner>);

impl NatsStore {
    /// Connects with the default options; several servers are separated by commas.
    ///
    /// # Errors
    /// As [`NatsOptions::connect`].
    pub async fn connect(servers: &str) -> Result<Self, OpenError> {
        Self::options().connect(servers).await
    }

    /// The options to open a store with.
    pub fn options() -> NatsOptions {
        NatsOptions::new()
    }

    /// Removes the last `n` entries, as a failover does, for tests.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub async fn lose_tail(&self, channel: &Channel, n: u64) -> Result<(), StoreError> {
        self.0.lose_tail(channel, n).await
    }
}

impl NatsOptions {
    /// Connects to any of these servers, separated by commas, and finds or creates the stream. The store's tasks run on
    /// the current tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`], whose [kind](crate::store::OpenErrorKind) is `Settings` when a URL, the prefix, the inbox prefix or the
    /// domain is invalid, or a file cannot be read; `Unreachable` when no server responds in time; `Tls`; `Denied`, also
    /// when the user lacks a permission (the source names the subject); `Misconfigured` when JetStream is not enabled, or
    /// the stream has limits by which the server would delete what must be kept; `UnsupportedVersion` when an option needs
    /// a newer server; `Foreign` when this crate did not create the stream; `NewerFormat`; `Corrupt`; or `Full`.
    pub async fn connect(self, servers: &str) -> Result<NatsStore, OpenError> {
        let (connection, settings, clock) = self.into_parts()?;
        Inner::open(servers, connection, settings, clock).await.map(NatsStore)
    }
}

impl fmt::Debug for NatsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsStore").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Store for NatsStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        // The only other bound is the server's `max_payload`.
        check_append_size(&self.0.settings.retention, channel, &append.events, u64::MAX)?;
        self.0.write(channel, Work::Append(append)).await?.appended()
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        self.0.read(channel, start, limit).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        self.0.heads(channels).await
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        self.0.write(channel, Work::Init(events, expect)).await?.head()
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.0.write(channel, Work::Remove(Removal::Requested)).await.map(drop)
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        self.0.channels(prefix, after, limit).await
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        let (changes, is_first) = self.0.consumer.watch();
        if is_first {
            self.0.runtime.spawn(consumer::run(Arc::downgrade(&self.0)));
        }
        changes
    }

    fn retention(&self) -> Retention {
        self.0.settings.retention.clone()
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    fn upkeep(&self) -> Upkeep {
        self.0.upkeep.upkeep()
    }
}
