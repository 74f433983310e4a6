//! How a Redis store is set up: what can be chosen, and what can be wrong with it. Connects nothing by itself.

use std::{error::Error, fmt, time::Duration};

use redis::{Client, IntoConnectionInfo, ProtocolVersion};

use super::RedisStore;
use crate::store::{Clock, Retention, Source};

/// How to open a [`RedisStore`]. See the [module docs](super).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RedisOptions {
    /// PEM; the system's when there is none.
    certificates: Option<Vec<u8>>,
    settings: Settings,
}

impl RedisOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps this much per channel. All nodes of one prefix have to agree. Default: [`Retention::default`].
    pub fn retention(self, retention: Retention) -> Self {
        self.with(|settings| settings.retention = retention)
    }

    /// Begins the names of all keys with `prefix`, which keeps several applications on one server apart: 1 to 64 of
    /// `[A-Za-z0-9._:-]`. Default `tower-events`.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        self.with(|settings| settings.name = prefix.into())
    }

    /// How long a call waits for a connection and its answer before it fails with a retryable error. Default 3 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.timeout = timeout)
    }

    /// Trusts the certificates in this PEM text instead of those of the system, for a `rediss://` URL.
    #[cfg(feature = "redis-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis-tls")))]
    pub fn root_certificates(self, pem: impl Into<Vec<u8>>) -> Self {
        Self { certificates: Some(pem.into()), ..self }
    }

    /// Acknowledges an append only when this many replicas have it too (`WAIT`), for at most `within` (and less than the
    /// timeout); fewer is [`StoreError::Unknown`](crate::StoreError::Unknown), for the primary has it. Default: none.
    pub fn replicas(self, replicas: u32, within: Duration) -> Self {
        self.with(|settings| settings.replicas = Some((replicas, within)))
    }

    /// Most bytes of one append or init, by [`Entry::size`](crate::store::Entry::size); more is
    /// [`StoreError::TooLarge`](crate::StoreError::TooLarge), as is an append of more than half of what is kept. Default
    /// 4 MiB: a script that takes longer makes everyone wait.
    pub fn largest_append(self, bytes: u64) -> Self {
        self.with(|settings| settings.largest_append = bytes)
    }

    /// Tells other nodes of appends up to this many bytes with the events themselves, and of larger ones by their heads
    /// alone. Default 16 KiB.
    pub fn inline(self, bytes: usize) -> Self {
        self.with(|settings| settings.inline = bytes)
    }

    /// Takes the time from `clock`, for tests. Default: the server's, the same for all nodes.
    pub fn clock(self, clock: Clock) -> Self {
        self.with(|settings| settings.clock = Some(clock))
    }

    /// Connects to `redis://[user][:password@]host[:port][/database]`, and checks that the server can do what is needed.
    ///
    /// # Errors
    /// When the URL or prefix is not valid, the server cannot be reached within the timeout, is older than 7.0, or belongs to
    /// a cluster where another server has the keys.
    pub async fn connect(self, url: &str) -> Result<RedisStore, ConnectError> {
        let store = self.open(url)?;
        store.check().await?;
        Ok(store)
    }

    /// The store without connecting: for a process that has to start while the server may be away.
    ///
    /// # Errors
    /// When the URL, the prefix or a certificate is not valid.
    pub fn open(self, url: &str) -> Result<RedisStore, ConnectError> {
        let name = &self.settings.name;
        let good = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(good) {
            return Err(ConnectError::Prefix);
        }
        let client = client(url, self.certificates).map_err(|error| ConnectError::Url(error.into()))?;
        Ok(RedisStore::new(client, self.settings))
    }

    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(&mut self.settings);
        self
    }
}

fn client(url: &str, certificates: Option<Vec<u8>>) -> redis::RedisResult<Client> {
    let info = url.into_connection_info()?;
    // RESP3 tells at once when a connection is lost, so that the next call does not have to find out.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
    match certificates {
        #[cfg(feature = "redis-tls")]
        Some(root) => Client::build_with_tls(info, redis::TlsCertificates { client_tls: None, root_cert: Some(root) }),
        _ => Client::open(info),
    }
}

/// Everything that can be chosen.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    name: String,
    pub(super) retention: Retention,
    pub(super) timeout: Duration,
    pub(super) replicas: Option<(u32, Duration)>,
    pub(super) largest_append: u64,
    pub(super) inline: usize,
    pub(super) clock: Option<Clock>,
}

impl Settings {
    /// What all keys begin with: a hash tag, so that they share a slot.
    pub(super) fn prefix(&self) -> String {
        format!("{{{}}}", self.name)
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "tower-events".to_owned(),
            retention: Retention::default(),
            timeout: Duration::from_secs(3),
            replicas: None,
            largest_append: 4 << 20,
            inline: 16 << 10,
            clock: None,
        }
    }
}

/// Why a [`RedisStore`] could not be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not one of a Redis server, or needs a feature that is off (`rediss://`: `redis-tls`), or a certificate to
    /// trust is none.
    Url(Source),
    /// The prefix is empty, too long, or has other characters than `[A-Za-z0-9._:-]`.
    Prefix,
    /// The server did not answer, or refused.
    Unreachable(Source),
    /// The server belongs to a cluster, and another one has the keys of this prefix: connect to that.
    Moved {
        /// Host and port, as the server says.
        to: String,
    },
    /// The server is older than 7.0.
    Version {
        /// Its version, as it says.
        found: String,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_) => f.write_str("not the URL of a Redis server"),
            Self::Prefix => f.write_str("the prefix must have 1 to 64 characters of A-Z, a-z, 0-9 and ._:-"),
            Self::Unreachable(_) => f.write_str("the Redis server cannot be reached"),
            Self::Moved { to } => write!(f, "the keys of this prefix are on another server of the cluster: {to}"),
            Self::Version { found } => write!(f, "the Redis server is {found}; 7.0 or newer is needed"),
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Url(source) | Self::Unreachable(source) => Some(source.as_ref()),
            Self::Prefix | Self::Moved { .. } | Self::Version { .. } => None,
        }
    }
}
