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
                data_and_names_come_back_as_they_were
                channels_are_apart
                stores_on_one_place_agree
                continues_only_on_proof
                says_trimmed_for_what_is_no_longer_kept
                a_regrown_tail_is_another_history
                starts_at_earliest_latest_and_last
                starts_at_a_time_and_goes_on_by_seq
                a_time_is_trimmed_when_a_newer_entry_was_dropped
                a_time_ahead_of_its_append_is_not_told_of_for_ever
                an_absent_channel_continues_when_its_first_event_comes
                reading_an_absent_channel_stores_nothing
                a_record_outlives_its_entries
                a_forgotten_channel_raises_the_floor
                a_deleted_channel_raises_the_floor
                a_floor_rises_by_steps_that_nobody_foretells
                forgetting_a_channel_leaves_absent_others_alone
                init_replaces_the_history
                the_floor_covers_what_init_replaced
                channels_are_listed_in_byte_order
                a_listing_goes_on_after_a_channel
                what_is_listed_has_a_record
                what_nobody_uses_is_forgotten
                a_key_is_appended_once
                each_event_of_a_batch_is_judged_alone
                a_key_stands_for_one_event
                a_reused_key_refuses_the_whole_batch
                a_batch_repeats_a_key_only_with_its_event
                a_reused_key_is_told_before_a_close_and_that_before_a_conflict
                keys_belong_to_one_channel
                a_key_outlives_its_entry
                a_key_is_forgotten_after_its_window
                a_repeated_key_is_forgotten_all_the_same
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
                an_append_is_at_most_half_of_what_is_kept
                one_event_is_never_too_many
                an_init_keeps_the_newest_of_more_than_is_kept
                raised_limits_hold_at_once
                lowered_limits_lose_nothing_at_once
                changes_begin_with_a_resync
                changes_tell_of_appends
                changes_tell_of_close_init_and_delete
                changes_not_taken_are_coalesced
                dropped_changes_do_no_harm
                whoever_waits_for_changes_is_woken
                changes_tell_of_a_close_with_events
                changes_tell_of_any_name
                a_quiet_channel_is_told_of_among_busy_ones
                names_that_look_alike_are_apart
                keys_that_look_alike_are_apart
                a_name_and_a_key_are_not_joined
                data_come_back_to_the_letter
                an_init_of_nothing_counts_for_the_floor
                two_places_have_two_epochs
                a_place_that_is_wiped_has_another_epoch
                tags_tell_equal_entries_apart
                a_tail_that_grew_again_alike_is_another_history
                a_channel_is_never_used_until_it_has_a_record
                an_init_keeps_its_order
                a_close_does_not_hide_what_was_trimmed
                a_time_is_trimmed_however_the_entry_went
                nothing_goes_before_its_time
                keys_last_as_long_as_their_log
                limits_may_be_extreme
                heads_of_a_thousand_come_in_order
                a_store_that_answers_is_ready
                trouble_is_told_and_so_is_its_end
                agrees_with_a_model
            ]
            [
                many_appenders_leave_one_dense_order
                of_many_who_expect_the_same_one_wins
                a_dropped_append_happened_whole_or_not_at_all
                pages_have_no_holes_while_others_trim
                of_many_appends_with_one_key_one_is_new
                of_many_appends_at_one_head_one_wins
                what_is_acknowledged_beside_a_close_is_kept
                what_is_acknowledged_beside_an_init_is_of_one_history
                what_is_acknowledged_beside_a_delete_is_gone_or_kept
                a_reader_sees_a_batch_whole
                a_reader_sees_an_init_whole
                a_dropped_init_or_delete_happened_whole_or_not_at_all
                hints_hold_neighbours_of_one_channel
            ]
            $($arguments)*
        }
    };
}
