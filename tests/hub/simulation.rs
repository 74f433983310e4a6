//! Random worlds: several hubs on one faulty store, publishers, readers that come, go, lag and change hubs. Whatever
//! happens, each reader sees every event that was kept, once and in order, or a reset where some are missing.

use std::time::Duration;

use fastrand::Rng;
use tower_events::{
    Cursor, Cursors, Hub, HubOptions, MemoryStore, Retention, Store, Subscription,
    store::{Append, Limit, Start},
    testing::{FaultStore, Faults},
};

use super::*;

#[test]
fn every_reader_sees_each_event_once_in_order_or_a_reset() {
    let replay = std::env::var("TOWER_EVENTS_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = replay.map_or_else(|| (0..300).chain((0..100).map(|_| fastrand::u64(..))).collect(), |seed| vec![seed]);
    for seed in seeds {
        let done = std::panic::catch_unwind(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap()
                .block_on(world(seed));
        });
        assert!(done.is_ok(), "replay with TOWER_EVENTS_SEED={seed}");
    }
}

async fn world(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..150 {
        world.step().await;
    }
    world.finish().await;
}

struct World {
    rng: Rng,
    inner: MemoryStore,
    hubs: Vec<(Hub, Faults)>,
    readers: Vec<Reader>,
    published: u64,
}

/// A client: where it is, and what it has processed last.
struct Reader {
    hub: usize,
    subscriber: Option<Subscriber>,
    cursors: Cursors,
    /// The entry it processed last.
    last: Option<Cursor>,
    /// A reset was announced and no event has come since.
    reset: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let inner = MemoryStore::new(Retention::default().events(rng.u64(5..50)));
        let hubs = (0..2)
            .map(|_| {
                let (store, faults) = FaultStore::new(inner.clone());
                let options = HubOptions::default()
                    .ring_bytes(rng.usize(1..1_500))
                    .page(Limit { events: rng.usize(1..9), bytes: rng.usize(1..2_000) })
                    .reads(rng.usize(1..4))
                    .linger(Duration::from_secs(rng.u64(0..5)));
                (Hub::with_options(store, options), faults)
            })
            .collect();
        Self { rng, inner, hubs, readers: Vec::new(), published: 0 }
    }

    async fn step(&mut self) {
        match self.rng.u32(..100) {
            0..30 => self.publish().await,
            30..70 => self.read().await,
            70..76 => self.arrive().await,
            76..82 => self.drop_connection(),
            82..92 => self.disturb(),
            92..94 => self.lose_tail(),
            94 => drop(self.inner.init(&channel("a"), events(["new"]), tower_events::store::Expect::Any).await),
            95 => drop(self.inner.delete(&channel("a")).await),
            _ => tokio::time::sleep(Duration::from_millis(self.rng.u64(..4_000))).await,
        }
    }

    /// Through one of the hubs or past both, one event or several.
    async fn publish(&mut self) {
        let texts: Vec<_> = (0..self.rng.u64(1..5)).map(|n| self.published + n).collect();
        self.published += texts.len() as u64;
        match self.rng.usize(..3) {
            2 => drop(self.inner.append(&channel("a"), Append::new(events(texts))).await),
            hub => drop(self.hubs[hub].0.publish_all(&channel("a"), events(texts)).await),
        }
    }

    async fn arrive(&mut self) {
        let hub = self.rng.usize(..2);
        let Ok(subscriber) = self.hubs[hub].0.subscribe(Subscription::new(channel("a"))).await else { return };
        let cursors = subscriber.cursors();
        let last = cursors.position(&channel("a"));
        self.readers.push(Reader { hub, subscriber: Some(subscriber), cursors, last, reset: false });
    }

    async fn read(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.readers.len());
        let patience = Duration::from_millis(self.rng.u64(..20));
        let hub = self.hubs[self.readers[at].hub].0.clone();
        self.readers[at].read(&hub, patience).await;
    }

    /// The client drops and comes back elsewhere.
    fn drop_connection(&mut self) {
        if let Some(reader) = self.rng.choice(&mut self.readers) {
            reader.subscriber = None;
            reader.hub = 1 - reader.hub;
        }
    }

    fn disturb(&mut self) {
        let faults = &self.hubs[self.rng.usize(..2)].1;
        match self.rng.u32(..7) {
            0 => faults.lose_hints(self.rng.usize(..5)),
            1 => faults.duplicate_hints(self.rng.usize(..5)),
            2 => faults.reorder_hints(self.rng.usize(..5)),
            3 => faults.resync(),
            4 => faults.delay(Duration::from_millis(self.rng.u64(..50))),
            5 => faults.fail_next_reads(self.rng.usize(..3)),
            _ => faults.fail_next_heads(self.rng.usize(..3)),
        }
    }

    fn lose_tail(&mut self) {
        self.inner.lose_tail(&channel("a"), self.rng.u64(..4));
    }

    /// Without faults everybody gets to the end.
    async fn finish(&mut self) {
        for (_, faults) in &self.hubs {
            faults.lose_hints(0);
            faults.reorder_hints(0);
            faults.duplicate_hints(0);
            faults.delay(Duration::ZERO);
            faults.fail_next_reads(0);
            faults.fail_next_heads(0);
        }
        // A tail that was cut and has not grown again is only found by the comparison of heads.
        tokio::time::sleep(Duration::from_secs(10)).await;
        self.publish_past_all().await;
        let head = self.inner.heads(&[channel("a")]).await.unwrap()[0].cursor;
        for reader in &mut self.readers {
            let hub = self.hubs[reader.hub].0.clone();
            for _ in 0..200 {
                if reader.last == Some(head) {
                    break;
                }
                reader.read(&hub, Duration::from_secs(4)).await;
            }
            assert_eq!(reader.last, Some(head), "a reader did not get to the end");
        }
    }

    async fn publish_past_all(&mut self) {
        self.inner.append(&channel("a"), Append::new(events(["the end"]))).await.unwrap();
    }
}

impl Reader {
    /// Takes one delivery, if one comes in time.
    async fn read(&mut self, hub: &Hub, patience: Duration) {
        if self.subscriber.is_none() {
            let resume = Subscription::new(channel("a")).resume(&self.cursors);
            self.subscriber = tokio::time::timeout(patience, hub.subscribe(resume)).await.ok().and_then(Result::ok);
        }
        let Some(subscriber) = &mut self.subscriber else { return };
        let Ok(delivery) = tokio::time::timeout(patience, subscriber.next()).await else { return };
        match &delivery {
            Some(Ok(Delivery::Reset(reset))) => {
                self.reset = true;
                self.last = Some(reset.earliest);
            }
            Some(Ok(Delivery::Events(events))) => {
                for entry in events.entries() {
                    assert_eq!(Some(entry.prev()), self.last, "skipped or repeated (reset before: {})", self.reset);
                    self.last = Some(entry.cursor);
                    self.reset = false;
                }
            }
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(_)) | None => {}
        }
        self.cursors = subscriber.cursors();
        if matches!(delivery, Some(Err(_)) | None) {
            self.subscriber = None;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulation_sees_what_it_should() {
    // A world in which reading starts at the earliest, to see that entries chain from the very first one.
    let hub = Hub::new(MemoryStore::default());
    hub.publish_all(&channel("a"), events(0..9)).await.unwrap();
    let mut subscriber = hub.subscribe(Subscription::new(channel("a")).start(Start::Earliest)).await.unwrap();
    let Delivery::Events(events) = next(&mut subscriber).await else { panic!() };
    let entries: Vec<_> = events.entries().collect();
    assert!(entries.windows(2).all(|pair| pair[1].prev() == pair[0].cursor));
}
