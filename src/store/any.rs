//! A store behind a trait object, as one concrete type.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use futures_core::Stream;

use super::{Append, Appended, Change, Expect, Head, Health, Limit, Page, Retention, Start, Store, StoreError, Upkeep};
use crate::{channel::Channel, event::Event};

/// Any [`Store`], type-erased: a clonable concrete type, so that a service is `SseService` and not `SseService<MyStore>`. Each
/// call allocates one boxed future.
///
/// ```
/// use tower_events::{MemoryStore, store::AnyStore};
///
/// let store = AnyStore::new(MemoryStore::default());
/// let same = store.clone();
/// # drop(same);
/// ```
#[derive(Clone)]
pub struct AnyStore(Arc<dyn Erased>);

impl AnyStore {
    /// Erases the type of `store`.
    pub fn new(store: impl Store) -> Self {
        Self(Arc::new(store))
    }
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyStore").finish_non_exhaustive()
    }
}

impl Store for AnyStore {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        self.0.erased_append(channel, append).await
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        self.0.erased_read(channel, start, limit).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        self.0.erased_heads(channels).await
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        self.0.erased_init(channel, events, expect).await
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.0.erased_delete(channel).await
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        self.0.erased_channels(prefix, after, limit).await
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        self.0.erased_changes()
    }

    fn retention(&self) -> Retention {
        self.0.erased_retention()
    }

    fn health(&self) -> Health {
        self.0.erased_health()
    }

    fn upkeep(&self) -> Upkeep {
        self.0.erased_upkeep()
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The counterpart of [`Store`] that can be a trait object. Its methods have different names, because calls would otherwise
/// be ambiguous.
trait Erased: Send + Sync + 'static {
    fn erased_append<'a>(&'a self, channel: &'a Channel, append: Append) -> Boxed<'a, Appended>;
    fn erased_read<'a>(&'a self, channel: &'a Channel, start: Start, limit: Limit) -> Boxed<'a, Page>;
    fn erased_heads<'a>(&'a self, channels: &'a [Channel]) -> Boxed<'a, Vec<Head>>;
    fn erased_init<'a>(&'a self, channel: &'a Channel, events: Vec<Event>, expect: Expect) -> Boxed<'a, Head>;
    fn erased_delete<'a>(&'a self, channel: &'a Channel) -> Boxed<'a, ()>;
    fn erased_channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a Channel>,
        limit: usize,
    ) -> Boxed<'a, Vec<(Channel, Head)>>;
    fn erased_changes(&self) -> Pin<Box<dyn Stream<Item = Change> + Send>>;
    fn erased_retention(&self) -> Retention;
    fn erased_health(&self) -> Health;
    fn erased_upkeep(&self) -> Upkeep;
}

impl<S: Store> Erased for S {
    fn erased_append<'a>(&'a self, channel: &'a Channel, append: Append) -> Boxed<'a, Appended> {
        Box::pin(self.append(channel, append))
    }

    fn erased_read<'a>(&'a self, channel: &'a Channel, start: Start, limit: Limit) -> Boxed<'a, Page> {
        Box::pin(self.read(channel, start, limit))
    }

    fn erased_heads<'a>(&'a self, channels: &'a [Channel]) -> Boxed<'a, Vec<Head>> {
        Box::pin(self.heads(channels))
    }

    fn erased_init<'a>(&'a self, channel: &'a Channel, events: Vec<Event>, expect: Expect) -> Boxed<'a, Head> {
        Box::pin(self.init(channel, events, expect))
    }

    fn erased_delete<'a>(&'a self, channel: &'a Channel) -> Boxed<'a, ()> {
        Box::pin(self.delete(channel))
    }

    fn erased_channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a Channel>,
        limit: usize,
    ) -> Boxed<'a, Vec<(Channel, Head)>> {
        Box::pin(self.channels(prefix, after, limit))
    }

    fn erased_changes(&self) -> Pin<Box<dyn Stream<Item = Change> + Send>> {
        Box::pin(self.changes())
    }

    fn erased_retention(&self) -> Retention {
        self.retention()
    }

    fn erased_health(&self) -> Health {
        self.health()
    }

    fn erased_upkeep(&self) -> Upkeep {
        self.upkeep()
    }
}
