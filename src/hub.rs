//! Fan-out in one process: follows the store and delivers events to readers.
//!
//! Knows only the store's contract, never HTTP.
//!
//! A subscriber is a position and a waker: it pulls. While it keeps up it is served from its channel's ring of recent
//! entries, which are encoded once for all readers; when it falls behind it reads pages from the store until it has caught up.
//! **Register, then read, then wait**: nothing that is published in between is missed. Only a store read decides a reset.
//!
//! # Examples
//! The default:
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tower_events::{Channel, Event, Hub, MemoryStore};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let receipt = hub.publish(&Channel::new("room")?, Event::text("hello")).await?;
//! assert!(!receipt.duplicate);
//! # Ok(())
//! # }
//! ```
//! Customised: events after a point in time, or none after five seconds.
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tower_events::{Channel, Hub, HubOptions, Listen, MemoryStore, Retention, Subscription, store::Start};
//!
//! let store = MemoryStore::new(Retention::default().events(100));
//! let hub = Hub::with_options(store, HubOptions::default().ring_bytes(64 << 10));
//! let since = Subscription::new(Channel::new("room")?).start(Start::Time(1_732_094_400_123));
//! let listen = Listen::from(since).wait(Duration::from_secs(5)).on_empty(|| println!("nothing yet"));
//! assert!(hub.listen(listen).await?.entries().is_empty());
//! # Ok(())
//! # }
//! ```

mod access;
mod admission;
mod advance;
mod busiest;
mod catch_up;
mod changes;
mod channel_reader;
mod channel_readers;
mod counters;
mod delivery;
mod drain;
mod encoded_entry;
mod encoding;
mod entry_run;
mod error;
mod fold;
mod follower;
mod follower_tasks;
mod gather;
mod handle;
mod head_requests;
mod heads;
mod lease;
mod listen;
mod listening;
mod membership;
mod moment;
mod options;
mod outage;
mod outage_log;
mod owned_prefixes;
mod page_reads;
mod publish;
mod rate;
mod read;
mod read_budgets;
mod read_options;
mod recent;
mod recheck;
mod revocation_follower;
mod revocations_channel;
mod revoke;
mod ring;
mod shared;
mod shared_call;
mod shared_page;
mod shared_read;
mod snapshot_calls;
mod snapshot_flights;
mod snapshot_request;
mod stats;
mod store_calls;
mod subjects;
mod subscriber;
mod subscription;
mod sweep;
mod sync;
mod terms;
mod topic;
mod topics;
mod turns;
mod updates;

pub(crate) use self::{
    access::{Access, Asked, Denied},
    encoding::{Delimiters, Encoding},
    entry_run::encode_joined,
    listening::Listening,
    rate::Rate,
    subscription::SubscriptionStart,
    terms::{RecheckPlan, Terms},
    turns::Turn,
};
pub use self::{
    delivery::{Batch, Closed, Delivery, Failed, Reset, Snapshot},
    drain::Drained,
    error::SubscribeError,
    handle::Hub,
    listen::{Listen, Listened},
    options::HubOptions,
    stats::{
        Bucket, Counts, EndReason, Histogram, Label, PublishFailure, ReadPurpose, ReaderKind, RefusedBy, Stats, Totals,
    },
    subscriber::Subscriber,
    subscription::Subscription,
    terms::Recheck,
    updates::{Update, UpdateContent, Updates},
};
