//! Why there is no snapshot.

use std::{error::Error, fmt, sync::Arc, time::Duration};

/// Why there is no snapshot. Clones share what the provider returned.
#[derive(Clone, Debug)]
pub struct SnapshotError(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Failed(Arc<dyn Error + Send + Sync>),
    Panicked,
    TimedOut(Duration),
    TooLarge { bytes: usize, max: usize },
}

impl SnapshotError {
    pub(super) fn failed(source: Box<dyn Error + Send + Sync>) -> Self {
        Self(Kind::Failed(source.into()))
    }

    pub(super) fn panicked() -> Self {
        Self(Kind::Panicked)
    }

    pub(super) fn timed_out(after: Duration) -> Self {
        Self(Kind::TimedOut(after))
    }

    pub(crate) fn too_large(bytes: usize, max: usize) -> Self {
        Self(Kind::TooLarge { bytes, max })
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Failed(_) => f.write_str("the snapshot provider failed"),
            Kind::Panicked => f.write_str("the snapshot provider panicked"),
            Kind::TimedOut(after) => write!(f, "the snapshot provider did not answer within {after:?}"),
            Kind::TooLarge { bytes, max } => {
                write!(f, "the snapshot has {bytes} bytes; at most {max} are allowed: see `Snapshots::max_bytes`")
            }
        }
    }
}

impl Error for SnapshotError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Kind::Failed(source) => Some(&**source),
            _ => None,
        }
    }
}
