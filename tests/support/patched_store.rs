//! A memory store with some operations replaced by a fault.

use std::{future::Future, pin::Pin, sync::Arc};

use futures_core::Stream;
use tower_events::{
    Channel, Event, MemoryStore, Retention, Store, StoreError,
    store::{Append, Appended, Change, Expect, Head, Health, Limit, Page, Start, Upkeep},
};

pub(crate) type Hints = Pin<Box<dyn Stream<Item = Change> + Send>>;

/// What is wrong with a store: overrides the operations that it breaks. All stores of one clause share a fault.
pub(crate) trait Fault: Send + Sync + 'static {
    fn append(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        append: Append,
    ) -> impl Future<Output = Result<Appended, StoreError>> + Send {
        inner.append(channel, append)
    }

    fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send {
        inner.read(channel, start, limit)
    }

    fn heads(
        &self,
        inner: &MemoryStore,
        channels: &[Channel],
    ) -> impl Future<Output = Result<Vec<Head>, StoreError>> + Send {
        inner.heads(channels)
    }

    fn init(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        events: Vec<Event>,
        expect: Expect,
    ) -> impl Future<Output = Result<Head, StoreError>> + Send {
        inner.init(channel, events, expect)
    }

    fn delete(&self, inner: &MemoryStore, channel: &Channel) -> impl Future<Output = Result<(), StoreError>> + Send {
        inner.delete(channel)
    }

    fn channels(
        &self,
        inner: &MemoryStore,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Channel, Head)>, StoreError>> + Send {
        inner.channels(prefix, after, limit)
    }

    fn changes(&self, inner: Hints) -> Hints {
        inner
    }

    fn health(&self) -> Health {
        Health::Ready
    }

    fn upkeep(&self) -> Upkeep {
        Upkeep::default()
    }
}

pub(crate) struct PatchedStore<F> {
    inner: MemoryStore,
    fault: Arc<F>,
}

impl<F: Fault> PatchedStore<F> {
    pub(crate) fn new(inner: MemoryStore, fault: Arc<F>) -> Self {
        Self { inner, fault }
    }
}

impl<F: Fault> Store for PatchedStore<F> {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        self.fault.append(&self.inner, channel, append).await
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        self.fault.read(&self.inner, channel, start, limit).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        self.fault.heads(&self.inner, channels).await
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        self.fault.init(&self.inner, channel, events, expect).await
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.fault.delete(&self.inner, channel).await
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        self.fault.channels(&self.inner, prefix, after, limit).await
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        self.fault.changes(Box::pin(self.inner.changes()))
    }

    fn retention(&self) -> Retention {
        self.inner.retention()
    }

    fn health(&self) -> Health {
        self.fault.health()
    }

    fn upkeep(&self) -> Upkeep {
        self.fault.upkeep()
    }
}
