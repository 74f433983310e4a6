//! Nodes at full speed on one channel, and a client that resumes repeatedly: what it sees, against what the contract
//! promises.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tower_events::{
    Channel, Cursor, Event, RedisStore, Retention, Store, StoreError,
    store::{Append, Limit, Outcome, Reason, Start},
};

/// The outcome of a load.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The texts that were acknowledged.
    pub(crate) acknowledged: usize,
    /// Acknowledged texts that the final log does not hold.
    pub(crate) lost: usize,
    /// Acknowledged texts that the client never saw.
    pub(crate) unseen: usize,
    /// Texts that the client saw twice without a reset in between.
    pub(crate) duplicated: usize,
    pub(crate) resets: Vec<Reason>,
    /// Entries between the client's position and the start of a page after a reset for trimmed entries.
    pub(crate) told: u64,
    /// Appends that failed before they succeeded: those not sent, and those without a response.
    pub(crate) unavailable: usize,
    pub(crate) unknown: usize,
    /// The longest time that a call took to fail.
    pub(crate) longest_failure: Duration,
}

impl Report {
    /// Asserts that nothing is missing, nothing was received twice, and no reset was seen.
    #[track_caller]
    pub(crate) fn is_whole(&self) {
        assert_eq!((self.lost, self.unseen, self.duplicated, self.resets.len()), (0, 0, 0, 0), "{self:?}");
    }

    /// Asserts that any loss was reported, for one of these reasons, and nothing was received twice.
    #[track_caller]
    pub(crate) fn is_honest(&self, reasons: &[Reason]) {
        assert_eq!(self.duplicated, 0, "{self:?}");
        assert!(!self.resets.is_empty() && self.resets.iter().all(|reason| reasons.contains(reason)), "{self:?}");
    }

    /// A line of the fault table: store, fault, repetitions, events acknowledged, lost, duplicated, resets seen.
    pub(crate) fn print(&self, fault: &str, repetitions: usize) {
        let mut resets: Vec<_> = self.resets.iter().map(|reason| reason.as_str()).collect();
        resets.sort_unstable();
        let kinds: Vec<_> = resets.chunk_by(|a, b| a == b).map(|of| format!("{} {}", of.len(), of[0])).collect();
        println!(
            "| redis | {fault} | {repetitions} | {} | {} | {} | {} | {} not seen by the client, {} unavailable, {} unknown, \
             longest {:.1?} |",
            self.acknowledged,
            self.lost,
            self.duplicated,
            if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") },
            self.unseen,
            self.unavailable,
            self.unknown,
            self.longest_failure,
        );
    }
}

/// Whether the long form was requested.
pub(crate) fn long() -> bool {
    std::env::var_os("TOWER_EVENTS_LONG").is_some()
}

/// The number of repetitions in the short and in the long form.
pub(crate) fn times(short: usize, many: usize) -> usize {
    if long() { many } else { short }
}

pub(crate) fn large() -> Retention {
    Retention::default().events(10_000_000).bytes(10 << 30)
}

/// A node with short timeouts, so that failures are noticed soon.
pub(crate) async fn node(url: &str) -> RedisStore {
    let options = RedisStore::options().retention(large()).timeout(PATIENCE);
    options.connect(url).await.expect("a store")
}

/// The URL of a server behind a proxy.
pub(crate) fn url(wire: &super::wire::Wire) -> String {
    format!("redis://{}/", wire.addr())
}

pub(crate) fn channel(name: &str) -> Channel {
    Channel::new(name).expect("a channel")
}

/// Three nodes: two that publish and one that resumes, while `fault` happens.
pub(crate) async fn during(urls: [&str; 3], fault: impl AsyncFnOnce(Progress)) -> Report {
    let [a, b, c] = [node(urls[0]).await, node(urls[1]).await, node(urls[2]).await];
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let (seen, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Report::default())));
    let start = c.read(&channel("hot"), Start::Latest, Limit::POSITION).await.expect("a position").next;
    let reader = c.clone();
    let resuming = tokio::spawn(resume(c, start, Arc::clone(&stop), Arc::clone(&seen)));
    let publishing = [a, b].into_iter().enumerate().map(|(nth, store)| {
        tokio::spawn(publish(store, nth, Arc::clone(&stop), Arc::clone(&acknowledged), Arc::clone(&failed)))
    });
    let publishing: Vec<_> = publishing.collect();
    let progress = Progress { acknowledged: Arc::clone(&acknowledged), seen };
    progress.more(200).await;
    fault(progress.clone()).await;
    progress.more(200).await;
    stop.store(true, Ordering::SeqCst);
    for publisher in publishing {
        publisher.await.expect("a publisher that ends");
    }
    let (seen, of_client) = resuming.await.expect("a client that ends");
    let acknowledged = std::mem::take(&mut *acknowledged.lock().expect("no panic"));
    let mut report = std::mem::take(&mut *failed.lock().expect("no panic"));
    report.acknowledged = acknowledged.len();
    report.unseen = acknowledged.iter().filter(|text| !seen.contains(*text)).count();
    let kept = kept(&reader).await;
    report.lost = acknowledged.iter().filter(|text| !kept.contains(*text)).count();
    (report.duplicated, report.resets, report.told) = (of_client.duplicated, of_client.resets, of_client.told);
    report
}

