//! A store in PostgreSQL, for several nodes on one database. Never sees the hub or HTTP.
//!
//! ```no_run
//! use tower_events::{Channel, Event, Hub, stores::postgres::PostgresStore};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresStore::connect("postgres://app@localhost/app").await?;
//! store.migrate().await?; // creates the schema `tower_events`; several nodes may do so at once
//! let hub = Hub::new(store);
//! hub.publish(&Channel::new("room:1")?, Event::text("hello")).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Customised:
//!
//! ```no_run
//! use std::time::Duration;
//! use tower_events::{Retention, stores::postgres::PostgresStore};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresStore::options()
//!     .behind_pooler("postgres://app@database/app?sslmode=verify-full") // PgBouncer forwards no notifications
//!     .schema("chat_events")
//!     .connections(32)
//!     .timeout(Duration::from_secs(3))
//!     .retention(Retention::default().events(10_000))
//!     .connect("postgres://app@pooler/app?sslmode=verify-full&sslrootcert=/etc/app/ca.pem")
//!     .await?;
//! # drop(store);
//! # Ok(())
//! # }
//! ```
//!
//! # What an acknowledgement means
//! The append is committed. With the server's defaults (`fsync = on`, `synchronous_commit = on`) it is on the server's
//! disk, and with `synchronous_standby_names` set also on a standby's. A failover to an asynchronous standby can lose
//! the last appends, and a restore from a dump all appends since then: readers that saw them are reset with
//! [`Ahead`](crate::store::Reason::Ahead), or with [`EpochChanged`](crate::store::Reason::EpochChanged) once others
//! have appended, because every entry carries a random tag.
//!
//! # Order
//! Each channel has a counter row, which an append locks until it commits: `seq` has no gaps, and no entry with a
//! smaller one becomes visible later. One channel therefore takes one transaction at a time in the whole database;
//! appends to it in one process wait for each other and then share a transaction, hundreds at a time.
//!
//! # Hints
//! Nodes notify each other of new heads with `NOTIFY`, at most every 5 ms. An append that is the only one of its node
//! at that moment notifies in its own transaction, as long as such transactions take less than that; otherwise a task
//! does, because notifying in many transactions would make all appends of the database commit one after the other. Each
//! node listens on one connection of its own, however many channels it follows. A hint that is lost, because a node
//! died between its commit and the notification, is made up for when the hub compares heads.
//!
//! # Failures
//! A call waits for a connection and then for a response, each for [`PostgresOptions::timeout`] at most; an append may
//! first wait for one that its process is making in the same channel, and fails with that when the server is
//! unreachable. An error before anything was sent, or one that the server returns, is [`StoreError::Unavailable`]. An
//! append that was sent and not answered is [`StoreError::Unknown`]; a server that hung may still execute it later,
//! perhaps after other appends: repeat it with its key until the outcome is certain. Calls recover by themselves when
//! the server is back. [`Store::health`] reports what the last call found, and a task makes a call every
//! [`PostgresOptions::tidy_every`] in any case.
//!
//! # TLS
//! With `sslmode=require`, `verify-ca` or `verify-full` in the URL, or with [`PostgresOptions::root_certificates`],
//! connections are encrypted and the server's certificate and name are verified, against the certificates in
//! `sslrootcert` or those of the system. With `sslmode=disable` they are not encrypted. `prefer` and `allow` are
//! refused, because an attacker in between could force plain text; a URL without `sslmode` means plain text, with a
//! warning if it leads to another machine. Each URL, the pooler's and the listener's, states this separately.
//!
//! Users and passwords are those in the URL, or [`PostgresOptions::password`] is called for each connection;
//! [`PostgresOptions::client_certificate`], or `sslcert` and `sslkey` in the URL, present a certificate to the server.
//! None of this appears in any error, `Debug` output or log line of the store.
//!
//! # The schema
//! Everything is in one schema, by default `tower_events`: `name` and `head` have a row per channel, `entry` one per
//! event, `key` one per idempotency key, `floor` one per bucket of names (the floor above which new channels start),
//! `place`, `kept` and `asked` one row, `garbage` what is still to be deleted. A role that publishes and reads needs
//! `usage` on the schema and its sequence, `execute` on its functions, and `select, insert, update, delete` on its
//! tables; creating the schema needs `create` on the database, once.
//!
//! # Upgrades
//! `place` has the schema's version and the oldest versions that may read and write it
//! ([`Format`](crate::store::Format)), and every statement checks that. [`PostgresStore::migrate`] of a newer version
//! waits until no transaction uses the schema, lets others work while it waits, and upgrades the schema in one
//! transaction; from then on older nodes that may not continue get [`StoreError::NewerFormat`] from every call. Run it
//! once some nodes have the new version, and upgrade the others then. Nodes of versions before 3 do not check: they get
//! errors from the server instead, and change nothing either.
//!
//! # Retention and clocks
//! The server's clock stamps events and decides what is too old; the nodes' clocks do not matter. A server with a clock
//! that is ahead deletes too early; if that is corrected, nothing is lost except what the janitor deleted meanwhile. Of
//! each limit the largest applies that any node announced in the last minute, and every node shows what that keeps and
//! knows its keys, so settings can be changed node by node; a node announces its settings when it connects.
//!
//! # Long transactions
//! While any transaction in the database holds an old snapshot (`pg_dump`, a report, a forgotten `begin`), the server
//! cannot remove rows that were deleted or replaced since. Appends and lookups stay about as fast, tables grow; after a
//! minute the store logs a warning, for which its role needs `pg_read_all_stats` when the transaction belongs to
//! another role.
//!
//! # Outbox
//! To commit an event together with other changes, call the SQL function in the same transaction, from any client:
//!
//! ```sql
//! begin;
//! insert into message (room, text) values (1, 'hello');
//! select tower_events.append('room:1', '{"text": "hello"}', name => 'message', key => 'message-17');
//! commit;
//! ```
//!
//! `append(channel text, data jsonb, name text, time_ms bigint, key text, notify boolean)` and `append_text`, which
//! takes a text as data, return the event's cursor. They run with the privileges of the schema's owner, so a role needs
//! `usage` on the schema and `execute` on them, and no privileges on the tables. They validate their arguments, apply
//! the retention that [`PostgresStore::migrate`] or a running node was given, and raise an error when the channel is
//! closed, or (`unique_violation`) when the key was used for another event. Their limits:
//!
//! - The channel stays locked until the transaction ends, and other appends to it wait: **append last**. Those that
//!   wait too
//!   long fail with [`StoreError::Unavailable`]. Two transactions that append to the same channels in different orders can
//!   deadlock, and PostgreSQL then aborts one of them.
//! - In `repeatable read` and `serializable` transactions, an append by another transaction since the snapshot is a
//!   serialization failure: retry the transaction, as always at these levels.
//! - A key's [`fingerprint`](crate::store::fingerprint) takes the server about a third of a microsecond per byte of data.
//! - At these isolation levels, a transaction that creates a channel also fails this way when a channel of the same
//!   bucket was deleted
//!   or forgotten since its snapshot. One that creates a channel delays only appends to that channel.
//! - When another channel of the bucket is deleted or forgotten while a transaction that creates a channel is open,
//!   readers
//!   that look at the absent channel in between get a position that is ahead of its start: after the commit that is a reset
//!   ([`Ahead`](crate::store::Reason::Ahead)), without a loss.
//! - With `notify` (the default), transactions that notify commit one after the other, in the whole database. With
//!   `notify => false` they do not, and nodes find the event when they compare heads, a few seconds later.
//!
//! `position(channel)` is the channel's newest position, as the text of a cursor, in the snapshot of the query that
//! calls it. To get a state and the cursor from which to follow it, use one query, or one `repeatable read`
//! transaction:
//!
//! ```sql
//! select tower_events.position('room:1'), (select jsonb_agg(text) from message where room = 1);
//! ```
//!
//! [`Snapshots::with_positions`](crate::Snapshots::with_positions) sends both to readers that come late.
//!
//! # After a restore
//! Nothing needs to be done. Keys that were remembered since the dump are gone, with the events.

