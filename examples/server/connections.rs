//! Accepts connections within limits and serves them, on either frontend.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::IpAddr,
    num::NonZeroU32,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, service::Service as HyperService};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tower::Service;

use super::socket::prepare;

/// The limits of connections.
#[derive(Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Most connections at once.
    pub(crate) connections: usize,
    /// How long the head of a request may take, and how long a connection may wait for its next request.
    pub(crate) head_timeout: Duration,
    /// Maximum bytes of a head.
    pub(crate) head_bytes: u32,
    /// How long a client may read nothing before it is disconnected.
    pub(crate) stall_timeout: Duration,
    /// How long a stopping server waits for clients to read what is left for them.
    pub(crate) close_timeout: Duration,
    /// Requests of one address per second.
    pub(crate) address_rate: Option<NonZeroU32>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            head_timeout: Duration::from_secs(30),
            head_bytes: 16 << 10,
            stall_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
            address_rate: None,
        }
    }
}

/// The address that a request comes from, in its extensions if the requests of each address are limited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Serves every accepted connection as `connect` says, until `stop`, then until the last response has ended. A client that does
/// not read its response would never let it end: its connection ends with the runtime.
pub(crate) async fn serve<S, C>(
    listener: TcpListener,
    service: S,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()>,
    connect: impl Fn(TcpStream, ConnectionService<S>) -> C,
) where
    S: Clone,
    C: GracefulConnection + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let open = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let (io, address, slot) = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = &mut stop => break,
        };
        prepare(&io, limits.stall_timeout);
        let seen = Arc::new(AtomicBool::new(false));
        let peer = limits.address_rate.map(|_| Peer(address));
        let service = ConnectionService { service: service.clone(), peer, seen: seen.clone() };
        let connection = open.watch(connect(io, service));
        tokio::spawn(async move {
            drive(connection, limits.head_timeout, &seen).await;
            drop(slot);
        });
    }
    drop(listener);
    _ = tokio::time::timeout(limits.close_timeout, open.shutdown()).await;
}

/// The next connection, once fewer than the limit are open. Until then clients wait in the system's queue.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, IpAddr, Option<OwnedSemaphorePermit>) {
    let slot = slots.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((io, address)) => return (io, address.ip(), slot),
            Err(error) => report(&error).await,
        }
    }
}

async fn report(error: &io::Error) {
    eprintln!("server: cannot accept a connection: {error}");
    tokio::time::sleep(Duration::from_millis(100)).await; // too many are open: wait for one to close
}

/// Disconnects a client that has sent no request within `head_timeout`. HTTP/1's own time-out of a head begins only after the
/// version of HTTP is known, and HTTP/2 has none.
async fn drive(connection: impl Future, head_timeout: Duration, seen: &AtomicBool) {
    let mut connection = pin!(connection);
    // An error of the connection only means that the client disconnected.
    let ended = tokio::time::timeout(head_timeout, &mut connection).await.is_ok();
    if !ended && seen.load(Relaxed) {
        connection.await;
    }
}

/// The service as one connection sees it: it notes that a request has come, and from where.
pub(crate) struct ConnectionService<S> {
    service: S,
    peer: Option<Peer>,
    seen: Arc<AtomicBool>,
}

impl<S, B> HyperService<Request<Incoming>> for ConnectionService<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        self.seen.store(true, Relaxed);
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        self.service.clone().call(request) // these services are always ready
    }
}
