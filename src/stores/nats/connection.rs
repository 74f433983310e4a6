//! The connection: requests with a timeout, and whether a failed one may have been received. Knows no JetStream.

use std::{
    future::{pending, poll_fn},
    io,
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
    connection_settings::{ConnectionSettings, add_signing_keys, options},
    error::{CallError, from_open_call, open_error},
    permissions::{self, Denials},
};
use crate::{
    store::{OpenError, OpenErrorKind, StoreError},
    stores::outage_log::{OutageLog, Part},
};

/// Whether there is a connection, and how often that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    connected: bool,
    changes: u64,
}

/// A connection that reconnects by itself.
#[derive(Clone)]
pub(super) struct Connection {
    client: Client,
    state: watch::Receiver<State>,
    denied: watch::Receiver<Denials>,
    /// The prefix of JetStream API subjects.
    api: Arc<str>,
    /// The smoothed round-trip time in microseconds.
    round_trip: Arc<AtomicU64>,
    pub(super) outages: Arc<OutageLog>,
}

impl Connection {
    pub(super) async fn connect(
        servers: &str,
        settings: ConnectionSettings,
        request_timeout: Duration,
    ) -> Result<Self, OpenError> {
        let (changed, state) = watch::channel(State { connected: true, changes: 0 });
        let mut settings = settings;
        let servers: Vec<_> = servers.split(',').map(|server| settings.take_from(server.trim())).collect();
        let invalid = |error: io::Error| open_error(OpenErrorKind::Settings, error);
        settings.check_files().await.map_err(invalid)?;
        let options_with_keys = add_signing_keys(ConnectOptions::new(), &settings).await.map_err(invalid)?;
        let api = settings.domain.as_ref().map_or("$JS.API".into(), |domain| format!("$JS.{domain}.API")).into();
        let (refused, denied) = watch::channel(Denials::new(settings.inbox.as_deref().unwrap_or("_INBOX")));
        let outages = Arc::<OutageLog>::default();
        let log = Arc::clone(&outages);
        let options = options(options_with_keys, settings, request_timeout).event_callback(move |event| {
            note(&changed, &refused, &log, &event);
            std::future::ready(())
        });
        match timeout(request_timeout, options.connect(servers)).await {
            Ok(Ok(client)) => Ok(Self { client, state, denied, api, round_trip: Arc::default(), outages }),
            Ok(Err(error)) => Err(from_open_call(StoreError::Unavailable(Box::new(error)))),
            Err(_) => Err(open_error(OpenErrorKind::Unreachable, "NATS did not accept the connection in time")),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state.borrow().connected
    }

    /// Increases whenever the connection breaks or comes back: what was known before may be outdated then.
    pub(super) fn changes(&self) -> u64 {
        self.state.borrow().changes
    }

    /// Whether the server has at least this version.
    pub(super) fn is_at_least(&self, major: i64, minor: i64) -> bool {
        self.client.is_server_compatible(major, minor, 0)
    }

    /// The subject of a JetStream API request.
    pub(super) fn api(&self, what: &str) -> String {
        format!("{}.{what}", self.api)
    }

    /// The most bytes of one message, headers included.
    pub(super) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// Sends a request and waits for the response. While disconnected, it waits for the connection for as long as a
    /// response may take.
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
        let (started, mut denied) = (Instant::now(), self.denied.clone());
        let before = denied.borrow().count();
        let request = Request { headers, ..Request::new().payload(payload).timeout(None) };
        tokio::select! {
            // From here on the request may have been sent, whatever happens.
            answer = self.client.send_request(subject.to_owned(), request) => answer.inspect(|_| self.note_round_trip(started.elapsed())).map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => CallError::NoResponders,
                RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                    CallError::NotSent(error.to_string())
                }
                _ => CallError::NoResponse(error.to_string()),
            }),
            () = broken(&mut state) => Err(CallError::NoResponse("the connection broke".into())),
            what = permissions::denial_of(&mut denied, subject, before) => Err(CallError::PermissionDenied(what)),
            () = tokio::time::sleep(request_timeout) => Err(CallError::NoResponse(format!("timed out after {request_timeout:?}"))),
        }
    }

    fn note_round_trip(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(10_000_000);
        let before = self.round_trip.load(Ordering::Relaxed);
        self.round_trip.store(if before == 0 { took } else { (before * 7 + took) / 8 }, Ordering::Relaxed);
    }

    /// The approximate round-trip time.
    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip.load(Ordering::Relaxed))
    }

    /// Subscribes to a subject.
    pub(super) async fn subscribe(&self, subject: String) -> Result<Subscriber, CallError> {
        self.client.subscribe(subject).await.map_err(|error| CallError::NotSent(error.to_string()))
    }

    /// Publishes a message without waiting.
    pub(super) async fn publish(&self, subject: String, payload: Bytes) {
        // Only used for hints, which may be lost.
        _ = self.client.publish(subject, payload).await;
    }

    /// Subscribes to a new inbox; returns its subject.
    pub(super) async fn inbox(&self) -> Result<(String, Subscriber), CallError> {
        let inbox = self.client.new_inbox();
        let subscriber = self.client.subscribe(inbox.clone()).await;
        Ok((inbox, subscriber.map_err(|error| CallError::NotSent(error.to_string()))?))
    }

    /// Sends a request that has several responses.
    pub(super) async fn request_many(&self, subject: String, payload: Bytes) -> Result<Responses, CallError> {
        let (inbox, answers) = self.inbox().await?;
        let (state, denied) = (self.state.clone(), self.denied.clone());
        let before = denied.borrow().count();
        let published = self.client.publish_with_reply(subject.clone(), inbox, payload).await;
        published.map_err(|error| CallError::NotSent(error.to_string()))?;
        Ok(Responses { subject, answers, state, denied, before })
    }

    /// Sends an empty message without waiting.
    pub(super) async fn send(&self, subject: async_nats::Subject) {
        // If an answer to flow control is lost, the next heartbeat asks for it again.
        _ = self.client.publish(subject, Bytes::new()).await;
    }

    /// Reconnects when responses cannot arrive because the inbox was denied: a server does not apply granted
    /// permissions to a subscription that it refused.
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

