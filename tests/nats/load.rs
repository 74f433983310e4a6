//! Two nodes that publish on one channel at full speed, and a third that follows and resumes repeatedly: what was
//! acknowledged, what arrived, and how.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use tower_events::{
    Channel, Cursor, Event, NatsStore, Store, StoreError,
    store::{Append, Entry, Limit, Outcome, Reason, Start},
};

/// The outcome of a load.
#[derive(Debug, Default)]
pub struct Report {
    pub acknowledged: usize,
    /// Acknowledged and never read.
    pub lost: usize,
    /// Read at more than one position.
    pub duplicated: usize,
    pub resets: Vec<Reason>,
    /// Appends that failed and were repeated.
    pub failures: usize,
    /// The longest time that an append took to succeed or fail.
    pub longest: Duration,
}

impl Report {
    /// A line of the fault table: store, fault, repetitions, events acknowledged, lost, duplicated, resets seen.
    pub fn show(&self, fault: &str, server: &Path, repetitions: usize) {
        let mut resets: Vec<_> = self.resets.iter().map(|reason| reason.as_str()).collect();
        resets.sort_unstable();
        let kinds: Vec<_> = resets.chunk_by(|a, b| a == b).map(|of| format!("{} {}", of.len(), of[0])).collect();
        println!(
            "| {} | {fault} | {repetitions} | {} | {} | {} | {} | {} failed calls, longest {:.1?} |",
            version(server),
            self.acknowledged,
            self.lost,
            self.duplicated,
            if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") },
            self.failures,
            self.longest,
        );
    }

    pub fn is_perfect(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.resets.is_empty()
    }

    pub fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.resets.extend(other.resets);
        self.failures += other.failures;
        self.longest = self.longest.max(other.longest);
    }
}

/// `nats 2.15.1`.
fn version(server: &Path) -> String {
    let version = std::process::Command::new(server).arg("-v").output().expect("a version");
    String::from_utf8_lossy(&version.stdout).trim().replace("nats-server: v", "nats ")
}

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    publishers: Vec<JoinHandle<Published>>,
    follower: JoinHandle<Followed>,
    stopped: Arc<AtomicBool>,
}

#[derive(Default)]
struct Published {
    texts: Vec<String>,
    failures: usize,
    longest: Duration,
}

#[derive(Default)]
struct Followed {
    seen: Vec<Entry>,
    resets: Vec<Reason>,
}

impl Load {
    /// Starts a load: one publisher per store of `nodes`, one follower on `third`.
    pub async fn start(nodes: Vec<NatsStore>, third: NatsStore, channel: &Channel) -> Self {
        let (stop, stopped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let start = third.read(channel, Start::Latest, Limit::POSITION).await.expect("a position").next;
        let publishers = nodes.into_iter().enumerate().map(|(who, store)| {
            tokio::spawn(publish(store, channel.clone(), who, Arc::clone(&stop), Arc::clone(&acknowledged)))
        });
        let publishers = publishers.collect();
        let follower = tokio::spawn(follow(third, channel.clone(), start, Arc::clone(&stopped)));
        Self { stop, acknowledged, publishers, follower, stopped }
    }

    /// Waits until that many more appends were acknowledged.
    pub async fn more(&self, count: u64) {
        let (mut last, mut moved) = (self.acknowledged.load(Ordering::SeqCst), Instant::now());
        let until = last + count;
        while last < until {
            let now = self.acknowledged.load(Ordering::SeqCst);
            if now > last {
                (last, moved) = (now, Instant::now());
            }
            assert!(moved.elapsed() < LONGEST, "no progress within {LONGEST:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Ends the load and compares.
    pub async fn end(self) -> Report {
        self.stop.store(true, Ordering::SeqCst);
        let mut report = Report::default();
        let mut texts = Vec::new();
        for publisher in self.publishers {
            let published = publisher.await.expect("a publisher");
            report.failures += published.failures;
            report.longest = report.longest.max(published.longest);
            texts.extend(published.texts);
        }
        self.stopped.store(true, Ordering::SeqCst);
        let followed = self.follower.await.expect("a follower");
        let mut counts: HashMap<&str, usize> = HashMap::new();
        followed.seen.iter().for_each(|entry| *counts.entry(entry.data.as_shown()).or_default() += 1);
        report.acknowledged = texts.len();
        report.lost = texts.iter().filter(|text| !counts.contains_key(text.as_str())).count();
        report.duplicated = counts.values().filter(|count| **count > 1).count();
        report.resets = followed.resets;
        report
    }
}

async fn publish(
    store: NatsStore,
    channel: Channel,
    who: usize,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> Published {
    let mut published = Published::default();
    // Keys of another load on the same channel are still remembered.
    let (load, mut n) = (fastrand::u32(..), 0);
    while !stop.load(Ordering::SeqCst) {
        let text = format!("{load:08x}/{who}/{n}");
        let event = Event::text(&text).keyed(&text).expect("a key");
        let begun = Instant::now();
        let done = store.append(&channel, Append::new([event])).await;
        published.longest = published.longest.max(begun.elapsed());
        match done {
            Ok(_) => {
                published.texts.push(text);
                acknowledged.fetch_add(1, Ordering::SeqCst);
                n += 1;
            }
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                published.failures += 1;
            }
        }
    }
    published
}

async fn follow(store: NatsStore, channel: Channel, start: Cursor, stopped: Arc<AtomicBool>) -> Followed {
    let (mut followed, mut at) = (Followed::default(), start);
    let deadline = Instant::now() + LONGEST;
    loop {
        let is_last = stopped.load(Ordering::SeqCst);
        let limit = Limit::default().events(50);
        let page = match store.read(&channel, Start::After(at), limit).await {
            Ok(page) => page,
            Err(StoreError::Unavailable(_)) if Instant::now() < deadline => continue,
            Err(error) => panic!("a read: {error:?}"),
        };
        match page.outcome {
            Outcome::Continued => assert_eq!(page.from, at, "the start of a continued page"),
            Outcome::Reset(reason) => {
                followed.resets.push(reason);
                // The entries after a reset may have been seen already, in this history or in another one.
                followed.seen.retain(|seen| page.entries.iter().all(|entry| entry.data != seen.data));
            }
        }
        at = page.from;
        for entry in page.entries {
            assert_eq!(entry.prev(), at, "an entry after another");
            at = entry.cursor;
            followed.seen.push(entry);
        }
        if is_last && at == page.head.cursor {
            return followed;
        }
        if followed.resets.is_empty() {
            resume_again(&store, &channel, &followed.seen).await;
        }
    }
}

/// Another client resumes from any position seen, and sees the same again.
async fn resume_again(store: &NatsStore, channel: &Channel, seen: &[Entry]) {
    let Some(nth) = fastrand::choice(0..seen.len()) else { return };
    let limit = Limit::default().events(20);
    let Ok(page) = store.read(channel, Start::After(seen[nth].cursor), limit).await else { return };
    if page.outcome == Outcome::Continued {
        for (again, before) in page.entries.iter().zip(&seen[nth + 1..]) {
            assert_eq!(again, before, "what a second client sees");
        }
    }
}

const LONGEST: Duration = Duration::from_secs(60);
