//! The clauses of the store contract, one function each. Each opens a place of its own and depends on no particular store.

mod changes;
mod concurrency;
mod conditions;
mod histories;
mod keys;
mod listing;
mod names;
mod order;
mod places;
mod races;
mod records;
mod resume;
mod retention;
mod spans;
mod waking;

use std::{future::Future, pin::Pin};

pub use self::{
    changes::{
        changes_announce_appends, changes_announce_close_init_and_delete, changes_begin_with_a_resync,
        changes_not_taken_are_coalesced, dropped_changes_do_no_harm,
    },
    concurrency::{
        a_dropped_append_happened_whole_or_not_at_all, concurrent_appends_leave_one_dense_order,
        of_concurrent_calls_with_one_expectation_one_succeeds, pages_have_no_gaps_while_entries_are_dropped,
    },
    conditions::{
        a_close_is_one_step_with_its_append, an_append_checks_its_expectation, an_init_checks_its_expectation,
        init_opens_a_closed_channel, nothing_follows_a_close,
    },
    histories::{
        a_channel_is_never_used_until_it_has_a_record, a_close_does_not_hide_what_was_trimmed,
        a_regrown_tail_with_the_same_events_is_another_history, an_init_keeps_its_order,
        an_init_of_nothing_counts_for_the_floor, tags_distinguish_equal_entries, two_places_have_two_epochs,
    },
    keys::{
        a_batch_repeats_a_key_only_with_its_event, a_key_is_appended_once, a_key_is_forgotten_after_its_window,
        a_key_outlives_its_entry, a_key_stands_for_one_event, a_repeated_append_succeeds_as_the_first_did,
        a_reused_key_refuses_the_whole_batch, a_reused_key_takes_precedence_over_a_close_and_a_conflict,
        each_event_of_a_batch_is_checked_separately, init_clears_keys, keys_belong_to_one_channel,
        repeating_a_key_does_not_extend_its_window,
    },
    listing::{
        a_listing_goes_on_after_a_channel, channels_are_listed_in_byte_order, listed_channels_have_a_record,
        unused_channels_are_forgotten,
    },
    names::{
        a_name_and_a_key_are_not_joined, data_is_returned_unchanged, similar_keys_are_distinct,
        similar_names_are_distinct,
    },
    order::{
        an_empty_append_returns_the_head, appends_a_batch_whole_and_in_order, channels_are_independent,
        data_and_names_are_returned_unchanged, from_latest_nothing_is_missed, heads_are_the_newest_positions,
        pages_are_bounded_by_count_and_bytes, reads_what_was_appended_exactly_once_in_order, stores_on_one_place_agree,
    },
    places::{
        a_place_that_is_wiped_has_another_epoch, health_reports_trouble_and_its_end,
        lowered_limits_lose_nothing_at_once, raised_limits_hold_at_once,
    },
    races::{
        a_dropped_init_or_delete_happened_whole_or_not_at_all, a_reader_sees_a_batch_whole,
        a_reader_sees_an_init_whole, appends_acknowledged_during_a_close_are_kept,
        appends_acknowledged_during_a_delete_are_dropped_or_kept,
        appends_acknowledged_during_an_init_belong_to_one_history, of_concurrent_appends_at_one_head_one_succeeds,
        of_concurrent_appends_with_one_key_one_is_new,
    },
    records::{
        a_deleted_channel_raises_the_floor, a_forgotten_channel_raises_the_floor, a_record_outlives_its_entries,
        an_absent_channel_continues_at_its_first_event, floors_rise_by_unpredictable_steps,
        forgetting_a_channel_leaves_absent_others_alone, init_replaces_the_history,
        reading_an_absent_channel_stores_nothing, the_floor_covers_what_init_replaced,
    },
    resume::{
        a_cursor_before_dropped_entries_is_trimmed, a_regrown_tail_is_another_history,
        a_time_ahead_of_its_append_does_not_stay_trimmed, a_time_is_trimmed_when_a_newer_entry_was_dropped,
        continues_only_on_proof, starts_at_a_time_and_goes_on_by_seq, starts_at_earliest_latest_and_last,
    },
    retention::{
        a_clock_that_steps_back_does_no_harm, an_append_is_at_most_half_of_what_is_kept,
        an_init_keeps_the_newest_of_more_than_is_kept, keeps_the_age_and_at_most_twice,
        keeps_the_bytes_and_at_most_twice, keeps_the_count_and_at_most_twice, one_event_always_fits,
    },
    spans::{
        a_store_that_answers_is_ready, a_time_is_trimmed_however_the_entry_was_dropped,
        heads_of_a_thousand_come_in_order, keys_last_as_long_as_their_log, limits_may_be_extreme,
        nothing_is_dropped_early,
    },
    waking::{
        a_change_holds_contiguous_entries_of_one_channel, a_waiting_stream_of_changes_is_woken,
        changes_announce_a_close_with_events, changes_announce_any_name,
        changes_of_a_quiet_channel_are_not_lost_among_busy_ones,
    },
};
use super::harness::Harness;
pub use super::model::{agrees_with_a_model, agrees_with_a_model_from};

/// A clause and its name.
pub struct Clause<H> {
    name: &'static str,
    run: Run<H>,
}

type Run<H> = for<'a> fn(&'a H) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl<H: Harness> Clause<H> {
    /// The name of the clause, which is that of its function.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the clause.
    ///
    /// # Panics
    /// When it does not hold.
    pub async fn run(&self, harness: &H) {
        (self.run)(harness).await;
    }
}

impl<H> std::fmt::Debug for Clause<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Runs all clauses on the harness, and prints the name of each.
///
/// # Panics
/// At the first clause that does not hold.
pub async fn run_all<H: Harness>(harness: &H) {
    for clause in all() {
        println!("clause {}", clause.name());
        clause.run(harness).await;
    }
}

/// All clauses.
#[must_use]
pub fn all<H: Harness>() -> Vec<Clause<H>> {
    crate::conformance_tests!(@clauses all)
}

/// The clauses about concurrent calls: worth running on a runtime with one thread and on one with several.
#[must_use]
pub fn races<H: Harness>() -> Vec<Clause<H>> {
    crate::conformance_tests!(@clauses races)
}
