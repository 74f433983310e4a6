//! The server on hyper alone: what stands between a socket and the services is as little as can be.

use std::{convert::Infallible, error::Error, future::Future, pin::pin, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service};
use tower_events::{EventsLayer, Hub};

use super::{
    app::{App, health},
    socket::prepare,
};

/// Serves until `stop`, then until the last response has ended.
pub(crate) async fn serve(listener: TcpListener, app: App, stop: impl Future<Output = ()>) {
    let events = EventsLayer::new(app.hub).route("/events", app.events).route("/publish", app.publish);
    // Boxed, because every connection has room for the largest future.
    let service = events.layer(tower::service_fn(|request| Box::pin(other(request))));
    let set = move |io: &TcpStream| prepare(io, app.stall_timeout);
    match app.cors {
        Some(cors) => run(listener, cors.layer(service), set, stop).await,
        None => run(listener, service, set, stop).await,
    }
}

/// Serves `service` on sockets that were `set`, until `stop`, then until the last response has ended.
pub(crate) async fn run<S, B>(
    listener: TcpListener,
    service: S,
    set: impl Fn(&TcpStream),
    stop: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.writev(false); // what a wake sends is small: copying it together costs less than sending it in pieces
    http.max_buf_size(16 << 10); // the copies of a client that reads slowly; also the largest request head
    let open = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let io = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((io, _)) => io,
                Err(error) => {
                    eprintln!("server: cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await; // too many are open: wait for one to go
                    continue;
                }
            },
            () = &mut stop => break,
        };
        set(&io);
        let service = service.clone();
        let service = service_fn(move |request| service.clone().call(request)); // all of it is always ready
        let connection = open.watch(http.serve_connection(TokioIo::new(io), service));
        tokio::spawn(async move {
            _ = connection.await; // ends with an error when the client breaks off
        });
    }
    drop(listener);
    open.shutdown().await;
}

/// What is left of the paths.
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
