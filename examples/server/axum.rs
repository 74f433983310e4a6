//! The server on axum: HTTP/1.1 and HTTP/2 on one port. `axum::serve` has no setting for limits of a connection, so hyper-util
//! serves the router.

use std::{future::Future, time::Duration};

use axum::Router;
use http::{Method, Uri};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::net::TcpListener;

use super::{
    app::App,
    connections::{self, ConnectionLimits},
};

/// Serves until `stop`, then until the last response has ended.
pub(crate) async fn serve(listener: TcpListener, app: App, stop: impl Future<Output = ()>) {
    let http = http(app.limits);
    let limits = app.limits;
    connections::serve(listener, router(app), limits, stop, |io, service| {
        http.serve_connection(TokioIo::new(io), service).into_owned()
    })
    .await;
}

fn router(app: App) -> Router {
    let router = Router::new()
        .route_service("/events", app.events)
        .route_service("/publish", app.publish)
        .route_service("/status", app.status)
        .fallback(async move |method: Method, uri: Uri| (app.other)(&method, uri.path()));
    match app.cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

fn http(limits: ConnectionLimits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes as usize); // bounds the buffer of a slow client, too
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.head_bytes)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(MAX_SEND_BUFFER)
        // Finds clients that are gone, whose idle connections would stay open for ever.
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_AFTER);
    http
}

/// Requests at once on a connection of HTTP/2: more than the tabs of a browser need.
const MAX_STREAMS: u32 = 200;
/// Bytes that wait for a client, per stream.
const MAX_SEND_BUFFER: usize = 64 << 10;
const PING_AFTER: Duration = Duration::from_secs(30);
