//! A dashboard of 500 gauges that change ten times a second, and a page with moving charts.
//!
//! A page that opens gets the current values as a snapshot, then the changes. One that cannot keep up, because its connection is
//! slow, gets the newest value of each gauge instead of every change.
//!
//! ```text
//! cargo run --release --example dashboard
//! curl -N http://127.0.0.1:3000/gauges
//! ```

#[path = "../common/stop.rs"]
mod stop;

use std::{
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, response::Html, routing::get, serve::ListenerExt};
use tokio::{
    net::TcpSocket,
    time::{MissedTickBehavior, interval},
};
use tower_events::{
    Channel, Compaction, Event, Hub, InvalidEvent, MemoryStore, Retention, Snapshots, SseService, event::EventName,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// The current values; gauge `n` is number `n`.
type Values = Arc<Mutex<Vec<f64>>>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listen: SocketAddr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into()).parse()?;
    let hub = Hub::new(MemoryStore::new(Retention::default().events(100_000).bytes(32 << 20)));
    let channel = Channel::new("gauges")?;
    let values = Values::new(Mutex::new(vec![50.0; GAUGES]));
    tokio::spawn(update(hub.clone(), channel.clone(), values.clone()));

    let snapshots = Snapshots::new(move |_| {
        let all = Event::json(&*values.lock().unwrap_or_else(PoisonError::into_inner));
        async move { all?.named("all") }
    });
    let gauges = SseService::fixed(hub.clone(), channel).snapshots(snapshots).compaction(Compaction::newest_per_name());
    let app =
        Router::new().route("/", get(|| async { Html(include_str!("index.html")) })).route_service("/gauges", gauges);

    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // What the system has buffered for a slow page is not compacted any more: by default that can be megabytes.
    socket.set_send_buffer_size(16 << 10)?;
    socket.bind(listen)?;
    let listener = socket.listen(1024)?;
    println!("open http://{}/ in a browser; Ctrl-C stops", listener.local_addr()?);
    let listener = listener.tap_io(|io| _ = io.set_nodelay(true)); // or small events wait for the client's ACK
    let stop = stop::drained(hub, Duration::from_secs(1), Duration::from_millis(500));
    Ok(axum::serve(listener, app).with_graceful_shutdown(stop).await?)
}

/// Moves every gauge ten times a second.
async fn update(hub: Hub, channel: Channel, values: Values) -> Result<(), BoxError> {
    let names = (0..GAUGES).map(|n| EventName::new(n.to_string())).collect::<Result<Vec<_>, InvalidEvent>>()?;
    let mut ticks = interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        // Changed before it is published: a snapshot must contain every event that was stored before it.
        let moved = {
            let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
            values.iter_mut().for_each(|value| *value = moved(*value));
            values.clone()
        };
        let event = |(name, value): (&EventName, f64)| Event::json(&value)?.named(name.as_str());
        let events = names.iter().zip(moved).map(event).collect::<Result<Vec<_>, _>>()?;
        hub.publish_all(&channel, events).await?;
    }
}

/// A step of a random walk between 0 and 100, with one decimal.
fn moved(value: f64) -> f64 {
    let step = (fastrand::f64() - 0.5) * 4.0;
    ((value + step).clamp(0.0, 100.0) * 10.0).round() / 10.0
}

const GAUGES: usize = 500;
