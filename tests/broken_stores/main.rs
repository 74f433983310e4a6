//! Shows that the conformance suite can fail: stores that are broken in one way each, and the clause that says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod broken;
mod kept;
mod means;
mod overtaken;
mod places;
#[path = "../support/spoiled.rs"]
mod spoiled;
mod watched;
mod written;

use std::sync::Arc;

use tower_events::{
    AnyStore, Channel, Cursor, MemoryStore, Store,
    store::{Head, Outcome, Page},
    testing::{Harness, clauses, clauses::Clause},
};

use self::{
    broken::{Broken, Sabotage},
    means::{Means, Ours},
    places::{Places, Wrong},
    spoiled::{Fault, Spoiled},
};

/// Each way, the clause that is there to catch it, and whether the property test has to see it as well.
const CAUGHT: [(Sabotage, &str, bool); 31] = {
    use Sabotage::*;
    [
        (LostAppend, "reads_what_was_appended_exactly_once_in_order", true),
        (Duplicate, "reads_what_was_appended_exactly_once_in_order", true),
        (WrongOrder, "reads_what_was_appended_exactly_once_in_order", true),
        (SilentTrim, "says_trimmed_for_what_is_no_longer_kept", true),
        (RegrownTail, "a_regrown_tail_is_another_history", true),
        (StaleHead, "heads_are_the_newest_positions", true),
        (LostHint, "changes_tell_of_appends", false),
        (IgnoredKey, "a_key_is_appended_once", true),
        (KeyDiesWithEntry, "a_key_outlives_its_entry", true),
        (ReusedKey, "a_key_stands_for_one_event", true),
        (ReusedKeyInBatch, "a_batch_repeats_a_key_only_with_its_event", true),
        (ReusedKeyOfData, "a_key_stands_for_one_event", false),
        (ReusedKeyAlone, "a_reused_key_refuses_the_whole_batch", true),
        (ClosedBeforeReused, "a_reused_key_is_told_before_a_close_and_that_before_a_conflict", true),
        (ConflictBeforeClosed, "a_reused_key_is_told_before_a_close_and_that_before_a_conflict", true),
        (LargeBatch, "an_append_is_at_most_half_of_what_is_kept", true),
        (OtherRetention, "an_append_is_at_most_half_of_what_is_kept", false),
        (HalfOfOne, "one_event_is_never_too_many", false),
        (InitKeepsOldest, "an_init_keeps_the_newest_of_more_than_is_kept", false),
        (TimeAhead, "a_time_ahead_of_its_append_is_not_told_of_for_ever", true),
        (TimeAheadForgotten, "a_time_ahead_of_its_append_is_not_told_of_for_ever", false),
        (HalfABatch, "a_dropped_append_happened_whole_or_not_at_all", false),
        (AppendAfterClose, "nothing_follows_a_close", true),
        (ForgottenContinues, "a_forgotten_channel_raises_the_floor", true),
        (OneFloor, "forgetting_a_channel_leaves_absent_others_alone", false),
        (EvenSteps, "a_floor_rises_by_steps_that_nobody_foretells", false),
        (ListsAnyName, "channels_are_listed_in_byte_order", false),
        (ListsAfterAgain, "a_listing_goes_on_after_a_channel", false),
        (ListsUnordered, "channels_are_listed_in_byte_order", false),
        (ListsOpen, "what_is_listed_has_a_record", false),
        (ListsDeleted, "what_is_listed_has_a_record", false),
    ]
};

#[tokio::test(start_paused = true)]
async fn each_broken_store_is_caught_by_its_clause() {
    for (sabotage, clause, by_model) in CAUGHT {
        let caught = failing(|means| Ours { means, wrap: move |store| Broken::new(store, sabotage) }, Means::All).await;
        println!("{sabotage:?} -> {clause}; all that caught it: {caught:?}");
        assert!(caught.contains(&clause), "{sabotage:?} was not caught by {clause}, but by {caught:?}");
        assert!(!by_model || caught.contains(&"agrees_with_a_model"), "{sabotage:?} was not caught by the model");
    }
}

