//! Two nodes that write to one channel as fast as they can, and a third that follows it and resumes clients repeatedly.
//! Checked at the end: order, nothing acknowledged is lost, nothing is delivered twice, every loss is reported.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::{JoinHandle, JoinSet};
use tower_events::{
    Cursor, Event, Retention, Store, StoreError,
    store::{Append, Appended, Entry, Limit, Outcome, Reason, Start},
    stores::postgres::{Durability, PostgresStore},
};

use super::{harness::fresh_schema, support::a};

/// What writers know about their events.
#[derive(Default)]
struct Ledger {
    acknowledged: HashMap<String, Cursor>,
    /// May be stored, but only once.
    unknown: HashSet<String>,
    /// Must not be stored.
    refused: HashSet<String>,
    longest: Duration,
}

/// What the reader saw.
#[derive(Default)]
struct Seen {
    entries: Vec<Entry>,
    resets: Vec<Reason>,
    resumes: usize,
}

/// What the durability of the server allows.
#[derive(Clone, Copy, PartialEq)]
pub enum Loss {
    None,
    /// With a reset for every reader that saw it.
    Told,
}

/// Whether a writer repeats an append with an unknown outcome.
#[derive(Clone, Copy, PartialEq)]
enum Keys {
    With,
    Without,
}

pub struct Load {
    pub schema: String,
    reader: PostgresStore,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicBool>,
    ledger: Arc<Mutex<Ledger>>,
    writers: JoinSet<()>,
    reading: JoinHandle<Seen>,
}

impl Load {
    /// Two nodes reach the server at `writers`, the third at `reader`.
    pub async fn start([writers, reader]: [&str; 2], durability: Durability) -> Self {
        let schema = fresh_schema();
        let open = async |url: &str| {
            let options = PostgresStore::options().schema(&schema).connections(4).durability(durability);
            let retention = Retention::default().events(10_000_000).bytes(1 << 40);
            let store = options.retention(retention).timeout(PATIENCE).connect(url).await.unwrap();
            store.migrate().await.unwrap();
            store
        };
        let reader = open(reader).await;
        // Before the first write: everything acknowledged has to be seen.
        let start = reader.heads(&[a()]).await.unwrap()[0].cursor;
        let [stop, written] = [(), ()].map(|()| Arc::new(AtomicBool::new(false)));
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let mut tasks = JoinSet::new();
        for node in 0..2 {
            let store = open(writers).await;
            for writer in 0..4 {
                let name = format!("{node}.{writer}");
                tasks.spawn(write(
                    store.clone(),
                    name,
                    [Keys::With, Keys::Without][writer % 2],
                    Arc::clone(&stop),
                    Arc::clone(&ledger),
                ));
            }
        }
        let reading = tokio::spawn(read_along(reader.clone(), start, Arc::clone(&written)));
        Self { schema, reader, stop, written, ledger, writers: tasks, reading }
    }

    fn acknowledged(&self) -> usize {
        self.ledger.lock().unwrap().acknowledged.len()
    }

    /// Waits until writing continues.
    pub async fn progress(&self, more: usize) {
        let (mut last, mut since) = (self.acknowledged(), Instant::now());
        let wanted = last + more;
        while last < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = self.acknowledged();
            if now > last {
                (last, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < Duration::from_secs(60), "writing does not continue");
        }
    }

    /// Ends the load and compares what was seen with what is known.
    pub async fn judge(self, fault: &str, repetitions: usize, loss: Loss) {
        self.stop.store(true, Ordering::SeqCst);
        self.writers.join_all().await;
        self.written.store(true, Ordering::SeqCst);
        let seen = self.reading.await.unwrap();
        let ledger = std::mem::take(&mut *self.ledger.lock().unwrap());
        let mut count: HashMap<&str, usize> = HashMap::new();
        for entry in &seen.entries {
            *count.entry(entry.data.as_shown()).or_default() += 1;
        }
        let kept: HashMap<_, _> =
            all(&self.reader).await.into_iter().map(|e| (e.data.as_shown().to_owned(), e)).collect();
        let lost = ledger.acknowledged.keys().filter(|text| !kept.contains_key(*text)).count();
        let unseen = ledger.acknowledged.keys().filter(|text| !count.contains_key(&***text)).count();
        let twice = count.values().filter(|count| **count > 1).count();
        let ghosts = ledger.refused.iter().filter(|text| kept.contains_key(*text)).count();
        println!(
            "| postgres | {fault} | {repetitions} | {} | {lost} | {unseen} | {twice} | {} | {} unavailable, {} unknown, {} \
             resumes, longest {:.1?} |",
            ledger.acknowledged.len(),
            of_each_kind(&seen.resets),
            ledger.refused.len(),
            ledger.unknown.len(),
            seen.resumes,
            ledger.longest,
        );
        assert_eq!(ghosts, 0, "appends that were reported as not executed");
        assert!(ledger.longest < PATIENCE * 2 + Duration::from_secs(1), "an append took {:?}", ledger.longest);
        if loss == Loss::Told {
            // Since the last reset, nothing was seen that is not there.
            let there = |entry: &Entry| kept.get(entry.data.as_shown()) == Some(entry);
            assert!(seen.entries.iter().all(there), "a loss that was not reported to the reader");
        } else {
            assert_eq!((lost, unseen, twice, seen.resets.len()), (0, 0, 0, 0));
            let right =
                |(text, cursor): (&String, &Cursor)| kept.get(text).is_some_and(|entry| entry.cursor == *cursor);
            assert!(ledger.acknowledged.iter().all(right), "entries where they were acknowledged");
        }
        // What was sent and not answered may be executed at any later time.
        in_order(kept.into_values().filter(|entry| !ledger.unknown.contains(entry.data.as_shown())).collect());
    }
}

