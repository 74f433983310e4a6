//! Serves any service on its own socket: HTTP/1.1 and HTTP/2 with prior knowledge on one port, as users run it.

use std::{convert::Infallible, future::Future, net::SocketAddr};

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tower_service::Service;

use super::{client, deadline, http1::Http1, within};

/// One end of a connection.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}
pub type Connection = Box<dyn Io>;

/// A running server; dropping it ends it at once.
pub struct Server {
    address: Address,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

enum Address {
    Tcp(SocketAddr),
    Memory(mpsc::UnboundedSender<DuplexStream>),
}

enum Source {
    Tcp(TcpListener),
    Memory(mpsc::UnboundedReceiver<DuplexStream>),
}

/// Serves on a free port of the loopback interface.
pub async fn serve<S, B>(service: S) -> Server
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let listener = listen();
    let address = Address::Tcp(listener.local_addr().expect("an address"));
    start(service, address, Source::Tcp(listener))
}

/// Listens with an accept queue for all clients of a test. A client that does not fit is not refused: its packets are dropped,
/// and it retries after 1, 3, 7 and more seconds. The queue of [`TcpListener::bind`] holds 128.
fn listen() -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    socket.listen(4096).expect("a backlog")
}

/// Serves over pipes in memory. Nothing waits for the operating system then, so that a paused clock advances only when every
/// task waits for time.
pub fn serve_in_memory<S, B>(service: S) -> Server
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let (sender, receiver) = mpsc::unbounded_channel();
    start(service, Address::Memory(sender), Source::Memory(receiver))
}

fn start<S, B>(service: S, address: Address, mut source: Source) -> Server
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    deadline::arm();
    let (stop, mut stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let (graceful, mut connections) = (GracefulShutdown::new(), tokio::task::JoinSet::new());
        loop {
            let io = tokio::select! {
                io = source.accept() => io,
                _ = &mut stopped => break,
            };
            let builder = auto::Builder::new(TokioExecutor::new());
            let service = TowerToHyperService::new(service.clone());
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service).into_owned();
            let connection = graceful.watch(connection);
            connections.spawn(async move { _ = connection.await });
        }
        drop(source);
        graceful.shutdown().await;
    });
    Server { address, stop: Some(stop), task }
}

impl Source {
    async fn accept(&mut self) -> Connection {
        match self {
            Self::Tcp(listener) => {
                let (io, _) = listener.accept().await.expect("a connection");
                io.set_nodelay(true).expect("TCP_NODELAY");
                Box::new(io)
            }
            Self::Memory(receiver) => match receiver.recv().await {
                Some(io) => Box::new(io),
                None => std::future::pending().await,
            },
        }
    }
}

impl Server {
    /// Makes requests to a server that runs elsewhere.
    pub fn at(addr: SocketAddr) -> Self {
        Self { address: Address::Tcp(addr), stop: None, task: tokio::spawn(std::future::pending()) }
    }

    /// The address; panics for a server in memory.
    pub fn addr(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp(addr) => *addr,
            Address::Memory(_) => panic!("a server in memory has no address"),
        }
    }

    /// `http://127.0.0.1:<port>` and this path.
    pub fn url(&self, path_and_query: &str) -> String {
        format!("http://{}{path_and_query}", self.addr())
    }

    /// A request; send it with `send`, `open` or `sse`.
    pub fn request(&self, method: Method, path_and_query: &str) -> client::Request<'_> {
        client::Request::new(self, method, path_and_query)
    }

    /// A `GET`.
    pub fn get(&self, path_and_query: &str) -> client::Request<'_> {
        self.request(Method::GET, path_and_query)
    }

    /// A `POST` with this body.
    pub fn post(&self, path_and_query: &str, content_type: &str, body: impl Into<Vec<u8>>) -> client::Request<'_> {
        self.request(Method::POST, path_and_query).header("content-type", content_type).body(body)
    }

    /// A connection on which any bytes can be sent.
    pub async fn http1(&self) -> Http1 {
        Http1::new(self.connect().await)
    }

    pub(super) async fn connect(&self) -> Connection {
        match &self.address {
            Address::Tcp(addr) => {
                let io = TcpStream::connect(addr).await.expect("the server accepts");
                io.set_nodelay(true).expect("TCP_NODELAY");
                Box::new(io)
            }
            Address::Memory(sender) => {
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                sender.send(theirs).expect("the server runs");
                Box::new(ours)
            }
        }
    }

    /// How long a client waits before it considers the server dead. For a server in memory, time of a paused clock.
    pub(super) fn patience(&self) -> std::time::Duration {
        match self.address {
            Address::Tcp(_) => std::time::Duration::from_secs(30),
            Address::Memory(_) => std::time::Duration::from_secs(24 * 60 * 60),
        }
    }

    /// Stops accepting, and waits until the last answer is complete.
    pub async fn stop(mut self) {
        _ = self.stop.take().expect("stopped once").send(());
        let patience = self.patience();
        let stopped = within(patience, &mut self.task).await;
        stopped.expect("open answers end when the server stops").expect("no connection panics");
    }

    /// Stops accepting; the returned future resolves when the last answer is complete.
    pub fn stopping(self) -> impl Future<Output = ()> {
        let mut server = self;
        _ = server.stop.take().expect("stopped once").send(());
        async move { (&mut server.task).await.expect("no connection panics") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
