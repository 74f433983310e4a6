//! The conformance suite. Each store that a clause opens is a separate `FileStore` on the file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_core::Stream;
use rusqlite::Connection;
use tower_events::{
    AnyStore, Channel, Event, FileStore, Retention, Store, StoreError,
    store::{Append, Appended, Change, Clock, Expect, Head, Health, Limit, Page, Start},
    stores::file::Durability,
    testing::{Harness, Time, Unable, Wrapped, clauses, conformance_tests},
};

use super::{
    child::Child,
    support::{Temporary, wait_until_closed, with_suffix},
};

/// File stores of this durability.
struct FileHarness(Durability);

const SINGLE_PROCESS: FileHarness = FileHarness(Durability::Process);

/// The same while another process keeps appending to the file.
struct WithOtherProcess;

struct Place {
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
        let options = FileStore::options().retention(place.retention.clone()).durability(self.0).clock(clock);
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

    /// Changes the rows as a truncated WAL would; `power_loss` truncates a WAL.
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

    async fn reopen(&self, place: Place, retention: Retention) -> Result<Place, Unable> {
        Ok(Place { retention, ..place })
    }

    /// Removes the file and those next to it.
    async fn wipe(&self, place: Place, retention: Retention) -> Place {
        wait_until_closed(place.dir.path()).await;
        for file in std::fs::read_dir(place.dir.path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        Place { retention, ..place }
    }

    /// Moves the file away.
    async fn begin_trouble(&self, place: &Place) -> Result<(), Unable> {
        std::fs::rename(place.dir.file(), with_suffix(&place.dir.file(), "-away")).unwrap();
        Ok(())
    }

    async fn end_trouble(&self, place: &Place) {
        std::fs::rename(with_suffix(&place.dir.file(), "-away"), place.dir.file()).unwrap();
    }
}

/// A store that does not list the other process's channel.
#[derive(Clone)]
struct WithoutBystander(FileStore);

impl Store for WithoutBystander {
    async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        self.0.append(channel, append).await
    }

    async fn read(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        self.0.read(channel, start, limit).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        self.0.heads(channels).await
    }

    async fn init(&self, channel: &Channel, events: Vec<Event>, expect: Expect) -> Result<Head, StoreError> {
        self.0.init(channel, events, expect).await
    }

    async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.0.delete(channel).await
    }

    async fn channels(
        &self,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        let mut page = self.0.channels(prefix, after, limit).await?;
        if let Some(at) = page.iter().position(|(channel, _)| channel.as_str() == "bystander") {
            let (bystander, _) = page.remove(at);
            if page.is_empty() {
                return self.0.channels(prefix, Some(&bystander), limit).await;
            }
        }
        Ok(page)
    }

    fn changes(&self) -> impl Stream<Item = Change> + Send + 'static {
        self.0.changes()
    }

    fn retention(&self) -> Retention {
        self.0.retention()
    }

    fn health(&self) -> Health {
        self.0.health()
    }
}

impl Harness for WithOtherProcess {
    type Store = WithoutBystander;
    type Place = (Place, Child);

    async fn place(&self, retention: Retention) -> Self::Place {
        with_other_process(SINGLE_PROCESS.place(retention).await)
    }

    async fn open(&self, (place, _): &Self::Place) -> WithoutBystander {
        WithoutBystander(SINGLE_PROCESS.open(place).await)
    }

    fn time(&self) -> Time {
        Time::Controlled
    }

    async fn advance(&self, (place, _): &Self::Place, by: Duration) {
        SINGLE_PROCESS.advance(place, by).await;
    }

    async fn step_back(&self, (place, _): &Self::Place, by: Duration) -> Result<(), Unable> {
        SINGLE_PROCESS.step_back(place, by).await
    }

    async fn lose_tail(&self, (place, _): &Self::Place, channel: &Channel, n: u64) -> Result<(), Unable> {
        SINGLE_PROCESS.lose_tail(place, channel, n).await
    }

    async fn reopen(&self, (place, child): Self::Place, retention: Retention) -> Result<Self::Place, Unable> {
        Ok((SINGLE_PROCESS.reopen(place, retention).await?, child))
    }

    async fn wipe(&self, (place, child): Self::Place, retention: Retention) -> Self::Place {
        drop(child);
        with_other_process(SINGLE_PROCESS.wipe(place, retention).await)
    }

    async fn begin_trouble(&self, (place, _): &Self::Place) -> Result<(), Unable> {
        SINGLE_PROCESS.begin_trouble(place).await
    }

    async fn end_trouble(&self, (place, _): &Self::Place) {
        SINGLE_PROCESS.end_trouble(place).await;
    }
}

fn with_other_process(place: Place) -> (Place, Child) {
    let mut child = Child::start("bystander", &place.dir.file());
    assert_eq!(child.next_line().as_deref(), Some("ready"));
    (place, child)
}

conformance_tests! {
    mod file in [SINGLE_PROCESS];
    mod synced in [FileHarness(Durability::Power)];
    mod erased in [Wrapped::new(SINGLE_PROCESS, AnyStore::new)];
    mod with_other_process in [WithOtherProcess];
}

#[tokio::test]
async fn many_seeds_agree_with_the_model() {
    for seed in 0..40 {
        clauses::agrees_with_a_model_from(&SINGLE_PROCESS, seed).await;
    }
}
