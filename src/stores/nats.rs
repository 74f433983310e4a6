//! A store on NATS JetStream, for many machines. Feature `nats`; needs Rust 1.89 and a server from 2.9 on.
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
//! That JetStream has stored the message: with one replica, that one server has written it to its file, and with `R`
//! replicas, that most of them have. It is **not** on disk then: the server calls `fsync` every `sync_interval`, by default
//! every 2 minutes. A server process that is killed loses nothing; a machine that loses its power loses up to that
//! interval, unless most replicas survive. Where that matters, set `jetstream { sync_interval: always }` in the server's
//! configuration, or three replicas in places that do not fail together. A tail that was lost is seen: cursors in it are
//! reset, as [`Reason::Ahead`](crate::store::Reason::Ahead), or as
//! [`Reason::EpochChanged`](crate::store::Reason::EpochChanged) once others have written on.
//!
//! Several replicas need servers from 2.11 on. After the leader of three servers 2.9.10 was killed while nodes wrote, its
//! replicas were seen to hold different messages at the same places, and an acknowledged one was gone, which no reader can
//! tell from a log that never had it. One replica on such a server is safe.
//!
//! # Layout
//! One stream, named as the prefix, that holds the subjects `<prefix>.<nonce>.>`. The nonce is drawn when the stream is
//! made, so that nothing meant for a stream that was deleted reaches the next one.
//!
//! | subject | holds |
//! |---|---|
//! | `<prefix>.<nonce>.c.<channel>` | the channel's entries, one message per append; the newest message is its record |
//! | `<prefix>.<nonce>.b.<channel>` | that the channel's log was begun: written before its first entry |
//! | `<prefix>.<nonce>.k.<channel>` | idempotency keys whose messages were trimmed |
//! | `<prefix>.<nonce>.f.<bucket>` | above which `seq` new channels of a bucket of names begin |
//! | `<prefix>.<nonce>.place` | the place's epoch, and the [`Format`](crate::store::Format) of what is stored |
//! | `<prefix>.<nonce>.time` | nothing: the server stamps it, which tells its time |
//! | `<prefix>.<nonce>.janitor` | when a node last looked after idle channels |
//! | `<prefix>.<nonce>.kept` | what nodes were told to keep, and when each kind of them last said so |
//!
//! `<channel>` is the name in base64url: any name is one token then. A message holds a whole batch; its header
//! `Tower-Events` says where it belongs (epoch, first `seq`, tags, closing, stamp, and sums over the log so far), and the
//! server takes it only right after the message that it was decided on (`Nats-Expected-Last-Subject-Sequence`). That one
//! condition keeps order, keys, closing and [`Expect`] true among all nodes. What waits on one node for the same channel
//! goes into one message together. `init` and `delete` write one message that replaces all before it (a rollup).
//!
//! On `<prefix>.turns`, which nothing stores, nodes whose appends are overtaken again and again ask the others to wait: so a
//! node nearby leaves room for one far away.
//!
//! A user and password or a token come from the URL or the options; certificates from the options, and with the
//! feature `nats-nkeys` nkeys and credentials files too.
//!
//! An append or init larger than the server's `max_payload` (1 MiB unless configured) is [`StoreError::TooLarge`], as is
//! an append of more than half of what is kept. Of an init, what retention keeps counts: it is one message, so that it
//! happens whole. Up to 64 MiB and 65 536 calls wait to be written on one node; beyond, a call is refused at once, as
//! [`StoreError::Unavailable`].
//!
//! The stream is made when it is missing: file storage, one replica, no limits of its own (this crate decides what may
//! go), `discard: new`, `allow_direct`, `allow_rollup_hdrs`, no denied purges or deletes. One that is there is used as it
//! is, unless it has limits by which the server drops messages (`max_age`, `max_msgs`, `max_msgs_per_subject`,
//! `discard: old`): then opening fails and names them. Limits that are set later are logged as an error; what they take is a
//! reset. Which permissions a user needs is said in `docs/stores/nats.md`; with an
//! [inbox prefix](NatsOptions::inbox_prefix) of its own it needs none that reach beyond its prefix.
//!
//! # Reading
//! A page costs one question for the newest message and, unless the reader is at the head, a search for the place where it
//! stands: none where another page ended, else as many questions as the logarithm of the distance from the head. Then the
//! messages come in batches: in one answer from servers from 2.11 on, by a consumer that is used once from older ones.
//! Any replica may answer; one that is behind ends a page early, but never before what this process has written.
//! What would be a reset or an absent channel is asked of the leader, of the stream that there is at that moment.
//! Comparing the heads of many channels costs one question while nothing in the stream changes, and else one for every two
//! thousand channels, or one for each where the stream has several replicas; and as much again for those that are absent,
//! for it is looked whether a log of theirs was lost.
//!
//! [`Store::changes`] is one consumer per process of everything new in the stream, however many channels and subscribers:
//! channels come and go without it. Every node receives every event of the prefix once.
//!
//! # Retention
//! The server's time decides what is old: stamps are its time, and the clocks of the nodes are not asked.
//! Readers see exactly what [`Retention`] says. The server holds more for a while: half as much again as
//! is kept, at most, for channels in use; one node at a time looks after idle channels.
//!
//! Nodes should agree about [`Retention`]. While they do not, as when a setting is changed with a restart of one node after
//! the other, the largest of each setting counts among the nodes that were open within the last five minutes. A node looks at
//! that before it drops anything, and else at most 5 s ago: so long it may show less than the others.
//!
//! A channel that cannot be read is left aside, logged, and tried again later; the others are looked after.
//!
//! # Identity and loss
//! The place's epoch is a message of the stream: a stream that was purged, deleted or made again, by whomever, is another
//! place. That is checked whenever the connection comes back, before anything is said to be gone, and after a log was begun.
//! A channel whose messages somebody purged or deleted is seen by what its log was announced with, and begins above a raised
//! floor. A stream that is restored to an older state is the same place without its tail. Only who deletes all that is
//! stored of a channel, its announcement too, goes unseen by those who had none of its events.
//!
//! # Upgrades
//! The stream tells the format of what it holds. A node that does not know it fails with
//! [`StoreError::NewerFormat`], when it opens the stream and, once the format was raised while it ran, within 5 s of writing,
//! or when it meets a message that it does not know. Streams of versions before formats are taken over by the first node
//! that opens them, which resets readers of absent channels once; nodes of such versions have to be stopped before.
//!
//! # Failure
//! Every call ends within [`NatsOptions::timeout`]. An append that was sent and not acknowledged is looked for when the
//! connection is back; if that takes too long it is [`StoreError::Unknown`], else nothing was written and it is
//! [`StoreError::Unavailable`]. A node that begins to append events with keys to a channel reads that channel's messages of
//! the last [`key_window`](crate::Retention::key_window) once. What does not fit into one call's timeout is gone on with by
//! the next call for that channel.
//!
//! Connections come back by themselves, after 50 ms to 2 s with jitter, and one that is open at this end only is given up
//! after about one and a half timeouts. [`Store::health`] tells a health check: late while hints do not come, read-only while
//! the stream takes nothing, unavailable when the connection is lost or the last call failed. The log tells of each change.

