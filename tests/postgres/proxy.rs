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
    traffic: watch::Sender<Traffic>,
    task: JoinHandle<()>,
}

/// What happens to the data that it carries.
#[derive(Clone, Copy)]
struct Traffic {
    target: SocketAddr,
    frozen: bool,
    /// For everything that is sent at once.
    delay: Duration,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let traffic = watch::Sender::new(Traffic { target, frozen: false, delay: Duration::ZERO });
        let cuts = broadcast::Sender::new(1);
        let (to_cut, to_go) = (cuts.clone(), traffic.clone());
        let task = tokio::spawn(async move {
            let mut carried = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (mut cut, traffic) = (to_cut.subscribe(), to_go.subscribe());
                carried.spawn(async move {
                    tokio::select! {
                        _ = carry(client, traffic) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        Self { address, cuts, traffic, task }
    }

    /// Cuts every connection that is open now.
    pub fn cut(&self) {
        _ = self.cuts.send(());
    }

    /// From now on nothing that is sent arrives, in either direction, without any error.
    pub fn freeze(&self) {
        self.traffic.send_modify(|traffic| traffic.frozen = true);
    }

    pub fn thaw(&self) {
        self.traffic.send_modify(|traffic| traffic.frozen = false);
    }

    /// Everything takes this much longer from now on, in either direction.
    pub fn delay(&self, delay: Duration) {
        self.traffic.send_modify(|traffic| traffic.delay = delay);
    }

    /// New connections lead there.
    pub fn lead_to(&self, target: SocketAddr) {
        self.traffic.send_modify(|traffic| traffic.target = target);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, mut traffic: watch::Receiver<Traffic>) -> std::io::Result<()> {
    let target = traffic.wait_for(|traffic| !traffic.frozen).await.map_err(std::io::Error::other)?.target;
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        done = copy(from_client, to_server, traffic.clone()) => done,
        done = copy(from_server, to_client, traffic) => done,
    }
}

async fn copy(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut traffic: watch::Receiver<Traffic>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        let delay = traffic.wait_for(|traffic| !traffic.frozen).await.map_err(std::io::Error::other)?.delay;
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}
