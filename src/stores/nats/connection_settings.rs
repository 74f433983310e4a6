//! The settings of a connection (credentials, certificates and subjects) and how the driver gets them.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::ConnectOptions;

use super::timing::jittered;

/// What a connection needs.
#[derive(Clone, Default)]
pub(super) struct ConnectionSettings {
    pub(super) user: Option<(String, String)>,
    pub(super) token: Option<String>,
    /// The seed of an nkey.
    #[cfg(feature = "nats-nkeys")]
    pub(super) nkey: Option<String>,
    #[cfg(feature = "nats-nkeys")]
    pub(super) credentials: Option<PathBuf>,
    pub(super) roots: Vec<PathBuf>,
    pub(super) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(super) tls: bool,
    /// The prefix of inbox subjects; the driver's default if not set.
    pub(super) inbox: Option<String>,
    /// The JetStream domain; that of the connected server if not set.
    pub(super) domain: Option<String>,
}

impl ConnectionSettings {
    /// Takes the name and password, or the token, out of a URL, because the driver does not; returns the URL without
    /// them.
    pub(super) fn take_from(&mut self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        let Some((user, server)) = rest.rsplit_once('@') else { return url.to_owned() };
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        match user.split_once(':') {
            Some((name, password)) => self.user = Some((decoded(name), decoded(password))),
            None => self.token = Some(decoded(user)),
        }
        format!("{scheme}://{server}")
    }

    /// Reads the files of certificates once, because the errors of the driver do not name them.
    pub(super) async fn check_files(&self) -> io::Result<()> {
        let own = self.client_certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
        for file in self.roots.iter().chain(own) {
            let path = file.clone();
            let opened = tokio::task::spawn_blocking(move || std::fs::File::open(path)).await?;
            opened.map_err(|error| named(file, error))?;
        }
        Ok(())
    }
}

/// An error that begins with the name of the file.
fn named(file: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

/// Shows no secrets.
impl fmt::Debug for ConnectionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionSettings").finish_non_exhaustive()
    }
}

pub(super) fn options(
    options: ConnectOptions,
    settings: ConnectionSettings,
    request_timeout: Duration,
) -> ConnectOptions {
    let mut options = options
        .name("tower-events")
        .request_timeout(None)
        .connection_timeout(request_timeout)
        // Two unanswered pings end a half-open connection.
        .ping_interval((request_timeout / 2).max(Duration::from_millis(500)))
        .max_reconnects(None)
        .reconnect_delay_callback(delay)
        .require_tls(settings.tls);
    if let Some(inbox) = settings.inbox {
        options = options.custom_inbox_prefix(inbox);
    }
    if let Some((user, password)) = settings.user {
        options = options.user_and_password(user, password);
    }
    if let Some(token) = settings.token {
        options = options.token(token);
    }
    for roots in settings.roots {
        options = options.add_root_certificates(roots);
    }
    if let Some((certificate, key)) = settings.client_certificate {
        options = options.add_client_certificate(certificate, key);
    }
    options
}

/// Adds the keys that sign the server's challenge.
#[cfg(feature = "nats-nkeys")]
pub(super) async fn add_signing_keys(
    mut options: ConnectOptions,
    settings: &ConnectionSettings,
) -> io::Result<ConnectOptions> {
    if let Some(seed) = &settings.nkey {
        options = options.nkey(seed.clone());
    }
    if let Some(file) = &settings.credentials {
        options = options.credentials_file(file).await.map_err(|error| named(file, error))?;
    }
    Ok(options)
}

#[cfg(not(feature = "nats-nkeys"))]
pub(super) async fn add_signing_keys(options: ConnectOptions, _: &ConnectionSettings) -> io::Result<ConnectOptions> {
    Ok(options)
}

/// How long to wait before the next attempt: doubles up to 2 s, with jitter of up to a half, so that nodes do not all
/// reconnect at once.
fn delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(6);
    jittered(Duration::from_millis(50) * 2_u32.pow(doublings).min(40))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_passwords_and_tokens_are_removed_from_urls() {
        let mut settings = ConnectionSettings::default();
        assert_eq!(settings.take_from("nats://a:4222"), "nats://a:4222");
        assert_eq!(settings.take_from("tls://app:p%40s:s@[::1]:4222"), "tls://[::1]:4222");
        assert_eq!(settings.user, Some(("app".into(), "p@s:s".into())));
        assert_eq!(settings.take_from("t0ken@a"), "nats://a");
        assert_eq!(settings.token.as_deref(), Some("t0ken"));
    }
}
