//! A TCP proxy between a store and a server that can cut, freeze, slow down and redirect what it carries.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::{broadcast, watch},
    task::JoinHandle,
};

/// A running proxy. Dropping it ends it and all that it carries.
pub(crate) struct Wire {
    addr: SocketAddr,
    inside: Arc<Inside>,
    task: JoinHandle<()>,
}

struct Inside {
    target: Mutex<SocketAddr>,
    cuts: broadcast::Sender<()>,
    frozen: watch::Sender<bool>,
    delay: Mutex<Duration>,
    accepted: AtomicUsize,
}

impl Wire {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let inside = Arc::new(Inside {
            target: Mutex::new(target),
            cuts: broadcast::Sender::new(1),
            frozen: watch::Sender::new(false),
            delay: Mutex::default(),
            accepted: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&inside);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let (inside, mut cut) = (Arc::clone(&shared), shared.cuts.subscribe());
                connections.spawn(async move {
                    tokio::select! {
                        _ = carry(client, inside) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        Self { addr, inside, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.addr)
    }

    /// Cuts every connection that is open now.
    pub(crate) fn cut(&self) {
        _ = self.inside.cuts.send(());
    }

    /// Carries nothing any more; connections stay open and new ones are taken, as when a machine is gone.
    pub(crate) fn freeze(&self) {
        self.inside.frozen.send_replace(true);
    }

    /// Goes on carrying.
    pub(crate) fn thaw(&self) {
        self.inside.frozen.send_replace(false);
    }

    /// Holds back each piece that it carries for so long.
    pub(crate) fn delay(&self, delay: Duration) {
        *self.inside.delay.lock().expect("no panic") = delay;
    }

    /// Carries new connections elsewhere.
    pub(crate) fn redirect(&self, target: SocketAddr) {
        *self.inside.target.lock().expect("no panic") = target;
    }

    /// How many connections there have been.
    pub(crate) fn accepted(&self) -> usize {
        self.inside.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, inside: Arc<Inside>) -> std::io::Result<()> {
    let target = *inside.target.lock().expect("no panic");
    let server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        done = copy(from_client, to_server, &inside) => done,
        done = copy(from_server, to_client, &inside) => done,
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, inside: &Inside) -> std::io::Result<()> {
    let (mut buffer, mut frozen) = (vec![0; 64 << 10], inside.frozen.subscribe());
    loop {
        let count = from.read(&mut buffer).await?;
        _ = frozen.wait_for(|frozen| !frozen).await;
        let delay = *inside.delay.lock().expect("no panic");
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match count {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count]).await?,
        }
    }
}
