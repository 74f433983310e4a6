//! Shows that the conformance suite can fail: stores that are each broken in one way, and the clause that detects it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod broken;
mod content;
mod defect;
mod harness;
mod hints;
mod history;
#[path = "../support/patched_store.rs"]
mod patched_store;
mod places;
mod races;

use std::sync::Arc;

use tower_events::{
    AnyStore, Channel, Cursor, MemoryStore, Store,
    store::{Head, Outcome, Page},
    testing::{Harness, clauses, clauses::Clause},
};

use self::{
    broken::Broken,
    defect::Defect,
    harness::{Abilities, TestHarness},
    patched_store::{Fault, PatchedStore},
    places::{PlaceDefect, Places},
};

/// Each defect, the clause meant to catch it, and whether the property test must catch it too.
const CAUGHT: [(Defect, &str, bool); 31] = {
    use Defect::*;
    [
        (LostAppend, "reads_what_was_appended_exactly_once_in_order", true),
        (Duplicate, "reads_what_was_appended_exactly_once_in_order", true),
        (WrongOrder, "reads_what_was_appended_exactly_once_in_order", true),
        (SilentTrim, "a_cursor_before_dropped_entries_is_trimmed", true),
        (RegrownTail, "a_regrown_tail_is_another_history", true),
        (StaleHead, "heads_are_the_newest_positions", true),
        (LostHint, "changes_announce_appends", false),
        (IgnoredKey, "a_key_is_appended_once", true),
        (KeyDiesWithEntry, "a_key_outlives_its_entry", true),
        (ReusedKey, "a_key_stands_for_one_event", true),
        (ReusedKeyInBatch, "a_batch_repeats_a_key_only_with_its_event", true),
        (ReusedKeyOfData, "a_key_stands_for_one_event", false),
        (ReusedKeyAlone, "a_reused_key_refuses_the_whole_batch", true),
        (ClosedBeforeReused, "a_reused_key_takes_precedence_over_a_close_and_a_conflict", true),
        (ConflictBeforeClosed, "a_reused_key_takes_precedence_over_a_close_and_a_conflict", true),
        (LargeBatch, "an_append_is_at_most_half_of_what_is_kept", true),
        (OtherRetention, "an_append_is_at_most_half_of_what_is_kept", false),
        (HalfOfOne, "one_event_always_fits", false),
        (InitKeepsOldest, "an_init_keeps_the_newest_of_more_than_is_kept", false),
        (TimeAhead, "a_time_ahead_of_its_append_does_not_stay_trimmed", true),
        (TimeAheadForgotten, "a_time_ahead_of_its_append_does_not_stay_trimmed", false),
        (HalfABatch, "a_dropped_append_happened_whole_or_not_at_all", false),
        (AppendAfterClose, "nothing_follows_a_close", true),
        (ForgottenContinues, "a_forgotten_channel_raises_the_floor", true),
        (OneFloor, "forgetting_a_channel_leaves_absent_others_alone", false),
        (EvenSteps, "floors_rise_by_unpredictable_steps", false),
        (ListsAnyName, "channels_are_listed_in_byte_order", false),
        (ListsAfterAgain, "a_listing_goes_on_after_a_channel", false),
        (ListsUnordered, "channels_are_listed_in_byte_order", false),
        (ListsOpen, "listed_channels_have_a_record", false),
        (ListsDeleted, "listed_channels_have_a_record", false),
    ]
};

#[tokio::test(start_paused = true)]
async fn each_broken_store_is_caught_by_its_clause() {
    for (defect, clause, by_model) in CAUGHT {
        let harness = |abilities| TestHarness { abilities, wrap: move |store| Broken::new(store, defect) };
        let caught = failing(harness, Abilities::All).await;
        println!("{defect:?} -> {clause}; all that caught it: {caught:?}");
        assert!(caught.contains(&clause), "{defect:?} was not caught by {clause}, but by {caught:?}");
        assert!(!by_model || caught.contains(&"agrees_with_a_model"), "{defect:?} was not caught by the model");
    }
}

/// A harness that can only open stores misses only the defects that need a truncated log.
#[tokio::test(start_paused = true)]
async fn a_harness_that_can_only_open_stores_misses_only_what_needs_a_truncated_log() {
    let mut missed = Vec::new();
    for (defect, clause, _) in CAUGHT {
        let harness = TestHarness { abilities: Abilities::OpenOnly, wrap: move |store| Broken::new(store, defect) };
        if panic_of(named(clause), harness).await.is_none() {
            missed.push(defect);
        }
    }
    assert_eq!(missed, [Defect::RegrownTail]);
}

#[tokio::test(start_paused = true)]
async fn a_store_without_a_defect_passes() {
    for abilities in [Abilities::All, Abilities::OpenOnly] {
        let correct = |abilities| TestHarness { abilities, wrap: |store| Broken::new(store, Defect::None) };
        assert_eq!(failing(correct, abilities).await, Vec::<&str>::new(), "{abilities:?}");
    }
}

