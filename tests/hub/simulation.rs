//! Random simulations: several hubs on one faulty store, publishers, and readers that connect, leave, lag and change hubs.
//! Whatever happens, each reader receives every retained event once and in order, or a reset where some are missing; and each
//! reset, start and close is what the store answered.

mod reader;
mod recording_store;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
    time::Duration,
};

use fastrand::Rng;
use tower_events::{
    HubOptions, MemoryStore, Retention, Store,
    store::{Append, Expect, Limit, Start},
    testing::{FaultStore, Faults},
};

use self::{
    reader::{ClientStart, Reader},
    recording_store::{Defect, RecordingStore},
};
use super::*;

#[test]
fn every_reader_receives_each_event_once_in_order_or_a_reset() {
    let replay = std::env::var("TOWER_EVENTS_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = replay.map_or_else(|| (0..100).chain((0..50).map(|_| fastrand::u64(..))).collect(), |seed| vec![seed]);
    for seed in seeds {
        assert!(run(seed, Defect::None).is_ok(), "replay with TOWER_EVENTS_SEED={seed}");
    }
}

/// The simulation detects a hub that reports anything else than the store. The difference is made in the store's answers here.
#[test]
fn the_simulation_finds_each_defect() {
    for (defect, found_as) in [
        (Defect::OmitsEntry, "skipped or repeated"),
        (Defect::SwapsData, "what was appended"),
        (Defect::ContinuesAfterReset, "skipped or repeated"),
        (Defect::WrongReason, "which the store did not report"),
        (Defect::WrongPosition, "which the store did not report"),
        (Defect::NeedlessReset, "which the store did not report"),
        (Defect::StaleHead, "does not start at"),
        (Defect::SkipsFirstByTime, "skipped or repeated"),
        (Defect::FalseClose, "a close that never happened"),
    ] {
        let found: Vec<_> = (0..40).filter_map(|seed| run(seed, defect).err()).collect();
        assert!(found.iter().any(|message| message.contains(found_as)), "{defect:?} is found as {found:?}");
    }
}

/// Fails with what went wrong in the simulation with this seed.
fn run(seed: u64, defect: Defect) -> Result<(), String> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(world(seed, defect));
    }));
    result.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

async fn world(seed: u64, defect: Defect) {
    let mut world = World::new(seed, defect);
    for _ in 0..150 {
        world.step().await;
    }
    world.finish().await;
}

struct World {
    rng: Rng,
    inner: MemoryStore,
    /// Used directly, bypassing both hubs.
    recording: RecordingStore,
    nodes: Vec<Node>,
    readers: Vec<Reader>,
    published: u64,
}

/// A process.
struct Node {
    hub: Hub,
    faults: Faults,
    recording: RecordingStore,
}

impl Node {
    fn start(recording: RecordingStore, rng: &mut Rng) -> Self {
        let (store, faults) = FaultStore::new(recording.clone());
        let options = HubOptions::default()
            .ring_bytes(rng.usize(1..1_500))
            .page(Limit::new(rng.usize(1..9), rng.usize(1..2_000)))
            .max_reads(rng.usize(1..4))
            .linger(Duration::from_secs(rng.u64(0..5)));
        Self { hub: Hub::with_options(store, options), faults, recording }
    }
}

impl World {
    fn new(seed: u64, defect: Defect) -> Self {
        let mut rng = Rng::with_seed(seed);
        let inner = MemoryStore::new(Retention::default().events(rng.u64(5..50)));
        let recording = RecordingStore::new(inner.clone(), defect);
        let nodes = (0..2).map(|_| Node::start(recording.for_another(), &mut rng)).collect();
        Self { rng, inner, recording, nodes, readers: Vec::new(), published: 0 }
    }

    fn channel(&mut self) -> Channel {
        channel(["a", "b", "c"][self.rng.usize(..3)])
    }

    async fn step(&mut self) {
        match self.rng.u32(..100) {
            0..28 => self.publish().await,
            28..68 => self.read().await,
            68..75 => self.arrive(),
            75..80 => self.drop_connection(),
            80..89 => self.disturb(),
            89..91 => self.lose_tail(),
            91 => self.drain(),
            92 => self.close().await,
            93 => self.init().await,
            94 => self.delete().await,
            _ => tokio::time::sleep(Duration::from_millis(self.rng.u64(..4_000))).await,
        }
    }

    /// Publishes one event or several, through one of the hubs or directly.
    async fn publish(&mut self) {
        let to = self.channel();
        let texts: Vec<_> = (0..self.rng.u64(1..5)).map(|n| self.published + n).collect();
        self.published += texts.len() as u64;
        let timed = |event: Event| event.at(self.rng.u64(..1_000)).unwrap();
        let events: Vec<_> = events(texts).into_iter().map(timed).collect();
        match self.rng.usize(..3) {
            2 => drop(self.recording.append(&to, Append::new(events)).await),
            node => drop(self.nodes[node].hub.publish_all(&to, events).await),
        }
    }

    async fn close(&mut self) {
        let (of, last) = (self.channel(), events(0..self.rng.u64(..2)));
        let close = Append::new(last).closing();
        match self.rng.usize(..3) {
            2 => drop(self.recording.append(&of, close).await),
            node => drop(self.nodes[node].hub.append(&of, close).await),
        }
    }

