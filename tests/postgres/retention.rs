//! Settings that change, nodes with different settings, and clocks that step.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tower_events::{
    Event, Retention, Store,
    store::{Append, Clock, Limit, Outcome, Start},
    stores::postgres::PostgresStore,
};

use super::{
    harness::{client, fresh_schema},
    server::{self, Server},
    support::a,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Nodes on one schema, which take timestamps from one clock and run the janitor only on request.
struct Place<'a> {
    server: &'a Server,
    schema: String,
    now: Arc<AtomicU64>,
}

impl<'a> Place<'a> {
    fn new(server: &'a Server) -> Self {
        Self { server, schema: fresh_schema(), now: Arc::new(AtomicU64::new(1_732_094_400_000)) }
    }

    async fn open(&self, retention: &Retention) -> PostgresStore {
        let store = self.connect(retention).await;
        store.migrate().await.unwrap();
        store
    }

    async fn connect(&self, retention: &Retention) -> PostgresStore {
        let now = Arc::clone(&self.now);
        let options = PostgresStore::options().schema(&self.schema).connections(2).retention(retention.clone());
        let options = options.clock(Clock::new(move || now.load(Ordering::SeqCst)));
        options.tidy_every(Duration::from_secs(3600)).connect(&self.server.url()).await.unwrap()
    }

    /// Advances the clock by half a minute at a time.
    async fn pass(&self, time: Duration, nodes: &[&PostgresStore]) {
        for _ in 0..time.as_secs() / 30 {
            self.now.fetch_add(30_000, Ordering::SeqCst);
            for node in nodes {
                node.tidy().await.unwrap();
            }
        }
    }

    /// Appends this many events, each half a minute after the one before.
    async fn fill(&self, store: &PostgresStore, count: usize) {
        for n in 0..count {
            self.now.fetch_add(1_000, Ordering::SeqCst);
            store.append(&a(), Append::new([Event::text(format!("{n:0100}"))])).await.unwrap();
        }
    }

    async fn kept(&self) -> i64 {
        let count = format!("select count(*) from {}.entry", self.schema);
        client(self.server).await.query_one(&count, &[]).await.unwrap().get(0)
    }
}

