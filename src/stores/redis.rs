//! A store on Redis 7.0 or newer, for several nodes that share events. Feature `redis`.
//!
//! ```no_run
//! use tower_events::{Hub, RedisStore};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::new(RedisStore::connect("redis://127.0.0.1/").await?);
//! # Ok(())
//! # }
//! ```
//!
//! Customised: a user and password, a separate database, a prefix, and appends that two replicas must have:
//!
//! ```no_run
//! use std::time::Duration;
//! use tower_events::{RedisStore, Retention};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let store = RedisStore::options()
//!     .prefix("chat")
//!     .retention(Retention::default().events(10_000))
//!     .timeout(Duration::from_secs(1))
//!     .replicas(2, Duration::from_millis(500))
//!     .connect("redis://app:secret@redis.internal:6379/2")
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! `rediss://` (TLS) needs the feature `redis-tls`. It trusts the system's certificates, or those given as
//! `root_certificates`; `client_certificate` is presented to a server that asks for one. A
//! [password](RedisOptions::password) that changes is requested before each connection.
//!
//! # What an acknowledgement means
//! The primary has executed the append. What it survives depends on the server's configuration:
//!
//! | configuration | an acknowledged append survives |
//! |---|---|
//! | no persistence | nothing: it is lost when the process ends |
//! | `appendonly yes`, `appendfsync everysec` (**recommended**) | the end of the process, except for what it holds back while a disk sync takes long (up to 2 seconds); a power loss takes about the last second |
//! | `appendonly yes`, `appendfsync always` | a power loss |
//! | replicas, nothing else | a failover, as far as it was copied: the last moments may be lost |
//! | [`replicas(n, within)`](RedisOptions::replicas) | a failover to one of those `n`. Redis does not promise to choose one of them |
//!
//! A loss is never silent: a cursor in the lost part is [`Ahead`](crate::store::Reason::Ahead), or
//! [`EpochChanged`](crate::store::Reason::EpochChanged) once other events were appended in its place, because every entry
//! carries a random tag. A server that lost everything, or was flushed, is a new place: every earlier cursor is
//! `EpochChanged`.
//!
//! # Required settings
//! `maxmemory-policy noeviction`; otherwise connecting logs a warning. With any other policy the server deletes whole keys
//! when memory runs low. That is detected: an evicted log reads as [`Trimmed`](crate::store::Reason::Trimmed), and an
//! evicted place becomes a new one. Evicted idempotency keys are forgotten early, so repeated appends may be stored twice.
//! When memory runs out and nothing may be evicted, appends fail with [`StoreError::Full`] and reads continue.
//!
//! The minimal ACL of a user is `~{prefix}:* &{prefix}:* +@read +@write +@connection +@scripting +@pubsub +wait +info
//! +time`, where `{prefix}` includes its braces.
//!
//! # Keys
//! All start with `{prefix}:` (default `{tower-events}:`, with the braces, so that they share a slot of a cluster):
//!
//! | key | type | holds |
//! |---|---|---|
//! | `place` | hash | `epoch` and `format` of the place, the retention of its nodes (`keep`), up to 1 024 floors `f:<bucket>`; per channel a field `c:<channel>` with its record |
//! | `turns` | sorted set | when the janitor next visits which channel |
//! | `names` | sorted set | the channels in the order of their names; rebuilt when lost |
//! | `log:<channel>` | stream | the retained entries, id `<seq>-0`; expires when no node trims it any more |
//! | `keys0:<channel>`, `keys1:<channel>` | hash | the idempotency keys of the current and the previous window, alternating; they expire |
//! | `bell` | pub/sub channel | hints about appends, for the readers on other nodes |
//!
//! All records are deliberately in one key with the floors: a record cannot vanish without its floor, so a channel cannot
//! come back as if it had never been used. That key is all that an application leaves behind permanently.
//!
//! # Damage
//! Redis does not roll back a script that fails halfway. So scripts check everything before they write, and write in an
//! order in which a log is intact at every point: at worst it has entries that its record does not count, and these are
//! removed at the next use. An unreadable record makes its own channel [`Corrupt`](StoreError::Corrupt) and no other; the
//! janitor logs its name. To repair that, delete the channel, or `HDEL` its field.
//!
//! # Several nodes
//! Every operation is one script, so it is atomic, and uses the server's time: the nodes' clocks do not matter. Within a
//! channel, append times never decrease, whatever the server's clock does. Appends that wait while others are in progress
//! go to the server in one call, and those of a channel that depend on nothing are written as one group. Each node has one
//! connection that listens to all channels, however many it follows; it is pinged, reopened when lost, and a
//! [`Change::Resync`] reports the gap.
//!
//! Nodes should agree about [`Retention`]. While they differ, as during a rolling restart with a changed setting, the
//! largest of each setting applies among the nodes that were in use within the last five minutes.
//!
//! # Upgrades
//! The place states its format, and which versions of the library may read and write it; every call checks that. A node
//! that is too old fails with [`StoreError::NewerFormat`] and changes nothing, and [`health`](Store::health) is
//! [`ReadOnly`](Health::ReadOnly) if it may still read. Nodes of 0.1 do not check: the first node of this version upgrades
//! their place to format 2, and from then on they fail with `Corrupt` and write nothing. So stop them first, or let them
//! fail until they are replaced; clients resume afterwards, and nothing that was acknowledged is lost.
//!
//! # Supported servers
//! The URL names one server, the primary. In a **cluster** that is the server with the slot of `{prefix}` (all keys share
//! it); connecting to another is [`OpenErrorKind::Moved`](crate::store::OpenErrorKind::Moved), which names the right one, and when the slot moves later, calls
//! fail with [`StoreError::Unavailable`]. **Sentinels** are asked for the primary if they are
//! [configured](RedisOptions::sentinels); otherwise a DNS name or a proxy must lead to it. Both are resolved again after a
//! lost connection, or when the server became a replica. **Replicas** are not read from: each read also checks that the
//! server is the primary, and so does an idle store every 5 seconds; after a failover all connections to the old primary
//! are dropped at once. **Valkey** has the commands that are used; this crate is tested with Redis only.
//!
//! # When the server is unreachable
//! Calls wait for it up to the [timeout](RedisOptions::timeout). Then they fail with [`StoreError::Unavailable`] if
//! nothing was sent, and with [`StoreError::Unknown`] if an append was sent and not answered; an append with a key can
//! then be repeated. Attempts to connect are 50 ms to 1 s apart, with jitter. [`Store::health`] reports the state.

