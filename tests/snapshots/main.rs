//! Snapshots over real sockets: who gets one and when, that no position comes before its state, and how calls are shared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod failures;
mod flights;
mod model;
mod polls;
mod streams;
#[path = "../support/mod.rs"]
mod support;

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use axum::Router;
use serde_json::json;
use support::{Message, Server, Sse, channel, serve, serve_in_memory};
use tokio::sync::watch;
use tower_events::{
    Channels, Event, EventService, Hub, HubOptions, LongPollService, MemoryStore, Retention, SnapshotRequest,
    Snapshots, SseService, Store, longpoll::LongPollOptions,
};

/// What the provider does when it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Answer,
    /// Answers once it is told something else.
    Hold,
    Fail,
    Panic,
}

/// The application: a state that counts, each change of which is committed and then published.
#[derive(Clone)]
struct Application {
    state: Arc<Mutex<u64>>,
    calls: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<SnapshotRequest>>>,
    behaviour: watch::Sender<Behaviour>,
}

/// One more call that runs.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, SeqCst);
        Self(running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Application {
    fn new() -> Self {
        let behaviour = watch::Sender::new(Behaviour::Answer);
        let requests = Arc::default();
        Self { state: Arc::default(), calls: Arc::default(), running: Arc::default(), requests, behaviour }
    }

    fn snapshots(&self) -> Snapshots {
        let application = self.clone();
        Snapshots::new(move |request| application.clone().snapshot(request))
    }

    async fn snapshot(self, request: SnapshotRequest) -> Result<Event, Box<dyn std::error::Error + Send + Sync>> {
        self.calls.fetch_add(1, SeqCst);
        self.requests.lock().unwrap().push(request);
        let _running = Running::new(&self.running);
        let mut behaviour = self.behaviour.subscribe();
        let behaviour = *behaviour.wait_for(|behaviour| *behaviour != Behaviour::Hold).await?;
        match behaviour {
            Behaviour::Fail => return Err("the database is down".into()),
            Behaviour::Panic => panic!("on purpose"),
            Behaviour::Answer | Behaviour::Hold => {}
        }
        let state = *self.state.lock().unwrap();
        Ok(Event::json(&json!({ "state": state }))?.named("state")?.at(7)?)
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// Commits `count` changes without publishing them.
    fn commit(&self, count: u64) -> u64 {
        let mut state = self.state.lock().unwrap();
        *state += count;
        *state
    }
}

/// The application behind `/sse`, `/poll`, `/events`, and `/refusing`, whose polls refuse resets.
struct Site {
    hub: Hub,
    application: Application,
    server: Server,
}

impl Site {
    async fn start() -> Self {
        Self::on(MemoryStore::default()).await
    }

    /// Retains the newest two events of a channel.
    async fn trimming() -> Self {
        Self::of(trimming_hub()).await
    }

    async fn on(store: impl Store) -> Self {
        Self::of(Hub::new(store)).await
    }

    async fn of(hub: Hub) -> Self {
        let application = Application::new();
        let server = serve(routes(&hub, application.snapshots())).await;
        Self { hub, application, server }
    }

    /// Over pipes in memory, for paused clocks.
    fn in_memory() -> Self {
        let (hub, application) = (Hub::new(MemoryStore::default()), Application::new());
        Self { server: serve_in_memory(routes(&hub, application.snapshots())), hub, application }
    }

    /// Commits a change, then publishes it: returns the cursor as text.
    async fn change(&self, name: &str) -> String {
        let state = self.application.commit(1);
        let event = Event::json(&json!({ "change": state })).unwrap().at(8).unwrap();
        self.hub.publish(&channel(name), event).await.unwrap().cursor.to_string()
    }

    async fn changes(&self, name: &str, count: usize) -> Vec<String> {
        let mut cursors = Vec::new();
        for _ in 0..count {
            cursors.push(self.change(name).await);
        }
        cursors
    }

    async fn readers(&self, count: usize) {
        support::eventually_eq("readers", count, || self.hub.stats().readers).await;
    }
}

impl Deref for Site {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Retains the newest two events of a channel, and keeps no others for its readers.
fn trimming_hub() -> Hub {
    Hub::with_options(MemoryStore::new(Retention::default().events(2)), HubOptions::default().ring_bytes(0))
}

fn routes(hub: &Hub, snapshots: Snapshots) -> Router {
    let refusing = LongPollService::new(hub.clone(), Channels::from_query)
        .options(LongPollOptions::default().refuse_resets())
        .snapshots(snapshots.clone());
    Router::new()
        .route_service("/sse", SseService::new(hub.clone(), Channels::from_query).snapshots(snapshots.clone()))
        .route_service("/poll", LongPollService::new(hub.clone(), Channels::from_query).snapshots(snapshots.clone()))
        .route_service("/events", EventService::new(hub.clone(), Channels::from_query).snapshots(snapshots))
        .route_service("/refusing", refusing)
}

/// The names, data and ids of all messages received so far, marks included.
fn received(stream: &Sse) -> Vec<Message> {
    support::Parser::default().push(stream.raw())
}

fn names(stream: &Sse) -> Vec<String> {
    received(stream).into_iter().map(|message| message.name).collect()
}
