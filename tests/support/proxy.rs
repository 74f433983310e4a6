//! A TCP proxy between a client and a server that can cut connections, for clients that reconnect by themselves.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    task::JoinHandle,
};

/// A running proxy; dropping it ends it and all its connections.
pub struct Proxy {
    addr: SocketAddr,
    cuts: broadcast::Sender<()>,
    held: watch::Sender<bool>,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Forwards connections to `target`. The n-th connection is cut after the n-th of `budgets` bytes from the server;
    /// connections after the last budget are not cut.
    pub async fn start(target: SocketAddr, budgets: impl IntoIterator<Item = usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let (cuts, accepted) = (broadcast::Sender::new(1), Arc::new(AtomicUsize::new(0)));
        let mut budgets = budgets.into_iter().collect::<Vec<_>>().into_iter();
        let held = watch::Sender::new(false);
        let (to_cut, to_hold, counted) = (cuts.clone(), held.clone(), accepted.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                counted.fetch_add(1, Ordering::SeqCst);
                let (budget, mut cut) = (budgets.next().unwrap_or(usize::MAX), to_cut.subscribe());
                let mut held = to_hold.subscribe();
                let carried = async move {
                    _ = held.wait_for(|held| !held).await;
                    carry(client, target, budget).await
                };
                connections.spawn(async move {
                    tokio::select! {
                        _ = carried => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        Self { addr, cuts, held, accepted, task }
    }

    /// `http://127.0.0.1:<port>` and this path.
    pub fn url(&self, path_and_query: &str) -> String {
        format!("http://{}{path_and_query}", self.addr)
    }

    /// Cuts every connection that is open now.
    pub fn cut(&self) {
        _ = self.cuts.send(());
    }

    /// From now on accepts connections, but forwards nothing on them until [`Proxy::release`].
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Forwards held connections and later ones.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// How many connections have been accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, target: SocketAddr, budget: usize) -> std::io::Result<()> {
    let server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let there = async { tokio::io::copy(&mut from_client, &mut to_server).await };
    let back = async {
        let (mut from_server, mut buffer) = (from_server.take(budget as u64), vec![0; 4096]);
        loop {
            match from_server.read(&mut buffer).await? {
                0 => return Ok::<_, std::io::Error>(()),
                count => to_client.write_all(&buffer[..count]).await?,
            }
        }
    };
    // The answer may continue after the client has shut down its sending side; the end of the answer ends everything.
    tokio::pin!(there);
    tokio::select! {
        done = back => done,
        _ = async { _ = (&mut there).await; std::future::pending::<()>().await } => Ok(()),
    }
}
