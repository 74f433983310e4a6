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
    testing::{Harness, Time, Unable, Wrapped, clauses},
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

macro_rules! suite {
    ($($name:ident)*) => {
        mod file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::clauses::$name(&super::FileHarness).await;
            })*
        }

        mod erased {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::clauses::$name(&super::Wrapped::new(super::FileHarness, super::AnyStore::new)).await;
            })*
        }

        mod beside_another_process {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::clauses::$name(&super::BesideAnother).await;
            })*
        }

        #[test]
        fn every_clause_has_a_test() {
            let listed: Vec<_> = clauses::all::<FileHarness>().iter().map(clauses::Clause::name).collect();
            assert_eq!(listed, [$(stringify!($name)),*]);
        }
    };
}

suite! {
    reads_what_was_appended_exactly_once_in_order
    appends_a_batch_whole_and_in_order
    an_empty_append_returns_the_head
    from_latest_nothing_is_missed
    pages_are_bounded_by_count_and_bytes
    heads_are_the_newest_positions
    data_and_names_come_back_as_they_were
    channels_are_apart
    stores_on_one_place_agree
    continues_only_on_proof
    says_trimmed_for_what_is_no_longer_kept
    a_regrown_tail_is_another_history
    starts_at_earliest_latest_and_last
    starts_at_a_time_and_goes_on_by_seq
    a_time_is_trimmed_when_a_newer_entry_was_dropped
    an_absent_channel_continues_when_its_first_event_comes
    reading_an_absent_channel_stores_nothing
    a_record_outlives_its_entries
    a_forgotten_channel_raises_the_floor
    a_deleted_channel_raises_the_floor
    init_replaces_the_history
    the_floor_covers_what_init_replaced
    a_key_is_appended_once
    each_event_of_a_batch_is_judged_alone
    keys_belong_to_one_channel
    a_key_outlives_its_entry
    a_key_is_forgotten_after_its_window
    init_clears_keys
    a_repeated_append_succeeds_as_the_first_did
    an_append_happens_only_as_expected
    an_init_happens_only_as_expected
    nothing_follows_a_close
    a_close_is_one_step_with_its_append
    init_opens_a_closed_channel
    keeps_the_count_and_at_most_twice
    keeps_the_bytes_and_at_most_twice
    keeps_the_age_and_at_most_twice
    a_clock_that_steps_back_does_no_harm
    a_batch_larger_than_the_retention_is_fine
    changes_begin_with_a_resync
    changes_tell_of_appends
    changes_tell_of_close_init_and_delete
    changes_not_taken_are_coalesced
    dropped_changes_do_no_harm
    many_appenders_leave_one_dense_order
    of_many_who_expect_the_same_one_wins
    a_dropped_append_happened_whole_or_not_at_all
    pages_have_no_holes_while_others_trim
    agrees_with_a_model
}

#[tokio::test]
async fn many_seeds_agree_with_the_model() {
    for seed in 0..40 {
        clauses::agrees_with_a_model_from(&FileHarness, seed).await;
    }
}
