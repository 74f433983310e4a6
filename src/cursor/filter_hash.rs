//! Which filter a position was reached under.

use super::hash;

/// A hash of a filter's id, which every position that its readers receive carries. A collision of two ids would let a position
/// of one continue under the other: with 32 bits, one in four billion pairs of filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FilterHash(pub(super) u32);

impl FilterHash {
    pub(crate) fn of(id: &str) -> Self {
        Self((hash(id) >> 32) as u32)
    }
}
