//! A TCP proxy in front of a server, or of its successor, that cuts what it carries, slows it down, or silently holds
//! it, as a network does that drops packets.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::{broadcast, watch},
    task::JoinHandle,
};

pub struct Proxy {
    pub address: SocketAddr,
    cuts: broadcast::Sender<()>,
    way: watch::Sender<Way>,
    task: JoinHandle<()>,
}

/// What happens to the data that it carries.
#[derive(Clone, Copy)]
struct Way {
    target: SocketAddr,
    frozen: bool,
    /// For everything that is sent at once.
    delay: Duration,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = watch::Sender::new(Way { target, frozen: false, delay: Duration::ZERO });
        let cuts = broadcast::Sender::new(1);
        let (to_cut, to_go) = (cuts.clone(), way.clone());
        let task = tokio::spawn(async move {
            let mut carried = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (mut cut, way) = (to_cut.subscribe(), to_go.subscribe());
                carried.spawn(async move {
                    tokio::select! {
                        _ = carry(client, way) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        Self { address, cuts, way, task }
    }

    /// Cuts every connection that is open now.
    pub fn cut(&self) {
        _ = self.cuts.send(());
    }

    /// From now on nothing that is sent arrives, in either direction, without any error.
    pub fn freeze(&self) {
        self.way.send_modify(|way| way.frozen = true);
    }

    pub fn thaw(&self) {
        self.way.send_modify(|way| way.frozen = false);
    }

    /// Everything takes this much longer from now on, in either direction.
    pub fn delay(&self, delay: Duration) {
        self.way.send_modify(|way| way.delay = delay);
    }

    /// New connections lead there.
    pub fn lead_to(&self, target: SocketAddr) {
        self.way.send_modify(|way| way.target = target);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, mut way: watch::Receiver<Way>) -> std::io::Result<()> {
    let target = way.wait_for(|way| !way.frozen).await.map_err(std::io::Error::other)?.target;
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        done = copy(from_client, to_server, way.clone()) => done,
        done = copy(from_server, to_client, way) => done,
    }
}

async fn copy(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        let delay = way.wait_for(|way| !way.frozen).await.map_err(std::io::Error::other)?.delay;
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}
