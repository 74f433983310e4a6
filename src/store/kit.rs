//! The parts that every store needs, so that a new store contains only what is particular to it. The stores that come with the
//! crate are built from these parts, too.
//!
//! # Writing a store
//! A store implements the [`Store`](super::Store) trait, whose documentation is the contract. Most of the contract is decided here
//! and in the modules beside; what is left is how a channel is stored, and how other processes hear of a change.
//!
//! **What is stored.** Per place an epoch ([`fresh_epoch`](super::resume::fresh_epoch), drawn once) and a floor per bucket of
//! names ([`floor`](super::floor)). Per channel its [`LogState`]: the record and what retention needs. Per entry its tag, that of
//! its predecessor, its stamp, time, name and data; text and other JSON are told apart by
//! [`Data::as_text`](crate::Data::as_text). Per key its stamp, and what is [`Known`] of it: the receipt and the
//! [`fingerprint`](super::fingerprint). Data that other versions will read begin with a [`Format`](super::Format).
//!
//! A store of rows may have a column for each of these. In one of keys and bytes an entry is what [`encode_entry`] makes of it, which
//! has its own version and detects damage, and the others are numbers: [`LogState::to_numbers`], [`Known::to_numbers`],
//! [`Keep::to_numbers`].
//!
//! **The writes.** A store that keeps rows, and changes them in transactions, implements [`WriteTransaction`]: how a row is stored
//! is its own, and appends, inits, deletes and retention are there. Any other store makes an append one atomic step:
//!
//! 1. [`check_append_size`], and [`Fingerprints::of`], before anything is locked.
//! 2. Read the channel, apply retention to it, and describe it as [`Before`].
//! 3. [`Before::decide`] with a function that looks up a key. It refuses, finds that nothing changes, or returns a [`Draft`].
//! 4. [`Draft::complete`] makes the entries. Write them, the new keys and the head; then drop what exceeds the limits.
//! 5. Once that is durable, tell the [`Watchers`], in the order of the writes, and return the [`Addition`]'s result.
//!
//! An init is the same with [`check_init_size`], [`Before::check`], [`init_start`] and [`Sequencer`]; it removes the old entries and
//! keys. A delete removes everything and raises the floor.
//!
//! **Many writes at once** share a call or a transaction: [`write_queue`].
//!
//! **A read** is one snapshot: the [`Record`](super::resume::Record) of the channel (of an absent one
//! [`Record::absent`](super::resume::Record::absent), which stores nothing), and a [`PageBuilder`] that is offered the
//! entries. [`AbsentChannels`] guesses for which of many channels a request for their heads also has to ask for a floor.
//!
//! **Retention.** [`Keep`] has the limits. [`LogState::exceeds`] says whether the oldest entry is to be dropped, and
//! [`LogState::is_over`] whether the record is to be forgotten, which raises the floor. An unused channel has to be forgotten
//! as well: look at a few of those that are [due](LogState::next_due) with each write, or every [`Keep::period`] milliseconds.
//!
//! **Changes.** [`Watchers`] are all of [`Store::changes`](super::Store::changes) for a store of one process. One that is notified by
//! a server arms them once its subscription is confirmed, disarms them when the connection is lost, and is
//! [`Degraded`](super::Health::Degraded) in between.
//!
//! **Errors.** What may have been written and is not known to be is [`StoreError::Unknown`](super::StoreError::Unknown); whatever
//! changed nothing and may succeed later is `Unavailable`, or `Full`. Callers that share a failed write each get a
//! [`StoreError::shared`](super::StoreError::shared).
//!
//! **Health.** [`ObservedHealth`] has what the last calls observed, and lets one task at a time look for the end of a problem.
//!
//! **Proof.** Describe how to open the store in a [`Harness`](../../testing/trait.Harness.html), and run every clause of the contract
//! with [`conformance_tests!`](../../testing/macro.conformance_tests.html) (feature `testing`).
//!
//! `examples/redb_store` in the repository is such a store, complete, on an embedded database: one durable file that recovers from
//! a full disk. It uses nothing but the public interface, and passes the suite.
//!
//! # Examples
//! The core of a store that sees every change itself; with retention and the other methods it is a store:
//!
//! ```
//! use std::{collections::HashMap, sync::Mutex};
//! use tower_events::{Channel, EventKey, Retention, StoreError, store::{Append, Appended, Change, Clock, Entry, resume}};
//! use tower_events::store::kit::{Before, Decision, Fingerprints, Known, LogState, Watchers, check_append_size};
//!
//! struct Channels {
//!     place: u64,
//!     logs: HashMap<Channel, (LogState, Vec<Entry>, HashMap<EventKey, Known>)>,
//! }
//!
//! fn append(
//!     (channels, watchers): (&Mutex<Channels>, &Watchers),
//!     retention: &Retention,
//!     channel: &Channel,
//!     append: Append,
//! ) -> Result<Appended, StoreError> {
//!     check_append_size(retention, channel, &append.events, 16 << 20)?;
//!     let (prints, now) = (Fingerprints::of(&append.events), Clock::system().now());
//!     let mut channels = channels.lock().unwrap();
//!     let absent = resume::Record::absent(channels.place, 0, channel).head;
//!     let log = channels.logs.get(channel);
//!     let before = log.map_or(Before::absent(absent), |(state, ..)| Before::recorded(state.record.head));
//!     let known = |key: &EventKey| Ok::<_, StoreError>(log.and_then(|(.., keys)| keys.get(key).copied()));
//!     let draft = match before.decide(&append, prints, known)? {
//!         Decision::Unchanged(appended) => return Ok(appended),
//!         Decision::Write(draft) => draft,
//!     };
//!     let new = (LogState::new(before.head().cursor, now), Vec::new(), HashMap::new());
//!     let (state, entries, keys) = channels.logs.entry(channel.clone()).or_insert(new);
//!     let addition = draft.complete(channel, append.events, state.stamp(now), resume::fresh_tag);
//!     let appended = addition.appended;
//!     appended.entries.iter().for_each(|entry| state.add(entry));
//!     entries.extend(appended.entries.iter().cloned());
//!     keys.extend(addition.keys);
//!     state.record.head = appended.head;
//!     let wakers = watchers.queue_all(&[Change::Entries(appended.entries.clone()), Change::Head(channel.clone(), appended.head)]);
//!     drop(channels);
//!     wakers.wake();
//!     Ok(appended)
//! }
//! # let channels = Mutex::new(Channels { place: resume::fresh_epoch(), logs: HashMap::new() });
//! # let (watchers, room) = (Watchers::armed(), Channel::new("room").unwrap());
//! # let event = || Append::new([tower_events::Event::text("hello").keyed("k").unwrap()]);
//! # let one = append((&channels, &watchers), &Retention::default(), &room, event()).unwrap();
//! # let again = append((&channels, &watchers), &Retention::default(), &room, event()).unwrap();
//! # assert!(one.entries.len() == 1 && again.entries.is_empty() && again.receipts[0].duplicate);
//! ```
//!
//! The changes of a store that a server notifies: a task listens from the first watcher to the last, and connects again at once
//! when a connection that had worked is lost, and else ever more rarely:
//!
//! ```
//! use std::time::Duration;
//! use futures_core::Stream;
//! use tokio::task::JoinHandle;
//! use tower_events::store::{Change, kit::{Backoff, Watchers}};
//!
//! const RECONNECT: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
//!
//! fn changes(watchers: &Watchers) -> impl Stream<Item = Change> + use<> {
//!     watchers.watch_with(|| Listening(tokio::spawn(listen(watchers.clone()))))
//! }
//!
//! async fn listen(watchers: Watchers) {
//!     let mut failed_attempts = 0;
//!     loop {
//!         subscribe_and_follow(&watchers).await;
//!         failed_attempts = if watchers.disarm() { 0 } else { failed_attempts + 1 };
//!         tokio::time::sleep(RECONNECT.delay(failed_attempts)).await;
//!     }
//! }
//!
//! async fn subscribe_and_follow(watchers: &Watchers) {
//!     // Connect and subscribe; once the server has confirmed that:
//!     watchers.arm();
//!     // For each message, until the connection is lost:
//!     watchers.notify(|| Change::Resync);
//! }
//!
//! struct Listening(JoinHandle<()>);
//!
//! impl Drop for Listening {
//!     fn drop(&mut self) {
//!         self.0.abort();
//!     }
//! }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let watchers = Watchers::unarmed();
//! # let mut stream = std::pin::pin!(changes(&watchers));
//! # let first = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await;
//! # assert!(matches!(first, Some(Change::Resync)));
//! # }
//! ```

mod absent_channels;
mod change_queue;
mod changes;
mod codec;
mod decision;
mod jitter;
mod keep;
mod keys;
mod log_state;
mod observed_health;
mod page;
mod sequencer;
mod size;
mod wakers;
mod watcher_registry;
mod watchers;
pub mod write_queue;
mod write_transaction;

pub use self::{
    absent_channels::AbsentChannels,
    changes::Changes,
    codec::{decode_entry, encode_entry},
    decision::{Addition, Before, Decision, Draft, init_start},
    jitter::{Backoff, jittered},
    keep::Keep,
    keys::{Fingerprints, Known},
    log_state::LogState,
    observed_health::{ObservedHealth, Probe},
    page::{PageBuilder, empty_page, listing_start, outcome_of},
    sequencer::Sequencer,
    size::{check_append_size, check_init_size, entry_size, events_size},
    wakers::Wakers,
    watchers::Watchers,
    write_transaction::WriteTransaction,
};
