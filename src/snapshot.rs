//! Snapshots: the state of a channel, for readers that cannot be given its events from where they are.
//!
//! A service or subscription may have a provider: an asynchronous function that returns the state of a channel as an
//! [`Event`]. It is asked on a fresh start, which is one that names neither a start nor a position (an explicit `latest` is a
//! start), and after every reset. First the channel's head is read, then the provider is called; the event goes out with the
//! head as its position, and reading goes on from there.
//!
//! # What the provider promises
//! The state contains every event that was stored before the provider was called. So **commit before you publish**, and read
//! the primary, not a replica. The state may contain later events as well. These come again as events, so apply events
//! idempotently.
//!
//! # What readers can rely on
//! No position of a channel is named before its state was handed out: a client that loses its connection in between resumes
//! from its old position, or without one, and gets a snapshot again. When the provider fails, panics or takes too long, a stream
//! ends with `stream-retry` and a poll is a 503, both with a delay that doubles up to 30 s while the provider keeps failing; a
//! reader never goes on without the state.
//!
//! # How often it is called
//! Readers share calls: one that needs the state of a channel takes that of a call under way, or of one that ended within the
//! last two seconds. After a reset only a call that began after the reset was decided will do. Calls for one channel follow one
//! another, at least 100 ms apart, and at most [`Snapshots::max_concurrent`] run at once; up to 1 024 channels wait for theirs,
//! and one more is refused at once (503, or `stream-retry`). What a snapshot sends is encoded once for all that share it. `HEAD`
//! never calls the provider.
//!
//! # Examples
//! The default:
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::convert::Infallible;
//! use tower_events::{Channels, Event, EventService, Hub, MemoryStore, Snapshots};
//!
//! # async fn unread(_: &str) -> Result<u64, Infallible> { Ok(3) }
//! let snapshots = Snapshots::new(|request| async move {
//!     let unread = unread(request.channel.as_str()).await?;
//!     Event::json(&unread)?.named("unread").map_err(Box::<dyn std::error::Error + Send + Sync>::from)
//! });
//! let events = EventService::new(Hub::new(MemoryStore::default()), Channels::from_query).snapshots(snapshots);
//! # drop(events);
//! # Ok(())
//! # }
//! ```
//! Customised, for a reader within the process:
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tower_events::{Channel, Delivery, Event, Hub, InvalidEvent, MemoryStore, Snapshots, Subscription};
//!
//! let snapshots = Snapshots::new(|_| async { Ok::<_, InvalidEvent>(Event::text("all of it")) })
//!     .timeout(Duration::from_secs(2))
//!     .max_concurrent(1)
//!     .max_bytes(64 << 10);
//! let hub = Hub::new(MemoryStore::default());
//! let subscription = Subscription::new(Channel::new("board")?).snapshots(snapshots);
//! let mut subscriber = hub.subscribe(subscription).await?;
//! let Some(Ok(Delivery::Snapshot(snapshot))) = subscriber.next().await else { panic!() };
//! assert_eq!(snapshot.entry().data.as_text(), Some("all of it"));
//! # Ok(())
//! # }
//! ```

mod error;
mod provider;
mod request;

