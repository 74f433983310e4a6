//! Heap use, counted by the allocator: bytes per waiting reader, and that a delivery allocates nothing. Measures the bare futures
//! and bodies, without what a server adds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{Full, StreamBody};
use tokio::runtime::Runtime;
use tower::{Layer as _, Service, service_fn};
use tower_events::{
    Body, Channel, Channels, Data, Event, EventService, EventsLayer, Hub, HubOptions, MemoryStore, PublishService,
    Retention, SseBody, Store, StoreError, Subscription,
    body::ResponseFuture,
    store::{Append, Limit, Start},
};

/// The most bytes that a waiting reader may hold.
const MOST_BYTES: usize = 512;

/// Stands in for a server's task, which a body only wakes.
struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

fn waker() -> Waker {
    Arc::new(Task).into()
}

fn channel() -> Channel {
    Channel::new("a").unwrap()
}

/// One thread runs everything, because allocations are counted per thread.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn publish(runtime: &Runtime, hub: &Hub) {
    runtime.block_on(hub.publish(&channel(), Event::text("x"))).unwrap();
}

/// All chunks that are ready.
fn take(body: &mut Body, waker: &Waker) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *body).poll_frame(&mut Context::from_waker(waker)) {
        chunks.push(frame.into_data().unwrap());
    }
    chunks
}

/// Opens streams that have sent their first block and their first event, and wait.
fn open(bodies: &mut Vec<Body>, runtime: &Runtime, hub: &Hub, waker: &Waker) {
    let stream = || Body::from(runtime.block_on(hub.sse(Subscription::new(channel()))).unwrap());
    bodies.extend(std::iter::repeat_with(stream).take(bodies.capacity() - bodies.len()));
    for _ in 0..2 {
        bodies.iter_mut().for_each(|body| drop(take(body, waker)));
        publish(runtime, hub);
    }
    bodies.iter_mut().for_each(|body| drop(take(body, waker)));
}