/// Each limit of entries, low and high: how many of 100 events, one second apart, the low one keeps at most.
fn limits() -> [(&'static str, Retention, Retention, i64); 3] {
    let wide = Retention::default().events(10_000).bytes(1 << 30).age(MINUTE * 600).forget_after(MINUTE * 600);
    [
        ("events", wide.clone().events(20), wide.clone(), 40),
        ("bytes", wide.clone().bytes(165 * 20), wide.clone(), 40),
        ("age", wide.clone().age(MINUTE), wide, 0),
    ]
}

#[tokio::test]
async fn raising_a_limit_keeps_existing_entries_and_lowering_it_drops_them() {
    let Some(server) = server::shared() else { return };
    for (what, low, high, most) in limits() {
        let place = Place::new(server);
        let before = place.open(&low).await;
        place.fill(&before, 10).await;
        drop(before);
        let raised = place.open(&high).await;
        raised.tidy().await.unwrap();
        place.fill(&raised, 90).await;
        place.pass(MINUTE * 5, &[&raised]).await;
        assert_eq!(place.kept().await, 100, "{what}");
        assert_eq!(raised.read(&a(), Start::Earliest, Limit::default()).await.unwrap().entries.len(), 100, "{what}");
        drop(raised);
        let lowered = place.open(&low).await;
        place.pass(MINUTE * 2, &[&lowered]).await;
        // Nothing is appended; the janitor runs when it is due.
        place.pass(MINUTE * 70, &[&lowered]).await;
        place.fill(&lowered, 1).await;
        assert!(place.kept().await <= most + 1, "{what}: {}", place.kept().await);
    }
}

#[tokio::test]
async fn a_node_deletes_nothing_that_another_has_to_keep() {
    let Some(server) = server::shared() else { return };
    for (what, low, high, most) in limits() {
        let place = Place::new(server);
        let (small, large) = (place.open(&low).await, place.open(&high).await);
        large.tidy().await.unwrap();
        for _ in 0..5 {
            place.fill(&large, 10).await;
            place.fill(&small, 10).await;
            place.pass(MINUTE, &[&small, &large]).await;
        }
        assert_eq!(place.kept().await, 100, "{what}");
        // At most a minute after its last run.
        place.pass(MINUTE * 70, &[&small]).await;
        place.fill(&small, 1).await;
        assert!(place.kept().await <= most + 1, "{what}: {}", place.kept().await);
    }
}

/// A new node announces its settings before it does anything, and before others trim the next time.
#[tokio::test]
async fn a_node_announces_its_settings_when_it_connects_and_when_it_migrates() {
    let Some(server) = server::shared() else { return };
    for (what, low, high, _) in limits().into_iter().take(2) {
        for migrates in [false, true] {
            let place = Place::new(server);
            // This one connects before there is a schema.
            let early = place.connect(&high).await;
            let small = place.open(&low).await;
            let large = if migrates { early } else { place.connect(&high).await };
            if migrates {
                large.migrate().await.unwrap();
            }
            for _ in 0..5 {
                place.fill(&small, 10).await;
                small.tidy().await.unwrap();
            }
            assert_eq!(place.kept().await, 50, "{what}, migrates: {migrates}");
        }
    }
}

/// Every statement reads the place's row: while there is an old snapshot, each of its versions would slow them down.
#[tokio::test]
async fn announcing_settings_does_not_update_the_row_that_every_statement_reads() {
    let Some(server) = server::shared() else { return };
    let (place, [(_, low, high, _), ..]) = (Place::new(server), limits());
    let (small, large) = (place.open(&low).await, place.open(&high).await);
    let client = client(server).await;
    let version = format!("select ctid::text || xmin::text from {}.place", place.schema);
    let version = async || client.query_one(&version, &[]).await.unwrap().get::<_, String>(0);
    let before = version().await;
    place.pass(MINUTE * 2, &[&small, &large]).await;
    place.pass(MINUTE * 2, &[&small]).await;
    assert_eq!(version().await, before);
}

/// Records and keys, too, are kept as long as the node with the longest setting wants.
#[tokio::test]
async fn records_and_keys_are_kept_as_long_as_any_node_wants() {
    let Some(server) = server::shared() else { return };
    let short = Retention::default().age(MINUTE).forget_after(MINUTE * 2).key_window(MINUTE);
    for (what, long) in
        [("records", short.clone().forget_after(MINUTE * 60)), ("keys", short.clone().key_window(MINUTE * 60))]
    {
        let place = Place::new(server);
        let (small, large) = (place.open(&short).await, place.open(&long).await);
        large.tidy().await.unwrap();
        let keyed = || Append::new([Event::text("x").keyed("k").unwrap()]);
        let first = large.append(&a(), keyed()).await.unwrap().head;
        place.pass(MINUTE * 20, &[&small, &large]).await;
        assert_eq!(large.heads(&[a()]).await.unwrap(), [first], "{what}");
        if what == "keys" {
            assert!(large.append(&a(), keyed()).await.unwrap().receipts[0].duplicate);
        }
        place.pass(MINUTE * 80, &[&small]).await;
        assert_ne!(small.heads(&[a()]).await.unwrap(), [first], "{what}");
    }
}

/// A node with smaller limits serves what is kept for other nodes, and recognises their keys.
#[tokio::test]
async fn a_node_that_keeps_less_shows_what_others_keep() {
    let Some(server) = server::shared() else { return };
    let short = Retention::default().age(MINUTE).forget_after(MINUTE).key_window(MINUTE);
    let place = Place::new(server);
    let (small, large) = (place.open(&short).await, place.open(&Retention::default()).await);
    let keyed = || Append::new([Event::text("x").keyed("k").unwrap()]);
    let first = large.append(&a(), keyed()).await.unwrap();
    place.pass(MINUTE * 9, &[&small, &large]).await;
    for start in [Start::Earliest, Start::After(first.entries[0].prev())] {
        let page = small.read(&a(), start, Limit::default()).await.unwrap();
        assert_eq!((page.outcome, page.entries), (Outcome::Continued, first.entries.clone()));
    }
    assert!(small.append(&a(), keyed()).await.unwrap().receipts[0].duplicate);
}

/// The server's clock decides, not that of any node. If it was ahead for a while and is corrected, no entry is lost
/// that is young by the corrected clock.
#[tokio::test]
async fn a_clock_that_was_ahead_for_an_append_erases_nothing_once_it_is_corrected() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let retention = Retention::default().age(MINUTE * 60).key_window(MINUTE * 10);
    let options = PostgresStore::options().schema(&schema).retention(retention).tidy_every(Duration::from_secs(3600));
    let (store, client) = (options.connect(&server.url()).await.unwrap(), client(server).await);
    store.migrate().await.unwrap();
    let ahead = async |millis: i64| {
        let step = format!(
            "create or replace function {schema}.now_ms() returns bigint language sql volatile as
            $$ select (extract(epoch from clock_timestamp()) * 1000)::bigint + {millis} $$"
        );
        client.batch_execute(&step).await.unwrap();
    };
    let keyed = || Append::new([Event::text("keyed").keyed("k").unwrap()]);
    store.append(&a(), keyed()).await.unwrap();
    store.append(&a(), Append::new(["1", "2", "3"].map(Event::text))).await.unwrap();
    ahead(61 * 60_000).await;
    store.append(&a(), Append::new([Event::text("from the future")])).await.unwrap();
    ahead(0).await;
    for _ in 0..3 {
        store.append(&a(), Append::new([Event::text("now")])).await.unwrap();
        client.batch_execute(&format!("update {schema}.head set due = 0")).await.unwrap();
        store.tidy().await.unwrap();
    }
    let page = store.read(&a(), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(page.entries.len(), 8);
    assert!(page.entries.is_sorted_by_key(|entry| entry.appended));
    assert!(store.append(&a(), keyed()).await.unwrap().receipts[0].duplicate, "its key is a minute old");
}