mod append_queues;
mod appending;
mod connector;
mod database;
mod error;
mod format;
mod heads;
mod janitor;
mod listener;
mod migration;
mod notifier;
mod options;
mod page;
mod settings;
mod shared;
mod shared_connections;
mod snapshots;
mod sql;
mod tls;
mod write;
mod written;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use futures_core::Stream;

pub use self::options::{Durability, PostgresOptions};
use self::{
    error::{CallError, from_open_call, invalid_settings},
    format::VERSION,
    listener::ListenerTask,
    shared::Inner,
};
use crate::{
    channel::Channel,
    event::Event,
    store::{
        Append, Appended, Change, Expect, Head, Health, Limit, OpenError, Page, Retention, Start, Store, StoreError,
        Upkeep,
        kit::{check_append_size, check_init_size},
    },
};

/// A [`Store`] in PostgreSQL. Clones share connections. See the [module docs](self).
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

impl PostgresStore {
    /// Connects to `url` with the default options. Needs a tokio runtime.
    ///
    /// # Errors
    /// As [`PostgresOptions::connect`].
    pub async fn connect(url: &str) -> Result<Self, OpenError> {
        Self::options().connect(url).await
    }

    /// The options to connect with.
    pub fn options() -> PostgresOptions {
        PostgresOptions::new()
    }

