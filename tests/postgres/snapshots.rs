//! A transaction with an old snapshot, such as that of `pg_dump` or a report, keeps every version of every row: a
//! channel that is written to continually must not become slower because of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tower_events::{Event, Store, store::Append, stores::postgres::PostgresStore};

use super::{
    harness::{client, fresh_schema},
    is_long,
    server::Server,
    support::a,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_channel_stays_fast_under_an_old_snapshot() {
    let Some(server) = Server::start() else { return };
    let schema = fresh_schema();
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let store = open(&server, &schema).await;
    let mut writers = JoinSet::new();
    for _ in 0..2 {
        let node = open(&server, &schema).await;
        for _ in 0..2 {
            writers.spawn(write(node.clone(), Arc::clone(&stop), Arc::clone(&count)));
        }
    }
    let (pieces, piece) = if is_long() { (10, Duration::from_secs(30)) } else { (6, Duration::from_secs(3)) };
    let before = measure(&store, &count, piece).await;
    let mut holder = client(&server).await;
    let snapshot = holder
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .unwrap();
    snapshot.execute(&format!("select count(*) from {schema}.entry"), &[]).await.unwrap();
    let mut last = before;
    for nth in 1..=pieces {
        last = measure(&store, &count, piece).await;
        println!(
            "| postgres | snapshot of {:?} | {:.0} appends/s, head {:.2} ms | before {:.0}, {:.2} ms |",
            piece * nth,
            last.0,
            last.1,
            before.0,
            before.1
        );
    }
    stop.store(true, Ordering::SeqCst);
    writers.join_all().await;
    snapshot.commit().await.unwrap();
    assert!(last.0 >= before.0 / 2.0, "{} of {} appends a second", last.0, before.0);
}

async fn open(server: &Server, schema: &str) -> PostgresStore {
    let store = PostgresStore::options().schema(schema).connections(4).connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    store
}

async fn write(store: PostgresStore, stop: Arc<AtomicBool>, count: Arc<AtomicUsize>) {
    while !stop.load(Ordering::SeqCst) {
        store.append(&a(), Append::new([Event::text("x".repeat(100))])).await.unwrap();
        count.fetch_add(1, Ordering::SeqCst);
    }
}

/// Appends per second, and the shortest time of a lookup in milliseconds.
async fn measure(store: &PostgresStore, count: &AtomicUsize, during: Duration) -> (f64, f64) {
    let (began, first) = (Instant::now(), count.load(Ordering::SeqCst));
    let mut least = Duration::MAX;
    while began.elapsed() < during {
        let asked = Instant::now();
        store.heads(&[a()]).await.unwrap();
        least = least.min(asked.elapsed());
        tokio::time::sleep(during / 30).await;
    }
    let more = (count.load(Ordering::SeqCst) - first) as f64;
    (more / began.elapsed().as_secs_f64(), least.as_secs_f64() * 1000.0)
}
