//! What an idle store does, and one whose channels are short-lived. `cargo bench --bench file -- idle short-lived`
//! measures the same for longer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rusqlite::Connection;
use tower_events::{
    Channel, Event, FileStore, Retention, Store as _,
    store::{Append, Clock, Expect},
};

use super::support::{Temporary, with_suffix};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_store_writes_nothing() {
    let dir = Temporary::new();
    // The janitor checks for work ten times a second.
    let retention = Retention::default().key_window(Duration::from_millis(400));
    let store = FileStore::options().retention(retention).open(dir.file()).unwrap();
    for n in 0..300 {
        let channel = Channel::new(format!("empty {n}")).unwrap();
        store.init(&channel, Vec::new(), Expect::Any).await.unwrap();
        let channel = Channel::new(format!("filled {n}")).unwrap();
        store.append(&channel, Append::new([Event::text("x")])).await.unwrap();
    }
    let state = || (store.attempts(), std::fs::metadata(with_suffix(&dir.file(), "-wal")).unwrap().modified().unwrap());
    // Lets pending work finish.
    let mut before = state();
    for quiet in 0.. {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let after = state();
        if before == after && quiet > 3 {
            break;
        }
        before = after;
        assert!(quiet < 20, "the store never becomes idle");
    }
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(state(), before);
    }
}

/// A hundred new channels a second, each with an event and a key, and short retention: the file does not grow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_lived_channels_leave_nothing_behind() {
    let dir = Temporary::new();
    let now = Arc::new(AtomicU64::new(1_732_094_400_000));
    let clock = Clock::new({
        let now = Arc::clone(&now);
        move || now.load(Ordering::SeqCst)
    });
    let short = Duration::from_secs(2);
    let retention = Retention::default().age(short).forget_after(short).key_window(short);
    let store = FileStore::options().retention(retention).clock(clock).open(dir.file()).unwrap();
    let db = Connection::open(dir.file()).unwrap();
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let mut pages = 0;
    for second in 0..60 {
        for n in 0..100 {
            let channel = Channel::new(format!("{second}:{n}")).unwrap();
            let event = Event::text("x".repeat(200)).keyed("k").unwrap();
            store.append(&channel, Append::new([event])).await.unwrap();
            now.fetch_add(10, Ordering::SeqCst);
        }
        let counts =
            ["channels", "entries", "keys", "garbage"].map(|table| count(&format!("SELECT count(*) FROM {table}")));
        assert!(counts.iter().all(|rows| *rows < 1200), "{second}: {counts:?}");
        if second == 20 {
            pages = count("PRAGMA page_count");
        }
    }
    let grown = count("PRAGMA page_count");
    assert!(grown <= pages + pages / 2, "{grown} pages after {pages}");
    assert!(count("SELECT count(*) FROM floors") <= 1024);
}
