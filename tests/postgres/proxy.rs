//! A TCP proxy in front of the server that cuts what it carries, or holds it without a word, as a network does that drops
//! packets.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::{broadcast, watch},
    task::JoinHandle,
};

pub struct Proxy {
    pub address: SocketAddr,
    cuts: broadcast::Sender<()>,
    frozen: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, frozen) = (broadcast::Sender::new(1), watch::Sender::new(false));
        let (to_cut, to_freeze) = (cuts.clone(), frozen.clone());
        let task = tokio::spawn(async move {
            let mut carried = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (mut cut, frozen) = (to_cut.subscribe(), to_freeze.subscribe());
                carried.spawn(async move {
                    tokio::select! {
                        _ = carry(client, target, frozen) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        Self { address, cuts, frozen, task }
    }

    /// Cuts every connection that is open now.
    pub fn cut(&self) {
        _ = self.cuts.send(());
    }

    /// From now on nothing that is sent arrives, in either direction, and nobody is told.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    pub fn thaw(&self) {
        self.frozen.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, target: SocketAddr, mut frozen: watch::Receiver<bool>) -> std::io::Result<()> {
    frozen.wait_for(|frozen| !frozen).await.map_err(std::io::Error::other)?;
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        done = copy(from_client, to_server, frozen.clone()) => done,
        done = copy(from_server, to_client, frozen) => done,
    }
}

async fn copy(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        frozen.wait_for(|frozen| !frozen).await.map_err(std::io::Error::other)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}
