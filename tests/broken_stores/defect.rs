//! The ways in which a store can be broken.

/// How a [`Broken`](super::broken::Broken) store is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Not at all: shows that the wrapper itself is correct.
    None,
    /// Every fourth append is acknowledged, then lost.
    LostAppend,
    /// A page begins with the entry at the cursor.
    Duplicate,
    /// Two adjacent entries of a page are swapped.
    WrongOrder,
    /// A resume from a trimmed position is `Continued`.
    SilentTrim,
    /// Tags are not compared.
    RegrownTail,
    /// A head stays as it was when first asked for.
    StaleHead,
    /// Hints about one channel are never sent.
    LostHint,
    /// Keys are ignored.
    IgnoredKey,
    /// A key is forgotten when its entry is dropped.
    KeyDiesWithEntry,
    /// An event with the key of another event is a duplicate.
    ReusedKey,
    /// The same, but only within a batch.
    ReusedKeyInBatch,
    /// Only the data of events with the same key is compared.
    ReusedKeyOfData,
    /// The rest of a batch with a reused key is appended.
    ReusedKeyAlone,
    /// `Closed` is checked before `KeyReused`.
    ClosedBeforeReused,
    /// The condition is checked before `Closed`.
    ConflictBeforeClosed,
    /// A batch of more than half of what is retained is accepted.
    LargeBatch,
    /// The store reports another retention than it was given.
    OtherRetention,
    /// With a retention of one event, every append is too large.
    HalfOfOne,
    /// An init keeps its oldest events.
    InitKeepsOldest,
    /// A dropped entry with a time far ahead makes starts by time `Trimmed` for ever.
    TimeAhead,
    /// A dropped entry with a time far ahead never makes a start by time `Trimmed`.
    TimeAheadForgotten,
    /// A batch is appended event by event, and can be dropped in between.
    HalfABatch,
    /// A close is reported, but does not prevent appends.
    AppendAfterClose,
    /// The cursor of an absent channel continues even if events were lost since.
    ForgottenContinues,
    /// All channels share one floor.
    OneFloor,
    /// A floor always rises by the same step.
    EvenSteps,
    /// A listing ignores the prefix.
    ListsAnyName,
    /// A page of a listing includes the channel after which it should begin.
    ListsAfterAgain,
    /// A listing is sorted without regard to case.
    ListsUnordered,
    /// A listing leaves out closed channels.
    ListsOpen,
    /// A listing includes deleted channels.
    ListsDeleted,
}
