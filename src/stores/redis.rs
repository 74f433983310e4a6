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
//! Customised: a user and password, a database of its own, a prefix, and appends that two replicas must have:
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
//! `rediss://` (TLS) needs the feature `redis-tls`, and trusts what the system trusts, or what the options'
//! `root_certificates` are; `client_certificate` is shown to a server that asks for one. A [password](RedisOptions::password)
//! that changes is asked for before each connection.
//!
//! # What an acknowledgement means
//! The primary has executed the append. Whether it survives is the server's setting:
//!
//! | setting | an acknowledged append survives |
//! |---|---|
//! | no persistence | nothing but the life of the process |
//! | `appendonly yes`, `appendfsync everysec` (**recommended**) | the end of the process, but for what it holds back while a sync of the disk takes long (up to 2 seconds); a power loss takes about the last second |
//! | `appendonly yes`, `appendfsync always` | a power loss |
//! | replicas, nothing else | what a failover finds copied: the last moments may be lost |
//! | [`replicas(n, within)`](RedisOptions::replicas) | a failover to one of those `n`. Redis does not promise that it picks one of them |
//!
//! Whatever is lost, nobody is told that nothing was: a cursor of the lost part is [`Ahead`](crate::store::Reason::Ahead),
//! or [`EpochChanged`](crate::store::Reason::EpochChanged) once others were appended in its place, for every entry carries a
//! random tag. A server that lost everything, or was flushed, is another place: every cursor of before is `EpochChanged`.
//!
//! # Required settings
//! `maxmemory-policy noeviction`; else connecting logs a warning. With another policy the server deletes whole keys when
//! memory is short. That is noticed: a log that was evicted reads as [`Trimmed`](crate::store::Reason::Trimmed), an evicted
//! place as another place. Remembered idempotency keys that were evicted are forgotten early: repeated appends may then be
//! there twice. When memory is short and nothing may be evicted, appends fail with [`StoreError::Full`] and reads go on.
//!
//! A user with few rights needs `~{prefix}:* &{prefix}:* +@read +@write +@connection +@scripting +@pubsub +wait +info
//! +time`, where `{prefix}` has its braces.
//!
//! # Keys
//! All begin with `{prefix}:` (default `{tower-events}:`, with the braces, so that they share a slot of a cluster):
//!
//! | key | type | holds |
//! |---|---|---|
//! | `place` | hash | `epoch` and `format` of the place, what its nodes `keep`, up to 1 024 floors `f:<bucket>`; per channel a field `c:<channel>` with its record |
//! | `turns` | sorted set | when the janitor looks at which channel |
//! | `names` | sorted set | the channels in the order of their names; made anew when lost |
//! | `log:<channel>` | stream | the retained entries, id `<seq>-0`; expires when nobody trims it any more |
//! | `keys0:<channel>`, `keys1:<channel>` | hash | idempotency keys of this and the last window, taking turns; expire |
//! | `bell` | pub/sub channel | what was appended, for the readers of other nodes |
//!
//! All records are in one key together with the floors on purpose: then a record cannot vanish without its floor, and a
//! channel cannot come back as if it had never been used. What is left for ever of an application is that key.
//!
//! # Damage
//! A call of a script that fails halfway is not undone by Redis. So scripts look at everything before they write, and write
//! in an order in which every beginning leaves each log whole: at worst it has entries that its record does not count, which
//! are removed at the next use. A record that cannot be read makes its own channel [`Corrupt`](StoreError::Corrupt) and no
//! other; the janitor logs its name. Deleting the channel, or `HDEL` of its field, ends that.
//!
//! # Several nodes
//! Every operation is one script, so it is atomic, and the time is the server's: the nodes' clocks do not matter. A stamp
//! never decreases within a channel, whatever the server's clock does. Appends that wait while others are under way go to
//! the server in one call, and those that depend on nothing become one group of it per channel. Each node has one connection that listens to all channels, however many it follows; it is pinged
//! and made again when lost, and a [`Change::Resync`] says so.
//!
//! Nodes should agree about [`Retention`]. While they do not, as when a setting is changed with a restart of one node after
//! the other, the largest of each setting counts among the nodes that were in use within the last five minutes.
//!
//! # Upgrades
//! The place says its format, and which versions of the library may read and write it; every call looks at it. A node that is
//! too old for it fails with [`StoreError::NewerFormat`] and changes nothing, and [`health`](Store::health) is
//! [`ReadOnly`](Health::ReadOnly) if it may still read. The nodes of 0.1 know nothing of that: the first node of this version
//! that uses their place raises it to format 2, and from then on they fail with `Corrupt` and write nothing. So stop them
//! first, or let them fail until they are replaced; clients resume over it, and nothing that was acknowledged is lost.
//!
//! # Which servers
//! The URL names one server, the primary. Of a **cluster** that is the one that has the slot of `{prefix}` (all keys share
//! it); connecting to another is [`ConnectError::Moved`], which names it, and a slot that moves later makes calls fail
//! with [`StoreError::Unavailable`]. **Sentinels** are asked for the primary if they are [named](RedisOptions::sentinels);
//! else let a name or a proxy lead to it. Both are looked up anew after a lost connection, or when the server became a replica. **Replicas** are not read from: each read
//! asks the server along with it whether it is the primary, and so does an idle store every 5 seconds; after a failover all
//! connections to the old primary are given up at once. **Valkey** has the commands that
//! are used; this crate is tested with Redis only.
//!
//! # When the server is away
//! Calls wait for it as long as the [timeout](RedisOptions::timeout), then fail with [`StoreError::Unavailable`] if
//! nothing was sent, and with [`StoreError::Unknown`] if an append was sent and no answer came; an append with a key can be
//! repeated then. Attempts to connect are 50 ms to 1 s apart, with jitter. [`RedisStore::is_connected`] tells.

mod append_call;
mod codec;
mod connection;
mod endpoint;
mod error;
mod handle;
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
mod watchers;
mod writer;

use futures_core::Stream;

use self::error::CallError;
pub use self::{error::ConnectError, handle::RedisStore, options::RedisOptions};
use crate::{
    channel::Channel,
    event::Event,
    store::{
        Append, Appended, Change, Expect, Head, Health, Limit, Page, Retention, Start, Store, StoreError, fits_append,
        fits_init,
    },
};

impl RedisStore {
    /// Connects with the defaults to `redis://[user][:password@]host[:port][/database]`.
    ///
    /// # Errors
    /// As [`RedisOptions::connect`].
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::options().connect(url).await
    }

    /// Options to connect with.
    pub fn options() -> RedisOptions {
        RedisOptions::new()
    }
}

impl Store for RedisStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let settings = &self.0.shared.settings;
        fits_append(&settings.retention, channel, &append.events, settings.largest_append)?;
        self.0.writer.append(&self.0.shared, channel, append).await
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        reads::read(&self.0.shared, channel, start, limit).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        heads::heads(&self.0.shared, channels).await
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        fits_init(channel, &events, self.0.shared.settings.largest_append)?;
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
        if let Some(health) = shared.observed_health.get() {
            shared.retry_write();
            return health;
        }
        if self.0.listener.is_armed() == Some(false) { Health::Late } else { Health::Ready }
    }
}
