//! Events over TLS, with HTTP/2: all streams of a browser share one connection.
//!
//! ```sh
//! cargo run -p interop --example tls -- 127.0.0.1:3443 certificate.pem
//! curl -N --cacert certificate.pem 'https://localhost:3443/events?channel=a' -H 'Accept: text/event-stream'
//! curl --cacert certificate.pem 'https://localhost:3443/publish?channel=a' --json '"hello"'
//! ```
//!
//! The certificate is made at each start, for `localhost`; a real one comes from files.

use std::{error::Error, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{net::TcpListener, time::timeout};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};
use tower_events::{Channels, EventService, Hub, MemoryStore, PublishService};

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:3443".into());
    let tls = TlsAcceptor::from(Arc::new(tls(&arguments.next().unwrap_or("certificate.pem".into()))?));
    let hub = Hub::new(MemoryStore::default());
    let app = Router::new()
        .route_service("/events", EventService::new(hub.clone(), Channels::from_query))
        .route_service("/publish", PublishService::new(hub.clone(), Channels::from_query));

    let listener = TcpListener::bind(address).await?;
    println!("listening on https://{}", listener.local_addr()?);
    let open = GracefulShutdown::new();
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let io = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((io, _)) => io,
                Err(error) => {
                    eprintln!("tls: cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await; // too many are open: wait for one to close
                    continue;
                }
            },
            _ = &mut stop => break,
        };
        _ = io.set_nodelay(true); // or small events wait for the client's ACK
        let (tls, app, watcher) = (tls.clone(), app.clone(), open.watcher());
        tokio::spawn(async move {
            // On a task of its own and in limited time, or a client that says nothing would hold up all others.
            let Ok(Ok(io)) = timeout(Duration::from_secs(10), tls.accept(io)).await else { return };
            let server = auto::Builder::new(TokioExecutor::new());
            let connection = server.serve_connection(TokioIo::new(io), TowerToHyperService::new(app));
            _ = watcher.watch(connection.into_owned()).await; // an error only means that the client disconnected
        });
    }
    hub.drain(Duration::from_secs(5)); // ends polls and streams; clients reconnect within five seconds
    drop(listener);
    open.shutdown().await;
    Ok(())
}

/// Makes a certificate, and writes it to `file` for clients.
fn tls(file: &str) -> Result<ServerConfig, BoxError> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(file, cert.pem())?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der())?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()]; // without it clients use HTTP/1.1
    Ok(config)
}
