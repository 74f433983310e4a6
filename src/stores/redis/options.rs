//! How a Redis store is configured. Connects nothing by itself.

use std::{future::Future, time::Duration};

use super::{
    endpoint::{ConnectionSettings, Endpoint, Password},
    error::open_error,
    settings::Settings,
};
use crate::store::{Clock, OpenError, OpenErrorKind, Retention, Source};

/// How to open a [`RedisStore`](super::RedisStore). See the [module docs](super).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RedisOptions {
    connection: ConnectionSettings,
    settings: Settings,
}

impl RedisOptions {
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how much is kept per channel. Where the nodes of a prefix differ, the larger of each setting applies.
    /// Default: [`Retention::default`].
    pub fn retention(self, retention: Retention) -> Self {
        self.with(|settings| settings.retention = retention)
    }

    /// Starts the names of all keys with `prefix`, which keeps several applications on one server apart: 1 to 64
    /// characters of `[A-Za-z0-9._:-]`. Default `tower-events`.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        self.with(|settings| settings.name = prefix.into())
    }

    /// Sets how long a call waits for a connection and its reply before it fails with a retryable error. Default 3 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.timeout = timeout)
    }

    /// Trusts the certificates in this PEM text instead of the system's, for a `rediss://` URL.
    #[cfg(feature = "redis-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis-tls")))]
    pub fn root_certificates(self, pem: impl Into<Vec<u8>>) -> Self {
        Self { connection: ConnectionSettings { root: Some(pem.into()), ..self.connection }, ..self }
    }

    /// Presents this certificate to a server that asks for one (`tls-auth-clients`), for a `rediss://` URL. Both as
    /// PEM.
    #[cfg(feature = "redis-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis-tls")))]
    pub fn client_certificate(self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self {
            connection: ConnectionSettings { own: Some((certificate.into(), key.into())), ..self.connection },
            ..self
        }
    }

    /// Asks these Sentinels (`redis://[user][:password@]host[:port]`, usually port 26379) which server is the primary
    /// of this name, before each connection and one after the other until one answers. Each may take 1 s, or its share
    /// of the [timeout](Self::timeout) if that is less. The URL of [`connect`](Self::connect) then gives everything but
    /// the host and port.
    pub fn sentinels<U: Into<String>>(self, primary: impl Into<String>, urls: impl IntoIterator<Item = U>) -> Self {
        let sentinels = Some((primary.into(), urls.into_iter().map(Into::into).collect()));
        Self { connection: ConnectionSettings { sentinels, ..self.connection }, ..self }
    }

    /// Calls `ask` for the password before each connection, for a password that changes; the URL gives the user. Open
    /// connections stay open for as long as the server permits.
    pub fn password<F>(self, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, Source>> + Send + 'static,
    {
        Self { connection: ConnectionSettings { password: Some(Password::new(ask)), ..self.connection }, ..self }
    }

    /// Acknowledges an append only once this many replicas have it too (`WAIT`). If they do not within `within`, which
    /// must be less than the timeout, the append fails with [`StoreError::Unknown`](crate::store::StoreError::Unknown),
    /// because the primary has it. Default: no replicas.
    pub fn replicas(self, replicas: u32, within: Duration) -> Self {
        self.with(|settings| settings.replicas = Some((replicas, within)))
    }

    /// Sets the most bytes of one append or init, by [`Entry::size`](crate::store::Entry::size). More is
    /// [`StoreError::TooLarge`](crate::store::StoreError::TooLarge), as is an append of more than half of what is kept.
    /// Default 4 MiB: larger ones would block the server for all clients.
    pub fn max_append_bytes(self, bytes: u64) -> Self {
        self.with(|settings| settings.max_append_bytes = bytes)
    }

    /// Sends the events of appends up to this many bytes to other nodes; for larger ones only the new head is sent.
    /// Default 16 KiB.
    pub fn inline(self, bytes: usize) -> Self {
        self.with(|settings| settings.inline = bytes)
    }

    /// Takes the time from `clock`, for tests. Default: the server's clock, which is the same for all nodes.
    pub fn clock(self, clock: Clock) -> Self {
        self.with(|settings| settings.clock = Some(clock))
    }

    /// What to connect to `url` with.
    pub(super) fn into_parts(self, url: &str) -> Result<(Endpoint, Settings), OpenError> {
        let name = &self.settings.name;
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(is_allowed) {
            let why = "the prefix must have 1 to 64 characters of A-Z, a-z, 0-9 and ._:-";
            return Err(open_error(OpenErrorKind::Settings, why));
        }
        let endpoint = Endpoint::new(url, self.connection, self.settings.timeout)
            .map_err(|error| open_error(OpenErrorKind::Settings, error))?;
        Ok((endpoint, self.settings))
    }

    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(&mut self.settings);
        self
    }
}
