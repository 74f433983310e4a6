//! A TCP proxy between a store and a server that can cut, freeze, slow down and redirect connections.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    net::SocketAddr,
    pin::pin,
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

/// A running proxy. Dropping it ends it and all its connections.
pub struct Wire {
    addr: SocketAddr,
    inside: Arc<Inside>,
    task: JoinHandle<()>,
}

/// How a connection is slowed down.
#[derive(Clone, Copy, Default)]
pub struct Slow {
    /// How long each chunk is delayed.
    pub delay: Duration,
    /// Bytes per second in each direction.
    pub bandwidth: Option<usize>,
}

struct Inside {
    target: Mutex<SocketAddr>,
    cuts: broadcast::Sender<()>,
    frozen: watch::Sender<bool>,
    hangs: broadcast::Sender<()>,
    slow: Mutex<Slow>,
    accepted: AtomicUsize,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let inside = Arc::new(Inside {
            target: Mutex::new(target),
            cuts: broadcast::Sender::new(1),
            frozen: watch::Sender::new(false),
            hangs: broadcast::Sender::new(1),
            slow: Mutex::default(),
            accepted: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&inside);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let (inside, mut cut, mut hang) =
                    (Arc::clone(&shared), shared.cuts.subscribe(), shared.hangs.subscribe());
                connections.spawn(async move {
                    let mut carried = pin!(carry(client, inside));
                    tokio::select! {
                        _ = &mut carried => return,
                        _ = cut.recv() => return,
                        _ = hang.recv() => {}
                    }
                    // `carried` keeps both sockets open until they are cut.
                    _ = cut.recv().await;
                });
            }
        });
        Self { addr, inside, task }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Cuts every connection that is open now.
    pub fn cut(&self) {
        _ = self.inside.cuts.send(());
    }

    /// Forwards nothing any more; connections stay open and new ones are accepted, as when a machine has disappeared.
    pub fn freeze(&self) {
        self.inside.frozen.send_replace(true);
    }

    /// Forwards again.
    pub fn thaw(&self) {
        self.inside.frozen.send_replace(false);
    }

    /// Forwards nothing more on the connections that are open now, and leaves them open; new ones work.
    pub fn hang(&self) {
        _ = self.inside.hangs.send(());
    }

    /// Slows down all connections from now on.
    pub fn slow(&self, slow: Slow) {
        *self.inside.slow.lock().expect("no panic") = slow;
    }

    /// Sends new connections to another target.
    pub fn redirect(&self, target: SocketAddr) {
        *self.inside.target.lock().expect("no panic") = target;
    }

    /// How many connections have been accepted.
    pub fn accepted(&self) -> usize {
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
        let slow = *inside.slow.lock().expect("no panic");
        let piece = slow.bandwidth.map_or(buffer.len(), |bytes| (bytes / PIECES).clamp(1, 64 << 10));
        let count = from.read(&mut buffer[..piece]).await?;
        _ = frozen.wait_for(|frozen| !frozen).await;
        let slow = *inside.slow.lock().expect("no panic");
        let pause = if slow.bandwidth.is_some() { Duration::from_secs(1) / PIECES as u32 } else { Duration::ZERO };
        if !(slow.delay + pause).is_zero() {
            tokio::time::sleep(slow.delay + pause).await;
        }
        match count {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count]).await?,
        }
    }
}

/// How many chunks per second a limited bandwidth is split into.
const PIECES: usize = 200;
