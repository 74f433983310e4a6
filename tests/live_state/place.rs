//! Where the events of one test are, and how a node opens it: another connection each time, as in another process.

use std::{any::Any, net::SocketAddr};

use tower_events::{
    AnyStore, Retention,
    testing::{FaultStore, Faults, Hold},
};

use super::{
    program::Directory,
    store::{self, StoreUrl},
    wire::Wire,
};

pub(crate) struct Place {
    url: String,
    retention: Retention,
    /// In memory there is nothing to open again.
    memory: Option<AnyStore>,
    /// Where a server listens.
    server: Option<SocketAddr>,
    /// Ended with the place.
    _kept: Box<dyn Any + Send + Sync>,
}

impl Place {
    pub(crate) async fn memory() -> Option<Self> {
        let memory = open("memory:", retention()).await;
        Some(Self { memory: Some(memory), ..Self::new("memory:".into(), None, ()) })
    }

    pub(crate) async fn file() -> Option<Self> {
        let directory = Directory::new(&format!("live-state-{}", unused_name()));
        Some(Self::new(format!("file:{}", directory.0.join("events.db").display()), None, directory))
    }

    #[cfg(feature = "redis")]
    pub(crate) async fn redis() -> Option<Self> {
        let server = super::redis_server::Server::start(&[]).await?;
        Some(Self::new(server.url(), Some(server.addr()), server))
    }

    #[cfg(feature = "nats")]
    pub(crate) async fn nats() -> Option<Self> {
        let server = super::nats_server::Server::start(super::nats_server::servers().first()?);
        Some(Self::new(server.url(), Some(server.addr()), server))
    }

    /// A database of its own on one server.
    #[cfg(feature = "postgres")]
    pub(crate) async fn postgres() -> Option<Self> {
        let starting = tokio::task::spawn_blocking(|| {
            let server = super::postgres_server::shared()?;
            let name = format!("live_state_{}", unused_name());
            server.script(format!("create database {name}").as_bytes());
            Some((format!("{}{name}", server.url().strip_suffix("postgres")?), server.address()))
        });
        let (url, server) = starting.await.unwrap()?;
        Some(Self::new(url, Some(server), ()))
    }

    fn new(url: String, server: Option<SocketAddr>, kept: impl Any + Send + Sync) -> Self {
        Self { url, retention: retention(), memory: None, server, _kept: Box::new(kept) }
    }

    /// Retains this much instead.
    pub(crate) async fn retaining(self, retention: Retention) -> Self {
        let memory = match self.memory {
            Some(_) => Some(open(&self.url, retention.clone()).await),
            None => None,
        };
        Self { retention, memory, ..self }
    }

    /// For [`open`] in another process.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn is_file(&self) -> bool {
        self.url.starts_with("file:")
    }

    /// A node's store.
    pub(crate) async fn open(&self) -> AnyStore {
        match &self.memory {
            Some(memory) => memory.clone(),
            None => open(&self.url, self.retention.clone()).await,
        }
    }

    /// A node's store, and the line between the two.
    pub(crate) async fn open_over_a_line(&self) -> (AnyStore, Line) {
        match self.server {
            Some(server) => {
                let wire = Wire::to(server).await;
                let url = self.url.replace(&server.to_string(), &wire.addr().to_string());
                (open(&url, self.retention.clone()).await, Line::Wire(wire))
            }
            None => {
                let (store, faults) = FaultStore::new(self.open().await);
                (AnyStore::new(store), Line::Calls { faults, held: Vec::new() })
            }
        }
    }
}

/// Opens the store that a URL names. Retains enough for everything that a test publishes.
pub(crate) async fn open(url: &str, retention: Retention) -> AnyStore {
    store::open(&url.parse::<StoreUrl>().unwrap(), retention).await.unwrap()
}

pub(crate) fn retention() -> Retention {
    Retention::default().events(100_000).bytes(64 << 20)
}

/// Between a node and its store: when it is cut, calls hang, and hints are lost.
pub(crate) enum Line {
    Wire(Wire),
    Calls { faults: Faults, held: Vec<Hold> },
}

impl Line {
    pub(crate) fn cut(&mut self) {
        match self {
            Self::Wire(wire) => wire.freeze(),
            Self::Calls { faults, held } => {
                faults.lose_hints(usize::MAX);
                held.extend([faults.hold_heads(), faults.hold_reads(), faults.hold_appends()]);
            }
        }
    }

    pub(crate) fn mend(&mut self) {
        match self {
            Self::Wire(wire) => wire.thaw(),
            Self::Calls { faults, held } => {
                faults.lose_hints(0);
                held.clear();
            }
        }
    }
}

/// A name that no other test of any process has at the moment.
fn unused_name() -> String {
    format!("{}_{:08x}", std::process::id(), tower_events::store::resume::fresh_tag())
}
