//! The server on hyper alone, with as little as possible between a socket and the services. HTTP/1.1 only.

use std::{convert::Infallible, error::Error, future::Future};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tower::{Layer, Service};
use tower_events::{EventsLayer, Hub};

use super::{
    app::{App, health},
    connections::{self, ConnectionLimits},
};

/// Serves until `stop`, then until the last response has ended.
pub(crate) async fn serve(listener: TcpListener, app: App, stop: impl Future<Output = ()>) {
    let events = EventsLayer::new(app.hub).route("/events", app.events).route("/publish", app.publish);
    // Boxed, because every connection reserves space for the largest future.
    let service = events.layer(tower::service_fn(|request| Box::pin(other(request))));
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

/// Answers all other paths.
async fn other(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    match (request.uri().path(), request.method(), request.extensions().get::<Hub>()) {
        ("/healthz", &Method::GET | &Method::HEAD, Some(hub)) => {
            *response.body_mut() = Full::from(health(hub).to_string());
            let json = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        ("/healthz", ..) => *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED,
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}
