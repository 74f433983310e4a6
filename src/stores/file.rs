//! A store in one file that several processes share: some publish, others listen, and each may start and end at any
//! time. Feature `file`. The file is an SQLite database in WAL mode.
//!
//! By default it keeps 1 000 events, 1 hour and 8 MiB per channel ([`Retention::default`](crate::Retention)):
//!
//! ```
//! use tower_events::{Channel, Event, FileStore, Store, store::{Append, Limit, Start}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(format!("tower-events-doc-{}", std::process::id()));
//! # let path = dir.join("made/if/missing/events.db");
//! let room = Channel::new("room:1")?;
//! let before = FileStore::open(&path)?.read(&room, Start::Latest, Limit::POSITION).await?;
//! FileStore::open(&path)?.append(&room, Append::new([Event::text("hello")])).await?;
//!
//! let another_process = FileStore::open(&path)?;
//! let page = another_process.read(&room, Start::After(before.next), Limit::default()).await?;
//! assert_eq!(page.entries[0].data.as_text(), Some("hello"));
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(())
//! # }
//! ```
//!
//! With options, for events that must survive a loss of power:
//!
//! ```
//! use std::time::Duration;
//! use tower_events::{FileStore, Retention, stores::file::Durability};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let path = std::env::temp_dir().join(format!("tower-events-doc-power-{}.db", std::process::id()));
//! let store = FileStore::options()
//!     .durability(Durability::Power)
//!     .retention(Retention::default().events(100_000).age(Duration::from_secs(7 * 24 * 60 * 60)))
//!     .timeout(Duration::from_secs(1))
//!     .open(&path)?;
//! # drop(store);
//! # for end in ["", "-lock", "-bell", "-wal", "-shm"] { _ = std::fs::remove_file(format!("{}{end}", path.display())); }
//! # Ok(())
//! # }
//! ```
//!
//! # What an acknowledgement means
//! An append that succeeded is in the file, whole, and every process reads it from then on. With
//! [`Durability::Process`] it survives the end of any process, `kill -9` included. With [`Durability::Power`] it is
//! also synced to the disk; readers may get the event slightly earlier, while the sync is in progress. If an append
//! fails with `Unknown`, it may be in the file; all other errors mean that it is not.
//!
//! # Loss of power
//! The file stays intact in either case. With `Process` the appends of the last moments before the loss may be gone,
//! from some hundreds of milliseconds up to half a minute; with `Power` only appends that were not acknowledged. A
//! reader that has read lost events has a cursor that nothing confirms: whatever is appended instead, it gets a reset,
//! never silence. If the disk reports a failed sync, the store writes nothing until it is opened again; reads continue.
//! Opening with `Power` rewrites and syncs the whole WAL before anything is acknowledged: after a failed sync in an
//! earlier process, the system may show data that the disk does not have.
//!
//! # Several processes
//! Any number may append, read and watch. One writes at a time, under the lock of `<file>-lock`. A process that dies
//! releases it; if one that holds it is stopped, appends of others fail with `Unavailable` after the
//! [timeout](FileOptions::timeout), with an error that names it, while reads continue. Each commit is written to
//! `<file>-bell`, which the others watch with inotify: they notice it within a fraction of a millisecond; where inotify
//! does not work, within 10 ms, and after damage to that file within 250 ms. Do not remove the files `<file>`, `-wal`,
//! `-shm`, `-lock` and `-bell` while any process has the store open: `-bell` is created again, but without `<file>` the
//! store fails in each process with `Unavailable`. A store stays open until its threads have ended, shortly after its
//! last clone was dropped. To copy the file, use `VACUUM INTO` or SQLite's backup.
//!
//! All processes must be on one machine, since they share memory through the file. **Network file systems** are not
//! supported: opening fails on those that are known, and on FUSE and shared folders of virtual machines, which may be
//! one, unless [`any_file_system`](FileOptions::any_file_system) is set. **After a fork**, calls on stores that the
//! child inherited fail with `Unavailable`, and the child cannot open event files unless it executes a program: fork
//! first, then open. Several stores on one file may be open in one process, but clones are cheaper.
//!
//! # Health and damage
//! [`health`](crate::store::Store::health) is `Unavailable` while the file is not where it was opened, another is in
//! its place, or it cannot be read. It is `ReadOnly` while appends fail: the disk is full, another process keeps the
//! lock, a reader prevents the WAL from being reused, a newer version has upgraded the format, or a sync failed (in
//! which case until the store is opened again). While reads or writes fail, the store retries them every second, so it
//! recovers without being called. It is never `Degraded`.
//!
//! If a channel's rows are damaged, this is logged once (`tracing`, with its name) and its reads and appends fail with
//! `Corrupt`; all other channels continue. When [`heads`](crate::store::Store::heads) reads several channels, a damaged
//! one gets a head in an epoch that no cursor is in. [`init`](crate::store::Store::init) with
//! [`Expect::Any`](crate::store::Expect) or [`delete`](crate::store::Store::delete) starts a new log.
//!
//! # Clocks
//! Age is judged by the process that appends, reads or maintains a channel, with the system clock, which all of them
//! share, or its own [`clock`](FileOptions::clock); stamps written by other processes do not make entries older. A
//! process whose clock is ahead drops what is too old by that clock, for all processes; if it is ahead by more than 5
//! minutes, it also drops what others would keep longer. Readers that had not read it get `Trimmed`. A clock that steps
//! back does no harm.
//!
//! # Upgrades
//! The format of the file is version 3; files of versions 1 and 2 are upgraded when they are opened, in one transaction
//! that also stores which versions may read and write the new [`Format`](crate::store::Format). Each transaction checks
//! that: from then on, running processes of older versions fail with
//! [`StoreError::NewerFormat`](crate::StoreError::NewerFormat) (those before format 3: with `Unavailable`), and no
//! process misreads what another writes. So upgrade by starting new processes next to the old ones, and expect the old
//! ones to refuse to publish until they end. The only way back is a copy of the file.
//!
//! # Retention
//! If processes have different settings, the largest of each applies. A process announces its settings when it opens
//! the file and every 75 s from then on; each announcement is valid for 5 minutes. A setting that is raised applies to
//! what is still stored; one that is lowered is applied, also to idle channels, once no process keeps more.
//!
//! A channel may exceed its [`Retention`](crate::Retention) by up to a quarter (at most 64 events, 64 KiB), which the
//! next appends drop. Expired events are hidden from readers at once, and are removed from the file within twice their
//! age. Free pages are reused, and returned to the system when they are more than half of the file. A process that is
//! stopped in the middle of a read makes the WAL grow, up to [`FileOptions::max_wal_bytes`]; once it continues or ends,
//! the WAL is truncated.
//!
//! # Cancel safety
//! Dropping the future of an append cancels it, unless the writer has already taken it: then it is applied whole.
//!
//! # Threads
//! Each open store has a writer thread, which clones share; with [`Durability::Power`] it has two, so that one commits
//! while the other syncs. Further threads start when they are first needed: one checkpoints the WAL, and one waits for
//! the lock while another process holds it. With [`Durability::Process`], an append that does not have to wait is
//! written by the task that calls it, within some tens of microseconds: the WAL is in the system's memory, and a thread
//! switch would take longer. Reads need a tokio runtime: they run on its blocking threads. A watcher on a tokio
//! runtime, which then needs its IO driver (`enable_all`), is woken by inotify itself, and reads new entries in place.
//! While there are watchers, one thread per process checks all files four times a second, and listens for watchers that
//! are not on a runtime.
//!
//! # Speed
//! Acknowledged appends of 200-byte events, one at a time per publisher, as measured by `cargo bench --bench file` on
//! 21 November 2026 on a virtual machine with two processors (AMD EPYC, Linux 6.18, ext4; a sync takes 0.25 ms, waking
//! a thread on the other processor 50 to 200 µs, depending on the minute): medians of eleven rounds. *Direct* is a loop
//! on one thread that writes the same batches with the same statements (with `synchronous = FULL` for `Power`); *handed
//! over* is that loop on a thread, with a task that awaits each batch.
//!
//! | | events/s | events per commit | ratio to direct | ratio to handed over |
//! |---|---|---|---|---|
//! | `Process`, 1 publisher | 18 077 | 1.00 | 1.06 | 3.79 |
//! | 4 publishers | 28 801 | 2.60 | 1.00 | 2.87 |
//! | 16 publishers | 39 105 | 3.97 | 1.06 | 2.93 |
//! | 4 processes with 1 | 16 271 | | 0.91 | |
//! | 4 processes with 4 | 19 731 | | 0.92 | |
//! | `Power`, 1 publisher | 1 782 | 1.00 | 0.60 | 0.83 |
//! | 4 publishers | 5 268 | 2.25 | 0.77 | 1.04 |
//! | 16 publishers | 18 630 | 7.83 | 0.91 | 1.28 |
//! | 4 processes with 1 | 1 893 | | 0.93 | |
//! | 4 processes with 4 | 9 099 | | 0.91 | |
//!
//! With `Power` and few publishers the thread switches show, since an async worker must not wait for a disk. With one
//! publisher two other runs gave 0.62 and 0.77, with four 0.72 and 1.06; 16 publishers were 6.1 times as fast as one
//! direct commit per event. On a machine that wakes a thread in 25 µs (Intel Xeon), one publisher with `Process`
//! reached 51 444 events/s, and 16 reached 94 989.
//!
//! From publishing in one process to delivery in another, hub to hub, with `Process`: 0.37 ms (median) with each
//! process on its own processor, where SQLite, inotify and a select without the store take 0.24 ms, and a write with an
//! inotify event alone 0.11 ms; on the Xeon 0.13 ms, and 0.08 ms without the store. Reading 100 000 events of 200
//! bytes: 330 000 events/s (67 MB/s) in pages of 100, 590 000 (118 MB/s) in pages of 1 000, in the memory of one page.
//! Opening a file of 1.1 GB: 0.6 ms, and its last 100 events within 5 ms. A million events through a retention of 10
//! 000: the file stays at 2.7 MiB, and the WAL below 14 MiB; while a reader is stopped in the middle of a read, the WAL
//! grows to [`FileOptions::max_wal_bytes`].

mod changes;
mod channel_row;
mod checkpoint;
mod checkpointer;
mod columns;
mod commit_error;
mod committer;
mod connection;
mod core;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod decoding;
mod durability;
mod entries;
mod entry_row;
mod error;
mod file_store;
mod file_system;
mod floors;
mod format;
mod head_cache;
mod health;
mod inotify;
mod janitor;
mod listener;
mod listing;
mod lock;
mod lock_holders;
mod notify_file;
mod notify_reader;
mod open;
mod options;
mod paths;
mod probe;
mod quarantine;
mod read;
mod read_pool;
mod request;
mod request_queue;
mod retention;
mod row_cache;
mod savepoint;
mod schema;
mod shared_retention;
mod transaction;
mod wal;
mod write_queue;
mod writer;
mod writer_threads;

pub use self::{
    file_store::FileStore,
    options::{Durability, FileOptions},
};