mod append_call;
mod codec;
mod connection;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod decoding;
mod endpoint;
mod error;
mod heads;
mod health;
mod janitor;
mod listener;
mod listing;
mod options;
mod place;
mod primary;
mod reads;
mod rewrite;
mod script;
mod server_check;
mod settings;
mod shared;
mod sweep;
mod writer;

use std::{fmt, sync::Arc};

use futures_core::Stream;

pub use self::options::RedisOptions;
use self::{error::CallError, listener::ListenerSlot, shared::Shared, writer::Writer};
use crate::{
    channel::Channel,
    event::Event,
    store::{
        Append, Appended, Change, Expect, Head, Health, Limit, OpenError, Page, Retention, Start, Store, StoreError,
        Upkeep,
        kit::{check_append_size, check_init_size},
    },
};

/// A [`Store`] on a Redis server. Clones share its connections. See the [module docs](self).
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    writer: Writer,
    listener: ListenerSlot,
}

impl RedisStore {
    /// Connects with the defaults to `redis://[user][:password@]host[:port][/database]`.
    ///
    /// # Errors
    /// As [`RedisOptions::connect`].
    pub async fn connect(url: &str) -> Result<Self, OpenError> {
        Self::options().connect(url).await
    }

    /// The options to connect with.
    pub fn options() -> RedisOptions {
        RedisOptions::new()
    }
}

impl RedisOptions {
    /// Connects to `redis://[user][:password@]host[:port][/database]`, and checks that the server meets the
    /// requirements.
    ///
    /// # Errors
    /// [`OpenError`], whose [kind](crate::store::OpenErrorKind) is `Settings` as from [`open`](Self::open), or when the
    /// Sentinels know no such primary; `Unreachable` when no primary answers within the timeout; `Tls`; `Denied`;
    /// `UnsupportedVersion` before 7.0; `Moved` when another server of the cluster has the keys; `NewerFormat`; `Foreign`
    /// when the place's key holds something else; or `Corrupt`.
    pub async fn connect(self, url: &str) -> Result<RedisStore, OpenError> {
        let store = self.open(url)?;
        store.0.shared.check().await?;
        store.0.shared.announce_settings().await;
        Ok(store)
    }

    /// Opens the store without connecting: for a process that must start even when the server is unreachable.
    ///
    /// # Errors
    /// [`OpenError`], whose kind is `Settings`, when the URL, the prefix or a certificate is invalid, or the URL needs a disabled feature
    /// (`rediss://`: `redis-tls`).
    pub fn open(self, url: &str) -> Result<RedisStore, OpenError> {
        let (endpoint, settings) = self.into_parts(url)?;
        let shared = Arc::new(Shared::new(endpoint, settings));
        Ok(RedisStore(Arc::new(Inner { shared, writer: Writer::default(), listener: ListenerSlot::default() })))
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URL: it may hold a password.
        let prefix = self.0.shared.settings.prefix();
        f.debug_struct("RedisStore").field("prefix", &prefix).finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let settings = &self.0.shared.settings;
        check_append_size(&settings.retention, channel, &append.events, settings.max_append_bytes)?;
        self.0.writer.append(&self.0.shared, channel, append).await
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        reads::read(&self.0.shared, channel, start, limit).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        heads::heads(&self.0.shared, channels).await
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        check_init_size(channel, &events, self.0.shared.settings.max_append_bytes)?;
        self.0.shared.init(channel, &events, expect).await
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        let shared = &self.0.shared;
        shared.forget(channel, "now", shared.deadline(), CallError::into_write_error).await
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        listing::channels(&self.0.shared, prefix, after, limit).await
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        self.0.listener.changes(&self.0.shared)
    }

    fn retention(&self) -> Retention {
        self.0.shared.settings.retention.clone()
    }

    fn health(&self) -> Health {
        let shared = &self.0.shared;
        shared.reconnect();
        if !shared.is_connected() {
            return Health::Unavailable;
        }
        shared.retry_write();
        match shared.observed_health.get() {
            Health::Ready if self.0.listener.is_armed() == Some(false) => Health::Degraded,
            observed => observed,
        }
    }

    fn upkeep(&self) -> Upkeep {
        self.0.shared.upkeep.upkeep()
    }
}
