//! A thousand streams and a thousand polls on one hub: all are served, and those that leave free everything.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod support;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use http_body::Body as _;
use support::{Server, Sse, eventually_eq, serve, serve_in_memory};
use tokio::{sync::mpsc, task::JoinSet};
use tower_events::{
    Channel, Channels, Event, EventService, Hub, HubOptions, MemoryStore, SseBody, Stats, Subscription,
    hub::Totals,
    longpoll::LongPollOptions,
    sse::SseOptions,
    store::{Limit, Start},
    testing::FaultStore,
};

const EACH: usize = 1_000;
const HOUR: Duration = Duration::from_secs(3600);

fn channel() -> Channel {
    Channel::new("a").unwrap()
}

fn app() -> (Hub, EventService) {
    let hub = Hub::new(MemoryStore::default());
    // However slow the machine, no poll times out before the last one has started.
    let polls = LongPollOptions::default().wait(HOUR).max_wait(HOUR);
    (hub.clone(), EventService::new(hub, Channels::from_query).long_poll(polls))
}

async fn wait_for_readers(hub: &Hub, count: usize) {
    eventually_eq("readers", count, || hub.stats().readers).await;
}

async fn streams(server: &Server) -> Vec<Sse> {
    let mut streams = Vec::with_capacity(EACH);
    for _ in 0..EACH {
        let mut stream = server.get("/events?channel=a").header("accept", "text/event-stream").sse().await;
        stream.first_block().await;
        streams.push(stream);
    }
    streams
}

#[tokio::test]
async fn a_thousand_parked_polls_and_a_thousand_streams_get_every_event() {
    let (hub, service) = app();
    let server: &'static Server = Box::leak(Box::new(serve(service).await));
    let mut streams = streams(server).await;
    let from = server.get("/events?channel=a&wait=0").send().await.cursor();
    let mut polls = JoinSet::new();
    for _ in 0..EACH {
        let from = from.clone();
        polls.spawn(async move { server.get(&format!("/events?channel=a&after={from}")).send().await.data() });
    }
    wait_for_readers(&hub, 2 * EACH).await;
    assert_eq!(hub.stats().followed_channels, 1);
    let events: Vec<_> = (0..3).map(|n| Event::text(n.to_string())).collect();
    hub.publish_all(&channel(), events).await.unwrap();
    while let Some(data) = polls.join_next().await {
        assert_eq!(data.unwrap(), ["0", "1", "2"]);
    }
    for stream in &mut streams {
        assert_eq!(stream.data(3).await, ["0", "1", "2"]);
    }
    wait_for_readers(&hub, EACH).await;
    drop(streams);
    wait_for_readers(&hub, 0).await;
}

/// The hub's defaults.
const LINGER: Duration = Duration::from_secs(30);
const CHECK_EVERY: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn a_disconnect_frees_everything() {
    let (hub, service) = app();
    let server: &'static Server = Box::leak(Box::new(serve_in_memory(service)));
    let streams = streams(server).await;
    let mut polls = JoinSet::new();
    for n in 0..EACH {
        polls.spawn(async move { server.get(&format!("/events?channel={n}")).send().await });
    }
    wait_for_readers(&hub, 2 * EACH).await;
    drop(streams);
    polls.shutdown().await;
    wait_for_readers(&hub, 0).await;
    tokio::time::sleep(LINGER + 2 * CHECK_EVERY).await;
    let mut stats = hub.stats();
    stats.totals = Totals::default();
    assert_eq!(stats, Stats::default());
}

#[tokio::test]
async fn a_drain_ends_a_thousand_of_each_at_once() {
    let (hub, service) = app();
    let server: &'static Server = Box::leak(Box::new(serve(service).await));
    let mut streams = streams(server).await;
    let mut polls = JoinSet::new();
    for _ in 0..EACH {
        polls.spawn(async move { server.get("/events?channel=a").send().await });
    }
    wait_for_readers(&hub, 2 * EACH).await;
    let drained = hub.drain(Duration::from_secs(5));
    while let Some(answer) = polls.join_next().await {
        let answer = answer.unwrap().expect(200);
        assert_eq!(answer.text(), "[]");
        assert!((1..=5).contains(&answer.header("retry-after").parse::<u64>().unwrap()));
    }
    for stream in &mut streams {
        assert_eq!(stream.next().await.name, "stream-retry");
        assert!(stream.next_or_end().await.is_none());
        assert!(stream.retry().unwrap() <= Duration::from_secs(5));
    }
    drained.await;
}

/// The memory of a stream besides its connection. Lower the limit when it shrinks.
#[test]
fn the_body_of_a_stream_stays_small() {
    assert!(size_of::<SseBody>() <= 400, "{} bytes", size_of::<SseBody>());
}

