//! A server with every service of the crate, where any client may read and write any channel.

use std::ops::Deref;

use axum::Router;
use tower_events::{
    Channel, Channels, Cursor, Event, EventService, Hub, LongPollService, MemoryStore, PublishService, SseService,
    Store,
};

use super::server::{Server, serve, serve_in_memory};

/// `/events` (either transport), `/sse`, `/poll`, `/publish`, and the hub behind them.
pub struct App {
    pub hub: Hub,
    server: Server,
}

impl App {
    /// Listens on a socket, with an empty memory store.
    pub async fn start() -> Self {
        Self::on(MemoryStore::default()).await
    }

    /// Listens on a socket, with this store.
    pub async fn on(store: impl Store) -> Self {
        let hub = Hub::new(store);
        Self { server: serve(routes(&hub)).await, hub }
    }

    /// Serves over in-memory pipes, for paused clocks.
    pub fn in_memory() -> Self {
        Self::in_memory_on(MemoryStore::default())
    }

    /// As [`App::in_memory`], with this store.
    pub fn in_memory_on(store: impl Store) -> Self {
        let hub = Hub::new(store);
        Self { server: serve_in_memory(routes(&hub)), hub }
    }

    /// Publishes an event and returns its cursor as text.
    pub async fn publish(&self, to: &str, event: Event) -> String {
        self.hub.publish(&channel(to), event).await.expect("published").cursor.to_string()
    }

    /// Publishes `count` texts `<channel>1`, `<channel>2`, … and returns their cursors as text.
    pub async fn publish_many(&self, to: &str, count: usize) -> Vec<String> {
        let events = (1..=count).map(|n| Event::text(format!("{to}{n}")));
        let appended = self.hub.publish_all(&channel(to), events).await.expect("published");
        appended.receipts.iter().map(|receipt| receipt.cursor.to_string()).collect()
    }

    /// Closes a channel and returns its last cursor.
    pub async fn close(&self, name: &str) -> String {
        self.hub.close(&channel(name)).await.expect("closed").cursor.to_string()
    }

    /// The channel's head.
    pub async fn head(&self, name: &str) -> Cursor {
        self.hub.heads(&channel(name).into()).await.expect("heads")[0].cursor
    }

    /// Waits until the hub has exactly this many readers, that is, until what a client did has reached the server.
    pub async fn wait_for_readers(&self, count: usize) {
        super::eventually_eq("readers", count, || self.hub.stats().readers).await;
    }

    /// The server without the hub's handle.
    pub fn into_server(self) -> Server {
        self.server
    }
}

impl Deref for App {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// A channel of this name.
pub fn channel(name: &str) -> Channel {
    Channel::new(name).expect("a channel name")
}

fn routes(hub: &Hub) -> Router {
    Router::new()
        .route_service("/events", EventService::new(hub.clone(), Channels::from_query))
        .route_service("/sse", SseService::new(hub.clone(), Channels::from_query))
        .route_service("/poll", LongPollService::new(hub.clone(), Channels::from_query))
        .route_service("/publish", PublishService::new(hub.clone(), Channels::from_query))
}
