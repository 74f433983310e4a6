//! The conformance suite: one store, erased, and each store of a clause with a place of its own in the same file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rusqlite::Connection;
use tower_events::{
    AnyStore, Channel, FileStore, Retention,
    store::Clock,
    testing::{Harness, Time, Unable, Wrapped, clauses, conformance_tests},
};

use super::{child::Child, support::Temporary};

/// Opens the file anew for each store that a clause asks for.
pub(crate) struct FileHarness;

/// The same while another process appends to the file all the time.
pub(crate) struct BesideAnother;

pub(crate) struct Place {
    dir: Temporary,
    retention: Retention,
    now: Arc<AtomicU64>,
}

impl Harness for FileHarness {
    type Store = FileStore;
    type Place = Place;

    async fn place(&self, retention: Retention) -> Place {
        Place { dir: Temporary::new(), retention, now: Arc::new(AtomicU64::new(1_732_094_400_000)) }
    }

    async fn open(&self, place: &Place) -> FileStore {
        let now = Arc::clone(&place.now);
        let clock = Clock::new(move || now.load(Ordering::SeqCst));
        let options = FileStore::options().retention(place.retention.clone()).clock(clock);
        options.open(place.dir.file()).unwrap()
    }

    fn time(&self) -> Time {
        Time::Controlled
    }

    async fn advance(&self, place: &Place, by: Duration) {
        place.now.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    async fn step_back(&self, place: &Place, by: Duration) -> Result<(), Unable> {
        place.now.fetch_sub(by.as_millis() as u64, Ordering::SeqCst);
        Ok(())
    }

    /// Does in tables what a cut log does; `tests/file/power.rs` cuts a log.
    async fn lose_tail(&self, place: &Place, channel: &Channel, n: u64) -> Result<(), Unable> {
        let mut db = Connection::open(place.dir.file()).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        let cut = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        let sql = "SELECT id, max(head_seq - ?2, earliest_seq) FROM channels WHERE name = ?1";
        let (id, head): (i64, i64) =
            cut.query_row(sql, (channel.as_str(), n as i64), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let sql = "UPDATE channels SET head_seq = ?2, head_tag = ifnull((SELECT tag FROM entries
                   WHERE channel = ?1 AND seq = ?2), earliest_tag) WHERE id = ?1";
        cut.execute(sql, (id, head)).unwrap();
        for sql in
            ["DELETE FROM entries WHERE channel = ?1 AND seq > ?2", "DELETE FROM keys WHERE channel = ?1 AND seq > ?2"]
        {
            cut.execute(sql, (id, head)).unwrap();
        }
        cut.commit().unwrap();
        Ok(())
    }
}

impl Harness for BesideAnother {
    type Store = FileStore;
    type Place = (Place, Child);

    async fn place(&self, retention: Retention) -> Self::Place {
        let place = FileHarness.place(retention).await;
        let mut child = Child::start("bystand", &place.dir.file());
        assert_eq!(child.hear().as_deref(), Some("ready"));
        (place, child)
    }

    async fn open(&self, (place, _): &Self::Place) -> FileStore {
        FileHarness.open(place).await
    }

    fn time(&self) -> Time {
        Time::Controlled
    }

    async fn advance(&self, (place, _): &Self::Place, by: Duration) {
        FileHarness.advance(place, by).await;
    }

    async fn step_back(&self, (place, _): &Self::Place, by: Duration) -> Result<(), Unable> {
        FileHarness.step_back(place, by).await
    }

    async fn lose_tail(&self, (place, _): &Self::Place, channel: &Channel, n: u64) -> Result<(), Unable> {
        FileHarness.lose_tail(place, channel, n).await
    }
}

conformance_tests! {
    mod file in [FileHarness];
    mod erased in [Wrapped::new(FileHarness, AnyStore::new)];
    mod beside_another_process in [BesideAnother];
}

#[tokio::test]
async fn many_seeds_agree_with_the_model() {
    for seed in 0..40 {
        clauses::agrees_with_a_model_from(&FileHarness, seed).await;
    }
}
