//! What can be chosen when a store is opened. Knows how it is said to the server, never what is stored.

use std::{path::PathBuf, time::Duration};

use super::{
    connection_settings::ConnectionSettings,
    error::unavailable,
    handle::{Inner, NatsStore},
    server_clock::ServerClock,
    settings::Settings,
};
use crate::store::{Clock, Keep, Retention, StoreError};

/// How to open a [`NatsStore`]. See the [module docs](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct NatsOptions {
    prefix: String,
    retention: Retention,
    replicas: usize,
    memory: bool,
    most_bytes: Option<u64>,
    timeout: Duration,
    clock: Option<Clock>,
    connection: ConnectionSettings,
}

impl NatsOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            prefix: "tower-events".into(),
            retention: Retention::default(),
            replicas: 1,
            memory: false,
            most_bytes: None,
            timeout: Duration::from_secs(5),
            clock: None,
            connection: ConnectionSettings::default(),
        }
    }

    /// Names the stream and begins all its subjects: one per application on a shared server. 1 to 32 of `A-Z a-z 0-9 _ -`.
    /// Default `tower-events`.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// Sets how much is kept per channel. Of nodes of one prefix that do not agree, the larger of each setting counts, from 5 s
    /// after a node was opened until 5 minutes after it was closed.
    pub fn retention(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    /// Sets on how many servers each message is, when the stream is made: 1, 3 or 5. Default 1.
    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    /// Keeps the stream in the servers' memory, when it is made. Default: in files.
    pub fn in_memory(self) -> Self {
        Self { memory: true, ..self }
    }

    /// Sets the most bytes of the whole stream, when it is made; beyond it appends fail with [`StoreError::Full`].
    /// Needs a server from 2.11 on: 2.9 drops the oldest message when the limit lies within a message's own overhead, and
    /// with it what is promised; limit the storage of its account or of the server instead. Default: what those allow.
    pub fn most_bytes(self, bytes: u64) -> Self {
        Self { most_bytes: Some(bytes), ..self }
    }

    /// Sets how long an operation may take before it fails. Default 5 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Takes the time from `clock`, in place of the server's: for tests. All nodes need the same one.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Authenticates with a name and a password. Those in a URL come first.
    pub fn user(self, name: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            connection: ConnectionSettings { user: Some((name.into(), password.into())), ..self.connection },
            ..self
        }
    }

    /// Authenticates with a token. One in a URL comes first.
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { connection: ConnectionSettings { token: Some(token.into()), ..self.connection }, ..self }
    }

    /// Authenticates with the nkey of this seed (`SU...`).
    #[cfg(feature = "nats-nkeys")]
    #[cfg_attr(docsrs, doc(cfg(feature = "nats-nkeys")))]
    pub fn nkey(self, seed: impl Into<String>) -> Self {
        Self { connection: ConnectionSettings { nkey: Some(seed.into()), ..self.connection }, ..self }
    }

    /// Authenticates with a credentials file: a user's JWT and its nkey, as operators of accounts give it out.
    #[cfg(feature = "nats-nkeys")]
    #[cfg_attr(docsrs, doc(cfg(feature = "nats-nkeys")))]
    pub fn credentials(self, file: impl Into<PathBuf>) -> Self {
        Self { connection: ConnectionSettings { credentials: Some(file.into()), ..self.connection }, ..self }
    }

    /// Accepts no connection without TLS, also where the URL does not begin with `tls://`.
    pub fn require_tls(self) -> Self {
        Self { connection: ConnectionSettings { tls: true, ..self.connection }, ..self }
    }

    /// Trusts the certificates of this PEM file besides the system's.
    pub fn root_certificates(mut self, pem: impl Into<PathBuf>) -> Self {
        self.connection.roots.push(pem.into());
        self
    }

    /// Shows this certificate to servers that ask for one; both PEM files.
    pub fn client_certificate(self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let client_certificate = Some((certificate.into(), key.into()));
        Self { connection: ConnectionSettings { client_certificate, ..self.connection }, ..self }
    }

    /// Begins the subjects that answers come to, so that a user can be limited to its own answers: tokens
    /// without white space, `*` and `>`, separated by `.`. Default `_INBOX`.
    pub fn inbox_prefix(self, prefix: impl Into<String>) -> Self {
        Self { connection: ConnectionSettings { inbox: Some(prefix.into()), ..self.connection }, ..self }
    }

    /// Keeps the stream in JetStream of this domain, in place of that of the server that it connects to: one token, as in the
    /// server's `jetstream { domain }`.
    pub fn domain(self, name: impl Into<String>) -> Self {
        Self { connection: ConnectionSettings { domain: Some(name.into()), ..self.connection }, ..self }
    }

    /// Connects to any of these servers, separated by commas, and finds the stream or makes it. The store works on the
    /// runtime that this is called on.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no server answers, a file cannot be read, the prefix, that of the inbox or the domain
    /// cannot be one, the user lacks a permission (the error names the subject), or somebody has set limits of the stream by which the server would drop what is promised; [`StoreError::Corrupt`] when the
    /// stream was not made by this crate.
    pub async fn connect(self, servers: &str) -> Result<NatsStore, StoreError> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !(1..=32).contains(&self.prefix.len()) || !self.prefix.chars().all(good) {
            return Err(unavailable("a prefix is 1 to 32 of A-Z a-z 0-9 _ -"));
        }
        if !self.connection.inbox.as_deref().is_none_or(|inbox| inbox.split('.').all(is_token)) {
            return Err(unavailable("an inbox prefix is tokens without white space, `*` and `>`"));
        }
        if !self.connection.domain.as_deref().is_none_or(|domain| is_token(domain) && !domain.contains('.')) {
            return Err(unavailable("a domain is one token without white space, `*` and `>`"));
        }
        let settings = Settings {
            prefix: self.prefix,
            keep: Keep::new(&self.retention),
            retention: self.retention,
            replicas: self.replicas,
            memory: self.memory,
            most_bytes: self.most_bytes,
            timeout: self.timeout,
            request_timeout: (self.timeout / 2).max(Duration::from_millis(50)),
        };
        Inner::open(servers, self.connection, settings, ServerClock::new(self.clock)).await.map(NatsStore)
    }
}

/// Whether this can be a part of a subject.
fn is_token(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '>')
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self::new()
    }
}
