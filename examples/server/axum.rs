//! The server on axum.

use std::{future::Future, io};

use axum::{Router, serve::ListenerExt};
use http::{Method, Uri};
use tokio::net::TcpListener;

use super::{app::App, socket::prepare};

/// Serves until `stop`, then until the last response has ended.
pub(crate) async fn serve(
    listener: TcpListener,
    app: App,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let mut router = Router::new()
        .route_service("/events", app.events)
        .route_service("/publish", app.publish)
        .route_service("/status", app.status)
        .fallback(async move |method: Method, uri: Uri| app.pages.respond(&method, uri.path()));
    let stall_timeout = app.stall_timeout;
    if let Some(cors) = app.cors {
        router = router.layer(cors);
    }
    let listener = listener.tap_io(move |io| prepare(io, stall_timeout));
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}
