//! By what is counted: few values each, which are known when the crate is compiled.

use std::fmt;

use crate::store::{Reason, StoreError};

/// What something is counted by; see [`Counts`](super::Counts).
pub trait Label: Copy + fmt::Debug + sealed::Sealed + 'static {
    /// All values.
    const ALL: &'static [Self];

    /// The value in metrics, in lower case with hyphens.
    fn as_str(self) -> &'static str;
}

pub(super) mod sealed {
    pub trait Sealed {
        /// The position in `Label::ALL`.
        fn index(self) -> usize;
    }
}

/// How a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReaderKind {
    /// By [`Hub::subscribe`](crate::Hub::subscribe) or [`Hub::listen`](crate::Hub::listen).
    InProcess,
    /// By Server-Sent Events.
    Sse,
    /// By long polling.
    LongPoll,
}

/// The limit that something was over, named as its setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedBy {
    /// [`HubOptions::max_readers`](crate::HubOptions::max_readers).
    MaxReaders,
    /// [`HubOptions::max_followed_channels`](crate::HubOptions::max_followed_channels).
    MaxFollowedChannels,
    /// The hub is draining.
    Drain,
    /// [`HubOptions::max_waiting_reads`](crate::HubOptions::max_waiting_reads).
    MaxWaitingReads,
    /// [`HubOptions::read_queue_timeout`](crate::HubOptions::read_queue_timeout).
    ReadQueueTimeout,
    /// Too many channels wait for their heads at once.
    WaitingHeads,
    /// Too many snapshots are asked for at once.
    WaitingSnapshots,
    /// [`PublishService::max_in_flight`](crate::PublishService::max_in_flight).
    MaxInFlight,
    /// The body, the batch or an event of a publish is too large.
    PublishSize,
    /// [`PublishService::max_events_per_second`](crate::PublishService::max_events_per_second).
    PublishRate,
    /// [`HubOptions::max_publishes_per_subject`](crate::HubOptions::max_publishes_per_subject).
    SubjectPublishRate,
    /// [`PublishService::max_body_memory`](crate::PublishService::max_body_memory).
    BodyMemory,
}

/// Why the hub ended a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The hub drains.
    Drained,
    /// The reader took nothing for [`HubOptions::stall_timeout`](crate::HubOptions::stall_timeout).
    Stalled,
    /// Its read of the store was refused.
    Overloaded,
    /// The store failed.
    StoreFailed,
    /// There is no snapshot of a channel.
    SnapshotFailed,
    /// Its subject has more readers than it may, and this was the oldest.
    Evicted,
    /// Its [grant](crate::Grant) was for a time, which is over.
    Expired,
    /// Access of its subject was [revoked](crate::Hub::revoke).
    Revoked,
    /// It was [checked again](crate::Grant::recheck), and may not go on or could not be checked.
    Rechecked,
    /// Revocations could not be read in time, or may have been lost: it may have been revoked.
    RevocationsUnknown,
}

/// What the store is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadPurpose {
    /// For readers that catch up.
    CatchUp,
    /// To bring a followed channel up to date.
    Advance,
    /// For the heads of channels.
    Heads,
}

/// Why an append failed: the kinds of [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PublishFailure {
    /// [`StoreError::Unavailable`].
    Unavailable,
    /// [`StoreError::Unknown`].
    Unknown,
    /// [`StoreError::Full`].
    Full,
    /// [`StoreError::TooLarge`].
    TooLarge,
    /// [`StoreError::KeyReused`].
    KeyReused,
    /// [`StoreError::Conflict`].
    Conflict,
    /// [`StoreError::Closed`].
    Closed,
    /// [`StoreError::Corrupt`].
    Corrupt,
    /// [`StoreError::NewerFormat`].
    NewerFormat,
}

impl PublishFailure {
    pub(in crate::hub) fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable,
            StoreError::Unknown(_) => Self::Unknown,
            StoreError::Full(_) => Self::Full,
            StoreError::TooLarge { .. } => Self::TooLarge,
            StoreError::KeyReused { .. } => Self::KeyReused,
            StoreError::Conflict { .. } => Self::Conflict,
            StoreError::Closed { .. } => Self::Closed,
            StoreError::Corrupt(_) => Self::Corrupt,
            StoreError::NewerFormat { .. } => Self::NewerFormat,
        }
    }
}

impl Label for ReaderKind {
    const ALL: &'static [Self] = &[Self::InProcess, Self::Sse, Self::LongPoll];