fn poll(service: &mut EventService, runtime: &Runtime, uri: &str) -> ResponseFuture {
    let mut answer = service.call(Request::builder().uri(uri).body(()).unwrap());
    // The poll may first wait for a store read, and only then for events.
    for _ in 0..10 {
        runtime.block_on(tokio::task::yield_now());
        let polled = Pin::new(&mut answer).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    answer
}

/// Heap bytes per item that `fill` adds; without the item itself, for which a server reserves space in any case.
fn bytes_of_each<T>(mut fill: impl FnMut(&mut Vec<T>)) -> usize {
    // The first items allocate what all share.
    let (mut first, mut kept) = (Vec::with_capacity(2), Vec::with_capacity(COUNT));
    fill(&mut first);
    let counted = measure(|| fill(&mut kept));
    assert_eq!(kept.len(), COUNT);
    usize::try_from(counted.bytes_current).unwrap() / COUNT
}

const COUNT: usize = 1_000;

#[test]
fn an_idle_stream_holds_few_bytes() {
    let (runtime, hub, waker) = (runtime(), Hub::new(MemoryStore::default()), waker());
    let _guard = runtime.enter();
    let bytes = bytes_of_each(|bodies| open(bodies, &runtime, &hub, &waker));
    assert!(bytes <= MOST_BYTES, "{bytes} bytes, {} of them its state", size_of::<SseBody>());
}

#[test]
fn a_parked_poll_holds_few_bytes() {
    let (runtime, hub) = (runtime(), Hub::new(MemoryStore::default()));
    let _guard = runtime.enter();
    let mut service = EventService::new(hub.clone(), Channels::from_query);
    publish(&runtime, &hub);
    let head = runtime.block_on(hub.position(&channel().into())).unwrap();
    let uri = format!("/events?channel=a&wait=55&after={head}");
    let bytes = bytes_of_each(|polls: &mut Vec<ResponseFuture>| {
        while polls.len() < polls.capacity() {
            polls.push(poll(&mut service, &runtime, &uri));
        }
    });
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
}

#[test]
fn a_publish_holds_nothing_of_its_request_but_the_body() {
    let runtime = runtime();
    let _guard = runtime.enter();
    let mut service = PublishService::new(Hub::new(MemoryStore::default()), Channels::from_query);
    let bytes = bytes_of_each(|publishes: &mut Vec<ResponseFuture>| {
        while publishes.len() < publishes.capacity() {
            let body = StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, Infallible>>());
            let request = Request::post("/publish?channel=a").header("content-type", "text/plain");
            let mut answer = service.call(request.header("cookie", "x".repeat(4096)).body(body).unwrap());
            assert!(Pin::new(&mut answer).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            publishes.push(answer);
        }
    });
    // With the timer for the rest of the body.
    assert!(bytes <= 3 * MOST_BYTES, "{bytes} bytes");
}

/// What `service` allocates for a response that is ready at once.
fn allocations_of<S, B>(mut service: S, request: Request<B>) -> u64
where
    S: Service<Request<B>, Error = Infallible, Future: Unpin>,
{
    let counted = measure(|| {
        let mut response = service.call(request);
        assert!(Pin::new(&mut response).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    });
    counted.count_total
}

fn foreign<B>(_: Request<B>) -> std::future::Ready<Result<Response<Full<Bytes>>, Infallible>> {
    std::future::ready(Ok(Response::new(Full::default())))
}

#[test]
fn the_layer_allocates_nothing_for_our_services_but_a_box_for_a_requests_body() {
    let hub = Hub::new(MemoryStore::default());
    let (events, publish) =
        (EventService::fixed(hub.clone(), channel()), PublishService::new(hub.clone(), Channels::from_query));
    // `OPTIONS` is answered without the store.
    let request = |path: &str| Request::options(path).body(Full::<Bytes>::default()).unwrap();
    let with_body = || Request::options("/publish").body(Full::from("x")).unwrap();
    let layered = EventsLayer::new(hub)
        .route("/events", events.clone())
        .route("/publish", publish.clone())
        .route("/foreign", service_fn(foreign))
        .layer(service_fn(foreign));
    assert_eq!(allocations_of(layered.clone(), request("/events")), allocations_of(events, request("/events")));
    assert_eq!(allocations_of(layered.clone(), with_body()), allocations_of(publish, with_body()) + 1);
    // The future, and the body of the response.
    assert_eq!(allocations_of(layered, request("/foreign")), 2);
}

/// What it allocates to deliver events to `count` streams that keep up.
fn deliveries(count: usize) -> AllocationInfo {
    let (runtime, hub, waker) = (runtime(), Hub::new(MemoryStore::default()), waker());
    let _guard = runtime.enter();
    let mut bodies = Vec::with_capacity(count);
    open(&mut bodies, &runtime, &hub, &waker);
    let mut delivered = 0;
    let counted = measure(|| {
        for _ in 0..EVENTS {
            publish(&runtime, &hub);
            for body in &mut bodies {
                let mut cx = Context::from_waker(&waker);
                while Pin::new(&mut *body).poll_frame(&mut cx).is_ready() {
                    delivered += 1;
                }
            }
        }
    });
    assert_eq!(delivered, EVENTS * count);
    counted
}

const EVENTS: usize = 50;

#[test]
fn a_delivery_allocates_nothing() {
    let (few, many) = (deliveries(10), deliveries(1_000));
    assert_eq!(many.count_total, few.count_total, "{EVENTS} events to 10, and to 1 000");
}

#[test]
fn waiting_polls_share_the_array_that_answers_them_and_their_link_header() {
    let (runtime, hub) = (runtime(), Hub::new(MemoryStore::default()));
    let _guard = runtime.enter();
    let mut service = EventService::new(hub.clone(), Channels::from_query);
    let mut parked: Vec<_> = (0..3).map(|_| poll(&mut service, &runtime, "/events?channel=a")).collect();
    publish(&runtime, &hub);
    let answers: Vec<_> = parked
        .iter_mut()
        .map(|answer| {
            let Poll::Ready(Ok(response)) = Pin::new(answer).poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("not answered")
            };
            let link = response.headers()["link"].as_bytes().as_ptr();
            (take(&mut response.into_body(), Waker::noop()).remove(0), link)
        })
        .collect();
    let (body, link) = answers.first().unwrap();
    assert!(answers.iter().all(|answer| answer.0.as_ptr() == body.as_ptr() && answer.1 == *link));
}

#[test]
fn a_ring_holds_no_more_than_it_counts() {
    const RING_BYTES: usize = 512 << 10;
    let runtime = runtime();
    for text in [1, 100, 10_000] {
        // The store retains nothing, so that what is held is the ring's.
        let store = MemoryStore::new(Retention::default().events(1));
        let hub = Hub::with_options(store, HubOptions::default().ring_bytes(RING_BYTES));
        let subscriber = runtime.block_on(hub.subscribe(Subscription::new(channel()))).unwrap();
        let publish = |count: usize| {
            let text = "x".repeat(text);
            for _ in 0..count {
                runtime.block_on(hub.publish(&channel(), Event::text(&text))).unwrap();
                // Let the hub process the store's hints.
                runtime.block_on(tokio::task::yield_now());
            }
        };
        publish(10);
        let kept = measure(|| publish(5_000));
        let (counted, most) = (hub.stats().ring_bytes, RING_BYTES);
        assert!(counted <= most && counted >= most / 2, "{counted} of {most}");
        assert!(
            kept.bytes_current <= 2 * most as i64,
            "texts of {text} bytes: {} bytes held, {counted} counted",
            kept.bytes_current
        );
        println!("texts of {text} bytes: {} bytes held, {counted} counted", kept.bytes_current);
        drop(subscriber);
    }
}

/// The heap bytes that the value returned by `make` holds.
fn bytes_of<T>(make: impl FnOnce() -> T) -> u64 {
    let mut kept = None;
    let counted = measure(|| kept = Some(make()));
    u64::try_from(counted.bytes_current).unwrap()
}

#[test]
fn an_event_holds_no_spare_capacity() {
    let blanks = " ".repeat(16_000);
    let body = Bytes::from("x".repeat(1 << 20));
    let spare = |text: &str| {
        let mut spare = String::with_capacity(10_000);
        spare.push_str(text);
        spare
    };
    for (what, bytes) in [
        ("an array with blanks in it", bytes_of(|| Data::from_json(format!("[{blanks}]")).unwrap())),
        ("a text with blanks around it", bytes_of(|| Data::from_json(format!("{blanks}\"x\"{blanks}")).unwrap())),
        ("an escaped text", bytes_of(|| Data::from_json(format!("\"\\n{}\"", "x".repeat(50))).unwrap())),
        ("a text with spare capacity", bytes_of(|| Data::text(spare("x")))),
        ("a part of a body", bytes_of(|| Data::text_from_utf8(body.slice(..10)).unwrap())),
        ("a name with spare capacity", bytes_of(|| Event::text("").named(spare("name")).unwrap())),
        ("a key with spare capacity", bytes_of(|| Event::text("").keyed(spare("key")).unwrap())),
        ("a channel with spare capacity", bytes_of(|| Channel::new(spare("channel")).unwrap())),
    ] {
        assert!(bytes <= 64, "{what}: {bytes} bytes");
    }
    let text = Data::text_from_utf8(body.slice(..10)).unwrap();
    drop(body);
    assert_eq!(text.len(), 10);
}

/// Appends `count` events, one at a time.
fn fill(runtime: &Runtime, store: &MemoryStore, count: u64, event: impl Fn(u64) -> (Channel, Event)) {
    for n in 0..count {
        let (channel, event) = event(n);
        runtime.block_on(store.append(&channel, Append::new([event]))).unwrap();
    }
}

#[test]
fn a_memory_store_counts_the_bytes_that_it_holds() {
    let of = |name: String| Channel::new(name).unwrap();
    let (runtime, many) = (runtime(), Retention::default().events(1 << 40).bytes(1 << 40));
    type Nth<'a> = &'a dyn Fn(u64) -> (Channel, Event);
    let kinds: [(&str, u64, Nth<'_>); 5] = [
        ("tiny events", 30_000, &|_| (channel(), Event::text("x"))),
        ("named events", 5_000, &|_| (channel(), Event::text("x".repeat(1_000)).named("name").unwrap())),
        ("keys", 30_000, &|n| (channel(), Event::text("").keyed(format!("k{n}")).unwrap())),
        ("channels", 10_000, &|n| (of(format!("channel-{n}")), Event::text("x"))),
        ("keys of channels", 10_000, &|n| {
            (of(format!("{}", n % 1000)), Event::text("").keyed(format!("{n}")).unwrap())
        }),
    ];
    for (what, count, event) in kinds {
        let store = MemoryStore::new(many.clone());
        let before = store.bytes();
        let held = bytes_of(|| fill(&runtime, &store, count, event));
        let counted = store.bytes() - before;
        // The store counts the allocator's overhead too, which is not measured here.
        assert!((held..=held * 3 / 2).contains(&counted), "{what}: {held} bytes held, {counted} counted");
    }
}

#[test]
fn a_full_memory_store_refuses_only_what_makes_it_grow() {
    let (runtime, most) = (runtime(), 4 << 20);
    let store = MemoryStore::default().max_bytes(most);
    let keyed = |n: u64| Append::new([Event::text("x").keyed(format!("key-{n}")).unwrap()]);
    let to = |n: u64| Channel::new(format!("channel-{}", n % 100)).unwrap();
    let mut appended = 0;
    let held = bytes_of(|| {
        while let Ok(done) = runtime.block_on(store.append(&to(appended), keyed(appended))) {
            assert!(done.entries.len() == 1 && appended < 100_000);
            appended += 1;
        }
    });
    assert!(held <= most && store.bytes() <= most && held > most / 2, "{held} bytes of {most}, {appended} appends");
    let refused = runtime.block_on(store.append(&to(appended), keyed(appended)));
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert!(refused.is_err_and(|error| error.is_retryable()));
    let repeated = runtime.block_on(store.append(&to(3), keyed(3))).unwrap();
    assert!(repeated.receipts.first().unwrap().duplicate);
    let page = runtime.block_on(store.read(&to(3), Start::Earliest, Limit::default())).unwrap();
    assert!(!page.entries.is_empty());
    runtime.block_on(store.append(&to(3), Append::new([]).closing())).unwrap();
    for n in 0..10 {
        runtime.block_on(store.delete(&to(n))).unwrap();
    }
    runtime.block_on(store.append(&to(20), keyed(appended))).unwrap();
}

#[test]
fn a_channel_at_its_retention_limit_accepts_appends_in_a_full_store() {
    let runtime = runtime();
    let store = MemoryStore::new(Retention::default().events(1_000)).max_bytes(1 << 20);
    let event = || Event::text("x".repeat(100));
    fill(&runtime, &store, 1_000, |_| (channel(), event()));
    let other = |n: u64| Channel::new(format!("other-{n}")).unwrap();
    assert!((0..10_000).any(|n| runtime.block_on(store.append(&other(n), Append::new([event()]))).is_err()));
    fill(&runtime, &store, 3_000, |_| (channel(), event()));
    assert!(store.bytes() <= 1 << 20, "{}", store.bytes());
}

#[test]
fn keys_of_one_channel_leave_room_for_others() {
    let runtime = runtime();
    let store = MemoryStore::default().max_bytes(4 << 20);
    let keyed = |n: u64| Append::new([Event::text("x").keyed(format!("key-{n}")).unwrap()]);
    let refused = (0..100_000).find_map(|n| runtime.block_on(store.append(&channel(), keyed(n))).err());
    assert!(matches!(refused, Some(StoreError::Full(_))), "{refused:?}");
    assert!(store.bytes() < 2 << 20, "{}", store.bytes());
    let other = Channel::new("other").unwrap();
    runtime.block_on(store.append(&other, keyed(0))).unwrap();
    runtime.block_on(store.append(&channel(), Append::new([Event::text("without a key")]))).unwrap();
}
