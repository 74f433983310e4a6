//! Every kind of damage to one channel's rows: the other channels are written, read and watched as before.

use std::{os::unix::fs::FileExt as _, pin::pin, time::Duration};

use futures_core::Stream as _;
use rusqlite::Connection;
use tokio::time::{Instant, timeout};
use tower_events::{
    Channel, Delivery, Event, FileStore, Hub, HubOptions, Retention, Store as _, StoreError, Subscription,
    store::{Append, Change, Expect, Health, Limit, Start},
    stores::file::FileOptions,
};

use super::support::{Temporary, integrity, texts, wait_until_closed};

/// Damages to the rows of the channel `bad`.
const DAMAGES: &[&str] = &[
    "UPDATE channels SET earliest_seq = head_seq + 1",
    "UPDATE channels SET earliest_seq = head_seq",
    "UPDATE channels SET earliest_tag = -1",
    "UPDATE channels SET head_tag = -1",
    "UPDATE channels SET head_tag = head_tag + 4294967296",
    "UPDATE channels SET head_seq = -1",
    "UPDATE channels SET head_seq = 9223372036854775807",
    "UPDATE channels SET head_seq = head_seq - 1",
    "UPDATE channels SET closed = 7",
    "UPDATE channels SET bytes = -1",
    "UPDATE channels SET oldest = 0",
    "UPDATE channels SET newest = -1",
    "UPDATE channels SET newest = 9223372036854775807",
    "UPDATE channels SET dropped_time = -1",
    "UPDATE channels SET name = ''",
    "UPDATE channels SET name = 'b' || char(10) || 'd'",
    "UPDATE channels SET name = CAST(x'ff' AS TEXT)",
    "DELETE FROM entries WHERE seq = 2",
    "DELETE FROM entries",
    "UPDATE entries SET tag = -1",
    "UPDATE entries SET tag = tag + 4294967296",
    "UPDATE entries SET prev_tag = prev_tag + 1",
    "UPDATE entries SET appended = -1",
    "UPDATE entries SET kind = 7",
    "UPDATE entries SET name = CAST(x'ff' AS TEXT)",
    "UPDATE entries SET data = x'ff'",
    "UPDATE entries SET sum = sum + 1",
    "UPDATE entries SET seq = seq + 100",
    "UPDATE keys SET tag = -1",
    "UPDATE keys SET tag = 4294967296",
    "UPDATE keys SET seq = -1",
    "UPDATE keys SET key = CAST(x'ff' AS TEXT) WHERE seq = 3",
    "UPDATE keys SET came = -1",
];

/// What a flipped bit can make of the name `bad` in its row, while the index of names keeps `bad`: invalid text, an
/// unused name, and the name of another channel.
const FLIPPED: &[[u8; 3]] = &[[b'b', b'a', b'd' | 0x80], *b"baf", *b"bat"];

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

fn options() -> FileOptions {
    FileStore::options().retention(Retention::default().events(8))
}

async fn append(store: &FileStore, name: &str, text: String) -> Result<(), StoreError> {
    let event = Event::text(text.as_str()).keyed(text.as_str()).unwrap();
    store.append(&channel(name), Append::new([event])).await.map(drop)
}

/// A file with three channels, of which `bad` has this damage and is due for maintenance.
async fn damaged(dir: &Temporary, damage: &str) -> FileStore {
    damaged_with(options(), dir, damage).await
}

async fn damaged_with(options: FileOptions, dir: &Temporary, damage: &str) -> FileStore {
    let store = options.open(dir.file()).unwrap();
    for n in 1..=10 {
        for name in ["bad", "good", "other"] {
            append(&store, name, n.to_string()).await.unwrap();
        }
    }
    let db = Connection::open(dir.file()).unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    let of = if damage.contains("channels") {
        "name = 'bad'"
    } else {
        "channel = (SELECT id FROM channels WHERE name = 'bad')"
    };
    let and = if damage.contains("WHERE") { "AND" } else { "WHERE" };
    db.execute_batch(&format!("BEGIN IMMEDIATE; {damage} {and} {of}; UPDATE channels SET due = 0; COMMIT")).unwrap();
    store
}

