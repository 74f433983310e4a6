//! How old the values are that a client at 20 kB/s receives of 500 gauges with ten updates a second each, over a real socket. At the
//! body, compaction keeps them younger than two seconds (`tests/compaction.rs`); the rest is what hyper and the system buffer, which
//! was compacted earlier.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
    runtime::Builder,
    time::{MissedTickBehavior, interval, sleep_until},
};
use tower_events::{Channel, Compaction, Event, Hub, MemoryStore, Retention, SseService};

const GAUGES: usize = 500;
const BYTES_PER_SECOND: usize = 20_000;
/// What is received before is not counted: the buffers have to fill.
const FILLS: Duration = Duration::from_secs(20);
const LASTS: Duration = Duration::from_secs(60);

pub(crate) fn run() {
    println!("{:>10} {:>13} {:>9} {:>9} {:>9}", "SO_SNDBUF", "max_buf_size", "p50 s", "p99 s", "max s");
    for (send_buffer, hyper_buffer) in [(None, None), (Some(16 << 10), None), (Some(16 << 10), Some(16 << 10))] {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut ages = runtime.block_on(measure(send_buffer, hyper_buffer));
        ages.sort_unstable();
        let at = |part: f64| ages[((ages.len() - 1) as f64 * part) as usize].as_secs_f64();
        let bytes = |set: Option<usize>| set.map_or("default".into(), |bytes| format!("{} KiB", bytes >> 10));
        let [median, most, oldest] = [at(0.5), at(0.99), at(1.0)];
        let (send_buffer, hyper_buffer) = (bytes(send_buffer.map(|bytes| bytes as usize)), bytes(hyper_buffer));
        println!("{send_buffer:>10} {hyper_buffer:>13} {median:>9.2} {most:>9.2} {oldest:>9.2}");
    }
}

/// The ages of all values, each counted when its last byte was read.
async fn measure(send_buffer: Option<u32>, hyper_buffer: Option<usize>) -> Vec<Duration> {
    let hub = Hub::new(MemoryStore::new(Retention::default().events(200_000).bytes(128 << 20)));
    let start = Instant::now();
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(bytes) = send_buffer {
        socket.set_send_buffer_size(bytes).unwrap();
    }
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(hub.clone(), listener, hyper_buffer));
    tokio::spawn(update(hub, start));
    follow(address, start).await
}

fn channel() -> Channel {
    Channel::new("gauges").unwrap()
}

async fn serve(hub: Hub, listener: TcpListener, buffer: Option<usize>) {
    let gauges = SseService::fixed(hub, channel()).compaction(Compaction::newest_per_name());
    let (io, _) = listener.accept().await.unwrap();
    io.set_nodelay(true).unwrap();
    let mut server = auto::Builder::new(TokioExecutor::new());
    if let Some(bytes) = buffer {
        server.http1().max_buf_size(bytes);
    }
    _ = server.serve_connection(TokioIo::new(io), TowerToHyperService::new(gauges)).await;
}

/// Each value is the milliseconds since `start` at which it was published.
async fn update(hub: Hub, start: Instant) {
    let mut ticks = interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let now = start.elapsed().as_millis().to_string();
        let events = (0..GAUGES).map(|gauge| Event::text(&*now).named(gauge.to_string()).unwrap());
        hub.publish_all(&channel(), events).await.unwrap();
    }
}

/// Reads at most 20 kB/s, with as small a receive buffer as the system allows: on a real network it is the connection that is slow.
async fn follow(address: SocketAddr, start: Instant) -> Vec<Duration> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    let mut io = socket.connect(address).await.unwrap();
    io.write_all(b"GET / HTTP/1.1\r\nHost: gauges\r\n\r\n").await.unwrap();
    let (mut line, mut ages, mut received) = (Vec::new(), Vec::new(), 0);
    let began = Instant::now();
    while began.elapsed() < FILLS + LASTS {
        let mut part = [0; BYTES_PER_SECOND / 50];
        let count = io.read(&mut part).await.unwrap();
        received += count;
        for byte in &part[..count] {
            if *byte != b'\n' {
                line.push(*byte);
                continue;
            }
            let value = line.strip_prefix(b"data: ").and_then(|data| std::str::from_utf8(data).ok()?.parse().ok());
            if let Some(published) = value.filter(|_| began.elapsed() > FILLS) {
                ages.push(start.elapsed().saturating_sub(Duration::from_millis(published)));
            }
            line.clear();
        }
        let due = Duration::from_secs_f64(received as f64 / BYTES_PER_SECOND as f64);
        sleep_until((began + due).into()).await;
    }
    ages
}
