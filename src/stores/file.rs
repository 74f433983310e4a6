//! A store in one file that several processes share: one publishes, others listen, in any order of starting and ending.
//! Feature `file`. The file is an SQLite database in WAL mode.
//!
//! The default keeps, per channel, 1 000 events, 1 hour and 8 MiB ([`Retention::default`](crate::Retention)):
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
//! Customised, for events that must not be lost with the power:
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
//! An append that succeeded is in the file, whole, and every process reads it from then on. With [`Durability::Process`] it
//! survives the end of any process, `kill -9` included. With [`Durability::Power`] the disk has said that it has it; readers
//! may be given it a little sooner, while the disk is at it.
//! An append that failed with `Unknown` may be in the file; all other errors say that it is not.
//!
//! # Loss of power
//! The file stays sound in either case. With `Process` the last appends before the loss may be gone, some hundreds of
//! milliseconds up to half a minute of them; with `Power` only such as nobody was told had succeeded. Who has read them has
//! cursors that nothing proves any more: whatever is appended instead, they are answered with a reset, never with silence.
//! When the disk reports that it could not sync, this store writes no more until it is opened anew; reads go on. Opening with
//! `Power` writes once more all that the log holds, and syncs it, before anything is acknowledged on top of it: what an earlier
//! process could not sync, the system may show although the disk does not have it.
//!
//! # Several processes
//! Any number may append, read and watch. One writes at a time, under the lock of `<file>-lock`; a process that dies gives
//! it back, and one that is stopped makes appends of others fail with `Unavailable` after the
//! [timeout](FileOptions::timeout), naming it; reads go on. Others hear of an append through `<file>-bell`, watched with
//! inotify, within a fraction of a millisecond; where that does not work, within 10 ms, and after damage to it within 250 ms.
//! Remove none of the files `<file>`, `-wal`, `-shm`, `-lock` and `-bell` while any process has the store open: `-bell`
//! is made anew, but the removal of `<file>` ends the store in each process with `Unavailable`. A store is open until its
//! threads have ended, a moment after its last clone was dropped. To copy the file, use `VACUUM INTO` or SQLite's backup.
//!
//! All of them have to be on one machine. **Network file systems** cannot be used, for the processes share memory through
//! the file: opening fails on those that are known, and on FUSE and shared folders of virtual machines, behind which there may
//! be one, unless [`any_file_system`](FileOptions::any_file_system) is asked for. **After a fork** what the child inherited fails with `Unavailable`, and
//! it can open no event file unless it executes a program: fork first, then open. Stores on one file within a process are as
//! good as several processes, but clones are cheaper.
//!
//! # Health and damage
//! [`health`](Store::health) is `Unavailable` while the file is not where it was opened, another is in its place, or it cannot be
//! read; `ReadOnly` while appends fail: the disk is full, another process keeps the lock, a reader keeps the log from being
//! reused, a newer version raised the format, or a sync failed (this one until the store is opened anew). While something is
//! wrong it is tried again every second, so that its end is noticed without any call. The store is never `Late`.
//!
//! A channel whose rows are damaged is said once in the log (`tracing`, with its name), its reads and appends fail with
//! `Corrupt`, and all others go on; [`heads`](Store::heads) of many channels gives it a head in an epoch of its own, that no
//! cursor continues from. [`init`](Store::init) with [`Expect::Any`](crate::store::Expect) or [`delete`](Store::delete) begins
//! it anew.
//!
//! # Clocks
//! The process that appends, reads or tidies judges age by the system's clock, which all of them share, or by its own
//! [`clock`](FileOptions::clock); the stamps of others make nothing older. One that is ahead drops what is too old by it, for all,
//! and, ahead by more than 5 minutes, what others keep longer than it does; readers that had not read it are told
//! (`Trimmed`). A clock that steps back does no harm.
//!
//! # Upgrades
//! The format of the file is version 3; versions 1 and 2 are brought up when they are opened, in one transaction that also writes
//! who may read and write the new version ([`Format`](crate::store::Format)). Each transaction looks at that: a process of an older version
//! that still runs fails with [`StoreError::NewerFormat`] from then on (those before format 3: with
//! `Unavailable`), and none writes what the other would misread. So upgrade by starting new processes beside the old ones, and
//! expect the old ones to refuse to publish until they end. There is no way back but a copy.
//!
//! # Retention
//! Of processes with different settings the largest of each setting counts: each says what it keeps when it opens the file and
//! every 75 s from then on, and counts for 5 minutes after that. A setting that is raised concerns what is still there; one
//! that is lowered is applied, also to channels without appends, once no process keeps more.
//!
//! Up to a quarter more than [`Retention`] says may gather (at most 64 events, 64 KiB), and goes with the
//! next appends; too old events are gone for readers at once and go from the file within twice the age. The pages of what
//! went are used again, and given back to the system when they are more than half of the file. A process that is stopped in
//! the middle of a read makes the log grow, up to [`FileOptions::largest_wal`]; once it goes on or ends, the log is cut again.
//!
//! # Cancel safety
//! Dropping an append before the writer took it withdraws it; afterwards it is applied whole.
//!
//! # Threads
//! Each open store has a thread that writes (clones share it), with [`Durability::Power`] two, so that one commits while the
//! other waits for the disk; one that copies the log into the file once there is a log to copy, and one that waits for
//! another process once it had to.
//! With [`Durability::Process`], an append that nothing hinders is written by the task that asks, for some tens of
//! microseconds: the log is in the system's memory then, and a change of threads would take longer.
//! Reads need a tokio runtime: they run on its blocking threads. A watcher on a tokio runtime, which needs its IO driver
//! then (`enable_all`), is woken by inotify itself, and reads what is new in place; one thread per process looks around four
//! times a second while there are watchers, and listens for those that are on no runtime.
//!
//! # Speed
//! Acknowledged appends of 200-byte events, one at a time by each publisher, as `cargo bench --bench file` measured them on 21
//! November 2026 on a virtual machine with two processors (AMD EPYC, Linux 6.18, ext4; a sync takes 0.25 ms, waking a thread
//! on the other processor 50 to 200 µs, depending on the minute): medians of eleven rounds. *Directly* is a loop on one
//! thread that writes the same batches with the same statements, and with `synchronous = FULL` for `Power`; *handed over* is
//! that loop on a thread, with a task that awaits each batch.
//!
//! | | events/s | in a commit | to directly | to handed over |
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
//! With `Power` and few publishers it is the change of threads that shows, and how long it takes: a runtime's own threads
//! must not wait for a disk. With one publisher two other runs gave 0.62 and 0.77, with four 0.72 and 1.06; 16 publishers were
//! 6.1 times as fast as one direct commit for each event. On a machine that wakes a thread in 25 µs (Intel Xeon), one
//! publisher with `Process` reached 51 444 events/s, and 16 reached 94 989.
//!
//! From publishing in one process to delivery in another, hub to hub, with `Process`: 0.37 ms (median) with each process on a
//! processor of its own, where SQLite, inotify and a select by hand take 0.24 ms, and a write that inotify tells of 0.11 ms;
//! on the Xeon 0.13 ms and 0.08 ms by hand. Reading 100 000 events of 200 bytes: 330 000 events/s (67 MB/s) in pages of 100,
//! 590 000 (118 MB/s) in pages of 1 000, in the memory of a page. Opening a file of 1.1 GB: 0.6 ms, and its last 100 events
//! within 5 ms. A million events through a retention of 10 000: the file stays at 2.7 MiB, and the log below 14 MiB; while a
//! reader is stopped in the middle of a read, the log grows to [`FileOptions::largest_wal`].

mod changes;
mod channel_row;
mod checkpoint;
mod checkpointer;
mod checksum;
mod columns;
mod commit_error;
mod committer;
mod connection;
mod core;
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
    error::{OpenError, OpenErrorKind},
    file_store::FileStore,
    options::{Durability, FileOptions},
};
