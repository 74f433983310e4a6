//! The options of a store. Reads the URL; connects only when asked to.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio_postgres::{Config, config::TargetSessionAttrs};

use super::{
    connector::{Connector, Security},
    database::{Database, Statements},
    settings::Settings,
    sql::Sql,
    tls::Identity,
};
use crate::store::{Clock, Retention, Source, kit::Keep};

/// How to open a [`PostgresStore`](super::PostgresStore). See the [module docs](super).
#[derive(Clone)]
#[must_use]
pub struct PostgresOptions {
    listener_url: Option<String>,
    schema: String,
    connections: usize,
    timeout: Duration,
    retention: Retention,
    tidy_every: Duration,
    durability: Durability,
    statements: Statements,
    security: Security,
    clock: Option<Clock>,
    max_append_bytes: u64,
}

/// What an acknowledged append means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The server's setting, which is `synchronous_commit = on` unless it was changed: the append is on the server's
    /// disk, and on those of its synchronous standbys, if any.
    Server,
    /// The append is in the server's memory: a crash of the server loses about the last second, consistently. Readers
    /// that saw what was lost are reset.
    Relaxed,
}

impl PostgresOptions {
    /// The default options.
    pub fn new() -> Self {
        Self {
            listener_url: None,
            schema: "tower_events".to_owned(),
            connections: 16,
            timeout: Duration::from_secs(5),
            retention: Retention::default(),
            tidy_every: Duration::from_secs(10),
            durability: Durability::Server,
            statements: Statements::Prepared,
            security: Security::default(),
            clock: None,
            max_append_bytes: 16 << 20,
        }
    }

    /// Puts everything into this schema: one per application on a database. Lower-case letters, digits and `_`. Default
    /// `tower_events`.
    pub fn schema(self, name: impl Into<String>) -> Self {
        Self { schema: name.into(), ..self }
    }

    /// Sets the most connections of the pool; listening takes one more. Default 16.
    pub fn connections(self, most: usize) -> Self {
        Self { connections: most.max(1), ..self }
    }

    /// Sets the longest wait for a connection, and then for a response. Default 5 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sets what is kept per channel. All nodes on a schema should have the same setting.
    pub fn retention(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    /// Sets how often this node looks for unused channels that keep too much. Default 10 s.
    pub fn tidy_every(self, period: Duration) -> Self {
        Self { tidy_every: period, ..self }
    }

    /// Sets what an acknowledged append means. Default: [`Durability::Server`].
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// For a URL that leads to a pooler that gives each transaction another connection (PgBouncer's `transaction`
    /// mode): nothing is prepared, no session is configured, and listening uses `listener_url`, which must bypass the
    /// pooler. Each URL states its own encryption.
    pub fn behind_pooler(self, listener_url: impl Into<String>) -> Self {
        Self { listener_url: Some(listener_url.into()), statements: Statements::Unprepared, ..self }
    }

    /// Trusts the certificates in this PEM text instead of the system's, unless the URL names some in `sslrootcert`.
    /// Encrypts as `sslmode=verify-full` in the URL does, unless the URL has `sslmode=disable`.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.security.certificates = Some(pem.into());
        self
    }

    /// Presents this certificate, with its key, to the server; both are PEM texts, while `sslcert` and `sslkey` in the
    /// URL are paths. Encrypts as [`root_certificates`](Self::root_certificates) does.
    pub fn client_certificate(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.security.identity = Some(Identity { chain: chain.into(), key: key.into() });
        self
    }