/// The responses to one request.
pub(super) struct Responses {
    subject: String,
    answers: Subscriber,
    state: watch::Receiver<State>,
    denied: watch::Receiver<Denials>,
    /// The number of denials before the request.
    before: u64,
}

impl Responses {
    /// The next response; `None` when there are no more.
    pub(super) async fn next(&mut self, request_timeout: Duration) -> Result<Option<Message>, CallError> {
        let answers = &mut self.answers;
        tokio::select! {
            answer = poll_fn(|cx| std::pin::Pin::new(&mut *answers).poll_next(cx)) => Ok(answer),
            () = broken(&mut self.state) => Err(CallError::NoResponse("the connection broke".into())),
            what = permissions::denial_of(&mut self.denied, &self.subject, self.before) => Err(CallError::PermissionDenied(what)),
            () = tokio::time::sleep(request_timeout) => Err(CallError::NoResponse("not all responses arrived".into())),
        }
    }
}

async fn broken(state: &mut watch::Receiver<State>) {
    let before = state.borrow_and_update().changes;
    if state.wait_for(|state| state.changes != before).await.is_err() {
        pending::<()>().await;
    }
}

fn note(changed: &watch::Sender<State>, refused: &watch::Sender<Denials>, outages: &OutageLog, event: &Event) {
    let is_connected = match event {
        Event::ServerError(error) if permissions::note(refused, &error.to_string()) => return,
        Event::Connected => true,
        Event::Disconnected | Event::Closed => false,
        other => return tracing::debug!(event = %other, "NATS"),
    };
    let has_changed = changed.send_if_modified(|state| {
        // The first `Connected` event is no change.
        if state.connected == is_connected {
            return false;
        }
        *state = State { connected: is_connected, changes: state.changes + 1 };
        refused.send_modify(Denials::clear);
        true
    });
    if has_changed && is_connected && outages.recovered(Part::Calls) {
        tracing::info!("connected to NATS again");
    } else if has_changed && !is_connected && outages.failed(Part::Calls) {
        tracing::warn!("lost the connection to NATS; connecting again");
    }
}
