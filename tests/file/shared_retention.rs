//! Processes that keep differently: of each setting the largest counts, for as long as who has it is there.

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
    let limit = Limit { events: 10_000, bytes: 1 << 30 };
    store.read(&room(), Start::Earliest, limit).await.unwrap().entries
}

/// The file, as another program sees it.
fn by_hand(place: &Place) -> Connection {
    let db = Connection::open(place.dir.file()).unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    db
}

/// The process that keeps more only reads, and has done nothing yet when the other one writes.
#[tokio::test]
async fn of_two_processes_the_one_that_keeps_more_entries_decides() {
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
async fn of_two_processes_the_one_that_keeps_more_bytes_decides() {
    let place = Place::new();
    let more = place.open(&Retention::default().bytes(1 << 20));
    let less = place.open(&Retention::default().bytes(4000));
    for _ in 0..100 {
        append(&less, "x".repeat(1000)).await.unwrap();
    }
    run_janitor(&less).await;
    assert_eq!((kept(&less).await.len(), kept(&more).await.len()), (100, 100));
}

/// What is too old for one of them is read by it all the same, and its keys are known to it.
#[tokio::test]
async fn of_two_processes_the_one_that_keeps_longer_decides() {
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
async fn of_two_processes_the_one_that_forgets_later_decides() {
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

/// Once the process that kept more is gone for a while, the others keep what they were told to; also of channels that were to
/// be looked at much later.
#[tokio::test]
async fn what_a_process_kept_that_is_gone_counts_no_more() {
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
    // The janitor comes along by itself.
    let db = by_hand(&place);
    let begun = Instant::now();
    while db.query_row("SELECT count(*) FROM entries", [], |row| row.get::<_, i64>(0)).unwrap() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "entries are left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(less.read(&idle, Start::Earliest, Limit::default()).await.unwrap().entries, []);
}

/// Nobody asks it for anything, and it is counted all the same.
#[tokio::test]
async fn a_process_that_does_nothing_goes_on_saying_that_it_is_there() {
    let place = Place::new();
    // It looks ten times a second whether something is due.
    let more = place.open(&Retention::default().key_window(Duration::from_millis(400)));
    let less = place.open(&Retention::default().events(10));
    let db = by_hand(&place);
    for _ in 0..10 {
        place.pass(100);
        let now = place.now.load(Ordering::SeqCst) as i64;
        let begun = Instant::now();
        let said = || db.query_row("SELECT max(said) FROM users WHERE events = 1000", [], |row| row.get::<_, i64>(0));
        while said().unwrap() < now {
            assert!(begun.elapsed() < Duration::from_secs(20), "it says nothing");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    for n in 0..100 {
        append(&less, n.to_string()).await.unwrap();
    }
    assert_eq!((kept(&less).await.len(), kept(&more).await.len()), (100, 100));
}

/// Each setting lowered and raised again with a restart: what both keep is there throughout.
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

/// A file in which no process has ever said what it keeps; one that is open then finds out with its next transaction.
#[tokio::test]
async fn a_file_without_the_table_of_users_is_given_it() {
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

/// It costs what others wanted kept, and nothing else.
#[tokio::test]
async fn damaged_rows_of_users_keep_nobody_from_reading_and_writing() {
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
