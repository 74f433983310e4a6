//! Adds events to an existing hyper service by a layer in front of it.
//!
//! ```text
//! cargo run --release --example hyper
//! curl -N http://127.0.0.1:3000/events
//! curl http://127.0.0.1:3000/
//! ```

use std::{convert::Infallible, error::Error, net::SocketAddr, pin::pin, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_events::{Channel, Event, EventService, EventsLayer, Hub, MemoryStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let hub = Hub::new(MemoryStore::default());
    let events = EventService::fixed(hub.clone(), Channel::new("visits")?);
    let service = ServiceBuilder::new()
        .layer(EventsLayer::new(hub.clone()).route("/events", events)) // answers /events, passes on everything else
        .service(service_fn(hello));

    let listener = TcpListener::bind(address()?).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let server = auto::Builder::new(TokioExecutor::new()); // HTTP/1.1 and HTTP/2
    let open = GracefulShutdown::new();
    let mut stop = pin!(async move {
        _ = tokio::signal::ctrl_c().await;
        hub.drain(Duration::from_secs(5)); // ends polls and streams; clients reconnect within five seconds
        tokio::time::sleep(Duration::from_millis(500)).await; // or clients between two polls would be cut off
    });
    loop {
        let io = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((io, _)) => io,
                Err(error) => {
                    eprintln!("hyper: cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await; // too many are open: wait for one to close
                    continue;
                }
            },
            _ = &mut stop => break,
        };
        _ = io.set_nodelay(true); // or small events wait for the client's ACK
        let connection = server.serve_connection(TokioIo::new(io), TowerToHyperService::new(service.clone()));
        let connection = open.watch(connection.into_owned());
        tokio::spawn(async move {
            _ = connection.await; // an error only means that the client disconnected
        });
    }
    drop(listener);
    open.shutdown().await;
    Ok(())
}

/// The existing service, which now also publishes each visit: the layer puts the hub into the request's extensions.
async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    if let (Some(hub), Ok(visits)) = (request.extensions().get::<Hub>(), Channel::new("visits")) {
        if let Err(error) = hub.publish(&visits, Event::text(path)).await {
            eprintln!("hyper: cannot publish a visit: {error}");
        }
    }
    Ok(Response::new(Full::from("hello\n")))
}

/// The address to listen on: the first argument, or port 3000.
fn address() -> Result<SocketAddr, Box<dyn Error + Send + Sync>> {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    argument.parse().map_err(|error| format!("{argument}: {error}").into())
}
