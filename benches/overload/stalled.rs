//! Clients that follow 32 channels with a thousand small events each, from the earliest, read one chunk, and then stop reading.
//! Measures only the bodies, without what the server and the kernel buffer.

use std::{future::poll_fn, pin::Pin};

use http_body::Body as _;
use tokio::runtime::Builder;
use tower_events::{Channel, Channels, Event, Hub, MemoryStore, SseBody, Subscription, store::Start};

const CLIENTS: usize = 100;

pub(crate) fn run() {
    println!("{:>9} {:>14}", "channels", "kB per client");
    for channels in [1, 32] {
        // One thread runs everything, because allocations are counted per thread.
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (hub, names) = runtime.block_on(history(channels));
        let mut stalled = Vec::new();
        let kept = allocation_counter::measure(|| {
            runtime.block_on(async {
                for _ in 0..CLIENTS {
                    stalled.push(stall(&hub, &names).await);
                }
            });
        });
        println!("{channels:>9} {:>14}", kept.bytes_current / CLIENTS as i64 / 1000);
    }
}

async fn history(channels: usize) -> (Hub, Channels) {
    let hub = Hub::new(MemoryStore::default());
    let names = Channels::new((0..channels).map(|n| Channel::new(n.to_string()).unwrap())).unwrap();
    for name in &names {
        for _ in 0..10 {
            hub.publish_all(name, (0..100).map(|_| Event::text("x".repeat(20)))).await.unwrap();
        }
    }
    (hub, names)
}

/// Opens a stream and reads one chunk.
async fn stall(hub: &Hub, names: &Channels) -> SseBody {
    let mut body = hub.sse(Subscription::new(names.clone()).start(Start::Earliest)).await.unwrap();
    poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    body
}
