//! The connection: requests with an end, and whether one that failed may have arrived. Knows no JetStream.

use std::{
    fmt,
    future::{pending, poll_fn},
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, Request, Subscriber, client::RequestErrorKind};
use bytes::Bytes;
use futures_core::Stream;
use tokio::{sync::watch, time::timeout};

use super::{
    error::{CallError, unavailable},
    permissions::{self, Denials},
};
use crate::store::StoreError;

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
    /// What the subjects begin with that answers come to; the usual one if not given.
    pub(super) inbox: Option<String>,
    /// Which JetStream is asked, where there are several; that of the server if not given.
    pub(super) domain: Option<String>,
}

impl ConnectionSettings {
    /// Takes the name and password, or the token, out of a URL, for the driver does not; the URL without them.
    fn take_from(&mut self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        let Some((user, server)) = rest.rsplit_once('@') else { return url.to_owned() };
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        match user.split_once(':') {
            Some((name, password)) => self.user = Some((decoded(name), decoded(password))),
            None => self.token = Some(decoded(user)),
        }
        format!("{scheme}://{server}")
    }
}

/// Secrets are not shown.
impl fmt::Debug for ConnectionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionSettings").finish_non_exhaustive()
    }
}

/// Whether there is a connection, and how often that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    connected: bool,
    changes: u64,
}

/// A connection that comes back by itself.
#[derive(Clone)]
pub(super) struct Connection {
    client: Client,
    state: watch::Receiver<State>,
    denied: watch::Receiver<Denials>,
    /// What the subjects of JetStream's questions begin with.
    api: Arc<str>,
    /// How long answers take, in microseconds, smoothed.
    round_trip: Arc<AtomicU64>,
}

impl Connection {
    pub(super) async fn connect(
        servers: &str,
        settings: ConnectionSettings,
        request_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let (changed, state) = watch::channel(State { connected: true, changes: 0 });
        let mut settings = settings;
        let servers: Vec<_> = servers.split(',').map(|server| settings.take_from(server.trim())).collect();
        let signs =
            signing(ConnectOptions::new(), &settings).await.map_err(|error| StoreError::Unavailable(error.into()))?;
        let api = settings.domain.as_ref().map_or("$JS.API".into(), |domain| format!("$JS.{domain}.API")).into();
        let (refused, denied) = watch::channel(Denials::new(settings.inbox.as_deref().unwrap_or("_INBOX")));
        let options = options(signs, settings, request_timeout).event_callback(move |event| {
            note(&changed, &refused, &event);
            std::future::ready(())
        });
        match timeout(request_timeout, options.connect(servers)).await {
            Ok(Ok(client)) => Ok(Self { client, state, denied, api, round_trip: Arc::default() }),
            Ok(Err(error)) => Err(StoreError::Unavailable(Box::new(error))),
            Err(_) => Err(unavailable("NATS did not accept the connection in time")),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state.borrow().connected
    }

    /// Grows whenever the connection breaks or comes back: what was known before may be wrong then.
    pub(super) fn changes(&self) -> u64 {
        self.state.borrow().changes
    }

    /// Whether the server is at least this.
    pub(super) fn is_at_least(&self, major: i64, minor: i64) -> bool {
        self.client.is_server_compatible(major, minor, 0)
    }

    /// The subject of a question to JetStream.
    pub(super) fn api(&self, what: &str) -> String {
        format!("{}.{what}", self.api)
    }

    /// The most that one message may hold, headers included.
    pub(super) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// Asks and waits. What cannot be sent now waits for the connection, as long as an answer may take.
    pub(super) async fn request(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        request_timeout: Duration,
    ) -> Result<Message, CallError> {
        let mut state = self.state.clone();
        if !state.borrow().connected {
            let connected = timeout(request_timeout, state.wait_for(|state| state.connected)).await;
            if !connected.is_ok_and(|state| state.is_ok()) {
                return Err(CallError::NotSent("the connection is down".into()));
            }
        }
        let (begun, mut denied) = (Instant::now(), self.denied.clone());
        let before = denied.borrow().count();
        let request = Request { headers, ..Request::new().payload(payload).timeout(None) };
        tokio::select! {
            // From here on it may have been sent, whatever else is said.
            answer = self.client.send_request(subject.to_owned(), request) => answer.inspect(|_| self.note_round_trip(begun.elapsed())).map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => CallError::NoResponders,
                RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                    CallError::NotSent(error.to_string())
                }
                _ => CallError::NoResponse(error.to_string()),
            }),
            () = broken(&mut state) => Err(CallError::NoResponse("the connection broke".into())),
            what = permissions::denial_of(&mut denied, subject, before) => Err(CallError::PermissionDenied(what)),
            () = tokio::time::sleep(request_timeout) => Err(CallError::NoResponse(format!("none within {request_timeout:?}"))),
        }
    }

    fn note_round_trip(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(10_000_000);
        let before = self.round_trip.load(Ordering::Relaxed);
        self.round_trip.store(if before == 0 { took } else { (before * 7 + took) / 8 }, Ordering::Relaxed);
    }

    /// How long an answer takes, about.
    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip.load(Ordering::Relaxed))
    }

    /// Listens to what others say.
    pub(super) async fn subscribe(&self, subject: String) -> Result<Subscriber, CallError> {
        self.client.subscribe(subject).await.map_err(|error| CallError::NotSent(error.to_string()))
    }

    /// Says something to whoever listens, without waiting.
    pub(super) async fn publish(&self, subject: String, payload: Bytes) {
        // It is only a courtesy.
        _ = self.client.publish(subject, payload).await;
    }

    /// Listens on a subject of its own.
    pub(super) async fn inbox(&self) -> Result<(String, Subscriber), CallError> {
        let inbox = self.client.new_inbox();
        let subscriber = self.client.subscribe(inbox.clone()).await;
        Ok((inbox, subscriber.map_err(|error| CallError::NotSent(error.to_string()))?))
    }

    /// Asks for several answers.
    pub(super) async fn request_many(&self, subject: String, payload: Bytes) -> Result<Responses, CallError> {
        let (inbox, answers) = self.inbox().await?;
        let (state, denied) = (self.state.clone(), self.denied.clone());
        let before = denied.borrow().count();
        let asked = self.client.publish_with_reply(subject.clone(), inbox, payload).await;
        asked.map_err(|error| CallError::NotSent(error.to_string()))?;
        Ok(Responses { subject, answers, state, denied, before })
    }

    /// Sends without waiting.
    pub(super) async fn send(&self, subject: async_nats::Subject) {
        // A lost answer to flow control is asked for again by the next heartbeat.
        _ = self.client.publish(subject, Bytes::new()).await;
    }

    /// Connects anew when no answer can come: a server does not take up by itself what it did not allow before.
    pub(super) async fn reconnect_if_inbox_denied(&self) {
        if self.denied.borrow().is_inbox_denied() {
            // It is tried again soon.
            _ = self.client.force_reconnect().await;
        }
    }

    /// Resolves when the connection breaks.
    pub(super) async fn broken(&self) {
        broken(&mut self.state.clone()).await;
    }
}

