//! A reader that resumes: from the store if there are no other readers, and otherwise from the hub's encoded events.

use criterion::{Criterion, Throughput};
use tower_events::{Hub, Subscription, store::Start};

use crate::world::{channel, events, hub, read, runtime, without_heartbeat};

const EVENTS: usize = 1_000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("no other reader", |bencher| {
        let runtime = runtime();
        let hub = hub();
        runtime.block_on(async { hub.publish_all(&channel(), events(EVENTS)).await.expect("published") });
        bencher.to_async(&runtime).iter(|| resume(&hub));
    });
    group.bench_function("another reader", |bencher| {
        let runtime = runtime();
        let hub = hub();
        let _reader = runtime.block_on(async {
            let mut reader = hub.sse_with(Subscription::new(channel()), &without_heartbeat()).await.expect("a stream");
            hub.publish_all(&channel(), events(EVENTS)).await.expect("published");
            read(&mut reader, EVENTS * 100).await;
            reader
        });
        bencher.to_async(&runtime).iter(|| resume(&hub));
    });
    group.finish();
}

async fn resume(hub: &Hub) -> usize {
    let mut stream = hub
        .sse_with(Subscription::new(channel()).start(Start::Earliest), &without_heartbeat())
        .await
        .expect("a stream");
    read(&mut stream, EVENTS * 100).await
}
