//! The retention settings that nodes publish: a line for each distinct configuration. Pure.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::place::Place;
use crate::store::kit::Keep;

/// The agreed retention, as last read.
#[derive(Default)]
pub(super) struct AgreedKeep(pub(super) Mutex<Option<FoundKeep>>);

pub(super) struct FoundKeep {
    pub(super) place: Arc<Place>,
    pub(super) keep: Keep,
    /// When it was read, by the store's clock and by this process's.
    pub(super) at: u64,
    pub(super) asked: Instant,
}

/// One configuration, and when a node with it last announced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeSettings {
    pub(super) keep: Keep,
    pub(super) published: u64,
}

impl NodeSettings {
    pub(super) fn is_in_use(&self, now: u64) -> bool {
        self.published.saturating_add(LEASE) >= now
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let numbers: Option<Vec<u64>> = text.split(' ').map(|number| number.parse().ok()).collect();
        let [events, bytes, age, forget_after, key_window, published] = numbers?.try_into().ok()?;
        Some(Self { keep: Keep::from_numbers([events, bytes, age, forget_after, key_window]), published })
    }

    pub(super) fn to_text(self) -> String {
        let [events, bytes, age, forget_after, key_window] = self.keep.to_numbers();
        format!("{events} {bytes} {age} {forget_after} {key_window} {}\n", self.published)
    }
}

/// A configuration that was not announced for this long is no longer in use, in milliseconds.
const LEASE: u64 = 300_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_and_expires() {
        let keep = Keep { events: 1, bytes: u64::MAX, age: 2, forget_after: 3, key_window: 4 };
        let node = NodeSettings { keep, published: 1_000 };
        assert_eq!(NodeSettings::parse(node.to_text().trim_end()), Some(node));
        for bad in ["", "1 2 3 4 5", "1 2 3 4 5 6 7", "1 2 3 4 5 x"] {
            assert_eq!(NodeSettings::parse(bad), None, "{bad:?}");
        }
        assert!(node.is_in_use(1_000 + LEASE) && !node.is_in_use(1_001 + LEASE));
    }
}
