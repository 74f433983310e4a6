//! Appending without readers: to the store, and through the hub.

use criterion::{BatchSize, Criterion, Throughput};
use tower_events::{MemoryStore, Retention, Store, store::Append};

use crate::world::{channel, events, hub, runtime};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for batch in [1, 16] {
        group.throughput(Throughput::Elements(batch));
        let events = events(batch as usize);
        let store = MemoryStore::new(Retention::default());
        group.bench_function(format!("store, {batch} at a time"), |bencher| {
            let append = async |events| store.append(&channel(), Append::new(events)).await.expect("appended");
            bencher.to_async(runtime()).iter_batched(|| events.clone(), append, BatchSize::SmallInput);
        });
        let hub = hub();
        group.bench_function(format!("hub, {batch} at a time"), |bencher| {
            let publish = async |events| hub.publish_all(&channel(), events).await.expect("published");
            bencher.to_async(runtime()).iter_batched(|| events.clone(), publish, BatchSize::SmallInput);
        });
    }
    group.finish();
}