    async fn init(&mut self) {
        let (of, new) = (self.channel(), events(0..self.rng.u64(..3)));
        match self.rng.usize(..3) {
            2 => drop(self.recording.init(&of, new, Expect::Any).await),
            node => drop(self.nodes[node].hub.init(&of, new).await),
        }
    }

    async fn delete(&mut self) {
        let of = self.channel();
        match self.rng.usize(..3) {
            2 => drop(self.recording.delete(&of).await),
            node => drop(self.nodes[node].hub.delete(&of).await),
        }
    }

    fn arrive(&mut self) {
        let mut names = vec!["a", "b", "c"];
        self.rng.shuffle(&mut names);
        names.truncate(self.rng.usize(1..4));
        let positions = self.recording.positions();
        let from = match self.rng.usize(..9) {
            0 => ClientStart::At(Start::Earliest),
            1 => ClientStart::At(Start::Beginning),
            2 => ClientStart::At(Start::Last(self.rng.u64(..6))),
            3 | 4 => ClientStart::At(Start::Time(self.rng.u64(..1_000))),
            5 => {
                self.rng.choice(positions).map_or(ClientStart::Unknown, |cursor| ClientStart::At(Start::After(cursor)))
            }
            6 => ClientStart::Unknown,
            _ => ClientStart::At(Start::Latest),
        };
        let node = self.rng.usize(..2);
        self.readers.push(Reader::new(node, self.recording.clone(), names.into_iter().map(channel), from));
    }

    async fn read(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.readers.len());
        let patience = Duration::from_millis(self.rng.u64(..20));
        let hub = self.nodes[self.readers[at].hub].hub.clone();
        self.readers[at].read(&hub, patience).await;
    }

    /// A client disconnects, and comes back to the other hub.
    fn drop_connection(&mut self) {
        if let Some(reader) = self.rng.choice(&mut self.readers) {
            reader.drop_connection();
            reader.hub = 1 - reader.hub;
        }
    }

    /// A process ends, and a new one takes its place.
    fn drain(&mut self) {
        let at = self.rng.usize(..2);
        drop(self.nodes[at].hub.drain(Duration::from_secs(5)));
        self.nodes[at] = Node::start(self.recording.for_another(), &mut self.rng);
        self.readers.iter_mut().filter(|reader| reader.hub == at).for_each(Reader::drain);
    }

    fn disturb(&mut self) {
        let Node { faults, recording, .. } = &self.nodes[self.rng.usize(..2)];
        match self.rng.u32(..10) {
            0 => faults.lose_hints(self.rng.usize(..5)),
            1 => faults.duplicate_hints(self.rng.usize(..5)),
            2 => faults.reorder_hints(self.rng.usize(..5)),
            3 => faults.resync(),
            4 => faults.delay(Duration::from_millis(self.rng.u64(..50))),
            5 => faults.fail_next_reads(self.rng.usize(..3)),
            6 => faults.cut_next_reads(self.rng.usize(..3)),
            7 => recording.disturbances.panics.store(self.rng.usize(..3), Ordering::SeqCst),
            8 => recording.disturbances.slow_answers.store(self.rng.u64(..30), Ordering::SeqCst),
            _ => faults.fail_next_heads(self.rng.usize(..3)),
        }
    }

    fn lose_tail(&mut self) {
        let of = self.channel();
        self.inner.lose_tail(&of, self.rng.u64(..4));
    }

    /// Without faults every reader reaches the end.
    async fn finish(&mut self) {
        for Node { faults, recording, .. } in &self.nodes {
            faults.lose_hints(0);
            faults.reorder_hints(0);
            faults.duplicate_hints(0);
            faults.delay(Duration::ZERO);
            faults.fail_next_reads(0);
            faults.fail_next_heads(0);
            faults.cut_next_reads(0);
            recording.disturbances.panics.store(0, Ordering::SeqCst);
            recording.disturbances.slow_answers.store(0, Ordering::SeqCst);
        }
        // A tail that was lost and has not grown again is only found when heads are compared.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mut ends = Vec::new();
        for of in ["a", "b", "c"].map(channel) {
            let end = self.publish_past_all(&of).await;
            ends.push((of, end));
        }
        for reader in &mut self.readers {
            let hub = self.nodes[reader.hub].hub.clone();
            for _ in 0..300 {
                if ends.iter().all(|(of, end)| reader.is_at(of, *end)) {
                    break;
                }
                // A channel may have been opened again since its close was taken.
                if reader.disconnect_if_any_is_closed() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                reader.read(&hub, Duration::from_secs(4)).await;
            }
            let missed: Vec<_> = ends.iter().filter(|(of, end)| !reader.is_at(of, *end)).collect();
            assert!(missed.is_empty(), "did not reach {missed:?}: {:?}", reader.channels());
        }
    }

    async fn publish_past_all(&mut self, to: &Channel) -> Cursor {
        match self.recording.append(to, Append::new(events(["the end"]))).await {
            Ok(appended) => appended.head.cursor,
            // The channel is closed.
            Err(_) => self.recording.init(to, events(["the end"]), Expect::Any).await.unwrap().cursor,
        }
    }
}