/// A harness that can only open stores misses what needs a log that was cut, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_plain_harness_catches_all_but_what_needs_a_cut() {
    let mut missed = Vec::new();
    for (sabotage, clause, _) in CAUGHT {
        let harness = Ours { means: Means::Plain, wrap: move |store| Broken::new(store, sabotage) };
        if panic_of(named(clause), harness).await.is_none() {
            missed.push(sabotage);
        }
    }
    assert_eq!(missed, [Sabotage::RegrownTail]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_not_broken_passes() {
    for means in [Means::All, Means::Plain] {
        let sound = |means| Ours { means, wrap: |store| Broken::new(store, Sabotage::None) };
        assert_eq!(failing(sound, means).await, Vec::<&str>::new(), "{means:?}");
    }
}

/// The fault that is none.
struct Nothing;

impl Fault for Nothing {}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_not_spoiled_passes() {
    for means in [Means::All, Means::Plain] {
        let spoil = |store| AnyStore::new(Spoiled::new(store, Arc::new(Nothing)));
        assert_eq!(failing(|means| Ours { means, wrap: spoil }, means).await, Vec::<&str>::new(), "{means:?}");
    }
}

/// The names of the clauses that do not hold. A panic has to say which clause it is about.
async fn failing<H: Harness>(harness: impl Fn(Means) -> H, means: Means) -> Vec<&'static str> {
    let mut failing = Vec::new();
    for clause in clauses::all::<H>() {
        let name = clause.name();
        if let Some(message) = panic_of(clause, harness(means)).await {
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

/// Faults that come apart in files of their own, each with the clause that is there to catch it.
#[derive(Default)]
struct Report {
    missed: Vec<String>,
    /// By a harness that can only open stores.
    missed_by_plain: Vec<&'static str>,
}

impl Report {
    /// Runs the one clause only: what else catches the fault is of no matter.
    async fn on<F: Fault>(&mut self, name: &'static str, fault: impl Fn() -> F) {
        for means in [Means::All, Means::Plain] {
            let fault = Arc::new(fault());
            // One type for all faults: the clauses are compiled once.
            let spoil = move |store: MemoryStore| AnyStore::new(Spoiled::new(store, Arc::clone(&fault)));
            let wrap = Box::new(spoil) as Box<dyn Fn(MemoryStore) -> AnyStore + Send + Sync>;
            match (panic_of(named(name), Ours { means, wrap }).await, means) {
                (Some(message), _) if message.contains(&format!("clause `{name}`")) => {}
                (Some(message), _) => self.missed.push(format!("{name} fails without its name: {message}")),
                (None, Means::All) => {
                    self.missed.push(format!("{} was not caught by {name}", std::any::type_name::<F>()));
                }
                (None, Means::Plain) => self.missed_by_plain.push(name),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_two_steps_for_one_is_caught() {
    use self::overtaken::*;
    let mut report = Report::default();
    report.on("of_many_appends_with_one_key_one_is_new", LooksUpKeysFirst::default).await;
    report.on("of_many_appends_at_one_head_one_wins", || LooksAtHeadFirst).await;
    report.on("what_is_acknowledged_beside_a_close_is_kept", || AcknowledgesWhenOvertaken).await;
    report.on("what_is_acknowledged_beside_an_init_is_of_one_history", || AcknowledgesWhenOvertaken).await;
    report.on("what_is_acknowledged_beside_a_delete_is_gone_or_kept", || AcknowledgesWhenOvertaken).await;
    report.on("a_reader_sees_a_batch_whole", || AppendsInPieces).await;
    report.on("a_reader_sees_an_init_whole", || InitsInTwoSteps).await;
    report.on("a_dropped_init_or_delete_happened_whole_or_not_at_all", || InitsInTwoSteps).await;
    assert_eq!((report.missed, report.missed_by_plain), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn whose_hints_go_wrong_is_caught() {
    use self::watched::*;
    let mut report = Report::default();
    report.on("whoever_waits_for_changes_is_woken", || NeverWakes).await;
    report.on("whoever_waits_for_changes_is_woken", || WakesTheFirst).await;
    report.on("whoever_waits_for_changes_is_woken", KeepsWakers::default).await;
    report.on("hints_hold_neighbours_of_one_channel", || JoinsHints).await;
    report.on("hints_hold_neighbours_of_one_channel", || LeavesOutAnEntry).await;
    report.on("changes_tell_of_a_close_with_events", || HidesCloses).await;
    report.on("changes_tell_of_any_name", || TellsOfPlainNames).await;
    report.on("a_quiet_channel_is_told_of_among_busy_ones", || KeepsTheNewestHints).await;
    report.on("changes_tell_of_appends", || LeavesOutAnEntry).await;
    report.on("changes_tell_of_appends", || TellsHeadsAhead).await;
    report.on("dropped_changes_do_no_harm", DropEndsAnother::first).await;
    report.on("dropped_changes_do_no_harm", DropEndsAnother::last).await;
    assert_eq!((report.missed, report.missed_by_plain), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn who_knows_a_name_by_another_is_caught() {
    use self::written::*;
    let mut report = Report::default();
    let lower = |text: &str| text.to_lowercase();
    let trimmed = |text: &str| if text == " " { "blank".to_owned() } else { text.trim_matches(' ').to_owned() };
    let decoded = |text: &str| text.replace("%61", "a").replace("%20", " ");
    let composed = |text: &str| text.replace("a\u{301}", "\u{e1}");
    let cut = |text: &str| text.chars().take(64).collect();
    for change in [lower, trimmed, decoded, composed, cut] as [fn(&str) -> String; 5] {
        report.on("names_that_look_alike_are_apart", || ChangesNames(change)).await;
        report.on("keys_that_look_alike_are_apart", || ChangesKeys(change)).await;
    }
    assert_eq!((report.missed, report.missed_by_plain), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn who_keeps_something_else_is_caught() {
    use self::{kept::*, written::*};
    let mut report = Report::default();
    report.on("a_name_and_a_key_are_not_joined", JoinsNameAndKey::default).await;
    report.on("data_come_back_to_the_letter", || ReadsNumbers).await;
    report.on("data_come_back_to_the_letter", || CutsLengths).await;
    report.on("tags_tell_equal_entries_apart", || TagsByContent).await;
    report.on("a_tail_that_grew_again_alike_is_another_history", || TrustsPositions).await;
    report.on("two_places_have_two_epochs", || OneEpoch).await;
    report.on("an_init_of_nothing_counts_for_the_floor", ForgetsFilled::default).await;
    report.on("a_channel_is_never_used_until_it_has_a_record", || EmptyIsUnused).await;
    report.on("a_channel_is_never_used_until_it_has_a_record", || EmptyAppendExpects).await;
    report.on("an_init_keeps_its_order", || SortsInits).await;
    report.on("a_close_does_not_hide_what_was_trimmed", || ClosedIsAnswered).await;
    report.on("a_time_is_trimmed_however_the_entry_went", || EmptyForgetsTimes).await;
    report.on("nothing_goes_before_its_time", HalfTheWindow::default).await;
    report.on("nothing_goes_before_its_time", || TimeOfTheDuplicate).await;
    report.on("a_key_is_appended_once", || TimeOfTheDuplicate).await;
    report.on("a_repeated_key_is_forgotten_all_the_same", RenewsKeys::default).await;
    report.on("what_nobody_uses_is_forgotten", ListsForgotten::default).await;
    report.on("data_and_names_come_back_as_they_were", || RoundsTimes).await;
    report.on("data_and_names_come_back_as_they_were", || ReadsWords).await;
    report.on("reading_an_absent_channel_stores_nothing", KnowsWhatWasRead::default).await;
    report.on("keys_last_as_long_as_their_log", DeleteKeepsKeys::default).await;
    report.on("limits_may_be_extreme", || AddsToLimits).await;
    report.on("heads_of_a_thousand_come_in_order", || AnswersHundreds).await;
    report.on("a_store_that_answers_is_ready", || NeverReady).await;
    assert_eq!(report.missed, Vec::<String>::new());
    // Its log cannot be cut.
    assert_eq!(report.missed_by_plain, ["a_tail_that_grew_again_alike_is_another_history"]);
}

/// Each is caught by its clause, and by no other.
#[tokio::test(start_paused = true)]
async fn who_goes_wrong_when_something_is_done_to_its_place_is_caught() {
    let (raised, lowered) = ("raised_limits_hold_at_once", "lowered_limits_lose_nothing_at_once");
    let (wiped, trouble) = ("a_place_that_is_wiped_has_another_epoch", "trouble_is_told_and_so_is_its_end");
    for (wrong, by) in [
        (Wrong::Nothing, vec![]),
        (Wrong::KeepsTheFirstLimits, vec![raised]),
        (Wrong::LowersAtOnce, vec![lowered]),
        (Wrong::NeverLowers, vec![lowered]),
        (Wrong::TellsTheFirstLimits, vec![raised, lowered]),
        (Wrong::KeepsTheEpoch, vec![wiped]),
        (Wrong::HidesTrouble, vec![trouble]),
        (Wrong::StaysInTrouble, vec![trouble]),
    ] {
        assert_eq!(failing(|_| Places(wrong), Means::All).await, by, "{wrong:?}");
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
