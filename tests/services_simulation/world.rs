//! What happens, drawn from the seed.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use tower_events::{
    MemoryStore, Retention, Store as _,
    store::{Limit, Start},
};

use crate::{client::Client, node::Node, support::channel};

pub(crate) struct World {
    rng: Rng,
    store: MemoryStore,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    /// The number of the next event of each channel.
    next: BTreeMap<&'static str, u64>,
    counts: Counts,
}

/// How often each thing happened, so that it shows when something never does.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    pub(crate) streams: u64,
    pub(crate) polls: u64,
    pub(crate) refused: u64,
    pub(crate) resets: u64,
    pub(crate) retries: u64,
    pub(crate) cuts: u64,
    pub(crate) stalls: u64,
    pub(crate) drains: u64,
    pub(crate) kills: u64,
    pub(crate) revocations: u64,
    pub(crate) repeated_publishes: u64,
}

impl Counts {
    fn each(&mut self) -> [&mut u64; 12] {
        [
            &mut self.events,
            &mut self.streams,
            &mut self.polls,
            &mut self.refused,
            &mut self.resets,
            &mut self.retries,
            &mut self.cuts,
            &mut self.stalls,
            &mut self.drains,
            &mut self.kills,
            &mut self.revocations,
            &mut self.repeated_publishes,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut other = Self { ..*other };
        self.each().into_iter().zip(other.each()).for_each(|(sum, more)| *sum += *more);
    }

    pub(crate) fn has_seen_everything(&mut self) -> bool {
        self.each().into_iter().all(|count| *count > 0)
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let store = MemoryStore::new(Retention::default().events(rng.u64(8..60)));
        let nodes = (0..2).map(|_| Node::start(&store, &mut rng)).collect();
        let clients = (0..6).map(|number| Client::new(number, &mut rng)).collect();
        let next = BTreeMap::from([("a", 1), ("b", 1)]);
        Self { rng, store, nodes, clients, next, counts: Counts::default() }
    }

    pub(crate) async fn run(mut self) -> Counts {
        for _ in 0..STEPS {
            self.step().await;
        }
        self.finish().await;
        self.counts
    }

    async fn step(&mut self) {
        match self.rng.u32(..100) {
            0..30 => {
                for _ in 0..self.rng.usize(1..6) {
                    let channel = ["a", "b"][self.rng.usize(..2)];
                    self.publish(channel).await;
                }
            }
            30..75 => {
                let (at, node) = (self.rng.usize(..self.clients.len()), self.rng.usize(..2));
                self.clients[at].turn(&self.nodes[node], &mut self.rng, &mut self.counts).await;
            }
            75..88 => self.disturb(),
            88 => self.drain().await,
            89 => self.kill(),
            90 | 91 => {
                let (node, user) = (self.rng.usize(..2), format!("u{}", self.rng.u32(..3)));
                self.counts.revocations += u64::from(self.nodes[node].hub.revoke(&*user).await.is_ok());
            }
            _ => tokio::time::sleep(Duration::from_millis(self.rng.u64(..8_000))).await,
        }
    }

    /// Publishes the next event of the channel, until that is acknowledged or it was tried often; with the same key it may have
    /// been stored before.
    async fn publish(&mut self, channel: &'static str) -> bool {
        let number = self.next[channel];
        for _ in 0..3 {
            let node = &self.nodes[self.rng.usize(..2)];
            let request =
                node.server.post(&format!("/publish?channel={channel}"), "application/json", number.to_string());
            let answer = request.header("idempotency-key", format!("{channel}-{number}")).send().await;
            if answer.status == 200 {
                self.next.insert(channel, number + 1);
                return true;
            }
            assert!([503, 504].contains(&answer.status), "{answer}");
            self.counts.repeated_publishes += 1;
        }
        false
    }

    fn disturb(&mut self) {
        let faults = &self.nodes[self.rng.usize(..2)].faults;
        match self.rng.u32(..11) {
            0 => faults.lose_hints(self.rng.usize(..5)),
            1 => faults.duplicate_hints(self.rng.usize(..5)),
            2 => faults.reorder_hints(self.rng.usize(..5)),
            3 => faults.resync(),
            4 => faults.delay(Duration::from_millis(self.rng.u64(..400))),
            5 => faults.fail_next_reads(self.rng.usize(..4)),
            6 => faults.cut_next_reads(self.rng.usize(..3)),
            7 => faults.fail_next_heads(self.rng.usize(..4)),
            8 => faults.fail_next_appends(self.rng.usize(..3)),
            9 => faults.lose_next_appends(self.rng.usize(..3)),
            _ => faults.lose_next_answers(self.rng.usize(..3)),
        }
    }

    /// A node is stopped as by an operator, and another takes its place.
    async fn drain(&mut self) {
        let at = self.rng.usize(..2);
        _ = self.nodes[at].hub.drain(Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(self.rng.u64(..1_000))).await;
        self.nodes[at] = Node::start(&self.store, &mut self.rng);
        self.counts.drains += 1;
    }

    /// A node crashes: its connections end in the middle of whatever they send.
    fn kill(&mut self) {
        let at = self.rng.usize(..2);
        self.nodes[at] = Node::start(&self.store, &mut self.rng);
        self.clients.iter_mut().for_each(Client::disconnect);
        self.counts.kills += 1;
    }

    /// Without faults, everything arrives.
    async fn finish(&mut self) {
        self.nodes.iter().for_each(Node::mend);
        for channel in ["a", "b"] {
            assert!(self.publish(channel).await, "nothing fails any more");
        }
        let last = self.next.iter().map(|(channel, next)| (*channel, next - 1)).collect();
        for at in 0..self.clients.len() {
            for turn in 0.. {
                if self.clients[at].has(&last) {
                    break;
                }
                assert!(turn < 500, "client {at} never gets {last:?}");
                let node = self.rng.usize(..2);
                self.clients[at].turn(&self.nodes[node], &mut self.rng, &mut self.counts).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        for name in ["a", "b"] {
            let page = self.store.read(&channel(name), Start::Earliest, Limit::new(1_000, usize::MAX)).await.unwrap();
            let numbers: Vec<u64> = page.entries.iter().map(|entry| entry.data.as_shown().parse().unwrap()).collect();
            let stored: Vec<_> = (last[name] + 1 - numbers.len() as u64..=last[name]).collect();
            assert_eq!(numbers, stored, "each acknowledged event is stored once");
        }
    }
}

const STEPS: usize = 60;
