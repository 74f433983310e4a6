//! A store in PostgreSQL, for several nodes on one database. Never sees the hub or HTTP.
//!
//! ```no_run
//! use tower_events::{Channel, Event, Hub, stores::postgres::PostgresStore};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresStore::connect("postgres://app@localhost/app").await?;
//! store.migrate().await?; // makes the schema `tower_events`; harmless from many nodes at once
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
//!     .behind_pooler("postgres://app@database/app?sslmode=verify-full") // PgBouncer carries no notifications
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
//! The append is committed. With the server's defaults (`fsync = on`, `synchronous_commit = on`) it is on its disk, and with
//! `synchronous_standby_names` set on a standby's too. A failover to an asynchronous standby can lose the last appends, a
//! restore from a dump all since then: readers who saw them get [`Ahead`](crate::store::Reason::Ahead), or
//! [`EpochChanged`](crate::store::Reason::EpochChanged) once others have written on, for every entry has a mark of its own.
//!
//! # Order
//! Each channel has a counter row, locked by an append until it commits: `seq` has no gaps, and nothing with a smaller one
//! becomes visible later. One channel therefore takes one transaction at a time in the whole database; appends to it in one
//! process wait for each other and then go together, hundreds in one transaction.
//!
//! # Hints
//! Nodes tell each other of new heads with `NOTIFY`, at most every 5 ms. An append that is the only one of its node at that
//! moment does so in its own transaction, as long as those take less than that; else a task does, for in the transactions of
//! many it would make all appends of the database commit one after the other. Each node listens on one connection of its
//! own, however many channels it follows. A hint that is lost, because a node died between its commit and its word, is made
//! good when the hub compares heads.
//!
//! # Failures
//! A call waits for a connection and then for an answer, each for [`PostgresOptions::timeout`] at most; an append may first
//! wait for one that its process is making in the same channel, and fails with that when the server is away. An error
//! before anything was sent, or that the server answers with, is [`StoreError::Unavailable`]; an append that was sent and not
//! answered is [`StoreError::Unknown`], and a server that hung makes it when it goes on, perhaps behind later ones: repeat it
//! with its key until the answer is certain. Calls recover by themselves when the server is back.
//! [`Store::health`] shows how it is: as the last call found it, and a task makes one every
//! [`PostgresOptions::tidy_every`] in any case.
//!
//! # TLS
//! With `sslmode=require`, `verify-ca` or `verify-full` in the URL, or [`PostgresOptions::root_certificates`], connections
//! are encrypted and the server's certificate and name are verified, against the certificates in `sslrootcert` or those of
//! the system. With `sslmode=disable` they are not encrypted. `prefer` and `allow` are refused, for whoever is in between
//! could make plain text of them; a URL that says nothing means plain text, with a warning where it leads to another
//! machine. Each URL, the pooler's and the listener's, says this for itself.
//!
//! Users and passwords are those in the URL, or [`PostgresOptions::password`] is asked for each connection;
//! [`PostgresOptions::client_certificate`], or `sslcert` and `sslkey` in the URL, show the server a certificate. None of it
//! is in any error, `Debug` or log line of the store.
//!
//! # The schema
//! All is in one schema, by default `tower_events`: `name` and `head` have a row per channel, `entry` one per event, `key` one
//! per idempotency key, `floor` one per bucket of names ([`floor`]), `place`, `kept` and `asked` one row, `garbage` what is
//! still to be deleted. A role that publishes and reads needs `usage` on the schema and its sequence, `execute` on its
//! functions, and `select, insert, update, delete` on its tables; making the schema needs `create` on the database, once.
//!
//! # Upgrades
//! `place` has the schema's version and the oldest that may read and write it ([`Format`](crate::store::Format)), and every
//! statement looks there. [`PostgresStore::migrate`] of a newer version waits until no transaction uses the schema, lets
//! others work while it has to wait, and brings it up in one transaction; from then on older nodes that may not go on get
//! [`StoreError::NewerFormat`] from whatever they do. Run it once some nodes are of the new version, and upgrade the others
//! then. Nodes of versions before 3 do not look: they get errors from the server instead, and change nothing either.
//!
//! # Retention and clocks
//! The server's clock stamps events and decides what is too old; those of the nodes decide nothing. A server whose clock is
//! ahead deletes too early; one that was ahead for a while, and is right again, has lost nothing that the janitor did not
//! come to meanwhile. Of each limit the most is kept that any node asked for in the last minute, and every node shows it and
//! knows its keys, so settings can be changed node by node; a node is heard when it connects.
//!
//! # Long transactions
//! While any transaction in the database has an old snapshot (`pg_dump`, a report, a forgotten `begin`), the server can remove
//! nothing that was deleted or replaced since. Appends and lookups stay about as quick, tables grow; after a minute the store
//! logs a warning, for which its role needs `pg_read_all_stats` when the transaction is another role's.
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
//! `append(channel text, data jsonb, name text, time_ms bigint, key text, notify boolean)` and `append_text`, whose data is
//! a text, return the event's cursor. They run with the rights of the schema's owner, so a role needs `usage` on the schema and
//! `execute` on them, and no rights on the tables. They check what they are given, keep what [`PostgresStore::migrate`] or a
//! running node was told to keep, and raise an error when the channel is closed, or (`unique_violation`) when the key was used
//! for another event. Their limits:
//!
//! - The channel stays locked until the transaction ends, and other appends to it wait: **append last**. Those that wait too
//!   long fail with [`StoreError::Unavailable`]. Two transactions that append to the same channels in different orders can
//!   deadlock, and PostgreSQL then ends one of them.
//! - In `repeatable read` and `serializable` transactions, an append by someone else since the snapshot is a serialization
//!   failure: retry the transaction, as always there.
//! - A key's [`fingerprint`](crate::store::fingerprint) takes the server about a third of a microsecond per byte of data.
//! - In those isolations, a transaction that creates a channel fails so too when a channel of the same bucket was deleted or
//!   forgotten since its snapshot. One that creates a channel holds up nobody but those who append to that one.
//! - When another channel of the bucket is deleted or forgotten while a transaction that creates a channel is open, whoever
//!   looks at the absent channel in between gets a position that is ahead of where it begins: a reset
//!   ([`Ahead`](crate::store::Reason::Ahead)) after the commit, without a loss.
//! - With `notify` (the default), transactions that notify commit one after the other, in the whole database. With
//!   `notify => false` they do not, and nodes find the event when they compare heads, a few seconds later.
//!
//! `position(channel)` is the channel's newest position, as the text of a cursor, by the snapshot of the query that calls it.
//! A state and where to follow it from come from one query, or from one `repeatable read` transaction:
//!
//! ```sql
//! select tower_events.position('room:1'), (select jsonb_agg(text) from message where room = 1);
//! ```
//!
//! # After a restore
//! Nothing needs to be done. Keys that were remembered since the dump are gone, with the events.

