//! The janitor: with time limits that are too short, with damaged channels, and with many short-lived channels.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};
use tower_events::{
    Channel, Event, Retention, Store, StoreError,
    store::{Append, Clock, Limit, Start},
    stores::postgres::{PostgresOptions, PostgresStore},
};

use super::{
    harness::{client, fresh_schema},
    is_long,
    server::{self, Server},
    support::{a, texts},
};

const NOW: u64 = 1_732_094_400_000;

/// A store that runs the janitor only on request, with a clock that the test moves.
async fn manual(server: &Server, options: PostgresOptions) -> (PostgresStore, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(NOW));
    let reads = Arc::clone(&now);
    let clock = Clock::new(move || reads.load(Ordering::SeqCst));
    let store = options.clock(clock).tidy_every(Duration::from_secs(3600)).connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    (store, now)
}

fn minutes(keep: u64) -> Retention {
    let minute = Duration::from_secs(60);
    Retention::default().age(minute * keep as u32).forget_after(minute * keep as u32).key_window(minute)
}

fn named(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

/// A disk so slow that the pending work takes longer than a statement may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_janitor_makes_progress_when_a_piece_takes_too_long() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let options = PostgresStore::options().schema(&schema).timeout(Duration::from_millis(800)).retention(minutes(1));
    let (store, now) = manual(server, options).await;
    for name in ["a", "b", "a", "b"] {
        store.append(&named(name), Append::new((0..450).map(|n| Event::text(n.to_string())))).await.unwrap();
    }
    let slow = format!(
        "create function {schema}.slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.002); return old; end $$;
         create trigger slow before delete on {schema}.entry for each row execute function {schema}.slow()"
    );
    client(server).await.batch_execute(&slow).await.unwrap();
    now.fetch_add(600_000, Ordering::SeqCst);
    for _ in 0..3 {
        // This call does not take longer than any other call may.
        if timeout(Duration::from_secs(60), store.tidy()).await.expect("an end").is_ok() {
            break;
        }
    }
    let left = client(server).await.query_one(&format!("select count(*) from {schema}.entry"), &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
}

/// Damage affects only the damaged channel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_a_channel_does_not_keep_the_janitor_from_others() {
    let Some(server) = server::shared() else { return };
    let damages = [
        ("the record ends before it begins", "update $S.head set earliest_seq = seq + 1 where name = 'a'"),
        ("it counts less than nothing", "update $S.head set bytes = -1 where name = 'a'"),
        ("its entries are gone", "delete from $S.entry where log = (select log from $S.head where name = 'a')"),
        ("what it refuses", "alter table $S.head add constraint never check (name <> 'a' or bytes > 0)"),
        ("its record is gone", "delete from $S.head where name = 'a'"),
    ];
    for (what, damage) in damages {
        let schema = fresh_schema();
        let options = PostgresStore::options().schema(&schema).retention(minutes(1));
        let (store, now) = manual(server, options).await;
        for name in ["a", "b"] {
            store.append(&named(name), Append::new(["1", "2", "3"].map(Event::text))).await.unwrap();
        }
        client(server).await.batch_execute(&damage.replace("$S", &schema)).await.expect(what);
        store.append(&named("c"), Append::new([Event::text("x")])).await.expect(what);
        for _ in 0..4 {
            now.fetch_add(90_000, Ordering::SeqCst);
            let tidied = timeout(Duration::from_secs(20), store.tidy()).await;
            tidied.unwrap_or_else(|_| panic!("{what}: no end")).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        }
        let page = store.read(&named("b"), Start::Earliest, Limit::default()).await.expect(what);
        assert_eq!(texts(&page.entries), [""; 0], "{what}");
        let left = store.channels("b", None, 10).await.expect(what);
        assert_eq!(left, [], "{what}: the channel beside it is forgotten");
        // An operator can always remove the damage.
        store.delete(&a()).await.expect(what);
        client(server)
            .await
            .batch_execute(&format!("alter table {schema}.head drop constraint if exists never"))
            .await
            .unwrap();
        store.append(&a(), Append::new([Event::text("new")])).await.expect(what);
        let page = store.read(&a(), Start::Earliest, Limit::default()).await.expect(what);
        assert_eq!(texts(&page.entries), ["new"], "{what}");
    }
}

/// Missing entries are reported, and never skipped; and no call hangs because of them.
#[tokio::test]
async fn a_hole_is_corrupt_and_affects_its_channel_only() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let (store, _) = manual(server, PostgresStore::options().schema(&schema)).await;
    for name in ["a", "b"] {
        store.append(&named(name), Append::new(["1", "2", "3"].map(Event::text))).await.unwrap();
    }
    let start = store.read(&a(), Start::Earliest, Limit::default().events(1)).await.unwrap();
    let hole = "delete from $S.entry where seq = 2 and log = (select log from $S.head where name = 'a')";
    client(server).await.batch_execute(&hole.replace("$S", &schema)).await.unwrap();
    for start in [Start::Earliest, Start::After(start.from), Start::After(start.next), Start::Last(2)] {
        let read = store.read(&a(), start, Limit::default()).await;
        assert!(matches!(read, Err(StoreError::Corrupt(_))), "{start:?}: {read:?}");
    }
    let page = store.read(&named("b"), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries.len(), 3);
    assert_eq!(store.heads(&[a(), named("b")]).await.unwrap().len(), 2);
    store.append(&a(), Append::new([Event::text("4")])).await.unwrap();
}

/// 100 new channels a second, each with an event or two and never used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_that_live_for_seconds_leave_a_constant_state() {
    let Some(server) = Server::start() else { return };
    let schema = fresh_schema();
    let second = Duration::from_secs(1);
    let retention = Retention::default().age(second).forget_after(second * 2).key_window(second);
    let options = PostgresStore::options().schema(&schema).retention(retention).tidy_every(second / 2).connections(4);
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let store = options.clone().connect(&server.url()).await.unwrap();
        store.migrate().await.unwrap();
        nodes.push(store);
    }
    let client = client(&server).await;
    let count = format!(
        "select (select count(*) from {schema}.head), (select count(*) from {schema}.name), (select count(*) from {schema}.entry),
            (select count(*) from {schema}.key), (select count(*) from {schema}.garbage),
            (select sum(pg_total_relation_size(c.oid))::bigint from pg_class c where relnamespace = '{schema}'::regnamespace and relkind = 'r')"
    );
    let (rate, pieces, piece) = if is_long() { (100, 20, 30 * second) } else { (100, 4, 4 * second) };
    let (mut made, began, mut states) = (0_u32, Instant::now(), Vec::new());
    for nth in 1..=pieces {
        while began.elapsed() < piece * nth {
            let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as u32;
            while made < due {
                made += 1;
                let event = Event::text("x").keyed("k").unwrap();
                let channel = named(&format!("short:{made}"));
                nodes[made as usize % 2].append(&channel, Append::new([event])).await.unwrap();
            }
            sleep(Duration::from_millis(5)).await;
        }
        let row = client.query_one(&count, &[]).await.unwrap();
        let state: [i64; 6] = std::array::from_fn(|at| row.get(at));
        println!(
            "| postgres | {:?} | {made} channels made | heads, names, entries, keys, logs, bytes: {state:?} |",
            began.elapsed()
        );
        states.push(state);
    }
    let most = i64::from(rate) * 10;
    assert!(states.iter().all(|state| state[..5].iter().all(|count| *count < most)), "{states:?}");
    let (half, last) = (states[states.len() / 2], states[states.len() - 1]);
    assert!(last[5] < half[5] * 2, "{states:?}");
}
