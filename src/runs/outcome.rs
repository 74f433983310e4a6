//! How runs end, and what is known of a run from its channel. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    event::RUN_END,
    store::{Entry, Page},
};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RunOutcome {
    /// The work returned.
    Finished,
    /// The work returned an error or panicked, or became larger than the store keeps.
    Failed,
    /// It was stopped on request.
    Stopped,
    /// Its process ended, or lost the store, in the middle of it.
    Abandoned,
}

impl RunOutcome {
    /// How the run ended whose last event this is; `None` for any other event.
    #[must_use]
    pub fn of(entry: &Entry) -> Option<Self> {
        if entry.name.as_ref().is_none_or(|name| name.as_str() != RUN_END) {
            return None;
        }
        let end: EndData = serde_json::from_str(entry.data.as_shown()).ok()?;
        Some(end.outcome)
    }

    /// The outcome on the wire: `finished`, `failed`, `stopped` or `abandoned`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Abandoned => "abandoned",
        }
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunState {
    /// It has begun and has not ended.
    Running,
    /// It has ended, and its events can be read.
    Ended(RunOutcome),
    /// It has ended; its last event is no longer kept.
    Expired,
}

impl RunState {
    /// The state of the run whose channel has this last page; `None` if there is no run.
    pub(super) fn of(last: &Page) -> Option<Self> {
        match (last.head.closed, last.entries.last().and_then(RunOutcome::of)) {
            (true, Some(outcome)) => Some(Self::Ended(outcome)),
            (true, None) => Some(Self::Expired),
            // The head of a channel that does not exist has no tag.
            (false, _) => (last.head.cursor.tag != 0).then_some(Self::Running),
        }
    }

    /// How it ended, if that is known.
    #[must_use]
    pub fn outcome(self) -> Option<RunOutcome> {
        match self {
            Self::Ended(outcome) => Some(outcome),
            Self::Running | Self::Expired => None,
        }
    }
}

impl fmt::Display for RunState {
    /// `running`, `expired`, or the outcome.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Ended(outcome) => outcome.fmt(f),
            Self::Expired => f.write_str("expired"),
        }
    }
}

#[derive(Deserialize)]
struct EndData {
    outcome: RunOutcome,
}