mod absence;
mod agreed_retention;
mod announcement;
mod announcing;
mod api;
mod body;
mod channel_state;
mod channel_update;
mod connection;
mod connection_settings;
mod consumer;
mod current_place;
mod error;
mod fairness;
#[cfg(feature = "testing")]
mod fault_injection;
mod floors;
mod handle;
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
mod observed_health;
mod open;
mod options;
mod page;
mod page_ends;
mod permissions;
mod place;
mod place_lookup;
mod plan;
mod publishing;
mod queue;
mod reading;
mod record;
mod response;
mod rewriting;
mod scan;
mod server_clock;
mod settings;
mod sync;
mod time_sync;
mod timing;
mod trimming;
mod turns;
mod visibility;
mod watchers;
mod write_budget;
mod writer;
mod writing;

use std::sync::Arc;

use futures_core::Stream;

use self::queue::{Removal, Work};
pub use self::{handle::NatsStore, options::NatsOptions};
use crate::{
    channel::Channel,
    event::Event,
    store::{
        Append, Appended, Change, Expect, Head, Health, Limit, Page, Retention, Start, Store, StoreError, fits_append,
    },
};

impl NatsStore {
    /// Connects with the default options; several servers are separated by commas.
    ///
    /// # Errors
    /// As [`NatsOptions::connect`].
    pub async fn connect(servers: &str) -> Result<Self, StoreError> {
        Self::options().connect(servers).await
    }

    /// How to open a store otherwise.
    pub fn options() -> NatsOptions {
        NatsOptions::new()
    }

    /// Whether there is a connection now: for a health check.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.connection.is_connected()
    }

    /// Cuts the last `n` entries off, as a failover that lost them does: for tests of what follows.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub async fn lose_tail(&self, channel: &Channel, n: u64) -> Result<(), StoreError> {
        self.0.lose_tail(channel, n).await
    }
}

impl Store for NatsStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        // What else bounds it is the server's `max_payload`.
        fits_append(&self.0.settings.retention, channel, &append.events, u64::MAX)?;
        self.0.write(channel, |answer| Work::Append(append, answer)).await
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        self.0.read(channel, start, limit).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        self.0.heads(channels).await
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        self.0.write(channel, |answer| Work::Init(events, expect, answer)).await
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.0.write(channel, |answer| Work::Remove(Removal::Requested, answer)).await
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
        let (changes, is_first) = self.0.watchers.watch();
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
}