/// A fault that changes nothing.
struct NoFault;

impl Fault for NoFault {}

#[tokio::test(start_paused = true)]
async fn a_store_without_a_fault_passes() {
    for abilities in [Abilities::All, Abilities::OpenOnly] {
        let wrap = |store| AnyStore::new(PatchedStore::new(store, Arc::new(NoFault)));
        let correct = |abilities| TestHarness { abilities, wrap };
        assert_eq!(failing(correct, abilities).await, Vec::<&str>::new(), "{abilities:?}");
    }
}

/// The names of the clauses that fail. Their panics must name the clause.
async fn failing<H: Harness>(harness: impl Fn(Abilities) -> H, abilities: Abilities) -> Vec<&'static str> {
    let mut failing = Vec::new();
    for clause in clauses::all::<H>() {
        let name = clause.name();
        if let Some(message) = panic_of(clause, harness(abilities)).await {
            assert!(message.contains(&format!("clause `{name}`")), "{message}");
            failing.push(name);
        }
    }
    failing
}

async fn panic_of<H: Harness>(clause: Clause<H>, harness: H) -> Option<String> {
    let panic = tokio::spawn(async move { clause.run(&harness).await }).await.err()?.into_panic();
    Some(panic.downcast_ref::<String>().expect("a message with details").clone())
}

fn named<H: Harness>(name: &str) -> Clause<H> {
    clauses::all().into_iter().find(|clause| clause.name() == name).expect(name)
}

/// Which faults were not caught by the clause meant to catch them.
#[derive(Default)]
struct Report {
    missed: Vec<String>,
    /// Clauses that missed a fault when the harness could only open stores.
    missed_by_open_only: Vec<&'static str>,
}