use std::{
    any::Any,
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use self::provider::Provider;
pub(crate) use self::provider::State;
pub use self::{error::SnapshotError, request::SnapshotRequest};
use crate::{cursor::Cursor, event::Event};

/// A provider of snapshots, and how it may be used. Clones are cheap and share calls; a setter makes a provider that shares
/// none with earlier clones. See the [module docs](self).
#[derive(Clone)]
pub struct Snapshots(Arc<Shared>);

struct Shared {
    provider: Provider,
    timeout: Duration,
    max_concurrent: usize,
    max_bytes: usize,
    /// What the user of the provider keeps with it.
    kept: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Snapshots {
    /// Asks `provider` for the state of a channel, with default settings. Its future is dropped when nobody waits for it any
    /// more, and at the [timeout](Self::timeout). It must not block its thread: no timeout ends that.
    ///
    /// Give the event a name of its own, so that clients can tell it from other events. Its idempotency key is not used; its
    /// time, unless it has one, is that of the call.
    pub fn new<F, E>(provider: impl Fn(SnapshotRequest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Event, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let state = |event| State { event, position: None };
        Self::with_defaults(Provider::new(provider, state))
    }

    /// As [`new`](Self::new), where `provider` returns the state's position as well: the channel's head when the state was read, in
    /// one transaction with it. No event that the state contains comes again then. With
    /// [`PostgresStore`](crate::stores::postgres) the position is a function in SQL:
    ///
    /// ```
    /// use tower_events::{Cursor, Event, SnapshotRequest, Snapshots};
    ///
    /// # struct Row(String, String);
    /// # async fn query_one(_: &str, _: &str) -> Result<Row, std::io::Error> { Err(std::io::ErrorKind::Other.into()) }
    /// /// One statement sees one snapshot of the database; several need a `repeatable read` transaction.
    /// const STATE: &str = "select tower_events.position($1), (select jsonb_agg(text) from message where room = $1)::text";
    ///
    /// async fn room(request: SnapshotRequest) -> Result<(Event, Cursor), Box<dyn std::error::Error + Send + Sync>> {
    ///     let Row(position, state) = query_one(STATE, request.channel.as_str()).await?;
    ///     Ok((Event::new(tower_events::Data::from_json(state)?).named("state")?, position.parse()?))
    /// }
    ///
    /// let snapshots = Snapshots::with_positions(room);
    /// # drop(snapshots);
    /// ```
    pub fn with_positions<F, E>(provider: impl Fn(SnapshotRequest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(Event, Cursor), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let state = |(event, position)| State { event, position: Some(position) };
        Self::with_defaults(Provider::new(provider, state))
    }

    fn with_defaults(provider: Provider) -> Self {
        Self(Arc::new(Shared {
            provider,
            timeout: Duration::from_secs(10),
            max_concurrent: 4,
            max_bytes: 1 << 20,
            kept: OnceLock::new(),
        }))
    }

    /// Sets how long a call may take, and how long one may wait to begin, before it counts as failed; at least 1 ms. Default
    /// 10 s.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|shared| shared.timeout = timeout.max(Duration::from_millis(1)))
    }

    /// Sets how many calls may run at once, for all channels together; at least 1. Default 4.
    #[must_use]
    pub fn max_concurrent(self, max_concurrent: usize) -> Self {
        self.with(|shared| shared.max_concurrent = max_concurrent.max(1))
    }

    /// Sets the maximum size of a snapshot, in bytes as [`Entry::size`](crate::store::Entry::size) counts them: a larger one
    /// counts as a failed call. Default 1 MiB. It is no event of the store, whose bounds do not apply to it.
    #[must_use]
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        self.with(|shared| shared.max_bytes = max_bytes)
    }

    fn with(self, change: impl FnOnce(&mut Shared)) -> Self {
        let Shared { ref provider, timeout, max_concurrent, max_bytes, .. } = *self.0;
        let provider = provider.clone();
        // What was kept belongs to the settings that it was kept with.
        let mut shared = Shared { provider, timeout, max_concurrent, max_bytes, kept: OnceLock::new() };
        change(&mut shared);
        Self(Arc::new(shared))
    }
}

/// For the hub.
impl Snapshots {
    /// Calls the provider.
    pub(crate) async fn call(&self, request: SnapshotRequest) -> Result<State, SnapshotError> {
        self.0.provider.call(request, self.0.timeout).await
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        self.0.timeout
    }

    pub(crate) fn most_concurrent(&self) -> usize {
        self.0.max_concurrent
    }

    pub(crate) fn most_bytes(&self) -> usize {
        self.0.max_bytes
    }

    /// A value that is kept with the provider, for all its clones, made by the first that asks. `None` if a value of another
    /// type is kept.
    pub(crate) fn kept<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        self.0.kept.get_or_init(|| Arc::new(make())).clone().downcast().ok()
    }
}

/// Whether both share their calls.
impl PartialEq for Snapshots {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Snapshots {}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots")
            .field("timeout", &self.0.timeout)
            .field("max_concurrent", &self.0.max_concurrent)
            .field("max_bytes", &self.0.max_bytes)
            .finish_non_exhaustive()
    }
}