mod append_queues;
mod appending;
mod connector;
mod database;
mod error;
mod format;
mod handle;
mod heads;
mod janitor;
mod listener;
mod migration;
mod notifier;
mod options;
mod page;
mod settings;
mod shared_connections;
mod snapshots;
mod sql;
mod tls;
mod watchers;
mod write;
mod written;

use std::sync::atomic::Ordering;

use futures_core::Stream;

use self::error::CallError;
pub use self::{
    error::ConnectError,
    handle::PostgresStore,
    options::{PostgresDurability, PostgresOptions},
};
use crate::{
    channel::Channel,
    event::Event,
    store::{
        Append, Appended, Change, Expect, Head, Health, Limit, Page, Retention, Start, Store, StoreError, fits_append,
        fits_init,
    },
};

impl PostgresStore {
    /// Connects to `url` with the default options. Needs a tokio runtime.
    ///
    /// # Errors
    /// As [`PostgresOptions::connect`].
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::options().connect(url).await
    }

    /// Options to connect with.
    pub fn options() -> PostgresOptions {
        PostgresOptions::new()
    }

    /// Makes the schema, or brings it up to this version. Harmless when that was done, and from many nodes at once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also when the role may not do so.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        migration::migrate(&self.0.database, &self.0.settings.keep).await?;
        janitor::announce_settings(&self.0.database, &self.0.settings).await;
        Ok(())
    }

    /// Drops now what retention no longer holds, and forgets channels that are due. A task does so by itself every
    /// [`PostgresOptions::tidy_every`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn tidy(&self) -> Result<(), StoreError> {
        janitor::tidy(&self.0.database, &self.0.settings).await
    }

    /// What the store holds now. How it is, [`Store::health`] tells.
    #[must_use]
    pub fn stats(&self) -> PostgresStats {
        let (connections, idle) = self.0.database.connections();
        PostgresStats {
            listening: self.0.listener.watchers.is_armed(),
            reconnects: self.0.listener.reconnects.load(Ordering::Relaxed),
            connections,
            idle,
            waiting: self.0.append_queues.waiting(),
        }
    }
}

/// What a store holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresStats {
    /// Whether other processes are heard. False also while nobody follows [`Store::changes`].
    pub listening: bool,
    /// How often listening had to begin again.
    pub reconnects: u64,
    /// Connections of the pool.
    pub connections: usize,
    /// Those of them that are idle.
    pub idle: usize,
    /// Appends that wait to be sent.
    pub waiting: usize,
}

impl Store for PostgresStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let settings = &self.0.settings;
        fits_append(&settings.retention, channel, &append.events, settings.largest_append)?;
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
        fits_init(channel, &events, self.0.settings.largest_append)?;
        let init = Some(page::new_epoch(channel));
        let options = write::WriteOptions { expect, close: false, init, notify_as: None, reached: 0 };
        let events: Vec<_> = events.iter().collect();
        let written = write::write(&self.0.database, &self.0.settings, channel, &events, options).await;
        let head = written::init_result(written.map_err(CallError::into_write_error)?)?;
        self.0.tell_head(channel, head);
        Ok(head)
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        if let Some(head) = self.0.delete(channel).await? {
            self.0.tell_head(channel, head);
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
        self.0.listener.watchers.watch(|| self.0.database.runtime.spawn(listener.run()).abort_handle())
    }

    fn retention(&self) -> Retention {
        self.0.settings.retention.clone()
    }

    fn health(&self) -> Health {
        match self.0.database.health() {
            Health::Ready if self.0.listener.watchers.is_deaf() => Health::Late,
            found => found,
        }
    }
}
