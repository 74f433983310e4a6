//! Whether a compaction kept its rules, as far as its result shows. Pure.

use std::fmt;

use crate::store::Entry;

/// The rule that a compaction broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Panicked,
    /// A position that no entry had, or that does not follow the previous one.
    Position,
    OtherChannel,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked => "the function panicked",
            Self::Position => "it returned positions that do not strictly increase, or that no entry had",
            Self::OtherChannel => "it returned an entry of another channel",
        })
    }
}

/// Checks that the entries that were left have positions of `before`, in their order.
pub(super) fn check(before: &[Entry], after: &[Entry]) -> Result<(), Broken> {
    let mut rest = before.iter();
    for entry in after {
        let stands_at = rest.find(|candidate| candidate.cursor == entry.cursor).ok_or(Broken::Position)?;
        if stands_at.channel != entry.channel {
            return Err(Broken::OtherChannel);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channel::Channel, cursor::Cursor, event::Data};

    fn entry(seq: u64) -> Entry {
        let cursor = Cursor { epoch: 1, seq, tag: seq as u32 };
        Entry::new(Channel::new("a").unwrap(), cursor, Data::text("x"))
    }

    #[test]
    fn positions_are_those_of_the_input_and_increase() {
        let before = [1, 2, 3, 5].map(entry);
        let table: &[(&[u64], _)] = &[
            (&[], Ok(())),
            (&[1, 2, 3, 5], Ok(())),
            (&[2, 5], Ok(())),
            (&[3, 2], Err(Broken::Position)),
            (&[2, 2], Err(Broken::Position)),
            (&[4], Err(Broken::Position)),
            (&[5, 6], Err(Broken::Position)),
        ];
        for (after, expected) in table {
            let after: Vec<_> = after.iter().copied().map(entry).collect();
            assert_eq!(check(&before, &after), *expected, "{after:?}");
        }
        let other_tag = Entry { cursor: Cursor { tag: 9, ..entry(2).cursor }, ..entry(2) };
        assert_eq!(check(&before, &[other_tag]), Err(Broken::Position));
        let elsewhere = Entry { channel: Channel::new("b").unwrap(), ..entry(2) };
        assert_eq!(check(&before, &[elsewhere]), Err(Broken::OtherChannel));
    }
}
