//! The server on hyper alone, with as little as possible between a socket and the services.

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, ready},
    pin::pin,
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service};
use tower_events::EventsLayer;

use super::{app::App, socket::prepare};

/// Serves until `stop`, then until the last response has ended.
pub(crate) async fn serve(listener: TcpListener, app: App, stop: impl Future<Output = ()>) {
    let events = EventsLayer::new(app.hub)
        .route("/events", app.events)
        .route("/publish", app.publish)
        .route("/status", app.status);
    let other = move |request: Request<Incoming>| ready(Ok(app.pages.respond(request.method(), request.uri().path())));
    let service = events.layer(tower::service_fn(other));
    let prepare = move |io: &TcpStream| prepare(io, app.stall_timeout);
    match app.cors {
        Some(cors) => run(listener, cors.layer(service), prepare, stop).await,
        None => run(listener, service, prepare, stop).await,
    }
}

/// Serves `service` on every accepted socket, after `prepare`, until `stop`, then until the last response has ended.
pub(crate) async fn run<S, B>(
    listener: TcpListener,
    service: S,
    prepare: impl Fn(&TcpStream),
    stop: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.writev(false); // writes are small: copying the pieces into one buffer costs less than a vectored write
    http.max_buf_size(16 << 10); // bounds the buffer of a slow client, and the size of a request's headers
    let open = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let io = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((io, _)) => io,
                Err(error) => {
                    eprintln!("server: cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await; // too many are open: wait for one to close
                    continue;
                }
            },
            () = &mut stop => break,
        };
        prepare(&io);
        let service = service.clone();
        let service = service_fn(move |request| service.clone().call(request)); // these services are always ready
        let connection = open.watch(http.serve_connection(TokioIo::new(io), service));
        tokio::spawn(async move {
            _ = connection.await; // an error only means that the client disconnected
        });
    }
    drop(listener);
    open.shutdown().await;
}