    fn as_str(self) -> &'static str {
        match self {
            Self::InProcess => "in-process",
            Self::Sse => "sse",
            Self::LongPoll => "longpoll",
        }
    }
}

impl Label for RefusedBy {
    const ALL: &'static [Self] = &[
        Self::MaxReaders,
        Self::MaxFollowedChannels,
        Self::Drain,
        Self::MaxWaitingReads,
        Self::ReadQueueTimeout,
        Self::WaitingHeads,
        Self::WaitingSnapshots,
        Self::MaxInFlight,
        Self::PublishSize,
        Self::PublishRate,
        Self::SubjectPublishRate,
        Self::BodyMemory,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::MaxReaders => "max-readers",
            Self::MaxFollowedChannels => "max-followed-channels",
            Self::Drain => "drain",
            Self::MaxWaitingReads => "max-waiting-reads",
            Self::ReadQueueTimeout => "read-queue-timeout",
            Self::WaitingHeads => "waiting-heads",
            Self::WaitingSnapshots => "waiting-snapshots",
            Self::MaxInFlight => "max-in-flight",
            Self::PublishSize => "publish-size",
            Self::PublishRate => "publish-rate",
            Self::SubjectPublishRate => "subject-publish-rate",
            Self::BodyMemory => "body-memory",
        }
    }
}

impl Label for EndReason {
    const ALL: &'static [Self] = &[
        Self::Drained,
        Self::Stalled,
        Self::Overloaded,
        Self::StoreFailed,
        Self::SnapshotFailed,
        Self::Evicted,
        Self::Expired,
        Self::Revoked,
        Self::Rechecked,
        Self::RevocationsUnknown,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Stalled => "stalled",
            Self::Overloaded => "overloaded",
            Self::StoreFailed => "store-failed",
            Self::SnapshotFailed => "snapshot-failed",
            Self::Evicted => "evicted",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Rechecked => "rechecked",
            Self::RevocationsUnknown => "revocations-unknown",
        }
    }
}

impl Label for ReadPurpose {
    const ALL: &'static [Self] = &[Self::CatchUp, Self::Advance, Self::Heads];

    fn as_str(self) -> &'static str {
        match self {
            Self::CatchUp => "catch-up",
            Self::Advance => "advance",
            Self::Heads => "heads",
        }
    }
}

impl Label for PublishFailure {
    const ALL: &'static [Self] = &[
        Self::Unavailable,
        Self::Unknown,
        Self::Full,
        Self::TooLarge,
        Self::KeyReused,
        Self::Conflict,
        Self::Closed,
        Self::Corrupt,
        Self::NewerFormat,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Full => "full",
            Self::TooLarge => "too-large",
            Self::KeyReused => "key-reused",
            Self::Conflict => "conflict",
            Self::Closed => "closed",
            Self::Corrupt => "corrupt",
            Self::NewerFormat => "newer-format",
        }
    }
}

impl Label for Reason {
    const ALL: &'static [Self] =
        &[Self::Trimmed, Self::Ahead, Self::EpochChanged, Self::Unknown, Self::Behind, Self::FilterChanged];

    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

/// The values are declared in the order of `Label::ALL`, so that the discriminant is the index.
macro_rules! indexed_by_discriminant {
    ($($label:ty),*) => {
        $(impl sealed::Sealed for $label {
            fn index(self) -> usize {
                self as usize
            }
        })*
    };
}
indexed_by_discriminant!(ReaderKind, RefusedBy, EndReason, ReadPurpose, PublishFailure, Reason);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::counts::MAX_VALUES, *};

    fn check<L: Label>() {
        assert!(L::ALL.len() <= MAX_VALUES, "{:?}", L::ALL);
        for (index, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), index, "{label:?}");
        }
        let names: BTreeSet<_> = L::ALL.iter().map(|label| label.as_str()).collect();
        assert_eq!(names.len(), L::ALL.len());
    }

    #[test]
    fn every_reason_is_counted() {
        for reason in Reason::ALL {
            // Does not compile when there is another: add it to `Label::ALL`.
            match reason {
                Reason::Trimmed
                | Reason::Ahead
                | Reason::EpochChanged
                | Reason::Unknown
                | Reason::FilterChanged
                | Reason::Behind => {}
            }
        }
        assert_eq!(Reason::ALL.len(), 6);
    }

    #[test]
    fn every_value_has_its_own_place_and_name() {
        check::<ReaderKind>();
        check::<RefusedBy>();
        check::<EndReason>();
        check::<ReadPurpose>();
        check::<PublishFailure>();
        check::<Reason>();
    }
}
