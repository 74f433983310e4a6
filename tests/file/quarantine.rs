//! Damage to one channel's rows, of every kind: the others are written, read and heard of as if nothing were.

use std::{pin::pin, time::Duration};

use futures_core::Stream as _;
use rusqlite::Connection;
use tokio::time::{Instant, timeout};
use tower_events::{
    Channel, Delivery, Event, FileStore, Hub, HubOptions, Retention, Store as _, StoreError, Subscription,
    store::{Append, Change, Expect, Health, Limit, Start},
    stores::file::FileOptions,
};

use super::support::{Temporary, integrity, texts};

/// What may have become of the rows of the channel `bad`.
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

/// A file with three channels, of which `bad` has this damage, and is due to be looked after.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_channel_stops_no_other() {
    for damage in DAMAGES {
        let dir = Temporary::new();
        let store = damaged(&dir, damage).await;
        // One has rows in memory, the other has not.
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
            assert!(begun.elapsed() < Duration::from_secs(3), "{damage}: {:?}", begun.elapsed());
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
async fn a_damaged_channel_is_begun_anew_by_an_init_or_a_delete() {
    for damage in DAMAGES {
        if damage.contains("SET name = ") && damage.contains("channels") {
            continue; // There is no such channel any more.
        }
        let dir = Temporary::new();
        let store = damaged(&dir, damage).await;
        let bad = channel("bad");
        _ = append(&store, "bad", "x".into()).await;
        let head = store.init(&bad, vec![Event::text("anew")], Expect::Any).await;
        let head = head.unwrap_or_else(|error| panic!("{damage}: {error:?}"));
        append(&store, "bad", "y".into()).await.unwrap();
        let page = store.read(&bad, Start::Earliest, Limit::default()).await.unwrap();
        assert_eq!((texts(&page.entries), head.cursor.seq >= 10), (vec!["anew", "y"], true), "{damage}");

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
async fn damage_to_one_channel_is_no_gap_for_the_others() {
    for damage in DAMAGES {
        let dir = Temporary::new();
        let store = damaged(&dir, damage).await;
        let watching = options().open(dir.file()).unwrap();
        let mut changes = pin!(watching.changes());
        let mut next =
            async || timeout(Duration::from_secs(5), std::future::poll_fn(|cx| changes.as_mut().poll_next(cx))).await;
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
                    Change::Resync => panic!("{damage}: a gap"),
                    _ => {}
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_a_damaged_channel_are_told_and_those_of_others_are_not() {
    let dir = Temporary::new();
    let store = damaged(&dir, DAMAGES[0]).await;
    let hub = Hub::with_options(store.clone(), HubOptions::default().check_every(Duration::from_millis(50)));
    let bad = hub.subscribe(Subscription::new(channel("bad")).start(Start::Earliest)).await;
    if let Ok(mut bad) = bad {
        let told = timeout(Duration::from_secs(5), bad.next()).await.unwrap();
        assert!(!matches!(told, Some(Ok(Delivery::Events(_)))), "{told:?}");
    }
    let mut good = hub.subscribe(Subscription::new(channel("good"))).await.unwrap();
    for n in 11..=15 {
        append(&store, "good", n.to_string()).await.unwrap();
        match timeout(Duration::from_secs(5), good.next()).await.unwrap().unwrap().unwrap() {
            Delivery::Events(events) => {
                assert_eq!(events.entries().map(|entry| entry.data.as_shown()).collect::<Vec<_>>(), [n.to_string()]);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// How many transactions are tried while a damaged channel is due and nobody asks for anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_channel_keeps_no_janitor_busy() {
    for damage in DAMAGES {
        let dir = Temporary::new();
        // Looked around for ten times a second.
        let retention = Retention::default().events(8).key_window(Duration::from_millis(400));
        let store = damaged_with(FileStore::options().retention(retention), &dir, damage).await;
        let (begun, mut quiet, mut before) = (Instant::now(), 0, store.attempts());
        while quiet < 3 {
            assert!(begun.elapsed() < Duration::from_secs(5), "{damage}: it never comes to rest");
            tokio::time::sleep(Duration::from_millis(150)).await;
            let now = store.attempts();
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
    }
}
