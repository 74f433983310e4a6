//! The macro that turns the suite into tests. It has the only list of all clauses; those about concurrent calls come last.

/// One test for each clause of the contract, in a module of its own for each way to open the store.
///
/// The tests run on a runtime with two threads; those about concurrent calls also run on a runtime with one thread, in a module
/// `on_one_thread`.
///
/// `mod name in harnesses;` runs every clause on each of the harnesses. `harnesses` is any `IntoIterator`: `[harness]`, or an
/// `Option` that is `None` where there is no server to test against. Each test evaluates this expression in its own `async`
/// function, where everything in the surrounding module is in scope. Needs `tokio` with `macros` and `rt-multi-thread` among the
/// dev-dependencies.
///
/// ```
/// use tower_events::{AnyStore, testing::{MemoryHarness, Wrapped, conformance_tests}};
///
/// conformance_tests! {
///     mod memory in [MemoryHarness];
///     mod erased in [Wrapped::new(MemoryHarness, AnyStore::new)];
/// }
/// # fn main() {}
/// ```
#[doc(hidden)] // Exported macros are at the crate root; this one is documented in `testing`.
#[macro_export]
macro_rules! conformance_tests {
    ($(mod $group:ident in $harnesses:expr;)+) => {
        $($crate::conformance_tests! { @clauses tests $group ($harnesses) })+
    };
    (@tests [$($name:ident)+] [$($race:ident)+] $group:ident $harnesses:tt) => {
        mod $group {
            use super::*;

            $crate::conformance_tests! {
                @each (flavor = "multi_thread", worker_threads = 2) $harnesses $($name)+ $($race)+
            }

            mod on_one_thread {
                use super::*;

                $crate::conformance_tests! { @each (flavor = "current_thread") $harnesses $($race)+ }
            }
        }
    };
    (@each $runtime:tt $harnesses:tt $($name:ident)+) => {
        $(#[tokio::test $runtime]
        async fn $name() {
            for harness in ::core::iter::IntoIterator::into_iter($harnesses) {
                $crate::testing::clauses::$name(&harness).await;
            }
        })+
    };
    (@all [$($name:ident)+] [$($race:ident)+]) => { $crate::conformance_tests!(@list $($name)+ $($race)+) };
    (@races [$($name:ident)+] [$($race:ident)+]) => { $crate::conformance_tests!(@list $($race)+) };
    (@list $($name:ident)+) => {
        vec![$($crate::testing::Clause { name: stringify!($name), run: |harness| Box::pin($name(harness)) }),+]
    };
    (@clauses $then:ident $($arguments:tt)*) => {
        $crate::conformance_tests! {
            @$then
            [
                reads_what_was_appended_exactly_once_in_order
                appends_a_batch_whole_and_in_order
                an_empty_append_returns_the_head
                from_latest_nothing_is_missed
                pages_are_bounded_by_count_and_bytes
                heads_are_the_newest_positions
                data_and_names_are_returned_unchanged
                channels_are_independent
                stores_on_one_place_agree
                continues_only_on_proof
                a_cursor_before_dropped_entries_is_trimmed
                a_regrown_tail_is_another_history
                starts_at_earliest_latest_and_last
                starts_at_a_time_and_goes_on_by_seq
                a_time_is_trimmed_when_a_newer_entry_was_dropped
                a_time_ahead_of_its_append_does_not_stay_trimmed
                an_absent_channel_continues_at_its_first_event
                reading_an_absent_channel_stores_nothing
                a_record_outlives_its_entries
                a_forgotten_channel_raises_the_floor
                a_deleted_channel_raises_the_floor
                floors_rise_by_unpredictable_steps
                forgetting_a_channel_leaves_absent_others_alone
                init_replaces_the_history
                the_floor_covers_what_init_replaced
                channels_are_listed_in_byte_order
                a_listing_goes_on_after_a_channel
                listed_channels_have_a_record
                unused_channels_are_forgotten
                a_key_is_appended_once
                each_event_of_a_batch_is_checked_separately
                a_key_stands_for_one_event
                a_reused_key_refuses_the_whole_batch
                a_batch_repeats_a_key_only_with_its_event
                a_reused_key_takes_precedence_over_a_close_and_a_conflict
                keys_belong_to_one_channel
                a_key_outlives_its_entry
                a_key_is_forgotten_after_its_window
                repeating_a_key_does_not_extend_its_window
                init_clears_keys
                a_repeated_append_succeeds_as_the_first_did
                an_append_checks_its_expectation
                an_init_checks_its_expectation
                nothing_follows_a_close
                a_close_is_one_step_with_its_append
                init_opens_a_closed_channel
                keeps_the_count_and_at_most_twice
                keeps_the_bytes_and_at_most_twice
                keeps_the_age_and_at_most_twice
                a_clock_that_steps_back_does_no_harm
                an_append_is_at_most_half_of_what_is_kept
                one_event_always_fits
                an_init_keeps_the_newest_of_more_than_is_kept
                raised_limits_hold_at_once
                lowered_limits_lose_nothing_at_once
                changes_begin_with_a_resync
                changes_announce_appends
                changes_announce_close_init_and_delete
                changes_not_taken_are_coalesced
                dropped_changes_do_no_harm
                a_waiting_stream_of_changes_is_woken
                changes_announce_a_close_with_events
                changes_announce_any_name
                changes_of_a_quiet_channel_are_not_lost_among_busy_ones
                similar_names_are_distinct
                similar_keys_are_distinct
                a_name_and_a_key_are_not_joined
                data_is_returned_unchanged
                an_init_of_nothing_counts_for_the_floor
                two_places_have_two_epochs
                a_place_that_is_wiped_has_another_epoch
                tags_distinguish_equal_entries
                a_regrown_tail_with_the_same_events_is_another_history
                a_channel_is_never_used_until_it_has_a_record
                an_init_keeps_its_order
                a_close_does_not_hide_what_was_trimmed
                a_time_is_trimmed_however_the_entry_was_dropped
                nothing_is_dropped_early
                keys_last_as_long_as_their_log
                limits_may_be_extreme
                heads_of_a_thousand_come_in_order
                a_store_that_answers_is_ready
                health_reports_trouble_and_its_end
                agrees_with_a_model
            ]
            [
                concurrent_appends_leave_one_dense_order
                of_concurrent_calls_with_one_expectation_one_succeeds
                a_dropped_append_happened_whole_or_not_at_all
                pages_have_no_gaps_while_entries_are_dropped
                of_concurrent_appends_with_one_key_one_is_new
                of_concurrent_appends_at_one_head_one_succeeds
                appends_acknowledged_during_a_close_are_kept
                appends_acknowledged_during_an_init_belong_to_one_history
                appends_acknowledged_during_a_delete_are_dropped_or_kept
                a_reader_sees_a_batch_whole
                a_reader_sees_an_init_whole
                a_dropped_init_or_delete_happened_whole_or_not_at_all
                a_change_holds_contiguous_entries_of_one_channel
            ]
            $($arguments)*
        }
    };
}
