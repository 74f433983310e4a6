//! Events over gRPC: a server-streaming call that follows channels and resumes where its client was.
//!
//! ```sh
//! cargo run -p interop --example tonic_stream
//! grpcurl -plaintext -import-path interop/examples/tonic_stream -proto events.proto \
//!   -H 'authorization: Bearer 4102444800' -d '{"channels":["clock"]}' 127.0.0.1:50052 events.Events/Follow
//! ```

use std::{
    error::Error,
    fmt::Display,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, stream::BoxStream};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap, transport::Server};
use tower_events::{
    Channel, Channels, Cursors, Event, Hub, MemoryStore, StoreError, SubscribeError, Subscription, UpdateContent,
};

use self::events::{
    Closed, Failed, FollowRequest, Reset, Update,
    events_server::{self, EventsServer},
    update::Content,
};

/// Generated from `events.proto` by `tonic-prost-build`, and kept here because that needs `protoc`, or `protox` in its place.
#[path = "tonic_stream/events.rs"]
#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, reason = "generated")]
pub mod events;

/// The service; its clients read from the hub.
pub struct Events(pub Hub);

#[tonic::async_trait]
impl events_server::Events for Events {
    type FollowStream = BoxStream<'static, Result<Update, Status>>;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let time_left = time_left(request.metadata()).ok_or_else(|| Status::unauthenticated("no valid token"))?;
        let FollowRequest { channels, cursor } = request.into_inner();
        if channels.iter().any(|channel| channel == "secret") {
            return Err(Status::permission_denied("this channel is not for you"));
        }
        let channels = channels.into_iter().map(Channel::new).collect::<Result<Vec<_>, _>>().map_err(invalid)?;
        let mut subscription = Subscription::new(Channels::new(channels).map_err(invalid)?);
        if !cursor.is_empty() {
            // What is no cursor names no channel: all are reset, and the client learns that it may have missed events.
            subscription = subscription.resume(&cursor.parse().unwrap_or(Cursors::of([])));
        }
        let hub = self.0.clone();
        let subscriber = hub.subscribe(subscription).await.map_err(|error| status(&hub, &error))?;
        let updates = subscriber.updates().until(tokio::time::sleep(time_left));
        // For a client that is disconnected before the first update.
        let start = updates.cursors().to_string().parse().map_err(invalid)?;
        let updates = updates.map(move |update| update.map(encode).map_err(|error| status(&hub, &error)));
        let mut response = Response::new(updates.boxed());
        response.metadata_mut().insert("events-cursor", start);
        Ok(response)
    }
}

fn encode(update: tower_events::Update) -> Update {
    let (cursor, channel) = (update.cursors.to_string(), update.channel().to_string());
    let content = match update.content {
        UpdateContent::Event(entry) => Some(Content::Event(events::Event {
            name: entry.name.map_or(String::new(), |name| name.to_string()),
            data: String::from_utf8_lossy(&entry.data.to_json()).into_owned(),
            unix_ms: entry.time,
        })),
        UpdateContent::Reset(reset) => Some(Content::Reset(Reset { reason: reset.reason.as_str().to_owned() })),
        UpdateContent::Closed(_) => Some(Content::Closed(Closed {})),
        UpdateContent::Failed(_) => Some(Content::Failed(Failed {})),
        _ => None, // its cursor counts
    };
    Update { cursor, channel, content }
}

fn status(hub: &Hub, error: &SubscribeError) -> Status {
    let code = match error {
        SubscribeError::Ended => return Status::unauthenticated("the token has expired; resume with a new one"),
        SubscribeError::Store(StoreError::Corrupt(_)) => Code::DataLoss,
        _ => Code::Unavailable,
    };
    let retry = error.retry().unwrap_or_else(|| hub.failure_backoff());
    let mut status = Status::new(code, error.to_string());
    status.metadata_mut().insert("grpc-retry-pushback-ms", (retry.as_millis() as u64).into());
    status
}

fn invalid(error: impl Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// For demonstration only: the token is the Unix time in seconds at which it expires. Check a signature here.
fn time_left(metadata: &MetadataMap) -> Option<Duration> {
    let token = metadata.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
    let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(token.parse().ok()?).ok()?)?;
    expires.duration_since(SystemTime::now()).ok()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::new(MemoryStore::default());
    tokio::spawn(tick(hub.clone(), Channel::new("clock")?));
    let service = EventsServer::new(Events(hub.clone()));
    let stop = async move {
        _ = tokio::signal::ctrl_c().await;
        hub.drain(Duration::from_secs(5)); // ends the calls, which would block the shutdown
    };
    let keepalive = Some(Duration::from_secs(15)); // finds clients that are gone
    let server = Server::builder().http2_keepalive_interval(keepalive).add_service(service);
    Ok(server.serve_with_shutdown("127.0.0.1:50052".parse()?, stop).await?)
}

async fn tick(hub: Hub, clock: Channel) {
    loop {
        _ = hub.publish(&clock, Event::text("tick")).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
