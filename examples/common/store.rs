//! Opens a store by URL. The examples share it; an application would open its one store directly.

use std::{error::Error, path::PathBuf, str::FromStr};

use tower_events::{AnyStore, FileStore, MemoryStore, Retention};

type BoxError = Box<dyn Error + Send + Sync>;

/// A URL that names a store.
#[derive(Clone)]
pub(crate) enum StoreUrl {
    Memory,
    File(PathBuf),
    Redis(String),
    Nats(String),
    Postgres(String),
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        match url.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("redis" | "rediss", _)) => Ok(Self::Redis(url.to_owned())),
            Some(("nats" | "tls", _)) => Ok(Self::Nats(url.to_owned())),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(url.to_owned())),
            _ => Err(format!("unknown store {url:?}")),
        }
    }
}

pub(crate) async fn open(url: &StoreUrl, retention: Retention) -> Result<AnyStore, BoxError> {
    let store = open_by_kind(url, retention).await;
    store.map_err(|error| format!("cannot open the store: {}", with_causes(&*error)).into())
}

/// The error with its causes, because the driver's message is the helpful one. Causes that are already in the text are left out.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| (*cause).source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

async fn open_by_kind(url: &StoreUrl, retention: Retention) -> Result<AnyStore, BoxError> {
    match url {
        StoreUrl::Memory => Ok(AnyStore::new(MemoryStore::new(retention))),
        StoreUrl::File(path) => {
            let store = FileStore::options().retention(retention).open(path)?;
            Ok(AnyStore::new(store))
        }
        StoreUrl::Redis(url) => redis(url, retention).await,
        StoreUrl::Nats(url) => nats(url, retention).await,
        StoreUrl::Postgres(url) => postgres(url, retention).await,
    }
}

#[cfg(feature = "redis")]
async fn redis(url: &str, retention: Retention) -> Result<AnyStore, BoxError> {
    let store = tower_events::RedisStore::options().retention(retention).connect(url).await?;
    Ok(AnyStore::new(store))
}

#[cfg(feature = "nats")]
async fn nats(url: &str, retention: Retention) -> Result<AnyStore, BoxError> {
    let store = tower_events::NatsStore::options().retention(retention).connect(url).await?;
    Ok(AnyStore::new(store))
}

#[cfg(feature = "postgres")]
async fn postgres(url: &str, retention: Retention) -> Result<AnyStore, BoxError> {
    let store = tower_events::PostgresStore::options().retention(retention).connect(url).await?;
    store.migrate().await?; // idempotent, also from several processes at once
    Ok(AnyStore::new(store))
}

#[cfg(not(feature = "redis"))]
async fn redis(_: &str, _: Retention) -> Result<AnyStore, BoxError> {
    Err("built without Redis support: add `--features redis`".into())
}

#[cfg(not(feature = "nats"))]
async fn nats(_: &str, _: Retention) -> Result<AnyStore, BoxError> {
    Err("built without NATS support: add `--features nats`".into())
}

#[cfg(not(feature = "postgres"))]
async fn postgres(_: &str, _: Retention) -> Result<AnyStore, BoxError> {
    Err("built without PostgreSQL support: add `--features postgres`".into())
}