/// All texts of the log.
async fn kept(store: &RedisStore) -> HashSet<String> {
    let (mut kept, mut start) = (HashSet::new(), Start::Earliest);
    loop {
        let page = store.read(&channel("hot"), start, Limit::default().events(1000)).await;
        let page = page.expect("a page");
        start = Start::After(page.next);
        for entry in page.entries {
            let text = entry.data.as_text().expect("a text").to_owned();
            assert!(kept.insert(text), "appended twice");
        }
        if page.next == page.head.cursor {
            return kept;
        }
    }
}

/// The progress of a load, for faults that wait for it.
#[derive(Clone)]
pub(crate) struct Progress {
    acknowledged: Arc<Mutex<Vec<String>>>,
    seen: Arc<AtomicUsize>,
}

impl Progress {
    /// Waits until that many more appends were acknowledged, and the client has seen more.
    pub(crate) async fn more(&self, count: usize) {
        let (appended, seen) = (self.acknowledged(), self.seen.load(Ordering::SeqCst));
        let end = Instant::now() + Duration::from_secs(60);
        while self.acknowledged() < appended + count || self.seen.load(Ordering::SeqCst) == seen {
            assert!(Instant::now() < end, "no progress for a minute: {} of {count}", self.acknowledged() - appended);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.lock().expect("no panic").len()
    }
}

/// Appends with a key until stopped; repeats each append until it is acknowledged.
async fn publish(
    store: RedisStore,
    nth: usize,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    failed: Arc<Mutex<Report>>,
) {
    for n in 0.. {
        let text = format!("{nth}/{n}");
        loop {
            let event = Event::text(&*text).keyed(&text).expect("an event");
            let began = Instant::now();
            match store.append(&channel("hot"), Append::new([event])).await {
                Ok(_) => break acknowledged.lock().expect("no panic").push(text),
                Err(error) => {
                    assert!(error.is_retryable(), "{error:?}");
                    let mut failed = failed.lock().expect("no panic");
                    failed.longest_failure = failed.longest_failure.max(began.elapsed());
                    match error {
                        StoreError::Unknown(_) => failed.unknown += 1,
                        _ => failed.unavailable += 1,
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if stop.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// Continues reading from its position, a page at a time, until nothing is left after the stop.
async fn resume(
    store: RedisStore,
    mut next: Cursor,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
) -> (HashSet<String>, Report) {
    let (mut seen, mut since_reset, mut report) = (HashSet::new(), HashSet::new(), Report::default());
    let mut stopped = None;
    loop {
        let Ok(page) = store.read(&channel("hot"), Start::After(next), Limit::default().events(37)).await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        match page.outcome {
            Outcome::Continued => assert_eq!(page.from, next),
            Outcome::Reset(reason) => {
                report.resets.push(reason);
                report.told += if reason == Reason::Trimmed { page.from.seq - next.seq } else { 0 };
                since_reset.clear();
            }
        }
        next = page.from;
        for entry in page.entries {
            assert_eq!(entry.prev(), next, "a hole");
            next = entry.cursor;
            let text = entry.data.as_text().expect("a text").to_owned();
            report.duplicated += usize::from(!since_reset.insert(text.clone()));
            seen.insert(text);
            count.fetch_add(1, Ordering::SeqCst);
        }
        if next == page.head.cursor {
            // The last appends may still be in progress when the stop is noticed; they get a second.
            let since = stopped.filter(|_| stop.load(Ordering::SeqCst));
            match since {
                Some(since) if Instant::now().duration_since(since) > Duration::from_secs(1) => {
                    return (seen, report);
                }
                None if stop.load(Ordering::SeqCst) => stopped = Some(Instant::now()),
                _ => {}
            }
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) const PATIENCE: Duration = Duration::from_millis(700);
