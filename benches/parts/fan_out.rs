//! From publish to the bytes of every stream, without sockets.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use tower_events::{Hub, SseBody, Subscription};

use crate::world::{channel, events, hub, read, runtime, take, without_heartbeat};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for readers in [1, 100, 1_000, 10_000] {
        group.throughput(Throughput::Elements(readers));
        let name = BenchmarkId::new("publish and read", readers);
        group.bench_function(name, |bencher| bencher.iter_custom(|times| publish_and_read(readers, times)));
    }
    group.throughput(Throughput::Elements(16));
    group.bench_function("encode, 16 events", |bencher| bencher.iter_custom(|times| first_and_second(times).0));
    group.bench_function("ring, 16 events encoded before", |bencher| {
        bencher.iter_custom(|times| first_and_second(times).1);
    });
    group.finish();
}

/// Publishes one event at a time, which every stream reads.
fn publish_and_read(readers: u64, times: u64) -> Duration {
    runtime().block_on(async {
        let hub = hub();
        let mut streams = streams(&hub, readers).await;
        let start = Instant::now();
        for _ in 0..times {
            hub.publish_all(&channel(), events(1)).await.expect("published");
            for stream in &mut streams {
                assert!(take(stream).is_some_and(|bytes| bytes > 100), "an event is missing");
                assert!(take(stream).is_none(), "more than was published");
            }
        }
        start.elapsed()
    })
}

/// The time that the first reader of 16 new events takes, which encodes them, and that of the second.
fn first_and_second(times: u64) -> (Duration, Duration) {
    runtime().block_on(async {
        let hub = hub();
        let mut streams = streams(&hub, 2).await;
        let mut spent = [Duration::ZERO; 2];
        for _ in 0..times {
            hub.publish_all(&channel(), events(16)).await.expect("published");
            for (stream, spent) in streams.iter_mut().zip(&mut spent) {
                let start = Instant::now();
                let bytes = take(stream).expect("events are ready");
                *spent += start.elapsed();
                assert!(bytes > 1_600, "{bytes} bytes are not 16 events");
                assert!(take(stream).is_none(), "more than was published");
            }
        }
        (spent[0], spent[1])
    })
}

/// Streams that wait, and have already received an event from the ring.
async fn streams(hub: &Hub, count: u64) -> Vec<SseBody> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = hub.sse_with(Subscription::new(channel()), &without_heartbeat()).await.expect("a stream");
        while take(&mut stream).is_some() {}
        streams.push(stream);
    }
    hub.publish_all(&channel(), events(1)).await.expect("published");
    for stream in &mut streams {
        read(stream, 100).await;
        assert!(take(stream).is_none(), "more than was published");
    }
    streams
}
