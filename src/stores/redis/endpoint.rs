//! Where the server is and how to authenticate, resolved anew for each connection: the primary and the password may
//! have changed. Keeps nothing open.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    RedisError, RedisResult, Value,
};
use tokio::time::timeout;

use crate::store::Source;

/// Where to connect to, and with which credentials.
pub(super) struct Endpoint {
    info: ConnectionInfo,
    sentinels: Option<Sentinels>,
    password: Option<Password>,
}

/// Certificates, Sentinels and the password.
#[derive(Clone, Default)]
pub(super) struct ConnectionSettings {
    /// Trusted certificates, as PEM; the system's if there are none.
    #[cfg(feature = "redis-tls")]
    pub(super) root: Option<Vec<u8>>,
    /// A client certificate and its key, as PEM.
    #[cfg(feature = "redis-tls")]
    pub(super) own: Option<(Vec<u8>, Vec<u8>)>,
    /// The primary's name, and the URLs of the Sentinels.
    pub(super) sentinels: Option<(String, Vec<String>)>,
    pub(super) password: Option<Password>,
}

impl fmt::Debug for ConnectionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither keys nor URLs: a URL may hold a password.
        let primary = self.sentinels.as_ref().map(|(name, _)| name);
        f.debug_struct("ConnectionSettings").field("primary", &primary).finish_non_exhaustive()
    }
}

impl ConnectionSettings {
    /// A client that trusts the configured certificates, which are parsed here.
    pub(super) fn client(&self, info: ConnectionInfo) -> redis::RedisResult<Client> {
        #[cfg(feature = "redis-tls")]
        if self.root.is_some() || self.own.is_some() {
            let own = self.own.clone();
            let client_tls = own.map(|(client_cert, client_key)| redis::ClientTlsConfig { client_cert, client_key });
            return Client::build_with_tls(info, redis::TlsCertificates { client_tls, root_cert: self.root.clone() });
        }
        Client::open(info)
    }
}

/// The servers that know which server is the primary.
struct Sentinels {
    /// The primary's name.
    name: String,
    clients: Vec<Client>,
    /// How long each may take: asking all of them in vain, and then connecting, fits into one attempt.
    attempt_timeout: Duration,
}

/// Returns the current password.
#[derive(Clone)]
pub(super) struct Password(Arc<Ask>);

type Ask = dyn Fn() -> Answer + Send + Sync;

type Answer = Pin<Box<dyn Future<Output = Result<String, Source>> + Send>>;

impl Password {
    pub(super) fn new<F>(ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, Source>> + Send + 'static,
    {
        Self(Arc::new(move || -> Answer { Box::pin(ask()) }))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Endpoint {
    /// Each attempt to connect may take `attempt_timeout`.
    pub(super) fn new(url: &str, settings: ConnectionSettings, attempt_timeout: Duration) -> RedisResult<Self> {
        let info = prepared(url.into_connection_info()?);
        // Parses the certificates, and keeps them with the address.
        let info = settings.client(info)?.get_connection_info().clone();
        let sentinels = settings.sentinels.as_ref().map(|(name, urls)| {
            let all: RedisResult<Vec<_>> =
                urls.iter().map(|url| settings.client(prepared(url.as_str().into_connection_info()?))).collect();
            let shares = u32::try_from(urls.len()).unwrap_or(u32::MAX).saturating_add(1);
            Ok::<_, RedisError>(Sentinels {
                name: name.clone(),
                clients: all?,
                attempt_timeout: SENTINEL_TIMEOUT.min(attempt_timeout / shares),
            })
        });
        Ok(Self { info, sentinels: sentinels.transpose()?, password: settings.password })
    }

    /// The client to connect with now, after that many failed attempts.
    pub(super) async fn client(&self, failed_attempts: u32) -> RedisResult<Client> {
        let mut info = self.info.clone();
        if let Some(sentinels) = &self.sentinels {
            let (host, port) = sentinels.primary(failed_attempts).await?;
            let addr = with_host(info.addr(), host, port)?;
            info = info.set_addr(addr);
        }
        if let Some(Password(ask)) = &self.password {
            let password = ask().await.map_err(|error| {
                RedisError::from((ErrorKind::AuthenticationFailed, "no password", error.to_string()))
            })?;
            let settings = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(settings);
        }
        Client::open(info)
    }
}

/// RESP3 reports a lost connection at once, so that the next call does not have to find out.
fn prepared(info: ConnectionInfo) -> ConnectionInfo {
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    info.set_redis_settings(settings).set_tcp_settings(tcp)
}

/// The same kind of address with another host and port.
fn with_host(addr: &ConnectionAddr, host: String, port: u16) -> RedisResult<ConnectionAddr> {
    match addr {
        ConnectionAddr::Tcp(..) => Ok(ConnectionAddr::Tcp(host, port)),
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            Ok(ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() })
        }
        _ => Err(RedisError::from((ErrorKind::InvalidClientConfig, "a Sentinel cannot lead to a Unix socket"))),
    }
}

impl Sentinels {
    /// Asks one Sentinel after the other until one answers. Each attempt starts with another one, because the last
    /// answer may have been out of date.
    async fn primary(&self, failed_attempts: u32) -> RedisResult<(String, u16)> {
        let mut failed: Option<RedisError> = None;
        let (before, first) = self.clients.split_at(failed_attempts as usize % self.clients.len().max(1));
        for sentinel in first.iter().chain(before) {
            let error = match timeout(self.attempt_timeout, self.ask(sentinel)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => error,
                Err(_) => RedisError::from((ErrorKind::Io, "a Sentinel does not answer")),
            };
            // One that knows no such primary says more than one that is down.
            if failed.as_ref().is_none_or(|earlier| earlier.kind() != ErrorKind::InvalidClientConfig) {
                failed = Some(error);
            }
        }
        let unconfigured = || RedisError::from((ErrorKind::InvalidClientConfig, "no Sentinel is configured"));
        Err(failed.unwrap_or_else(unconfigured))
    }

    async fn ask(&self, sentinel: &Client) -> RedisResult<(String, u16)> {
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let mut connection = sentinel.get_multiplexed_async_connection_with_config(&config).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let answer = connection.send_packed_command(&question).await?.extract_error()?;
        let found = match &answer {
            Value::Array(parts) => match &**parts {
                [Value::BulkString(host), Value::BulkString(port)] => text(host).zip(text(port)),
                _ => None,
            },
            _ => None,
        };
        let found = found.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
        found.ok_or_else(|| RedisError::from((ErrorKind::InvalidClientConfig, "the Sentinel knows no such primary")))
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// How long one Sentinel may take at most.
const SENTINEL_TIMEOUT: Duration = Duration::from_secs(1);
