//! Ours: the same services in axum, and on hyper with the settings that turned out best.

use std::convert::Infallible;

use axum::{Router, serve::ListenerExt};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tower::Service;
use tower_events::{Body, Channels, EventService, Hub, MemoryStore, PublishService, Retention};

use crate::peer::announce;

fn services() -> (EventService, PublishService) {
    let hub = Hub::new(MemoryStore::new(Retention::default().events(10_000).bytes(64 << 20)));
    (EventService::new(hub.clone(), Channels::from_query), PublishService::new(hub, Channels::from_query))
}

pub(crate) fn serve_in_axum() {
    let (events, publish) = services();
    let router = Router::new().route_service("/events", events).route_service("/publish", publish);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        announce(listener.local_addr().expect("an address"));
        axum::serve(listener.tap_io(|io| _ = io.set_nodelay(true)), router).await.expect("serves");
    });
}

/// One thread, and flat writes: what a wake sends is one small buffer.
pub(crate) fn serve_on_hyper() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        announce(listener.local_addr().expect("an address"));
        let (events, publish) = services();
        loop {
            let (io, _) = listener.accept().await.expect("a connection");
            io.set_nodelay(true).expect("TCP_NODELAY");
            let (events, publish) = (events.clone(), publish.clone());
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let answer = match request.uri().path() {
                    "/events" => Some(Ok(events.clone().call(request))),
                    "/publish" => Some(Err(publish.clone().call(request))),
                    _ => None,
                };
                async move {
                    match answer {
                        Some(Ok(events)) => events.await,
                        Some(Err(publish)) => publish.await,
                        None => Ok::<_, Infallible>(not_found()),
                    }
                }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.writev(false);
            tokio::spawn(async move { _ = http.serve_connection(TokioIo::new(io), service).await });
        }
    });
}

fn not_found() -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