async fn write(store: PostgresStore, name: String, keys: Keys, stop: Arc<AtomicBool>, ledger: Arc<Mutex<Ledger>>) {
    let mut n = 0_u32;
    while !stop.load(Ordering::SeqCst) {
        let text = format!("{name}/{n:08}");
        let event = Event::text(&text);
        let event = if keys == Keys::With { event.keyed(&text).unwrap() } else { event };
        let began = Instant::now();
        let result = store.append(&a(), Append::new([event])).await;
        n += 1;
        if note(&mut ledger.lock().unwrap(), text, began.elapsed(), &result, keys) {
            // With a key, the append is repeated until the outcome is certain.
            n -= u32::from(keys == Keys::With);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Records the outcome of an event; returns whether it failed.
fn note(ledger: &mut Ledger, text: String, took: Duration, result: &Result<Appended, StoreError>, keys: Keys) -> bool {
    ledger.longest = ledger.longest.max(took);
    match result {
        Ok(done) => {
            ledger.acknowledged.insert(text, done.receipts[0].cursor);
            return false;
        }
        Err(StoreError::Unknown(_)) if keys == Keys::Without => _ = ledger.unknown.insert(text),
        Err(StoreError::Unavailable(_)) if keys == Keys::Without => _ = ledger.refused.insert(text),
        Err(error) => assert!(error.is_retryable(), "{error:?}"),
    }
    true
}

/// Follows from `next`, and between pages resumes clients from older cursors.
async fn read_along(store: PostgresStore, start: Cursor, written: Arc<AtomicBool>) -> Seen {
    let (mut seen, mut next) = (Seen::default(), start);
    loop {
        let stopped = written.load(Ordering::SeqCst);
        let limit = Limit::default().events(500);
        let Ok(page) = store.read(&a(), Start::After(next), limit).await else { continue };
        if let Outcome::Reset(reason) = page.outcome {
            seen.resets.push(reason);
            seen.entries.clear();
            next = page.from;
        }
        assert_eq!(page.from, next);
        for entry in page.entries {
            assert_eq!(entry.prev(), next, "no hole, and no other history");
            assert!(seen.entries.last().is_none_or(|last| last.appended <= entry.appended), "stamps never decrease");
            next = entry.cursor;
            seen.entries.push(entry);
        }
        if stopped && page.next == page.head.cursor {
            return seen;
        }
        resume_someone(&store, &mut seen).await;
    }
}

/// A client that was at one of the entries resumes from there, at this node.
async fn resume_someone(store: &PostgresStore, seen: &mut Seen) {
    let Some(at) = (!seen.entries.is_empty()).then(|| fastrand::usize(..seen.entries.len())) else { return };
    let limit = Limit::default().events(5);
    let Ok(page) = store.read(&a(), Start::After(seen.entries[at].cursor), limit).await else { return };
    seen.resumes += 1;
    if page.outcome == Outcome::Continued {
        let known = &seen.entries[at + 1..];
        assert!(page.entries.iter().zip(known).all(|(entry, known)| entry == known), "another history without a reset");
    }
}

async fn all(store: &PostgresStore) -> Vec<Entry> {
    let (mut entries, mut start) = (Vec::new(), Start::Earliest);
    loop {
        let page = store.read(&a(), start, Limit::new(5000, 16 << 20)).await.unwrap();
        start = Start::After(page.next);
        entries.extend(page.entries);
        if page.next == page.head.cursor {
            return entries;
        }
    }
}

/// Each writer's events are in its order.
fn in_order(mut entries: Vec<Entry>) {
    entries.sort_by_key(|entry| entry.cursor.seq);
    let mut last: HashMap<String, String> = HashMap::new();
    for entry in entries {
        let text = entry.data.as_shown().to_owned();
        let writer = text.split('/').next().unwrap().to_owned();
        let before = last.insert(writer, text.clone());
        assert!(before.as_ref().is_none_or(|before| *before < text), "{before:?} before {text}");
    }
}

/// How many resets had which reason.
fn of_each_kind(resets: &[Reason]) -> String {
    let mut names: Vec<_> = resets.iter().map(|reason| reason.as_str()).collect();
    names.sort_unstable();
    let kinds: Vec<_> = names.chunk_by(|a, b| a == b).map(|of| format!("{} {}", of.len(), of[0])).collect();
    if kinds.is_empty() { "0".to_owned() } else { kinds.join(", ") }
}

/// The timeout of the stores.
pub const PATIENCE: Duration = Duration::from_secs(2);
