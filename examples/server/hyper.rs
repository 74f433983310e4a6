//! The server on hyper alone, with as little as possible between a socket and the services. HTTP/1.1 only.

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, ready},
};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tower::{Layer, Service};
use tower_events::EventsLayer;

use super::{
    app::App,
    connections::{self, ConnectionLimits},
};

/// Serves until `stop`, then until the last response has ended.
pub(crate) async fn serve(listener: TcpListener, app: App, stop: impl Future<Output = ()>) {
    let events = EventsLayer::new(app.hub)
        .route("/events", app.events)
        .route("/publish", app.publish)
        .route("/status", app.status);
    let other = move |request: Request<Incoming>| ready(Ok((app.other)(request.method(), request.uri().path())));
    let service = events.layer(tower::service_fn(other));
    match app.cors {
        Some(cors) => run(listener, cors.layer(service), app.limits, stop).await,
        None => run(listener, service, app.limits, stop).await,
    }
}

/// Serves `service` until `stop`, then until the last response has ended.
pub(crate) async fn run<S, B>(
    listener: TcpListener,
    service: S,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.writev(false); // writes are small: copying the pieces into one buffer costs less than a vectored write
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout);
    http.max_buf_size(limits.head_bytes as usize); // bounds the buffer of a slow client, too
    connections::serve(listener, service, limits, stop, |io, service| http.serve_connection(TokioIo::new(io), service))
        .await;
}
