//! A thousand clients read a long history as fast as their sockets allow, while one client waits for live events of another
//! channel. The server, the thousand clients and the one client have a thread each.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use axum::{Router, routing::get, serve::ListenerExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::broadcast,
    time::sleep,
};
use tower_events::{
    AnyStore, Channel, Channels, Event, EventService, Hub, MemoryStore, Retention, stores::file::FileOptions,
};

mod floor;

const CLIENTS: usize = 1_000;
const HISTORY: usize = 100 << 20;
const LASTS: Duration = Duration::from_secs(15);

pub(crate) fn run() {
    let retention = Retention::default().events(u64::MAX).bytes(u64::MAX);
    println!(
        "{:>7} {:>8} {:>9} {:>9} {:>9} {:>10} {:>12}",
        "store", "clients", "p50 ms", "p99 ms", "max ms", "MB/s", "MB per CPU s"
    );
    measure("floor", Served::Floor, CLIENTS);
    for clients in [0, CLIENTS] {
        measure("memory", Served::Hub(AnyStore::new(MemoryStore::new(retention.clone()))), clients);
    }
    let directory = std::env::temp_dir().join(format!("tower-events-live-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = FileOptions::default().retention(retention).open(directory.join("events")).unwrap();
    measure("file", Served::Hub(AnyStore::new(file)), CLIENTS);
    drop(std::fs::remove_dir_all(directory));
}

enum Served {
    Hub(AnyStore),
    Floor,
}

fn measure(name: &str, served: Served, clients: usize) {
    let (stop, given) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (tell, told) = mpsc::channel();
    let server = thread::spawn({
        let stop = stop.clone();
        move || Builder::new_current_thread().enable_all().build().unwrap().block_on(serve(served, tell, &stop))
    });
    let address: SocketAddr = told.recv().unwrap();
    let live = thread::spawn({
        let stop = stop.clone();
        move || follow(address, &stop)
    });
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        for _ in 0..clients {
            tokio::spawn(catch_up(address, given.clone()));
        }
        sleep(LASTS).await;
        stop.store(true, Relaxed);
    });
    let mut delays = live.join().unwrap();
    let cpu = server.join().unwrap();
    delays.sort_unstable();
    let at = |part: f64| delays[((delays.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    let megabytes = given.load(Relaxed) as f64 / 1e6;
    println!(
        "{name:>7} {clients:>8} {:>9.2} {:>9.2} {:>9.2} {:>10.0} {:>12.0}",
        at(0.5),
        at(0.99),
        at(1.0),
        megabytes / LASTS.as_secs_f64(),
        megabytes / cpu.as_secs_f64(),
    );
}

/// Serves and publishes until stopped; returns the CPU time used.
async fn serve(served: Served, tell: mpsc::Sender<SocketAddr>, stop: &AtomicBool) -> Duration {
    match served {
        Served::Hub(store) => serve_hub(Hub::typed(store), tell, stop).await,
        Served::Floor => {
            let (publish, _) = broadcast::channel(16);
            let app = Router::new().route("/events", get(floor::answer)).with_state(publish.clone());
            serve_app(app, tell, stop, async |event| _ = publish.send(format!("data: {event}\n\n").into())).await
        }
    }
}

async fn serve_hub(hub: Hub<AnyStore>, tell: mpsc::Sender<SocketAddr>, stop: &AtomicBool) -> Duration {
    let (history, live) = (Channel::new("history").unwrap(), Channel::new("live").unwrap());
    for _ in 0..HISTORY / (1 << 20) {
        let events = (0..1_000).map(|_| Event::text("x".repeat(1_000)));
        hub.publish_all(&history, events).await.unwrap();
    }
    let app = Router::new().route_service("/events", EventService::new(hub.clone(), Channels::from_query));
    serve_app(app, tell, stop, async |event| _ = hub.publish(&live, Event::text(event)).await.unwrap()).await
}

async fn serve_app(
    app: Router,
    tell: mpsc::Sender<SocketAddr>,
    stop: &AtomicBool,
    publish: impl AsyncFn(String),
) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener.tap_io(|io| _ = io.set_nodelay(true)), app).await });
    let before = cpu();
    tell.send(address).unwrap();
    while !stop.load(Relaxed) {
        sleep(Duration::from_millis(20)).await;
        publish(unix_time().as_micros().to_string()).await;
    }
    cpu() - before
}

fn request(query: &str) -> String {
    format!("GET /events?{query} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
}

fn follow(address: SocketAddr, stop: &AtomicBool) -> Vec<Duration> {
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    socket.write_all(request("channel=live").as_bytes()).unwrap();
    let mut delays = Vec::new();
    for line in BufReader::new(socket).lines() {
        let line = line.unwrap();
        let sent = line.strip_prefix("data: ").and_then(|sent| sent.parse().ok()).map(Duration::from_micros);
        delays.extend(sent.map(|sent| unix_time().saturating_sub(sent)));
        if stop.load(Relaxed) {
            break;
        }
    }
    delays.split_off(delays.len() / 5) // drop the first fifth, while the other clients connect
}

async fn catch_up(address: SocketAddr, given: Arc<AtomicU64>) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request("channel=history&after=earliest").as_bytes()).await.unwrap();
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = socket.read(&mut buffer).await {
        given.fetch_add(read as u64, Relaxed);
    }
}

fn unix_time() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
}

/// The CPU time of this thread.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