    /// Calls `ask` for the password of each new connection, so that passwords can change. If it fails, the connection
    /// is tried with the password in the URL.
    ///
    /// ```
    /// use tower_events::stores::postgres::PostgresStore;
    ///
    /// let options = PostgresStore::options()
    ///     .password(|| async { Ok(tokio::fs::read_to_string("/run/secrets/database").await?) });
    /// ```
    pub fn password<A>(mut self, ask: impl Fn() -> A + Send + Sync + 'static) -> Self
    where
        A: Future<Output = Result<String, Source>> + Send + 'static,
    {
        self.security.password = Some(Arc::new(move || Box::pin(ask())));
        self
    }

    /// Sets the most bytes of one append or init, by [`Entry::size`](crate::store::Entry::size). Default 16 MiB, at
    /// most 512 MiB: PostgreSQL accepts no value above 1 GiB.
    pub fn max_append_bytes(self, bytes: u64) -> Self {
        Self { max_append_bytes: bytes.min(512 << 20), ..self }
    }

    /// Takes the time from `clock` instead of the server, for tests: nodes with different clocks disagree.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// What to connect to `url` with, and how often to tidy.
    pub(super) fn into_parts(self, url: &str) -> Result<(Database, Settings, Duration), Source> {
        let (settings, tidy_every) = (self.settings(), self.tidy_every);
        Ok((self.database(url)?, settings, tidy_every))
    }

    fn database(self, url: &str) -> Result<Database, Source> {
        let sql = Sql::new(&self.schema)
            .ok_or("the schema's name must be 1 to 63 characters of a-z, 0-9 and _, and not begin with a digit")?;
        let mut ways =
            [url, self.listener_url.as_deref().unwrap_or(url)].map(|url| Connector::new(url, &self.security));
        ways.iter_mut().flatten().for_each(|connector| self.configure(&mut connector.config));
        let [connector, listener] = ways;
        let limits = (self.statements, self.timeout, self.connections);
        Database::new((connector?, listener?), limits, sql)
    }

    fn configure(&self, config: &mut Config) {
        if config.get_application_name().is_none() {
            config.application_name("tower-events");
        }
        // A standby is behind: what it does not have yet would look like a lost tail.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(self.timeout).tcp_user_timeout(self.timeout * 2);
        config
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3);
        // A pooler refuses options, or gives the session to others.
        if self.statements == Statements::Prepared {
            // In a stricter default isolation, a statement that waited for a row would fail.
            let isolation = r"-c default_transaction_isolation=read\ committed";
            let sync = self.sync().map_or(String::new(), |sync| format!("-c synchronous_commit={sync}"));
            let (statement, lock) = (self.timeout.as_millis(), self.lock_ms());
            // Plans must use indexes: a plan that was made for few channels must not scan the table once there are
            // many, or many versions of one row.
            let plans = "-c random_page_cost=0.1 -c jit=off";
            let own = format!("-c statement_timeout={statement} -c lock_timeout={lock} {sync} {isolation} {plans}");
            let options = config.get_options().map_or(own.clone(), |theirs| format!("{theirs} {own}"));
            config.options(options);
        }
    }

    /// A statement that waits for a row longer than its caller does would take effect after the caller gave up.
    fn lock_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis() / 2).unwrap_or(i32::MAX).max(1)
    }

    fn sync(&self) -> Option<&'static str> {
        (self.durability == Durability::Relaxed).then_some("off")
    }

    fn settings(&self) -> Settings {
        let retention = self.retention.clone();
        let keep = Keep::new(&retention).at_most(MAX_LIMIT).to_numbers();
        // Without configured sessions, every statement carries its settings.
        let bare = self.statements == Statements::Unprepared;
        Settings {
            keep: keep.map(|limit| limit as i64),
            lock_ms: bare.then(|| self.lock_ms()),
            sync: self.sync().filter(|_| bare),
            clock: self.clock.clone(),
            max_append_bytes: self.max_append_bytes,
            retention,
        }
    }
}

/// URLs hold passwords, so none is shown.
impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .field("timeout", &self.timeout)
            .field("retention", &self.retention)
            .field("tidy_every", &self.tidy_every)
            .field("durability", &self.durability)
            .field("statements", &self.statements)
            .field("has_listener_url", &self.listener_url.is_some())
            .field("security", &self.security)
            .field("max_append_bytes", &self.max_append_bytes)
            .finish_non_exhaustive()
    }
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// The largest limit for which sums, sums with its quarter, and times stay in range.
const MAX_LIMIT: u64 = i64::MAX as u64 / 16;
