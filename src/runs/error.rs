//! Why a run could not be started, and why one is over.

use std::{error::Error, fmt, sync::Arc};

use super::outcome::RunOutcome;
use crate::store::StoreError;

/// Why a run was not started.
///
/// In an HTTP handler `?` converts it into a response: 409 for the first three, 503 with `Retry-After` for those that pass.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A run in this channel is going on, or the channel has been used for something else.
    AlreadyStarted,
    /// A run in this channel has ended. [`RunOutcome::Stopped`] also if it was stopped before it was started.
    Ended(RunOutcome),
    /// A run in this channel has ended so long ago that its events are gone, and its name is not free yet.
    Expired,
    /// The channel's name does not begin with the [prefix](crate::RunsOptions::prefix) of these runs.
    OutsidePrefix,
    /// As many runs are going on in this process as [`RunsOptions::max_runs`](crate::RunsOptions::max_runs) allows.
    TooManyRuns,
    /// The process is shutting down.
    ShuttingDown,
    /// The store failed. If the failure is [`StoreError::Unknown`], the run may be in the store, and ends as abandoned.
    Store(StoreError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyStarted => f.write_str("the run has been started before"),
            Self::Ended(outcome) => write!(f, "the run has ended: it was {outcome}"),
            Self::Expired => f.write_str("the run has ended, and its events are no longer kept"),
            Self::OutsidePrefix => f.write_str("the channel's name does not have the prefix of runs"),
            Self::TooManyRuns => f.write_str("too many runs are going on; retry later"),
            Self::ShuttingDown => f.write_str("the service is shutting down; retry later"),
            Self::Store(_) => f.write_str("the event store failed"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(source) => Some(source),
            _ => None,
        }
    }
}

/// Why a run was not stopped.
///
/// In an HTTP handler `?` converts it into a response: 422 for a channel that has no run.
#[derive(Debug)]
#[non_exhaustive]
pub enum StopError {
    /// The channel's name does not begin with the [prefix](crate::RunsOptions::prefix) of these runs.
    OutsidePrefix,
    /// The store failed. If the failure is [`StoreError::Unknown`], the run may have been stopped.
    Store(StoreError),
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsidePrefix => StartError::OutsidePrefix.fmt(f),
            Self::Store(_) => f.write_str("the event store failed"),
        }
    }
}

impl Error for StopError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(source) => Some(source),
            Self::OutsidePrefix => None,
        }
    }
}

impl From<StoreError> for StopError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Why a run is over, for its work: nothing more can be published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RunOver {
    /// The channel is closed with this outcome: by the work itself, by [`Runs::stop`](crate::Runs::stop), or because others had
    /// seen no sign of life.
    Ended(RunOutcome),
    /// The run has become larger or longer than the store keeps of a channel, and has ended as failed.
    TooLarge,
    /// The channel does not hold what this run has published: it was deleted or replaced, someone else published to it, or the
    /// store has lost its end. Others end the run, if it is still there.
    Fenced,
    /// The store failed for too long. Others end the run once it is back.
    Store(Arc<StoreError>),
}

impl fmt::Display for RunOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(outcome) => write!(f, "the run was {outcome}"),
            Self::TooLarge => f.write_str("the run exceeds what the event store keeps of a channel"),
            Self::Fenced => f.write_str("the channel no longer holds what the run has published"),
            Self::Store(_) => f.write_str("the event store failed for too long"),
        }
    }
}

impl Error for RunOver {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(source) => Some(&**source),
            _ => None,
        }
    }
}