/// A file with the channels `bad`, `bat` and `good`, in which the row of `bad` has another name. No store has it open.
async fn flipped(dir: &Temporary, name: [u8; 3]) {
    let store = options().open(dir.file()).unwrap();
    for name in ["bad", "bat", "good"] {
        append(&store, name, "1".into()).await.unwrap();
    }
    drop(store);
    let db = Connection::open(dir.file()).unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(dir.file()).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    // Pages of rows start with 13, pages of the index do not.
    let at = |at: &usize| bytes[*at..].starts_with(b"bad") && bytes[at / 4096 * 4096] == 13;
    let rows: Vec<_> = (4096..bytes.len()).filter(at).collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
    file.write_all_at(&name, rows[0] as u64).unwrap();
}

/// Waits until the store attempts no more transactions.
async fn wait_until_idle(store: &FileStore, damage: &str) {
    let (begun, mut quiet, mut before) = (Instant::now(), 0, store.attempts());
    while quiet < 3 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{damage}: the store never becomes idle");
        tokio::time::sleep(Duration::from_millis(150)).await;
        let now = store.attempts();
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
}

/// Waits until the expired entries of `good` are removed without any append.
async fn check_good_is_maintained(dir: &Temporary, damage: &str) {
    // A dropped store may still be in a last step, in which it would announce its retention again.
    wait_until_closed(dir.path()).await;
    let db = Connection::open(dir.file()).unwrap();
    // Expires the announcements of stores that kept more.
    db.execute("UPDATE users SET said = 0", []).unwrap();
    let short = Duration::from_millis(200);
    let store = FileStore::options().retention(Retention::default().age(short).key_window(short));
    let store = store.open(dir.file()).unwrap();
    let sql = "SELECT count(*) FROM entries WHERE channel = (SELECT id FROM channels WHERE name = 'good')";
    let begun = Instant::now();
    while db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{damage}: `good` is not maintained");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    wait_until_idle(&store, damage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_channels_are_maintained_next_to_a_damaged_one() {
    for damage in DAMAGES.iter().filter(|damage| damage.contains("UPDATE channels")) {
        let dir = Temporary::new();
        drop(damaged(&dir, damage).await);
        check_good_is_maintained(&dir, damage).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_channels_are_maintained_next_to_one_with_a_damaged_name() {
    for name in FLIPPED {
        let dir = Temporary::new();
        flipped(&dir, *name).await;
        check_good_is_maintained(&dir, &format!("{name:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_name_causes_no_resync() {
    let dir = Temporary::new();
    flipped(&dir, FLIPPED[0]).await;
    let (store, watching) = (options().open(dir.file()).unwrap(), options().open(dir.file()).unwrap());
    let mut changes = pin!(watching.changes());
    let mut next =
        async || timeout(Duration::from_secs(20), std::future::poll_fn(|cx| changes.as_mut().poll_next(cx))).await;
    assert!(matches!(next().await.unwrap(), Some(Change::Resync)));
    for n in 2..=5 {
        append(&store, "bad", n.to_string()).await.unwrap();
        append(&store, "good", n.to_string()).await.unwrap();
        match next().await.unwrap().unwrap() {
            Change::Entries(entries) => assert_eq!(texts(&entries), [n.to_string()]),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_skips_unreadable_names() {
    for damage in DAMAGES.iter().filter(|damage| damage.contains("channels SET name")) {
        let dir = Temporary::new();
        let store = damaged(&dir, damage).await;
        let (mut after, mut listed) = (None, Vec::new());
        // In pages of one.
        while let Some((channel, _)) = store.channels("", after.as_ref(), 1).await.unwrap().pop() {
            listed.push(channel.as_str().to_owned());
            assert!(listed.len() <= 2, "{damage}: {listed:?}");
            after = Some(channel);
        }
        assert_eq!(listed, ["good", "other"], "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_channel_does_not_block_others() {
    for damage in DAMAGES {
        let dir = Temporary::new();
        let store = damaged(&dir, damage).await;
        // With and without cached rows.
        for store in [&store, &options().open(dir.file()).unwrap()] {
            let begun = Instant::now();
            let mut tasks = Vec::new();
            for n in 11..=30 {
                for name in ["bad", "good", "other"] {
                    let store = store.clone();
                    tasks.push(tokio::spawn(async move { (name, append(&store, name, n.to_string()).await) }));
                }
            }
            for task in tasks {
                match task.await.unwrap() {
                    ("bad", Err(StoreError::Corrupt(_) | StoreError::Closed { .. })) | (_, Ok(())) => {}
                    (name, failed) => panic!("{damage}: {name}: {failed:?}"),
                }
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{damage}: {:?}", begun.elapsed());
            let names = ["good", "bad", "absent", "other"].map(channel);
            let heads = store.heads(&names).await.unwrap();
            for at in [0, 3] {
                let page = store.read(&names[at], Start::Last(1), Limit::default()).await.unwrap();
                assert_eq!((heads[at], page.entries.len()), (page.head, 1), "{damage}");
            }
            assert_eq!(store.health(), Health::Ready, "{damage}");
        }
        assert!(!integrity(&dir.file()).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_or_a_delete_repairs_a_damaged_channel() {
    for damage in DAMAGES {
        if damage.contains("SET name = ") && damage.contains("channels") {
            continue; // There is no channel `bad` then.
        }
        let dir = Temporary::new();
        let store = damaged(&dir, damage).await;
        let bad = channel("bad");
        _ = append(&store, "bad", "x".into()).await;
        let head = store.init(&bad, vec![Event::text("new")], Expect::Any).await;
        let head = head.unwrap_or_else(|error| panic!("{damage}: {error:?}"));
        append(&store, "bad", "y".into()).await.unwrap();
        let page = store.read(&bad, Start::Earliest, Limit::default()).await.unwrap();
        assert_eq!((texts(&page.entries), head.cursor.seq >= 10), (vec!["new", "y"], true), "{damage}");

        let dir = Temporary::new();
        let store = damaged(&dir, damage).await;
        _ = append(&store, "bad", "x".into()).await;
        store.delete(&bad).await.unwrap_or_else(|error| panic!("{damage}: {error:?}"));
        let head = store.heads(std::slice::from_ref(&bad)).await.unwrap()[0];
        assert!(head.cursor.seq >= 9, "{damage}: {head:?}");
        append(&store, "bad", "z".into()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_one_channel_causes_no_resync() {
    for damage in DAMAGES {
        let dir = Temporary::new();
        let store = damaged(&dir, damage).await;
        let watching = options().open(dir.file()).unwrap();
        let mut changes = pin!(watching.changes());
        let mut next =
            async || timeout(Duration::from_secs(20), std::future::poll_fn(|cx| changes.as_mut().poll_next(cx))).await;
        assert!(matches!(next().await.unwrap(), Some(Change::Resync)), "{damage}");
        for n in 11..=15 {
            _ = append(&store, "bad", n.to_string()).await;
            append(&store, "good", n.to_string()).await.unwrap();
            loop {
                match next().await.unwrap().unwrap() {
                    Change::Entries(entries) if entries[0].channel == channel("good") => {
                        assert_eq!(texts(&entries), [n.to_string()], "{damage}");
                        break;
                    }
                    Change::Resync => panic!("{damage}: a resync"),
                    _ => {}
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_readers_of_a_damaged_channel_get_an_error() {
    let dir = Temporary::new();
    let store = damaged(&dir, DAMAGES[0]).await;
    let hub = Hub::with_options(store.clone(), HubOptions::default().check_every(Duration::from_millis(50)));
    let bad = hub.subscribe(Subscription::new(channel("bad")).start(Start::Earliest)).await;
    if let Ok(mut bad) = bad {
        let delivery = timeout(Duration::from_secs(20), bad.next()).await.unwrap();
        assert!(!matches!(delivery, Some(Ok(Delivery::Events(_)))), "{delivery:?}");
    }
    let mut good = hub.subscribe(Subscription::new(channel("good"))).await.unwrap();
    for n in 11..=15 {
        append(&store, "good", n.to_string()).await.unwrap();
        match timeout(Duration::from_secs(20), good.next()).await.unwrap().unwrap().unwrap() {
            Delivery::Events(events) => {
                assert_eq!(events.entries().map(|entry| entry.data.as_shown()).collect::<Vec<_>>(), [n.to_string()]);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Without requests, a damaged channel that is due causes no repeated transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_channel_does_not_keep_the_janitor_busy() {
    for damage in DAMAGES {
        let dir = Temporary::new();
        // The janitor checks for work ten times a second.
        let retention = Retention::default().events(8).key_window(Duration::from_millis(400));
        let store = damaged_with(FileStore::options().retention(retention), &dir, damage).await;
        wait_until_idle(&store, damage).await;
    }
}
