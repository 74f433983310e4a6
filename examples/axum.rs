//! The README's example as a complete program: chat rooms with read permissions per user.
//!
//! ```text
//! cargo run --release --example axum
//! curl -N -H 'Accept: text/event-stream' 'http://127.0.0.1:3000/events?channel=lobby'
//! curl --json '"hello"' http://127.0.0.1:3000/rooms/lobby
//! curl -H 'X-User: root' 'http://127.0.0.1:3000/events?channel=secret'
//! ```

use std::{net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{StatusCode, request::Parts},
    middleware::Next,
    response::Response,
    routing::post,
    serve::{Listener, ListenerExt},
};
use tower_events::{Body, Channel, Channels, Event, EventService, Hub, MemoryStore, Rejection};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let hub = Hub::new(MemoryStore::default());
    let app = Router::new()
        .route_service("/events", EventService::new(hub.clone(), may_read)) // SSE or long poll, by Accept
        .route("/rooms/{room}", post(say))
        .layer(axum::middleware::from_fn(require_user)) // yours: puts a `User` into the extensions
        .with_state(hub.clone());
    let listener = tokio::net::TcpListener::bind(address()?).await?.tap_io(|io| _ = io.set_nodelay(true));
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async move {
        _ = tokio::signal::ctrl_c().await;
        hub.drain(Duration::from_secs(5)); // ends polls and streams; clients reconnect within five seconds
        tokio::time::sleep(Duration::from_millis(500)).await; // or clients between two polls would be cut off
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}

fn may_read(request: &Parts) -> Result<Channels, Rejection> {
    let user = request.extensions.get::<User>().ok_or(Rejection::unauthorized("Bearer"))?;
    Channels::from_query(request)?.all_allowed(|channel| user.may_read(channel)) // else 403
}

async fn say(
    State(hub): State<Hub>,
    Path(room): Path<String>,
    Json(text): Json<String>,
) -> Result<StatusCode, axum::http::Response<Body>> {
    hub.publish(&Channel::new(room)?, Event::json(&text)?.named("message")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Clone)]
struct User(String);

impl User {
    fn may_read(&self, channel: &Channel) -> bool {
        channel.as_str() != "secret" || self.0 == "root"
    }
}

/// For demonstration only: it trusts the request. A real one looks up a session or checks a signature.
async fn require_user(mut request: Request, next: Next) -> Response {
    let name = request.headers().get("x-user").and_then(|name| name.to_str().ok()).unwrap_or("guest");
    let user = User(name.to_owned());
    request.extensions_mut().insert(user);
    next.run(request).await
}

/// The address to listen on: the first argument, or port 3000.
fn address() -> std::io::Result<SocketAddr> {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    argument
        .parse()
        .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("{argument}: {error}")))
}
