//! Floors: the `seq` above which new channels start, so that a cursor of a forgotten log is never valid in a later log. A
//! place keeps one floor per bucket of channel names. Pure, except for the random draw.

use super::resume;
use crate::{channel::Channel, cursor::hash};

/// How many floors a place keeps. Forgetting a channel resets the readers of absent channels in the same bucket only; with
/// a single floor it would reset the readers of all absent channels.
pub const BUCKETS: u16 = 1024;

/// The bucket of a channel, below [`BUCKETS`]: the 64 bits of FNV-1a over the name (`draft-eastlake-fnv`), folded in half,
/// modulo [`BUCKETS`]. It is stored, so it never changes.
#[must_use]
pub fn bucket_of(channel: &Channel) -> u16 {
    let hash = hash(channel.as_str());
    ((hash ^ (hash >> 32)) % u64::from(BUCKETS)) as u16
}

/// The floor of a bucket that was at `floor`, after a channel whose head was at `seq` was forgotten.
///
/// It always rises, by a random step: if the last rise was lost, by a power loss or a failover, a fixed step would lead to the
/// same floor again, and a reader that knew it would continue although events were lost.
#[must_use]
pub fn raised(floor: u64, seq: u64) -> u64 {
    floor.max(seq).saturating_add(resume::draw(|random| random.u64(1..=LONGEST_STEP)))
}

/// Chosen so that steps rarely agree, and that a `seq` of 63 bits lasts for 10^14 forgotten channels of one bucket.
const LONGEST_STEP: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn bucket(name: &str) -> u16 {
        bucket_of(&Channel::new(name).unwrap())
    }

    #[test]
    fn a_channel_keeps_its_bucket_for_ever() {
        let table = [("a", 192), ("b", 745), ("room:1", 583), ("room:2", 306), ("été", 857)];
        let seen = table.map(|(name, _)| (name, bucket(name)));
        assert_eq!(seen, table);
    }

    #[test]
    fn similar_names_are_spread_over_the_buckets() {
        let used: HashSet<_> = (0..1024).map(|n| bucket(&format!("room:{n}"))).collect();
        // Of 1 024 random draws, 647 buckets are expected.
        assert!((600..=1024).contains(&used.len()), "{}", used.len());
    }

    #[test]
    fn a_floor_rises_above_both() {
        for (floor, seq) in [(0, 0), (5, 9), (9, 5), (u64::MAX - 1, 0)] {
            let raised = raised(floor, seq);
            assert!(raised > floor && raised > seq, "{floor} {seq}: {raised}");
        }
        assert_eq!(raised(u64::MAX, 0), u64::MAX);
    }

    #[test]
    fn a_floor_rises_by_steps_up_to_65_536() {
        let highest = (0..1000).map(|_| raised(0, 0)).max();
        assert!(highest.is_some_and(|step| (50_000..=65_536).contains(&step)), "{highest:?}");
    }
}
