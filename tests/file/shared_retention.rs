//! Processes with different retention: of each setting the largest applies, as long as a process with it runs.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tower_events::{
    Channel, Event, FileStore, Retention, Store as _, StoreError,
    store::{Append, Entry, Expect, Limit, Outcome, Start},
};

use super::{
    retention_changes::{Place, kept, run_janitor},
    support::{append, room},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn keyed(key: &str) -> Append {
    Append::new([Event::text("x").keyed(key).unwrap()])
}

async fn entries(store: &FileStore) -> Vec<Entry> {
    let limit = Limit::new(10_000, 1 << 30);
    store.read(&room(), Start::Earliest, limit).await.unwrap().entries
}

/// A plain connection to the file.
fn by_hand(place: &Place) -> Connection {
    let db = Connection::open(place.dir.file()).unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    db
}

/// The process that keeps more only reads, and has not done so yet when the other one writes.
#[tokio::test]
async fn the_greater_count_of_two_processes_applies() {
    let place = Place::new();
    let less = place.open(&Retention::default().events(10));
    append(&less, "x").await.unwrap();
    let more = place.open(&Retention::default().events(1000));
    for n in 0..200 {
        append(&less, n.to_string()).await.unwrap();
    }
    run_janitor(&less).await;
    assert_eq!((kept(&less).await.len(), kept(&more).await.len()), (201, 201));
    less.init(&room(), (0..300).map(|n| Event::text(n.to_string())).collect(), Expect::Any).await.unwrap();
    assert_eq!(kept(&more).await.len(), 300);
}

#[tokio::test]
async fn the_greater_size_of_two_processes_applies() {
    let place = Place::new();
    let more = place.open(&Retention::default().bytes(1 << 20));
    let less = place.open(&Retention::default().bytes(4000));
    for _ in 0..100 {
        append(&less, "x".repeat(1000)).await.unwrap();
    }
    run_janitor(&less).await;
    assert_eq!((kept(&less).await.len(), kept(&more).await.len()), (100, 100));
}

/// The process with the smaller maximum age still reads older entries, and knows older keys.
#[tokio::test]
async fn the_greater_age_of_two_processes_applies() {
    let place = Place::new();
    let brief = Duration::from_secs(10);
    let less = place.open(&Retention::default().age(brief).forget_after(brief).key_window(brief));
    let more = place.open(&Retention::default());
    let first = less.append(&room(), keyed("k")).await.unwrap();
    for minutes in 1..=9 {
        place.pass(60);
        for store in [&less, &more] {
            run_janitor(store).await;
            let page = store.read(&room(), Start::After(first.entries[0].prev()), Limit::default()).await.unwrap();
            assert_eq!((page.outcome, page.entries), (Outcome::Continued, first.entries.clone()), "{minutes} minutes");
            assert_eq!(store.heads(&[room()]).await.unwrap(), [first.head], "{minutes} minutes");
        }
        let again = less.append(&room(), keyed("k")).await.unwrap();
        assert!(again.receipts[0].duplicate, "{minutes} minutes");
    }
}

#[tokio::test]
async fn the_later_forgetting_of_two_processes_applies() {
    let place = Place::new();
    let brief = Duration::from_secs(10);
    let less = Retention::default().age(brief).forget_after(brief).key_window(brief);
    let (less, more) = (place.open(&less), place.open(&less.clone().forget_after(HOUR)));
    let first = append(&less, "x").await.unwrap();
    for minutes in (2..=30).step_by(2) {
        place.pass(120);
        for store in [&less, &more] {
            run_janitor(store).await;
            assert_eq!(store.heads(&[room()]).await.unwrap(), [first.head], "{minutes} minutes");
            let page = store.read(&room(), Start::After(first.head.cursor), Limit::default()).await.unwrap();
            assert_eq!((page.outcome, page.head), (Outcome::Continued, first.head), "{minutes} minutes");
            let listed = store.channels("room", None, 9).await.unwrap();
            assert_eq!(listed, [(room(), first.head)], "{minutes} minutes");
            let refused = store.append(&room(), Append::new([Event::text("x")]).expecting(Expect::NeverUsed)).await;
            assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{minutes} minutes: {refused:?}");
        }
    }
}

/// Some time after the process that kept more has ended, the retention of the others applies, also to channels that
/// were to be maintained much later.
#[tokio::test]
async fn the_retention_of_a_process_that_has_ended_expires() {
    let place = Place::new();
    let more = place.open(&Retention::default().age(24 * HOUR));
    let less = place.open(&Retention::default().age(MINUTE).events(10).key_window(Duration::from_millis(400)));
    for n in 0..100 {
        append(&less, n.to_string()).await.unwrap();
    }
    let idle = Channel::new("idle").unwrap();
    more.append(&idle, Append::new([Event::text("x")])).await.unwrap();
    drop(more);
    place.pass(4 * 60);
    append(&less, "100").await.unwrap();
    assert_eq!(kept(&less).await.len(), 101);
    place.pass(2 * 60);
    // The janitor runs without any call.
    let db = by_hand(&place);
    let begun = Instant::now();
    while db.query_row("SELECT count(*) FROM entries", [], |row| row.get::<_, i64>(0)).unwrap() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "entries are left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(less.read(&idle, Start::Earliest, Limit::default()).await.unwrap().entries, []);
}

#[tokio::test]
async fn an_idle_process_keeps_announcing_its_retention() {
    let place = Place::new();
    // The janitor checks for work ten times a second.
    let more = place.open(&Retention::default().key_window(Duration::from_millis(400)));
    let less = place.open(&Retention::default().events(10));
    let db = by_hand(&place);
    for _ in 0..10 {
        place.pass(100);
        let now = place.now.load(Ordering::SeqCst) as i64;
        let begun = Instant::now();
        let announced =
            || db.query_row("SELECT max(said) FROM users WHERE events = 1000", [], |row| row.get::<_, i64>(0));
        while announced().unwrap() < now {
            assert!(begun.elapsed() < Duration::from_secs(20), "it announces nothing");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    for n in 0..100 {
        append(&less, n.to_string()).await.unwrap();
    }
    assert_eq!((kept(&less).await.len(), kept(&more).await.len()), (100, 100));
}

/// Each setting is lowered and raised again with restarts: what both keep is kept throughout.
#[tokio::test]
async fn a_restart_with_another_setting_loses_nothing_that_both_keep() {
    let small =
        Retention::default().events(20).bytes(4000).age(10 * MINUTE).forget_after(MINUTE).key_window(2 * MINUTE);
    let large = Retention::default();
    let settings: [fn(Retention, &Retention) -> Retention; 5] = [
        |keep, of| keep.events(of.events),
        |keep, of| keep.bytes(of.bytes),
        |keep, of| keep.age(of.age),
        |keep, of| keep.forget_after(of.forget_after),
        |keep, of| keep.key_window(of.key_window),
    ];
    for (nth, set) in settings.into_iter().enumerate() {
        for steps in [[&large, &small, &large], [&small, &large, &small]] {
            let place = Place::new();
            let mut appended: Vec<Entry> = Vec::new();
            for (step, keep) in steps.into_iter().enumerate() {
                let store = place.open(&set(Retention::default(), keep));
                for n in 0..5 {
                    let again = store.append(&room(), keyed(&n.to_string())).await.unwrap();
                    let is_known = step == 0 || again.receipts[0].duplicate;
                    assert!(is_known, "setting {nth}, step {step}: key {n} is forgotten");
                    appended.extend(again.entries);
                }
                for _ in 0..3 {
                    appended.extend(append(&store, "more").await.unwrap().entries);
                }
                assert_eq!(entries(&store).await, appended, "setting {nth}, step {step}");
                place.pass(20);
                let head = store.heads(&[room()]).await.unwrap()[0];
                assert_eq!(head.cursor, appended.last().unwrap().cursor);
            }
        }
    }
}

/// In a file without the table, an open process finds the settings of others with its next transaction.
#[tokio::test]
async fn the_table_of_users_is_created_if_missing() {
    let place = Place::new();
    append(&place.open(&Retention::default().events(10)), "kept").await.unwrap();
    by_hand(&place).execute_batch("DROP TABLE users").unwrap();
    let less = place.open(&Retention::default().events(10));
    assert_eq!(kept(&less).await, ["kept"]);
    by_hand(&place).execute_batch("DROP TABLE users").unwrap();
    let more = place.open(&Retention::default());
    for n in 0..100 {
        append(&less, n.to_string()).await.unwrap();
    }
    assert_eq!((kept(&less).await.len(), kept(&more).await.len()), (101, 101));
    assert_eq!(super::support::integrity(&place.dir.file()), "ok");
}

/// Only the settings of other processes are lost.
#[tokio::test]
async fn damaged_rows_of_users_do_not_prevent_reads_and_writes() {
    let place = Place::new();
    let store = place.open(&Retention::default());
    append(&store, "1").await.unwrap();
    let db = by_hand(&place);
    db.execute_batch("DROP TABLE users; CREATE TABLE users (said TEXT); INSERT INTO users VALUES ('x');").unwrap();
    append(&store, "2").await.unwrap();
    db.execute_batch("DROP TABLE users; CREATE TABLE users (events, bytes, age, forget_after, key_window, said);")
        .unwrap();
    db.execute_batch("INSERT INTO users VALUES ('x', 'x', 'x', 'x', 'x', 'x')").unwrap();
    append(&store, "3").await.unwrap();
    let other = place.open(&Retention::default().events(10));
    append(&other, "4").await.unwrap();
    for store in [&store, &other] {
        assert_eq!(kept(store).await, ["1", "2", "3", "4"]);
        assert_eq!(store.heads(&[room()]).await.unwrap()[0].cursor.seq, 4);
        assert_eq!(store.channels("", None, 9).await.unwrap().len(), 1);
    }
}
