//! Retention that is raised or lowered between two openings: what the smaller setting keeps is kept. `shared_retention`
//! tests several processes at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tower_events::{
    Event, FileStore, Retention, Store as _, StoreError,
    store::{Append, Clock, Expect, Limit, Outcome, Reason, Start},
};

use super::support::{Temporary, append, room, texts};

/// A file whose stores have a clock that the test advances.
pub(crate) struct Place {
    pub(crate) dir: Temporary,
    pub(crate) now: Arc<AtomicU64>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: Temporary::new(), now: Arc::new(AtomicU64::new(1_732_094_400_000)) }
    }

    pub(crate) fn open(&self, retention: &Retention) -> FileStore {
        self.open_ahead(retention, 0)
    }

    /// A process whose clock is ahead by this many seconds.
    fn open_ahead(&self, retention: &Retention, seconds: u64) -> FileStore {
        let now = Arc::clone(&self.now);
        let clock = Clock::new(move || now.load(Ordering::SeqCst) + seconds * 1000);
        FileStore::options().retention(retention.clone()).clock(clock).open(self.dir.file()).unwrap()
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

pub(crate) async fn kept(store: &FileStore) -> Vec<String> {
    let limit = Limit::new(10_000, 1 << 30);
    let page = store.read(&room(), Start::Earliest, limit).await.unwrap();
    texts(&page.entries).into_iter().map(str::to_owned).collect()
}

fn newest(all: usize, most: usize) -> Vec<String> {
    (all.saturating_sub(most)..all).map(|n| format!("{n:04}")).collect()
}

/// Runs steps of the janitor: one with each append to another channel.
pub(crate) async fn run_janitor(store: &FileStore) {
    let other = tower_events::Channel::new("other").unwrap();
    for _ in 0..20 {
        store.append(&other, Append::new([Event::text("x")])).await.unwrap();
    }
}

/// Few and many entries, by count or by bytes (each entry has 72).
fn limits() -> [(Retention, Retention, usize, usize); 2] {
    let all = Retention::default();
    [
        (all.clone().events(10), all.clone().events(500), 10, 500),
        (all.clone().bytes(72 * 10), all.bytes(72 * 500), 10, 500),
    ]
}

#[tokio::test]
async fn changing_a_limit_loses_nothing_that_both_settings_keep() {
    for (few, many, least, most) in limits() {
        let place = Place::new();
        let mut all = 0;
        for round in 0..6 {
            let (retention, keeps) = if round % 2 == 0 { (&few, least) } else { (&many, most) };
            let store = place.open(retention);
            let before = kept(&store).await;
            for n in 0..40 {
                append(&store, format!("{all:04}")).await.unwrap();
                all += 1;
                let kept = kept(&store).await;
                assert!(kept.ends_with(&newest(all, least)), "{round}: {n}");
                if keeps == most {
                    assert!(kept.starts_with(&before), "{round}: {n}: what the smaller setting has left");
                }
            }
            run_janitor(&store).await;
            assert!(kept(&store).await.ends_with(&newest(all, least)));
        }
    }
}

#[tokio::test]
async fn raising_the_age_keeps_all_entries() {
    let [short, long] = [10, 3600].map(|age| Retention::default().age(Duration::from_secs(age)));
    let place = Place::new();
    let store = place.open(&short);
    append(&store, "old").await.unwrap();
    run_janitor(&store).await;
    drop(store);
    place.pass(5);
    let store = place.open(&long);
    append(&store, "young").await.unwrap();
    for _ in 0..20 {
        place.pass(100);
        run_janitor(&store).await;
        assert_eq!(kept(&store).await, ["old", "young"]);
    }
    // Lowered again, entries that are young enough are kept, and the others dropped.
    drop(store);
    let store = place.open(&short);
    place.pass(400);
    append(&store, "youngest").await.unwrap();
    run_janitor(&store).await;
    assert_eq!(kept(&store).await, ["youngest"]);
}

#[tokio::test]
async fn a_key_is_remembered_for_the_lesser_window_at_least() {
    let [short, long] = [10, 3600].map(|window| Retention::default().key_window(Duration::from_secs(window)));
    let place = Place::new();
    let keyed = || Append::new([Event::text("x").keyed("k").unwrap()]);
    let store = place.open(&short);
    store.append(&room(), keyed()).await.unwrap();
    drop(store);
    let store = place.open(&long);
    for _ in 0..10 {
        place.pass(60);
        run_janitor(&store).await;
        assert!(store.append(&room(), keyed()).await.unwrap().receipts[0].duplicate);
    }
    let lesser = place.open(&short);
    let other = Append::new([Event::text("y").keyed("l").unwrap()]);
    lesser.append(&room(), other.clone()).await.unwrap();
    for store in [&store, &lesser] {
        place.pass(4);
        run_janitor(store).await;
        assert!(store.append(&room(), other.clone()).await.unwrap().receipts[0].duplicate);
    }
}

#[tokio::test]
async fn a_record_is_kept_for_the_lesser_setting_at_least() {
    let keeping = |seconds| {
        let retention = Retention::default().age(Duration::from_secs(1)).key_window(Duration::from_secs(1));
        retention.forget_after(Duration::from_secs(seconds))
    };
    let (short, long) = (keeping(10), keeping(3600));
    let place = Place::new();
    let is_kept = async |store: &FileStore| {
        run_janitor(store).await;
        let refused = store.append(&room(), Append::new([Event::text("x")]).expecting(Expect::NeverUsed)).await;
        matches!(refused, Err(StoreError::Conflict { .. }))
    };
    let store = place.open(&short);
    append(&store, "x").await.unwrap();
    place.pass(5);
    assert!(is_kept(&store).await);
    drop(store);
    let store = place.open(&long);
    for _ in 0..10 {
        place.pass(300);
        assert!(is_kept(&store).await);
    }
    // Lowered, the record is forgotten, although it was to be maintained later.
    drop(store);
    let store = place.open(&short);
    place.pass(400);
    run_janitor(&store).await;
    assert_eq!(store.channels("room", None, 10).await.unwrap(), []);
    let rows = rusqlite::Connection::open(place.dir.file()).unwrap();
    let count = "SELECT count(*) FROM channels WHERE name = 'room'";
    assert_eq!(rows.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

/// One of two processes has a clock that is ahead, and keeps more. Each determines age by its own clock, not by the
/// other's timestamps.
#[tokio::test]
async fn stamps_of_a_clock_that_is_ahead_expire_nothing_for_others() {
    let hours = |hours: u64| Retention::default().age(Duration::from_secs(hours * 3600));
    let place = Place::new();
    let (right, ahead) = (place.open(&hours(1)), place.open_ahead(&hours(3), 2 * 3600));
    let first = append(&right, "0").await.unwrap();
    append(&right, "1").await.unwrap();
    append(&ahead, "from ahead").await.unwrap();
    let all = ["0", "1", "from ahead"];
    assert_eq!(kept(&right).await, all, "nothing has expired by the right clock");
    append(&right, "2").await.unwrap();
    run_janitor(&right).await;
    assert_eq!(kept(&right).await, ["0", "1", "from ahead", "2"]);
    // The process that is ahead drops entries that have expired by its clock, and their readers are reset.
    drop(ahead);
    place.pass(400);
    let shorter = place.open_ahead(&hours(1), 2 * 3600);
    append(&shorter, "3").await.unwrap();
    let page = right.read(&room(), Start::After(first.head.cursor), Limit::default()).await.unwrap();
    assert_eq!(page.outcome, Outcome::Reset(Reason::Trimmed));
    let stamps: Vec<_> = page.entries.iter().map(|entry| entry.appended).collect();
    assert!(stamps.is_sorted(), "{stamps:?}");
}