/// Otherwise a server would send everything that the body has and the socket accepts, megabytes of it, before it serves
/// another connection.
#[tokio::test]
async fn a_stream_that_catches_up_yields_to_others() {
    // One page holds everything, so that the stream pauses only in order to yield.
    let page = Limit::new(1_000, 64 << 20);
    for (events, bytes) in [(5, 60 << 10), (50, 6 << 10), (1, 320 << 10)] {
        let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().page(page));
        hub.publish_all(&channel(), (0..events).map(|_| Event::text("x".repeat(bytes)))).await.unwrap();
        let other = Channel::new("b").unwrap();
        for channels in [Channels::from(channel()), Channels::new([channel(), other]).unwrap()] {
            let mut body = hub.sse(Subscription::new(channels).start(Start::Earliest)).await.unwrap();
            let (mut burst, mut largest, mut all) = (0, 0, 0);
            while all < events * bytes {
                let frame = poll_fn(|cx| {
                    let polled = Pin::new(&mut body).poll_frame(cx);
                    burst = if polled.is_pending() { 0 } else { burst };
                    polled
                });
                let chunk = frame.await.unwrap().unwrap().into_data().unwrap().len();
                (burst, all) = (burst + chunk, all + chunk);
                largest = largest.max(burst);
            }
            assert!((64 << 10..128 << 10).contains(&largest), "{largest} bytes at once, of {events} times {bytes}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_keeps_up_waits_for_no_turn() {
    for options in [SseOptions::default(), SseOptions::default().without_heartbeat()] {
        let hub = Hub::new(MemoryStore::default());
        let mut body = hub.sse_with(Subscription::new(channel()), &options).await.unwrap();
        for _ in 0..20 {
            poll_fn(|cx| {
                while let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx) {
                    frame.unwrap().unwrap();
                }
                Poll::Ready(())
            })
            .await;
            hub.publish(&channel(), Event::text("x".repeat(20 << 10))).await.unwrap();
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await.is_ready());
        }
    }
}

/// However many streams catch up, a few of them take their turn, and then other tasks run. A stream that keeps up needs no turn,
/// however much it has received in total.
#[tokio::test]
async fn a_stream_that_keeps_up_waits_for_few_that_catch_up() {
    const CATCH_UP: usize = 200;
    // One page holds everything, so that no stream waits for the store.
    let page = Limit::new(1_000, 64 << 20);
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().page(page));
    let first = hub.publish(&channel(), Event::text("x")).await.unwrap().cursor;
    let texts = (0..40).map(|_| Event::text("x".repeat(60 << 10)));
    hub.publish_all(&channel(), texts).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..CATCH_UP {
        let body = hub.sse(Subscription::new(channel()).resume(&first.into())).await.unwrap();
        let sent = sent.clone();
        tasks.spawn(read(body, move |bytes| _ = sent.fetch_add(bytes, Relaxed)));
    }
    let live = Channel::new("live").unwrap();
    let (chunk_sent, mut chunks) = mpsc::unbounded_channel();
    tasks.spawn(read(hub.sse(Subscription::new(&live)).await.unwrap(), move |_| _ = chunk_sent.send(())));
    chunks.recv().await.unwrap();
    for _ in 0..5 {
        let before = sent.load(Relaxed);
        hub.publish(&live, Event::text("x".repeat(20 << 10))).await.unwrap();
        chunks.recv().await.unwrap();
        let meanwhile = sent.load(Relaxed) - before;
        assert!(meanwhile <= 2 << 20, "{meanwhile} bytes were sent to others first");
    }
    assert!(sent.load(Relaxed) < CATCH_UP * 40 * (60 << 10), "all have caught up too early for this test");
}

#[tokio::test]
async fn a_page_that_many_wait_for_is_sent_in_turns() {
    const CATCH_UP: usize = 100;
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let page = Limit::new(1, 64 << 20);
    let hub = Hub::with_options(store, HubOptions::default().page(page).ring_bytes(1));
    let texts = (0..3).map(|_| Event::text("x".repeat(60 << 10)));
    hub.publish_all(&channel(), texts).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let mut bodies = Vec::new();
    for _ in 0..CATCH_UP {
        bodies.push(hub.sse(Subscription::new(channel()).start(Start::Earliest)).await.unwrap());
    }
    let hold = faults.hold_reads();
    let mut tasks = JoinSet::new();
    for body in bodies {
        let sent = sent.clone();
        tasks.spawn(read(body, move |bytes| _ = sent.fetch_add(bytes, Relaxed)));
    }
    support::eventually("all streams wait for the page", || sent.load(Relaxed) > CATCH_UP * (60 << 10)).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let before = sent.load(Relaxed);
    drop(hold);
    support::eventually("the page is sent", || sent.load(Relaxed) > before).await;
    let at_once = sent.load(Relaxed) - before;
    assert!(at_once <= 1 << 20, "{at_once} bytes were sent at once");
}

/// Reads a body to its end, as the task of a server's connection does.
async fn read(mut body: SseBody, on_chunk: impl Fn(usize)) {
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        on_chunk(frame.into_data().unwrap().len());
    }
}