impl Report {
    /// Runs the clause `name` on a store with this fault. Other clauses that may catch the fault do not count.
    async fn check<F: Fault>(&mut self, name: &'static str, fault: impl Fn() -> F) {
        for abilities in [Abilities::All, Abilities::OpenOnly] {
            let fault = Arc::new(fault());
            // One type for all faults, so that the clauses are compiled once.
            let patch = move |store: MemoryStore| AnyStore::new(PatchedStore::new(store, Arc::clone(&fault)));
            let wrap = Box::new(patch) as Box<dyn Fn(MemoryStore) -> AnyStore + Send + Sync>;
            match (panic_of(named(name), TestHarness { abilities, wrap }).await, abilities) {
                (Some(message), _) if message.contains(&format!("clause `{name}`")) => {}
                (Some(message), _) => self.missed.push(format!("{name} fails without its name: {message}")),
                (None, Abilities::All) => {
                    self.missed.push(format!("{} was not caught by {name}", std::any::type_name::<F>()));
                }
                (None, Abilities::OpenOnly) => self.missed_by_open_only.push(name),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn operations_that_are_not_atomic_are_caught() {
    use self::races::*;
    let mut report = Report::default();
    report.check("of_concurrent_appends_with_one_key_one_is_new", LooksUpKeysFirst::default).await;
    report.check("of_concurrent_appends_at_one_head_one_succeeds", || LooksAtHeadFirst).await;
    report.check("appends_acknowledged_during_a_close_are_kept", || AcknowledgesWhenOvertaken).await;
    report.check("appends_acknowledged_during_an_init_belong_to_one_history", || AcknowledgesWhenOvertaken).await;
    report.check("appends_acknowledged_during_a_delete_are_dropped_or_kept", || AcknowledgesWhenOvertaken).await;
    report.check("a_reader_sees_a_batch_whole", || AppendsInPieces).await;
    report.check("a_reader_sees_an_init_whole", || InitsInTwoSteps).await;
    report.check("a_dropped_init_or_delete_happened_whole_or_not_at_all", || InitsInTwoSteps).await;
    assert_eq!((report.missed, report.missed_by_open_only), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn wrong_hints_are_caught() {
    use self::hints::*;
    let mut report = Report::default();
    report.check("a_waiting_stream_of_changes_is_woken", || NeverWakes).await;
    report.check("a_waiting_stream_of_changes_is_woken", || WakesOnlyTheFirst).await;
    report.check("a_waiting_stream_of_changes_is_woken", KeepsWakers::default).await;
    report.check("a_change_holds_contiguous_entries_of_one_channel", || JoinsHints).await;
    report.check("a_change_holds_contiguous_entries_of_one_channel", || LeavesOutAnEntry).await;
    report.check("changes_announce_a_close_with_events", || HidesCloses).await;
    report.check("changes_announce_any_name", || AnnouncesOnlyPlainNames).await;
    report.check("changes_of_a_quiet_channel_are_not_lost_among_busy_ones", || KeepsTheNewestHints).await;
    report.check("changes_announce_appends", || LeavesOutAnEntry).await;
    report.check("changes_announce_appends", || AnnouncesHeadsAhead).await;
    report.check("dropped_changes_do_no_harm", DropEndsAnother::first).await;
    report.check("dropped_changes_do_no_harm", DropEndsAnother::last).await;
    assert_eq!((report.missed, report.missed_by_open_only), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn names_and_keys_that_are_confused_are_caught() {
    use self::content::*;
    let mut report = Report::default();
    let lower = |text: &str| text.to_lowercase();
    let trimmed = |text: &str| if text == " " { "blank".to_owned() } else { text.trim_matches(' ').to_owned() };
    let decoded = |text: &str| text.replace("%61", "a").replace("%20", " ");
    let composed = |text: &str| text.replace("a\u{301}", "\u{e1}");
    let cut = |text: &str| text.chars().take(64).collect();
    for change in [lower, trimmed, decoded, composed, cut] as [fn(&str) -> String; 5] {
        report.check("similar_names_are_distinct", || ChangesNames(change)).await;
        report.check("similar_keys_are_distinct", || ChangesKeys(change)).await;
    }
    assert_eq!((report.missed, report.missed_by_open_only), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn wrong_content_and_wrong_history_are_caught() {
    use self::{content::*, history::*};
    let mut report = Report::default();
    report.check("a_name_and_a_key_are_not_joined", JoinsNameAndKey::default).await;
    report.check("data_is_returned_unchanged", || ReformatsJson).await;
    report.check("data_is_returned_unchanged", || TruncatesLongTexts).await;
    report.check("tags_distinguish_equal_entries", || TagsByContent).await;
    report.check("a_regrown_tail_with_the_same_events_is_another_history", || TrustsPositions).await;
    report.check("two_places_have_two_epochs", || OneEpoch).await;
    report.check("an_init_of_nothing_counts_for_the_floor", InitLeavesTheFloor::default).await;
    report.check("a_channel_is_never_used_until_it_has_a_record", || EmptyIsUnused).await;
    report.check("a_channel_is_never_used_until_it_has_a_record", || EmptyAppendChecksCondition).await;
    report.check("an_init_keeps_its_order", || SortsInits).await;
    report.check("a_close_does_not_hide_what_was_trimmed", || ClosedHidesResets).await;
    report.check("a_time_is_trimmed_however_the_entry_was_dropped", || EmptyForgetsTimes).await;
    report.check("nothing_is_dropped_early", HalfTheWindow::default).await;
    report.check("nothing_is_dropped_early", || TimeOfTheDuplicate).await;
    report.check("a_key_is_appended_once", || TimeOfTheDuplicate).await;
    report.check("repeating_a_key_does_not_extend_its_window", RenewsKeys::default).await;
    report.check("unused_channels_are_forgotten", ListsForgotten::default).await;
    report.check("data_and_names_are_returned_unchanged", || RoundsTimes).await;
    report.check("data_and_names_are_returned_unchanged", || ParsesTextAsJson).await;
    report.check("reading_an_absent_channel_stores_nothing", StoresWhatWasRead::default).await;
    report.check("keys_last_as_long_as_their_log", DeleteKeepsKeys::default).await;
    report.check("limits_may_be_extreme", || AddsToLimits).await;
    report.check("heads_of_a_thousand_come_in_order", || AnswersFiveHundred).await;
    report.check("a_store_that_answers_is_ready", || NeverReady).await;
    assert_eq!(report.missed, Vec::<String>::new());
    // A harness that can only open stores cannot truncate a log.
    assert_eq!(report.missed_by_open_only, ["a_regrown_tail_with_the_same_events_is_another_history"]);
}

/// Each defect is caught by its clauses, and by no others.
#[tokio::test(start_paused = true)]
async fn defects_that_show_when_a_place_is_reopened_wiped_or_failing_are_caught() {
    let (raised, lowered) = ("raised_limits_hold_at_once", "lowered_limits_lose_nothing_at_once");
    let (wiped, trouble) = ("a_place_that_is_wiped_has_another_epoch", "health_reports_trouble_and_its_end");
    for (defect, by) in [
        (PlaceDefect::Nothing, vec![]),
        (PlaceDefect::KeepsTheFirstLimits, vec![raised]),
        (PlaceDefect::LowersAtOnce, vec![lowered]),
        (PlaceDefect::NeverLowers, vec![lowered]),
        (PlaceDefect::ReportsTheFirstLimits, vec![raised, lowered]),
        (PlaceDefect::KeepsTheEpoch, vec![wiped]),
        (PlaceDefect::HidesTrouble, vec![trouble]),
        (PlaceDefect::StaysInTrouble, vec![trouble]),
    ] {
        assert_eq!(failing(|_| Places(defect), Abilities::All).await, by, "{defect:?}");
    }
}

/// The head of one channel.
async fn head_of(inner: &MemoryStore, channel: &Channel) -> Head {
    inner.heads(std::slice::from_ref(channel)).await.unwrap()[0]
}

/// The page as one that was continued from `from`.
fn continued(from: Cursor, mut page: Page) -> Page {
    (page.outcome, page.from) = (Outcome::Continued, from);
    page
}
