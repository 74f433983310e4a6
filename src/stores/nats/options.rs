//! The options of a store, and the checks of what they may be.

use std::{path::PathBuf, time::Duration};

use super::{
    connection_settings::ConnectionSettings, error::open_error, server_clock::ServerClock, settings::Settings,
};
use crate::store::{Clock, OpenError, OpenErrorKind, Retention, kit::Keep};

/// How to open a [`NatsStore`](super::NatsStore). See the [module docs](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct NatsOptions {
    prefix: String,
    retention: Retention,
    replicas: usize,
    memory: bool,
    max_bytes: Option<u64>,
    timeout: Duration,
    clock: Option<Clock>,
    connection: ConnectionSettings,
}

impl NatsOptions {
    /// The default options.
    pub fn new() -> Self {
        Self {
            prefix: "tower-events".into(),
            retention: Retention::default(),
            replicas: 1,
            memory: false,
            max_bytes: None,
            timeout: Duration::from_secs(5),
            clock: None,
            connection: ConnectionSettings::default(),
        }
    }

    /// Sets the name of the stream and the prefix of its subjects: one per application on a shared server, 1 to 32
    /// characters of `A-Z a-z 0-9 _ -`. Default `tower-events`.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// Sets how much is kept per channel. Where the nodes of a prefix differ, the larger of each setting applies, from
    /// 5 s after a node was opened until 5 minutes after it was closed.
    pub fn retention(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    /// Sets on how many servers a newly created stream stores each message: 1, 3 or 5. Default 1.
    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    /// Keeps a newly created stream in the servers' memory. Default: in files.
    pub fn in_memory(self) -> Self {
        Self { memory: true, ..self }
    }

    /// Sets the most bytes of a newly created stream; beyond that, appends fail with
    /// [`StoreError::Full`](crate::StoreError::Full). Needs server 2.11 or newer: 2.9 deletes the oldest message when the
    /// limit falls within a message's overhead, which breaks the retention; limit the storage of the account or of the
    /// server instead. Default: the limits of these.
    pub fn max_bytes(self, bytes: u64) -> Self {
        Self { max_bytes: Some(bytes), ..self }
    }

    /// Sets how long an operation may take before it fails. Default 5 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Takes the time from `clock` instead of the server, for tests. All nodes need the same clock.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Authenticates with a name and a password. Those in a URL take precedence.
    pub fn user(self, name: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            connection: ConnectionSettings { user: Some((name.into(), password.into())), ..self.connection },
            ..self
        }
    }

    /// Authenticates with a token. One in a URL takes precedence.
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { connection: ConnectionSettings { token: Some(token.into()), ..self.connection }, ..self }
    }

    /// Authenticates with the nkey of this seed (`SU...`).
    #[cfg(feature = "nats-nkeys")]
    #[cfg_attr(docsrs, doc(cfg(feature = "nats-nkeys")))]
    pub fn nkey(self, seed: impl Into<String>) -> Self {
        Self { connection: ConnectionSettings { nkey: Some(seed.into()), ..self.connection }, ..self }
    }

    /// Authenticates with a credentials file: a user's JWT and nkey, as an account's operator issues it.
    #[cfg(feature = "nats-nkeys")]
    #[cfg_attr(docsrs, doc(cfg(feature = "nats-nkeys")))]
    pub fn credentials(self, file: impl Into<PathBuf>) -> Self {
        Self { connection: ConnectionSettings { credentials: Some(file.into()), ..self.connection }, ..self }
    }

    /// Requires TLS, even if the URL does not start with `tls://`.
    pub fn require_tls(self) -> Self {
        Self { connection: ConnectionSettings { tls: true, ..self.connection }, ..self }
    }

    /// Trusts the certificates in this PEM file in addition to the system's.
    pub fn root_certificates(mut self, pem: impl Into<PathBuf>) -> Self {
        self.connection.roots.push(pem.into());
        self
    }

    /// Presents this certificate to servers that ask for one; both are PEM files.
    pub fn client_certificate(self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let client_certificate = Some((certificate.into(), key.into()));
        Self { connection: ConnectionSettings { client_certificate, ..self.connection }, ..self }
    }

    /// Sets the prefix of inbox subjects, so that a user's permissions can be limited to its own responses: tokens
    /// without white space, `*` and `>`, separated by `.`. Default `_INBOX`.
    pub fn inbox_prefix(self, prefix: impl Into<String>) -> Self {
        Self { connection: ConnectionSettings { inbox: Some(prefix.into()), ..self.connection }, ..self }
    }

    /// Uses the JetStream domain of this name instead of that of the connected server: one token, as in the server's
    /// `jetstream { domain }`.
    pub fn domain(self, name: impl Into<String>) -> Self {
        Self { connection: ConnectionSettings { domain: Some(name.into()), ..self.connection }, ..self }
    }

    /// What to connect with.
    pub(super) fn into_parts(self) -> Result<(ConnectionSettings, Settings, ServerClock), OpenError> {
        let invalid = |why: &str| Err(open_error(OpenErrorKind::Settings, why));
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !(1..=32).contains(&self.prefix.len()) || !self.prefix.chars().all(is_allowed) {
            return invalid("a prefix is 1 to 32 characters of A-Z a-z 0-9 _ -");
        }
        if !self.connection.inbox.as_deref().is_none_or(|inbox| inbox.split('.').all(is_token)) {
            return invalid("an inbox prefix is tokens without white space, `*` and `>`");
        }
        if !self.connection.domain.as_deref().is_none_or(|domain| is_token(domain) && !domain.contains('.')) {
            return invalid("a domain is one token without white space, `*` and `>`");
        }
        let settings = Settings {
            prefix: self.prefix,
            keep: Keep::new(&self.retention),
            retention: self.retention,
            replicas: self.replicas,
            memory: self.memory,
            max_bytes: self.max_bytes,
            timeout: self.timeout,
            request_timeout: (self.timeout / 2).max(Duration::from_millis(50)),
        };
        Ok((self.connection, settings, ServerClock::new(self.clock)))
    }
}

/// Whether this can be part of a subject.
fn is_token(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '>')
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self::new()
    }
}