/// The answers to one question.
pub(super) struct Responses {
    subject: String,
    answers: Subscriber,
    state: watch::Receiver<State>,
    denied: watch::Receiver<Denials>,
    /// What was denied before.
    before: u64,
}

impl Responses {
    /// The next; none when no more come.
    pub(super) async fn next(&mut self, request_timeout: Duration) -> Result<Option<Message>, CallError> {
        let answers = &mut self.answers;
        tokio::select! {
            answer = poll_fn(|cx| std::pin::Pin::new(&mut *answers).poll_next(cx)) => Ok(answer),
            () = broken(&mut self.state) => Err(CallError::NoResponse("the connection broke".into())),
            what = permissions::denial_of(&mut self.denied, &self.subject, self.before) => Err(CallError::PermissionDenied(what)),
            () = tokio::time::sleep(request_timeout) => Err(CallError::NoResponse("a batch did not end".into())),
        }
    }
}

async fn broken(state: &mut watch::Receiver<State>) {
    let before = state.borrow_and_update().changes;
    if state.wait_for(|state| state.changes != before).await.is_err() {
        pending::<()>().await;
    }
}

fn note(changed: &watch::Sender<State>, refused: &watch::Sender<Denials>, event: &Event) {
    let connected = match event {
        Event::ServerError(error) if permissions::note(refused, &error.to_string()) => return,
        Event::Connected => true,
        Event::Disconnected | Event::Closed => false,
        other => return tracing::debug!(event = %other, "NATS"),
    };
    changed.send_modify(|state| {
        // The first `Connected` comes when nothing has changed yet.
        if state.connected != connected {
            *state = State { connected, changes: state.changes + 1 };
            refused.send_modify(Denials::clear);
            tracing::info!(connected, "the connection to NATS changed");
        }
    });
}

fn options(options: ConnectOptions, settings: ConnectionSettings, request_timeout: Duration) -> ConnectOptions {
    let mut options = options
        .name("tower-events")
        .request_timeout(None)
        .connection_timeout(request_timeout)
        // Two pings without an answer end a connection that is open at this end only.
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

/// Adds what signs the server's challenge.
#[cfg(feature = "nats-nkeys")]
async fn signing(mut options: ConnectOptions, settings: &ConnectionSettings) -> io::Result<ConnectOptions> {
    if let Some(seed) = &settings.nkey {
        options = options.nkey(seed.clone());
    }
    if let Some(file) = &settings.credentials {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
        options = options.credentials_file(file).await.map_err(named)?;
    }
    Ok(options)
}

#[cfg(not(feature = "nats-nkeys"))]
async fn signing(options: ConnectOptions, _: &ConnectionSettings) -> io::Result<ConnectOptions> {
    Ok(options)
}

/// How long to wait before the next attempt: doubles up to 2 s, and half of it is chance, so that many nodes come apart.
fn delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(6);
    jittered(Duration::from_millis(50) * 2_u32.pow(doublings).min(40))
}

/// Between half of it and all of it.
pub(super) fn jittered(most: Duration) -> Duration {
    most.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_passwords_and_tokens_are_taken_out_of_urls() {
        let mut settings = ConnectionSettings::default();
        assert_eq!(settings.take_from("nats://a:4222"), "nats://a:4222");
        assert_eq!(settings.take_from("tls://app:p%40s:s@[::1]:4222"), "tls://[::1]:4222");
        assert_eq!(settings.user, Some(("app".into(), "p@s:s".into())));
        assert_eq!(settings.take_from("t0ken@a"), "nats://a");
        assert_eq!(settings.token.as_deref(), Some("t0ken"));
    }
}
