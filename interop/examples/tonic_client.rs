//! A client of the example `tonic_stream` that resumes after every break, so that it misses nothing and receives nothing twice.
//!
//! ```sh
//! cargo run -p interop --example tonic_client # while `tonic_stream` runs; restart that to see it resume
//! ```

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

use self::events::{FollowRequest, Update, events_client::EventsClient};

/// Generated from `events.proto`; see `tonic_stream.rs`.
#[path = "tonic_stream/events.rs"]
#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, reason = "generated")]
pub mod events;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Endpoint::from_static("http://127.0.0.1:50052").http2_keep_alive_interval(Duration::from_secs(15));
    let mut follower = Follower::new(server.connect_lazy(), ["clock".to_owned()]);
    while let Some(update) = follower.next().await? {
        println!("{:?}", update.content);
    }
    Ok(())
}

/// Follows channels over as many calls as it takes.
pub struct Follower {
    client: EventsClient<Channel>,
    /// The next call; its cursor is the newest.
    pub request: FollowRequest,
    updates: Option<Streaming<Update>>,
    /// How long to wait before the next call, unless the server has said it.
    pub pause: Duration,
}

impl Follower {
    /// Follows `channels` from the first call on. `server` reconnects by itself.
    pub fn new(server: Channel, channels: impl Into<Vec<String>>) -> Self {
        let request = FollowRequest { channels: channels.into(), cursor: String::new() };
        Self { client: EventsClient::new(server), request, updates: None, pause: Duration::from_secs(1) }
    }

    /// The next update; `None` when all channels are closed.
    pub async fn next(&mut self) -> Result<Option<Update>, Status> {
        loop {
            match self.attempt().await {
                Err(status) if !is_permanent(status.code()) => {
                    self.updates = None;
                    tokio::time::sleep(self.pause_after(&status)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&mut self) -> Result<Option<Update>, Status> {
        let mut updates = match self.updates.take() {
            Some(updates) => updates,
            None => self.call().await?,
        };
        let update = updates.message().await?;
        if let Some(update) = &update {
            self.request.cursor.clone_from(&update.cursor);
        }
        self.updates = Some(updates);
        Ok(update)
    }

    async fn call(&mut self) -> Result<Streaming<Update>, Status> {
        let mut request = Request::new(self.request.clone());
        let token = token().parse().map_err(|_| Status::invalid_argument("the token is not ASCII"))?;
        request.metadata_mut().insert("authorization", token);
        let response = self.client.follow(request).await?;
        if let Some(cursor) = response.metadata().get("events-cursor").and_then(|cursor| cursor.to_str().ok()) {
            self.request.cursor = cursor.to_owned();
        }
        Ok(response.into_inner())
    }

    fn pause_after(&self, status: &Status) -> Duration {
        let millis =
            status.metadata().get("grpc-retry-pushback-ms").and_then(|millis| millis.to_str().ok()?.parse().ok());
        millis.map_or(self.pause, Duration::from_millis)
    }
}

/// Whether the same call would fail again. A token that has expired is replaced.
fn is_permanent(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::PermissionDenied | Code::Unimplemented | Code::DataLoss)
}

/// A new token, which the example accepts for a minute.
fn token() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("Bearer {}", now.as_secs() + 60)
}
