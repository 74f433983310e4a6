//! A TCP proxy that cuts what it carries, or lets it hang open at both ends.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::broadcast,
    task::JoinHandle,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Cut,
    Freeze,
}

/// A running proxy; dropping it ends it and all that it carries.
pub struct Proxy {
    addr: SocketAddr,
    orders: broadcast::Sender<Order>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let orders = broadcast::Sender::new(16);
        let ordered = orders.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                connections.spawn(carry(client, target, ordered.subscribe()));
            }
        });
        Self { addr, orders, task }
    }

    pub fn nats_url(&self) -> String {
        format!("nats://{}", self.addr)
    }

    /// Cuts every connection that is open now.
    pub fn cut(&self) {
        _ = self.orders.send(Order::Cut);
    }

    /// Carries nothing more on the connections that are open now, and leaves them open.
    pub fn freeze(&self) {
        _ = self.orders.send(Order::Freeze);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut orders: broadcast::Receiver<Order>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    _ = (client.set_nodelay(true), server.set_nodelay(true));
    let order = tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        order = orders.recv() => order,
    };
    if order == Ok(Order::Freeze) {
        std::future::pending::<()>().await;
    }
}