    /// Creates the schema, or upgrades it to this version. Has no effect if that was done already, and may be called by
    /// several nodes at once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also when the role lacks the privileges.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        migration::migrate(&self.0.database, &self.0.settings.keep).await?;
        janitor::announce_settings(&self.0.database, &self.0.settings).await;
        Ok(())
    }

    /// Deletes now what retention no longer holds, and forgets channels that are due. A task does the same every
    /// [`PostgresOptions::tidy_every`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn tidy(&self) -> Result<(), StoreError> {
        janitor::tidy(&self.0.database, &self.0.settings).await
    }

    /// Figures about the store; its state is in [`Store::health`].
    #[must_use]
    pub fn stats(&self) -> PostgresStats {
        let (connections, idle) = self.0.database.connections();
        PostgresStats {
            listening: self.0.listener.watchers.is_armed(),
            reconnects: self.0.listener.reconnects.load(Ordering::Relaxed),
            connections,
            idle,
            waiting: self.0.append_queues.waiting.budget().writes(),
        }
    }
}

/// Figures about a store at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresStats {
    /// Whether notifications of other processes are received. False also while [`Store::changes`] has no followers.
    pub listening: bool,
    /// How often the listener had to reconnect.
    pub reconnects: u64,
    /// Connections in the pool.
    pub connections: usize,
    /// How many of them are idle.
    pub idle: usize,
    /// Appends that wait to be sent, or were sent and not answered yet.
    pub waiting: usize,
}

impl PostgresOptions {
    /// Connects to `url`, and checks that the server is reachable. Needs a tokio runtime, on which the store's tasks
    /// then run.
    ///
    /// # Errors
    /// [`OpenError`], whose [kind](crate::store::OpenErrorKind) is `Settings` when a URL, the schema's name or a certificate
    /// is invalid, or there is no such database; `Unreachable` when no server that takes reads and writes answers in time;
    /// `Tls`; `Denied`; `NewerFormat`; or `Corrupt`. A schema that is missing or too old is no error here: see
    /// [`PostgresStore::migrate`].
    pub async fn connect(self, url: &str) -> Result<PostgresStore, OpenError> {
        let (database, settings, tidy_every) = self.into_parts(url).map_err(invalid_settings)?;
        let answer = database.read("select 1", &[]).await;
        answer.map_err(|error| from_open_call(error.into_read_error()))?;
        if let Some(format) = migration::stored(&database).await.map_err(from_open_call)? {
            format.may_read(VERSION).map_err(from_open_call)?;
            if format.version() >= VERSION && format.may_write(VERSION).is_ok() {
                janitor::announce_settings(&database, &settings).await;
            }
        }
        Ok(PostgresStore(Arc::new(Inner::new(database, settings, tidy_every))))
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("schema", &self.0.database.sql.schema).finish_non_exhaustive()
    }
}

impl Store for PostgresStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let settings = &self.0.settings;
        check_append_size(&settings.retention, channel, &append.events, settings.max_append_bytes)?;
        if append.events.is_empty() && !append.close {
            let head = self.0.head(channel).await?;
            return Ok(Appended { receipts: Vec::new(), entries: Vec::new(), head });
        }
        appending::append(&self.0, channel, append).await
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        page::read(&self.0.database, &self.0.settings, channel, start, limit).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        heads::heads(&self.0.database, channels).await
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        check_init_size(channel, &events, self.0.settings.max_append_bytes)?;
        let init = Some(page::new_epoch(channel));
        let options = write::WriteOptions { expect, close: false, init, notify_as: None, reached: 0 };
        let events: Vec<_> = events.iter().collect();
        let written = write::write(&self.0.database, &self.0.settings, channel, &events, options).await;
        let head = written::init_result(written.map_err(CallError::into_write_error)?)?;
        self.0.notify_head(channel, head);
        Ok(head)
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        if let Some(head) = self.0.delete(channel).await? {
            self.0.notify_head(channel, head);
        }
        Ok(())
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        heads::channels(&self.0.database, prefix, after, limit).await
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        let listener = self.0.listener.clone();
        self.0.listener.watchers.watch_with(|| ListenerTask(self.0.database.runtime.spawn(listener.run())))
    }

    fn retention(&self) -> Retention {
        self.0.settings.retention.clone()
    }

    fn health(&self) -> Health {
        match self.0.database.health() {
            Health::Ready if self.0.listener.watchers.are_late() => Health::Degraded,
            found => found,
        }
    }

    fn upkeep(&self) -> Upkeep {
        self.0.database.upkeep.upkeep()
    }
}
