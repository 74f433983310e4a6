//! Files that are truncated or have flipped bits cause errors, but never panics, never an entry that was not stored,
//! and never the silent loss of one that was. `TOWER_EVENTS_DAMAGES` sets the number of files (150).

use tower_events::{
    Event, FileStore, Store as _, StoreError,
    store::{Append, Entry, Limit, Outcome, Start},
};

use super::support::{Temporary, keeping_all, read_all, repetitions, room};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_never_silent() {
    let whole = Temporary::new();
    let all = fill(&whole).await;
    let bytes = std::fs::read(whole.file()).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for seed in 0..repetitions("TOWER_EVENTS_DAMAGES", 150) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut damaged = bytes.clone();
        match random.u8(..4) {
            0 => damaged.truncate(random.usize(..damaged.len())),
            1 => {
                let at = random.usize(..damaged.len());
                damaged[at] ^= 1 << random.u8(..8);
            }
            2 => {
                let from = random.usize(..damaged.len());
                let to = (from + random.usize(..5000)).min(damaged.len());
                damaged[from..to].fill(0);
            }
            _ => {
                let page = 4096 * random.usize(..damaged.len() / 4096);
                (page..page + 4096).for_each(|at| damaged[at] = random.u8(..));
            }
        }
        let dir = Temporary::new();
        std::fs::write(dir.file(), &damaged).unwrap();
        match check(&dir, &all).await {
            Ok(()) => harmless += 1,
            Err(()) => refused += 1,
        }
    }
    assert!(refused > 0 && harmless > 0, "{refused} refused, {harmless} harmless");
    println!("{refused} refused, {harmless} harmless");
}

/// Fills a file of some pages, closes it, and returns its entries.
async fn fill(dir: &Temporary) -> Vec<Entry> {
    let store = keeping_all().open(dir.file()).unwrap();
    for n in 0..40 {
        let events = (0..5).map(|k| Event::json(&serde_json::json!({ "n": n, "k": k, "x": "x".repeat(150) })).unwrap());
        store.append(&room(), Append::new(events)).await.unwrap();
    }
    let all = read_all(&store).await;
    drop(store);
    // The writer's thread closes it shortly afterwards.
    let db = rusqlite::Connection::open(dir.file()).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    all
}

/// `Ok` if everything is as before, or a reset reports that it is not.
async fn check(dir: &Temporary, all: &[Entry]) -> Result<(), ()> {
    let store: FileStore = keeping_all().open(dir.file()).map_err(drop)?;
    let refused = |error| match error {
        StoreError::Corrupt(_) | StoreError::Unavailable(_) | StoreError::Unknown(_) => (),
        other => panic!("{other:?}"),
    };
    for from in [0, 77, 150, 198] {
        let limit = Limit::new(1000, 1 << 30);
        let page = store.read(&room(), Start::After(all[from].cursor), limit).await.map_err(refused)?;
        if page.outcome == Outcome::Continued {
            assert_eq!(page.entries, all[from + 1..], "all entries that followed");
        }
        for entry in &page.entries {
            assert!(all.contains(entry), "{entry:?} was never stored");
        }
    }
    let done = store.append(&room(), Append::new([Event::text("after")])).await.map_err(refused)?;
    let page = store.read(&room(), Start::After(all[199].cursor), Limit::default()).await.map_err(refused)?;
    if page.outcome == Outcome::Continued {
        assert_eq!(page.entries, done.entries);
    }
    Ok(())
}
