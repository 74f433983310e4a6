//! How to reach the server: the URL, the encryption, and the secrets. Shows no secrets.

use std::{fmt, future::Future, net::IpAddr, path::Path, pin::Pin, sync::Arc};

use tokio_postgres::{
    Client, Config, Error,
    config::{Host, SslMode},
};

use super::tls::{Identity, Messages, Tls};
use crate::store::{Source, log_pace::LogPace};

/// What applies to every connection unless a URL says otherwise.
#[derive(Clone, Default)]
pub(super) struct Security {
    /// Trusted certificates, as PEM.
    pub(super) certificates: Option<Vec<u8>>,
    pub(super) identity: Option<Identity>,
    pub(super) password: Option<Password>,
}

/// Called for the password of each connection.
pub(super) type Password = Arc<dyn Fn() -> Answer + Send + Sync>;
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<String, Source>> + Send>>;

/// How to connect.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) config: Config,
    tls: Tls,
    password: Option<Password>,
    password_warning: Arc<LogPace>,
}

impl Connector {
    /// Parses a URL. An error does not repeat unparsable parts, which may belong to a password.
    pub(super) fn new(url: &str, security: &Security) -> Result<Self, Source> {
        let Parts { mut config, mode, authority, certificate, key } = parse(url)?;
        let pem = authority.map(|path| std::fs::read(Path::new(&path))).transpose()?;
        let pem = pem.as_deref().or(security.certificates.as_deref());
        let identity = match (certificate, key) {
            (Some(chain), Some(key)) => Some(Identity { chain: std::fs::read(chain)?, key: std::fs::read(key)? }),
            (None, None) => security.identity.clone(),
            _ => return Err("`sslcert` and `sslkey` must be given together".into()),
        };
        let encrypts = match mode {
            Mode::Encrypted => true,
            Mode::Plain => false,
            Mode::Unspecified => pem.is_some() || identity.is_some(),
        };
        config.ssl_mode(if encrypts { SslMode::Require } else { SslMode::Disable });
        if !encrypts && mode == Mode::Unspecified && config.get_hosts().iter().any(is_remote) {
            tracing::warn!(
                "connections to PostgreSQL are not encrypted; set `sslmode=disable` in the URL if that is intended"
            );
        }
        let tls = if encrypts { Tls::verified(pem, identity.as_ref())? } else { Tls::Off };
        Ok(Self { config, tls, password: security.password.clone(), password_warning: Arc::default() })
    }

    /// Connects. The returned messages must be polled, or the connection makes no progress.
    pub(super) async fn connect(&self) -> Result<(Client, Messages), Error> {
        let Some(ask) = &self.password else { return self.tls.connect(&self.config).await };
        let mut config = self.config.clone();
        match ask().await {
            Ok(password) => _ = config.password(password),
            Err(error) if self.password_warning.is_due() => tracing::warn!(%error, "no password for PostgreSQL"),
            Err(_) => {}
        }
        self.tls.connect(&config).await
    }
}

/// Whether traffic to this host leaves the machine.
fn is_remote(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name != "localhost" && !name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => false,
    }
}

impl deadpool_postgres::Connect for Connector {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, tokio::task::JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(async {
            let (client, mut messages) = Self::connect(self).await?;
            let driver = tokio::spawn(async move {
                while let Some(message) = std::future::poll_fn(|cx| messages(cx)).await {
                    if let Err(error) = message {
                        tracing::debug!(%error, "a connection to PostgreSQL ended");
                        return;
                    }
                }
            });
            Ok((client, driver))
        })
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("certificates", &self.certificates.is_some())
            .field("identity", &self.identity.is_some())
            .field("password", &self.password.is_some())
            .finish()
    }
}

/// The encryption that a URL asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Encrypted,
    Plain,
    Unspecified,
}

struct Parts {
    config: Config,
    mode: Mode,
    /// File paths.
    authority: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

/// Handles the parts of libpq's URLs that the driver does not know: the stricter TLS modes, which are the only ones
/// allowed here, and the paths of certificates.
fn parse(url: &str) -> Result<Parts, Source> {
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err("the server's URL must begin with postgres://".into());
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut rest, mut mode) = (form_urlencoded::Serializer::new(String::new()), Mode::Unspecified);
    let (mut authority, mut certificate, mut key) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match (&*name, &*value) {
            ("sslmode", "disable") => mode = Mode::Plain,
            ("sslmode", "require" | "verify-full" | "verify-ca") => mode = Mode::Encrypted,
            ("sslmode", _) => {
                return Err(
                    "`sslmode` must be `disable`, or `require`, `verify-ca` or `verify-full`, which all verify the server: \
                    with `prefer` or `allow`, an attacker in between could force plain text"
                        .into(),
                );
            }
            ("sslrootcert", "system") => {}
            ("sslrootcert", path) => authority = Some(path.to_owned()),
            ("sslcert", path) => certificate = Some(path.to_owned()),
            ("sslkey", path) => key = Some(path.to_owned()),
            (name, value) if DRIVER_OPTIONS.contains(&name) => _ = rest.append_pair(name, value),
            _ => return Err("the URL has an unknown option; in a password, write ? as %3F".into()),
        }
    }
    // The driver's URLs decode %20, but not the + of forms.
    let query = rest.finish().replace('+', "%20");
    Ok(Parts { config: format!("{base}?{query}").parse()?, mode, authority, certificate, key })
}

/// The options that the driver knows.
const DRIVER_OPTIONS: [&str; 17] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
];
